"""Recommendations of a trained model, and the profile sentences that fit them."""
