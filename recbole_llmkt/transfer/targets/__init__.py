"""Targets: profile embeddings at the width that is asked for."""
