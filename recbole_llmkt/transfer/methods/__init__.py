"""Further ways to use a profile in a model."""
