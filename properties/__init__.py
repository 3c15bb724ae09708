"""Packaged configuration: read through ``recbole_llmkt.resources``."""
