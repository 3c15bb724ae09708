"""Studies of others import, ask and write nothing that today's command does not name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.refit import Chosen
from recbole_llmkt.experiment.tuning.trials import read_trials
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from recbole_llmkt.experiment.tuning.winners import tuned_plan
from recbole_llmkt.utils.exceptions import ConfigError, LLMKTError
from tests.experiment.fake_runs import PLAN, fake_train, forbidden_train

TODAY = Plan([], [], [1], "")
SECRET = {"profile_api_base": "http://127.0.0.1:9/v1", "profile_api_key_env": "SECRET"}


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Return a function that edits a study, in a folder where its module could be imported."""
    folder = tmp_path / "study"
    tune(Tuning(PLAN, 1), folder, jobs=1, train=fake_train)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("helper.py").write_text("open('owned', 'w')\n")

    def edit(change):
        path = folder / "tuning.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return folder

    yield edit
    assert not Path("owned").exists() and "helper" not in sys.modules


def as_model(content):
    content["studies"]["BPR/base"]["model_path"] = "helper.M"


def as_loss(content):
    content["overrides"]["kt_loss"] = "helper.L"


def in_an_arm(content):
    content["own_arms"]["kt"] = {"kt_method": "helper.M"}


def in_a_file(content):
    Path("strangers.yaml").write_text("kt_loss: helper.L\n")
    content["config_files"].append(str(Path("strangers.yaml").resolve()))


def in_a_preset(content):
    Path("preset").write_text(yaml.safe_dump({"models": {"BPR": {"kt_loss": "helper.L"}}}))
    content["overrides"]["kt_preset"] = "preset"


def as_an_address(content):
    content["overrides"].update(SECRET)


def as_an_encoder(content):
    content["overrides"]["profile_encoder"] = "openai:embedder"


def as_a_folder(content):
    content["overrides"]["checkpoint_dir"] = "planted"


PLANTED = [as_model, as_loss, in_an_arm, in_a_file, in_a_preset, as_an_address, as_an_encoder]


@pytest.mark.parametrize("change", [*PLANTED, as_a_folder])
def test_what_a_study_names_is_refused_before_it_is_used(strangers, change):
    folder = strangers(change)
    with pytest.raises(ConfigError, match=r"The study in .* as its \w+, .*pass --trust"):
        tuned_plan(folder, TODAY)
    with pytest.raises(ConfigError, match="pass --trust"):
        Chosen.by_study(folder, "M" if change is as_model else "BPR", "base")
    assert not Path("planted").exists()


@pytest.mark.parametrize("change", [as_model, in_an_arm])
def test_a_study_is_not_resumed_with_what_it_names(strangers, change):
    with pytest.raises(ConfigError, match="pass --trust"):
        tune(Tuning(PLAN, 2), strangers(change), jobs=1, train=forbidden_train)


def test_the_points_of_trials_are_settings_too(strangers):
    folder = strangers(lambda content: None)
    lines = read_trials(folder)
    planted = [replace(line, keys={**line.keys, "kt_loss": "helper.L"}) for line in lines]
    text = "".join(json.dumps(line.to_json()) + "\n" for line in planted)
    (folder / "trials.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=r"'helper\.L' as its kt_loss"):
        tuned_plan(folder, TODAY)


def test_what_today_names_is_used(strangers):
    folder = strangers(as_a_folder)
    today = replace(TODAY, overrides={"checkpoint_dir": "mine"})
    assert tuned_plan(folder, today).overrides["checkpoint_dir"] == "mine"
    assert tuned_plan(folder, TODAY, trust=True).overrides["checkpoint_dir"] == "planted"


def test_a_study_that_is_trusted_imports_what_it_names(strangers):
    folder = strangers(as_model)
    Path("helper.py").write_text("raise ImportError('asked for')\n")
    with pytest.raises(LLMKTError, match="asked for"):
        tuned_plan(folder, TODAY, trust=True)
