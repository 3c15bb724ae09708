"""Models of this package's own: rivals that change the architecture."""
