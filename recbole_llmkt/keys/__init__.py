"""Keys: which there are, and what their values may be."""
