"""Models that are solved rather than trained, solved with profiles: one module for each kind."""
