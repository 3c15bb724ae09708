"""The layers of the package, the sizes of its parts, and a test file for every module."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "recbole_llmkt"
# From roof to ground: a module may import from its own layer and from those below it. A name
# stands for a module, or for all modules of a package that no longer name stands for.
LAYERS = (
    "",  # the package itself, which names what is public
    "cli",
    "experiment.journal",
    "experiment.report",
    "experiment.tuning",
    "experiment.runs",
    "experiment",
    "recommend",
    "quick_start",
    "stock",
    "training",
    "transfer.methods",
    "transfer.closed_forms",
    "transfer.auxiliary",
    "transfer.losses",
    "transfer.targets",
    "transfer.context",
    "transfer.inspection",
    "transfer",
    "evaluation",
    "profiles.check",
    "profiles.generation",
    "profiles.generation.generators",
    "profiles.loading",
    "profiles.index",
    "profiles.exchange",
    "profiles.external",
    "profiles.locations",
    "profiles.embeddings",
    "profiles.store",
    "profiles.encoders",
    "profiles.responses",
    "profiles.service",
    "profiles",
    "config",
    "checkpoints",
    "registry",
    "keys.combinations",
    "keys.names",
    "keys.saved",
    "keys.recbole_table",
    "keys.hyperparameters",
    "keys.table",
    "keys",
    "datasets",
    "compat",
    "utils",
)
# The version is the package's own, and importing it imports nothing else.
CONSTANTS = {"__version__"}
# Modules without a test file of their name: they hold names alone, and nothing that could fail.
UNTESTED = {"training.result", "utils.entities", "utils.types"}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FOLDER_FILES = 400, 60, 16
MAX_TEST_LINES = 500
MAX_ANY = 80  # annotations that say nothing, in the whole package


@functools.cache
def nodes(text: str) -> list[ast.AST]:
    """Return all nodes of a module's text, parsed once for all tests."""
    return list(ast.walk(ast.parse(text)))


