"""Bundled profiles: read through ``recbole_llmkt.utils.resources``."""
