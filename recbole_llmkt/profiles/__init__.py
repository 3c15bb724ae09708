"""Profiles: what a language model wrote about users and items, and their embeddings."""