def module_paths(root: Path) -> dict[str, Path]:
    """Return the file of each module, by its name within the package; "" is the package."""
    paths = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imported_names(path: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Yield each dotted name that a file imports, anywhere in it, and the line."""
    package = path.parent.relative_to(root).parts
    for node in nodes(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            start = list(package[: len(package) - node.level + 1]) if node.level else []
            base = [*start, *([node.module] if node.module else [])]
            for alias in node.names:
                yield ".".join([*base, alias.name]), node.lineno


def imports(root: Path) -> dict[str, dict[str, int]]:
    """Return which modules of the package each one imports, and in which line first."""
    paths = module_paths(root)
    graph: dict[str, dict[str, int]] = {module: {} for module in paths}
    for module, path in paths.items():
        for name, line in imported_names(path, root):
            target = target_of(name, paths)
            if target is not None and target != module:
                graph[module].setdefault(target, line)
    return graph


def target_of(name: str, paths: dict[str, Path]) -> str | None:
    """Return the module that a dotted name stands in; None for other packages and constants."""
    if name == PACKAGE:
        return ""
    if not name.startswith(f"{PACKAGE}."):
        return None
    inner = name[len(PACKAGE) + 1 :]
    if inner in CONSTANTS:
        return None
    while inner and inner not in paths:
        inner = inner.rpartition(".")[0]
    return inner


def layer_of(module: str) -> int:
    """Return the index of the longest name in :data:`LAYERS` that a module belongs to."""
    name = module
    while name and name not in LAYERS:
        name = name.rpartition(".")[0]
    if not name and module:
        pytest.fail(f"{PACKAGE}.{module} belongs to no layer: add it to LAYERS.")
    return LAYERS.index(name)


def uphill(root: Path) -> list[str]:
    """Describe each import of a module from a layer above."""
    paths = module_paths(root)
    return [
        f"{paths[module].relative_to(root)}:{line} imports {PACKAGE}.{target}, which is above it"
        for module, targets in imports(root).items()
        for target, line in targets.items()
        if layer_of(target) < layer_of(module)
    ]


def circle(root: Path) -> list[str]:
    """Return the modules of an import circle; empty if there is none."""
    try:
        TopologicalSorter(
            {module: set(targets) for module, targets in imports(root).items()}
        ).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_goes_uphill():
    assert uphill(ROOT) == []


def test_there_is_no_import_circle():
    assert circle(ROOT) == []


def test_every_layer_exists():
    paths = module_paths(ROOT)
    assert [layer for layer in LAYERS if layer not in paths] == []


def test_files_functions_and_folders_stay_small():
    paths = module_paths(ROOT).values()
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    large = [str(path) for path, text in texts.items() if text.count("\n") > MAX_FILE_LINES]
    for path, text in texts.items():
        for node in nodes(text):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                    large.append(f"{path}:{node.lineno} {node.name}")
    folders = Counter(path.parent for path in paths)
    large += [str(folder) for folder, count in folders.items() if count > MAX_FOLDER_FILES]
    assert large == []


def test_test_files_stay_readable():
    tests = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    lines = {str(path): text.count("\n") for path, text in tests.items()}
    assert tests and [path for path, count in lines.items() if count > MAX_TEST_LINES] == []


def test_annotations_say_something():
    texts = {path: path.read_text(encoding="utf-8") for path in module_paths(ROOT).values()}
    places = [
        f"{path}:{node.lineno}"
        for path, text in texts.items()
        for node in nodes(text)
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert 0 < len(places) <= MAX_ANY, places


def untested(root: Path) -> list[str]:
    """Return the modules that ``tests`` has no file for: ``tests/<room>/test_<module>.py``."""
    mirrored = {
        module: path.relative_to(root / PACKAGE).with_name(f"test_{path.name}")
        for module, path in module_paths(root).items()
        if path.name != "__init__.py"
    }
    return [module for module, path in mirrored.items() if not (root / "tests" / path).is_file()]


def test_every_module_has_a_test_file_of_its_name():
    assert set(untested(ROOT)) == UNTESTED


UPHILL = {
    "at the top": "from recbole_llmkt.training import trainer\n",
    "within a function": "def late():\n    from recbole_llmkt.cli.main import main\n",
    "for types alone": "if TYPE_CHECKING:\n    import recbole_llmkt.quick_start\n",
    "relative": "from ..transfer.methods import kar\n",
    "by the package": "from recbole_llmkt import run_recbole_llmkt\n",
}


@pytest.fixture
def copy(tmp_path):
    """Copy the package's modules, so that a test can add a bad import to one."""
    for path in module_paths(ROOT).values():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("statement", UPHILL.values(), ids=UPHILL)
def test_an_import_uphill_is_seen(copy, statement):
    with (copy / PACKAGE / "utils" / "files.py").open("a") as file:
        file.write(statement)
    (message,) = uphill(copy)
    assert message.startswith("recbole_llmkt/utils/files.py:")


def test_a_circle_within_a_layer_is_seen(copy):
    with (copy / PACKAGE / "utils" / "exceptions.py").open("a") as file:
        file.write("def late():\n    from recbole_llmkt.utils.parsing import parse_value\n")
    assert {"utils.exceptions", "utils.parsing"} <= set(circle(copy))
    assert uphill(copy) == []


def test_types_are_made_as_python_3_9_can():
    """``A | B`` is a type in annotations alone there, and typing has no ParamSpec."""
    problems = []
    for name, path in module_paths(ROOT).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            value = node.value if isinstance(node, ast.Assign) else None
            if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
                problems.append(f"{name}, line {node.lineno}: use Union")
            if isinstance(node, ast.ImportFrom) and node.module == "typing":
                names = {alias.name for alias in node.names} & {"ParamSpec", "TypeAlias", "Self"}
                problems += [f"{name}, line {node.lineno}: {new}" for new in names]
    assert problems == []
