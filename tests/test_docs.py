"""The documents name only what exists: files, folders, modules and what is in them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import recbole
import yaml

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(
            page
            for folder in ("docs", "examples", "dataset")
            for page in (ROOT / folder).rglob("*.md")
        ),
    ]
)
PACKAGE, RECBOLE = ROOT / "recbole_llmkt", Path(recbole.__file__).parent
_FOLDERS = "recbole_llmkt|tests|docs|properties|benchmarks|examples|tools"
_PATH = re.compile(rf"(?<![\w./-])((?:{_FOLDERS})/[\w./*-]*\w|(?:{_FOLDERS})/)")
# Within the package, as pages about the code shorten it: `transfer/methods/loss.py`.
_SHORT = re.compile(r"(?<![\w./-])([a-z_]+/[a-z_/]*\w\.py)\b")
_DOTTED = re.compile(r"(?<![\w./-])recbole_llmkt(?:\.\w+)+")
_LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")
_ANCHOR = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def missing(text: str, page: Path) -> list[str]:
    """Return what a page names and nothing has."""
    paths, short = set(_PATH.findall(text)), set(_SHORT.findall(text))
    absent = [path for path in paths if not any(ROOT.glob(path))]
    absent += [path for path in short - paths if in_a_room(path) and not there(path)]
    absent += [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    return absent + [name for name in set(_DOTTED.findall(text)) if not resolves(name)]


def missing_anchors(text: str, page: Path) -> list[str]:
    """Return the anchors of a page's relative links that no heading has."""
    links = _ANCHOR.findall(_FENCE.sub("", text))
    targets = [(page.parent / target if target else page, anchor) for target, anchor in links]
    return [
        f"{target.name}#{anchor}"
        for target, anchor in targets
        if target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8"))
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings have."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def nav_files(entry: object) -> list[str]:
    """Return the files and folders that a nav of MkDocs names."""
    if isinstance(entry, str):
        return [entry]
    entries = entry.values() if isinstance(entry, dict) else entry
    return [name for part in entries for name in nav_files(part)]


def in_a_room(path: str) -> bool:
    """Tell whether a path may be meant within the package: RecBole's own are written alike."""
    return (PACKAGE / path.partition("/")[0]).is_dir()


def there(path: str) -> bool:
    return (ROOT / path).exists() or (PACKAGE / path).exists() or (RECBOLE / path).exists()


def resolves(name: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for attribute in parts[end:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_page_names_only_what_exists(page):
    assert missing(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_link_leads_to_a_heading(page):
    assert missing_anchors(page.read_text(encoding="utf-8"), page) == []


def test_an_anchor_that_is_gone_is_seen():
    text = "[a](docs/guide.md#verdicts) [b](docs/guide.md#nowhere) [c](#install-and-try) [d](#no)"
    assert missing_anchors(text, ROOT / "README.md") == ["guide.md#nowhere", "README.md#no"]


def test_the_site_names_every_page():
    nav = nav_files(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    docs = ROOT / "docs"
    pages = [
        "decisions/" if page.parent.name == "decisions" else page.relative_to(docs).as_posix()
        for page in docs.rglob("*.md")
    ]
    assert sorted(nav) == sorted(set(pages))


@pytest.mark.parametrize(
    "text",
    [
        "see tests/test_nothing.py",
        "`recbole_llmkt/transfer/hook.py`",
        "`transfer/hook.py`",
        "recbole_llmkt.quick_start.tarin",
        "recbole_llmkt.nothing.train",
        "[page](nowhere.md)",
        "`properties/nothing/`",
    ],
)
def test_what_is_gone_is_seen(text):
    assert len(missing(text, ROOT / "README.md")) == 1
