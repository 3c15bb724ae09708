"""Write docs/keys.md from the table of keys: python tools/keys_page.py."""

from __future__ import annotations

import sys
from pathlib import Path

from recbole_llmkt.keys.key import Key
from recbole_llmkt.keys.table import KEYS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "keys.md"
_HEAD = """# Every key

The keys that recbole_llmkt adds to RecBole's configuration. They are flat, so a YAML file,
`--key=value` and RecBole's HyperTuning all reach them. Unknown keys and values out of range are
errors before anything runs; so are RecBole's own keys where they are misspelled
(`kt_strict_keys: False` only warns) or have a value that RecBole would trip over later.

This page is written by `python tools/keys_page.py`.
"""
_SECTIONS = {"kt_": "Knowledge transfer", "profile_": "Profiles"}


def page() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for prefix, title in _SECTIONS.items():
        lines += [f"## {title}\n", "| key | type | default | allowed | meaning |", "|---" * 5 + "|"]
        lines += [_row(key) for name, key in KEYS.items() if name.startswith(prefix)]
        lines.append("")
    return "\n".join(lines)


def _row(key: Key) -> str:
    if key.default is None:
        default = "~"
    else:
        default = str(list(key.default) if isinstance(key.default, tuple) else key.default)
    cells = (f"`{key.name}`", key.type_words, f"`{default}`", key.allowed, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
