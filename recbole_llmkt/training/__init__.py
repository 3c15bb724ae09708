"""Trainers, their checkpoints, and the classes of a run."""
