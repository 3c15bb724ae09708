"""The chosen settings on all data."""

from __future__ import annotations

import pytest

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.refit import Chosen, refit
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from recbole_llmkt.experiment.tuning.winners import tuned_plan
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend import Recommender
from recbole_llmkt.recommend.rank import Ranker
from recbole_llmkt.utils.exceptions import ConfigError, LeakError
from tests.experiment.fake_runs import fake_train


def test_all_interactions_are_trained_on_for_the_best_epochs(tiny, caplog):
    """Profiles of the training part know nothing that is held out: nothing is."""
    keys = {"kt_entity": "both", "kt_epochs": 2, "epochs": 4, "learning_rate": 0.01}
    result = train(tiny.config("BPR", **keys), verbose=False)
    best = load_checkpoint(result["checkpoint"])
    chosen = Chosen.by_checkpoint(result["checkpoint"], {"profile_encoder": "test-encoder"})
    assert (chosen.epochs, chosen.switch) == (best["epoch"] + 1, 2) and chosen.epochs in (3, 4)
    again = refit(chosen)
    assert again["test_result"] is None and again["best_valid_result"] is None
    assert again["transfer"]["leaks"] == 0 and again["transfer"]["phase_switch"] == 2
    assert "Nothing is held out that they could know" in caplog.text
    saved = load_checkpoint(again["checkpoint"])
    assert saved["epoch"] + 1 == chosen.epochs
    assert saved["config"]["learning_rate"] == 0.01
    ranker = Ranker(again["checkpoint"])
    assert [len(part) for part in ranker._parts if len(part)] == [len(tiny.rows)]
    seen = {(user, item) for user, item, *_ in tiny.rows}
    for each in Recommender(again["checkpoint"]).top_k(k=5):
        assert not {(each.user, item.token) for item in each.items} & seen
    # With a part held out, the same profiles are refused.
    other = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"}
    with pytest.raises(LeakError):
        train(tiny.config("BPR", eval_args=other, **keys), verbose=False)


def test_the_winner_of_a_study(make_dataset, tmp_path):
    dataset = make_dataset()
    keys = {**dataset.settings(epochs=2), "kt_enabled": False}
    keys = {key: value for key, value in keys.items() if key != "kt_enabled"}
    plan = Plan(["BPR"], ["base"], [7], "tiny", overrides=keys)
    tune(Tuning(plan, 2), tmp_path / "study", jobs=1, train=fake_train)
    winner = tuned_plan(tmp_path / "study", Plan([], [], [1], "")).tuned["BPR", "base"]
    chosen = Chosen.by_study(tmp_path / "study")
    assert {key: chosen.config[key] for key in winner.keys} == winner.keys
    assert 1 <= chosen.epochs <= 2 and chosen.switch == 0
    for name, message in (
        ({"model": "NeuMF"}, "tuned the models BPR, not 'NeuMF'"),
        ({"arm": "kt"}, "tuned the arms base, not 'kt': choose one with --arm"),
    ):
        with pytest.raises(ConfigError, match=message):
            Chosen.by_study(tmp_path / "study", **name)


def test_parts_in_files_are_refused(make_dataset):
    config = make_dataset().config(benchmark_filename=["train", "valid", "test"])
    with pytest.raises(ConfigError, match=r"separate files \(train, valid, test\)"):
        refit(Chosen(config, 3, 0))
