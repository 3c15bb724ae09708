"""Which RecBole is installed is checked, and named where something fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import recbole
from click.testing import CliRunner

from recbole_llmkt.cli import main as cli
from recbole_llmkt.compat import check_release, lacks_model, releases, versions
from recbole_llmkt.registry import get_model
from recbole_llmkt.utils.exceptions import ConfigError


@pytest.fixture(autouse=True)
def _forget_the_check():
    check_release.cache_clear()
    yield
    check_release.cache_clear()


def test_the_installed_release_is_one_of_those_tested(caplog):
    check_release()
    assert not caplog.records


@pytest.mark.parametrize("version", ["1.1.1", "1.3.0", "1.2.1+local"])
def test_another_version_is_refused_with_the_fix(monkeypatch, tiny, version):
    monkeypatch.setattr(recbole, "__version__", version)
    check_release.cache_clear()  # the fixture has made configurations
    with pytest.raises(ConfigError, match=r"not supported.*1\.2\.0 and 1\.2\.1.*pip install"):
        tiny.config("BPR")


def test_a_version_that_lacks_what_is_imported_is_refused_in_one_line():
    other = Path("recbole/__init__.py")  # ahead of the installed one
    other.parent.mkdir()
    other.write_text("__version__ = '1.1.1'")
    code = (
        "from recbole_llmkt.cli.main import main\n"
        "main(['train', '--model=BPR', '--dataset=ml-100k'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: recbole 1.1.1 in ") and "pip install" in line


def test_an_edited_copy_is_said(monkeypatch, caplog, tmp_path):
    copy = tmp_path / "recbole"
    source = Path(recbole.__file__).parent
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("dataset_example", "*.pyc"))
    assert releases.source_digest(copy) == releases.source_digest(source)
    for path in copy.rglob("*.py"):  # other line endings are no edit
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    monkeypatch.setattr(recbole, "__file__", str(copy / "__init__.py"))
    check_release()
    assert not caplog.records
    with (copy / "trainer" / "trainer.py").open("a") as file:
        file.write("# faster\n")
    check_release.cache_clear()
    check_release()
    (record,) = caplog.records
    assert "edited copy" in record.message and "--force-reinstall" in record.message


def test_what_only_the_newer_release_has_is_named(monkeypatch, tiny):
    monkeypatch.setattr(recbole, "__version__", "1.2.0")
    monkeypatch.setattr("recbole_llmkt.config.check_release", lambda: None)
    split = {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"}
    asked = {"SimpleX": {"dropout_prob": 0.3}, "ItemKNN": {"knn_method": "user"}, "BPR": {}}
    asked["BPR"] = {"eval_args": split}
    for model, keys in asked.items():
        with pytest.raises(ConfigError, match=r"came with recbole 1\.2\.1.*--no-deps"):
            tiny.config(model, kt_enabled=False, **keys)
    tiny.config("SimpleX", dropout_prob=0.1)
    assert "pip install --no-deps recbole==1.2.1" in lacks_model("AsymKNN")
    assert lacks_model("BPR") == ""
    monkeypatch.setattr(recbole, "__version__", "1.2.1")
    assert lacks_model("AsymKNN") == ""


@pytest.mark.skipif(recbole.__version__ != "1.2.0", reason="recbole 1.2.1 has the model")
def test_a_model_of_the_newer_release_is_no_unknown_one():
    with pytest.raises(ConfigError, match=r"AsymKNN came with recbole 1\.2\.1"):
        get_model("AsymKNN")


def test_a_fault_names_the_versions(monkeypatch):
    def fail(*arguments, **keywords):
        raise RuntimeError("a fault")

    monkeypatch.setattr("recbole_llmkt.config.Config.__init__", fail)
    done = CliRunner().invoke(cli.main, ["train", "--model=BPR", "--dataset=ml-100k"])
    assert isinstance(done.exception, RuntimeError)
    assert f"recbole {recbole.__version__}" in done.output and "Python 3." in versions()


def test_repairs_are_named_where_a_library_is_too_new(monkeypatch):
    monkeypatch.setattr(releases.torch, "__version__", "2.0.1")
    monkeypatch.setattr(releases.pd, "__version__", "2.3.3")
    assert not [
        words for words in releases.active_repairs() if "andas" in words or "Torch" in words
    ]
    monkeypatch.setattr(releases.torch, "__version__", "2.15.0+cpu")
    monkeypatch.setattr(releases.pd, "__version__", "3.1.1")
    words = "; ".join(releases.active_repairs())
    assert "pandas 3" in words and "PyTorch 2.6" in words
