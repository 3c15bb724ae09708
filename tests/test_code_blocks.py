"""Every code block of the documents could run: its commands, options, keys and names exist.

The pages in RUN are run from top to bottom by `tests/e2e/test_pages.py`. What the others show
takes data that may not be redistributed, a server with a key, or hours: their blocks are read as
the shell, the command line, YAML and Python read them, up to the point where the work would start.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from recbole_llmkt.cli.main import main
from recbole_llmkt.cli.overrides import parse_overrides
from recbole_llmkt.config import Config
from recbole_llmkt.experiment.tuning.space import search_spaces
from recbole_llmkt.keys.names import known_names
from recbole_llmkt.keys.table import check_keys
from recbole_llmkt.profiles.generation.prompts import Prompt
from recbole_llmkt.utils.exceptions import LLMKTError
from recbole_llmkt.utils.parsing import load_yaml

ROOT = Path(__file__).parent.parent
RUN = {"docs/extending.md", "docs/shop.md", "docs/tutorial.md"}
FOLDERS = ("docs", "examples", "dataset")
_PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md"))]
PAGES = ["README.md", "CONTRIBUTING.md", *(page.relative_to(ROOT).as_posix() for page in _PAGES)]
# What a page tells the reader to write, or an earlier command writes.
OWN_FILES = {"mine.yaml", "my.yaml", "dataset/shop/shop.yaml"}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROGRAMS = ("llmkt", "python", "pip", "make", ".ci/run")
_REFUSALS = (
    click.ClickException,
    ImportError,
    LLMKTError,
    SyntaxError,
    subprocess.CalledProcessError,
)
# Data and the drawing of a diagram are neither programs nor settings.
_SHOWN = {"mermaid", "json", "csv"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page; none is output, or a command."""
    fenced = _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [
        (language or ("bash" if text.startswith(_PROGRAMS) else "output"), text)
        for language, text in fenced
    ]


def commands(text: str) -> list[list[str]]:
    """Return the words of each command of a shell script, whose programs do nothing."""
    log = Path("commands").resolve()
    stubs = "\n".join(
        f'{name}() {{ printf "%s\\0" "${{FUNCNAME[0]}}" "$@" >> "$LOG"; printf "\\1" >> "$LOG"; }}'
        for name in (*_PROGRAMS[:-1], "ci")
    )
    log.write_text("")
    subprocess.run(
        [shutil.which("bash"), "-euc", f"{stubs}\n{text}".replace(".ci/run", "ci")],
        env={"LOG": str(log), "PATH": "", "ML_1M": "ml-1m"},
        check=True,
    )
    lines = log.read_text(encoding="utf-8").split("\1")[:-1]
    return [line.split("\0")[:-1] for line in lines]


