"""Packaged configuration: read through ``recbole_llmkt.utils.resources``."""
