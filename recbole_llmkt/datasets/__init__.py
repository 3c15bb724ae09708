"""Datasets: their files, splits, histories and metadata."""
