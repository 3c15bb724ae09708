"""Datasets: RecBole's, read from atomic files, and whose row is whose."""
