"""What MkDocs lacks: links that leave docs/, a folder in the nav, local diagrams."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import ConfigurationError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.superfences import fence_code_format

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_SCRIPT = "mermaid.min.js"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of folders in the nav, and draw diagrams where MERMAID names the script."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    script = os.environ.get("MERMAID")
    if script and not Path(script).is_file():
        raise ConfigurationError(f"MERMAID: {script} is no file; name mermaid's {_SCRIPT}.")
    if script:
        fence = {"name": "mermaid", "class": "mermaid", "format": fence_code_format}
        config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
        config.extra_javascript.append(_SCRIPT)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add mermaid's script to the site."""
    script = os.environ.get("MERMAID")
    if script:
        files.append(File.generated(config, _SCRIPT, abs_src_path=str(Path(script).resolve())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose links to files outside docs/ are the names of these files."""
    docs = Path(config.docs_dir).resolve()
    here = docs / Path(page.file.src_uri).parent
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [relinked(markdown[end : fence.start()], here, docs), fence.group()]
        end = fence.end()
    return "".join([*parts, relinked(markdown[end:], here, docs)])


def relinked(text: str, here: Path, docs: Path) -> str:
    """Return Markdown of a page in folder ``here`` without the links that leave the site."""

    def replace(link: re.Match[str]) -> str:
        label, target, anchor = link.group(1), link.group(2), link.group(3) or ""
        path = (here / target).resolve()
        if not path.is_relative_to(docs):
            name = path.relative_to(docs.parent).as_posix()
            return label if label.strip("`") == name else f"{label} (`{name}`)"
        if path.is_dir():
            return f"[{label}]({target.rstrip('/')}/README.md{anchor})"
        return link.group()

    return _LINK.sub(replace, text)


def _expanded(nav: Any, docs: Path) -> Any:
    """Return a nav in which the name of a folder is replaced by its pages, README.md first."""
    if isinstance(nav, dict):
        return {title: _expanded(entry, docs) for title, entry in nav.items()}
    if isinstance(nav, list):
        return [_expanded(entry, docs) for entry in nav]
    if isinstance(nav, str) and nav.endswith("/"):
        pages = sorted(path.name for path in (docs / nav).glob("*.md"))
        return [f"{nav}{name}" for name in sorted(pages, key=lambda name: name != "README.md")]
    return nav
