"""Knowledge transfer from language models into any RecBole model (LLM-KT, arXiv 2411.00556)."""

__version__ = "0.1.0"
