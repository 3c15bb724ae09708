"""Writing profiles with a generator."""
