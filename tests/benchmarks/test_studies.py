"""The studies' files say what `llmkt tune` and `llmkt compare` take."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.experiment.tuning import tune as tuning

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "studies"
STUDIES = {
    path.stem: study
    for path in sorted(FOLDER.glob("*.yaml"))
    if "arms" in (study := yaml.safe_load(path.read_text()))
}


@pytest.fixture(scope="module")
def run():
    spec = importlib.util.spec_from_file_location("studies_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, model) for name, study in STUDIES.items() for model in study["models"]],
)
def test_every_study_can_be_started(run, name, model, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(tuning, "_execute", lambda *rest: started.append(rest) or [])
    monkeypatch.setattr(tuning, "download", lambda config: None)
    for check in ("check_run", "check_run_profiles"):  # the data are not here
        monkeypatch.setattr(tuning, check, lambda *rest: None)
    tune, compare = run.commands(STUDIES[name], model, tmp_path, ["epochs=2"])
    result = CliRunner().invoke(main, tune)
    assert result.exit_code == 0, result.output
    ((studies, given, *_),) = started
    assert given.trials == STUDIES[name]["trials"]
    arms = run.own_arms(STUDIES[name], model)
    assert len(studies) == 1 + 2 * len(arms)
    assert all(study.run.settings["epochs"] == 2 for study in studies)
    controls = [tuned.run.settings["kt_control"] for tuned in studies if "+" in tuned.run.arm]
    assert controls == ["shuffled"] * len(arms)
    assert f"--tuned={tmp_path / model / 'tune'}" in compare


def test_an_unknown_model_is_named(run, tmp_path):
    result = CliRunner().invoke(run.main, ["recipe", "FM", f"--output={tmp_path}"])
    assert result.exit_code == 2
    assert "FM: the study has SimpleX, LightGCN" in result.output
