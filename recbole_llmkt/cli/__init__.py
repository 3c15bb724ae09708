"""The ``llmkt`` command."""