def check_command(words: list[str]) -> None:
    """Fail if a command names an option, a key, a file, a target or an extra that nothing has."""
    program, *arguments = words
    if program == "llmkt":
        check_llmkt(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "pip":
        extras = re.findall(r"\[(.*)\]", arguments[-1])
        known = re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
        assert {name for part in extras for name in part.split(",")} <= set(known)
    elif program == "python" and arguments[0] != "-m":
        check_script(ROOT / arguments[0], arguments[1:])
    elif program == "python":
        importlib.import_module(arguments[1])
    else:
        assert (ROOT / ".ci" / "run").is_file()


def check_script(path: Path, arguments: list[str]) -> None:
    source = path.read_text(encoding="utf-8")
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        # A script that passes keys on takes each of RecBole's.
        assert f'"{option}"' in source or option[2:] in known_names(), option


def check_llmkt(arguments: list[str]) -> None:
    """Read the arguments as the command does, with the files that they name in place."""
    command: click.Command = main
    context, rest = None, arguments
    name = "llmkt"
    while True:
        make_inputs(command, rest)
        context = command.make_context(name, list(rest), parent=context)
        if not isinstance(command, click.Group):
            break
        name, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
    keys = parse_overrides(context.params.get("keys") or ())
    check_keys(keys, " ".join(arguments))
    assert set(keys) <= known_names(), arguments
    for files in context.params.get("config_files") or ():
        assert Path(files).is_file()


def make_inputs(command: click.Command, arguments: list[str]) -> None:
    """Make what an option wants to exist: an earlier command's output."""
    for option in command.params:
        if isinstance(option.type, click.Path) and option.type.exists:
            for word in arguments:
                name, _, value = word.partition("=")
                if name in option.opts:
                    make(Path(value), option.type.file_okay)
    for word in arguments:
        name, _, value = word.partition("=")
        if word.endswith(".jsonl") or (name == "--config-files" and value in OWN_FILES):
            make(Path(value or word), True)


def make(path: Path, is_file: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if is_file else path.mkdir(exist_ok=True)


def check_yaml(text: str, name: str) -> None:
    """Read settings, a search space or a prompt."""
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    values = load_yaml(path)
    if "shared" in values:
        search_spaces(Config("NeuMF", "ml-100k", [], {"kt_enabled": False}, []), path)
    elif "user" in values:
        Prompt.load(str(path.resolve()), "user")
        Prompt.load(str(path.resolve()), "item")
    else:
        check_keys(values, name)
        assert set(values) <= known_names()


def check_python(text: str) -> None:
    """Compile a program, and import what it imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("recbole."):
            assert importlib.util.find_spec(node.module)  # importable while repaired alone
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), text


@pytest.fixture(autouse=True)
def checkout():
    """Give the commands the folders of a checkout."""
    for folder in ("examples", "benchmarks", "properties"):
        if not os.path.lexists(folder):
            os.symlink(ROOT / folder, folder)


def written() -> Iterator[pytest.param]:
    for page in PAGES:
        for number, (language, text) in enumerate(blocks(page) if page not in RUN else []):
            if language not in {*_SHOWN, "output"}:
                yield pytest.param(language, text, id=f"{page}-{number}")


@pytest.mark.parametrize(("language", "text"), written())
def test_a_block_could_run(language, text):
    if language == "bash":
        for words in commands(text):
            check_command(words)
    elif language == "yaml":
        check_yaml(text, "block.yaml")
    else:
        assert language == "python"
        check_python(text)


@pytest.mark.parametrize("page", sorted(RUN))
def test_a_page_that_is_not_read_is_run(page):
    runs = (ROOT / "tests" / "e2e" / "test_pages.py").read_text(encoding="utf-8")
    assert f'run_page("{Path(page).name}", ' in runs


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("bash", "llmkt trian --model=BPR"),
        ("bash", "llmkt train --model=BPR --dataset=ml-100k --kt_wieght=1"),
        ("bash", "llmkt train --model=BPR --dataset=ml-100k --config-files=none.yaml"),
        ("bash", "llmkt recommend --checkpoint=a.pth --user=1"),
        ("bash", "llmkt profile chekc --dataset=ml-100k"),
        ("bash", "if true; then llmkt doctor"),
        ("bash", "rm -r saved"),
        ("bash", "make dmeo"),
        ("bash", "pip install 'recbole_llmkt[tuen]'"),
        ("bash", "python benchmarks/step.py --modles=BPR"),
        ("bash", "python -m recbole_llmkt.stokc"),
        ("yaml", "kt_weight: 0.3\nkt_wieght: 0.3"),
        ("yaml", "kt_weight: heavy"),
        ("yaml", "learning_rat: 0.1"),
        ("yaml", "shared: {learning_rate: {low: 1}}"),
        ("yaml", "system: a\nuser: '{{ nothing'"),
        ("python", "from recbole_llmkt import nothing"),
        ("python", "import recbole_llmkt.nothing"),
        ("python", "print("),
    ],
)
def test_a_block_that_could_not_run_is_seen(language, text):
    with pytest.raises((*_REFUSALS, AssertionError)):
        test_a_block_could_run(language, text)
