"""Bundled profiles: read through ``recbole_llmkt.resources``."""
