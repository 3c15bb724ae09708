"""The final round of tuning, and the winners that are compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from recbole_llmkt.cli.experiments import _winners_table
from recbole_llmkt.experiment.report.tables import doubts
from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.records import RunRecord
from recbole_llmkt.experiment.tuning.finals import Finals
from recbole_llmkt.experiment.tuning.trials import read_finals, read_trials
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from recbole_llmkt.experiment.tuning.winners import tuned_plan
from recbole_llmkt.profiles.loading import texts_digest
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.jsonl import Fields
from tests.experiment.fake_runs import PLAN, fake_train, forbidden_train, in_process


def test_the_winners_are_compared_and_noted(study, tmp_path):
    folder, _ = study
    plan = tuned_plan(folder, Plan([], [], [1, 2], ""))
    records = compare(plan, tmp_path, jobs=2, train=fake_test)
    assert len(records) == 4
    for record in records:
        own = [trial for trial in read_trials(folder) if trial.arm == record.arm]
        best = max((trial for trial in own if trial.ok), key=lambda trial: trial.score)
        assert record.tuned.keys == best.keys
        assert record.tuned.trials == len(own)
        assert record.tuned.unequal is False
        assert {key: record.settings[key] for key in best.keys} == best.keys
        assert record.settings["epochs"] == 2


@in_process
@in_process
def misled_train(config, saved=True, on_epoch=None):
    """Stand in for training: profiles do harm."""
    result = fake_test(config, saved, on_epoch)
    return {**result, "best_valid_score": result["best_valid_score"] - 0.5 * config["kt_enabled"]}


@pytest.mark.parametrize("finalists", [0, 1])
def test_an_arm_that_loses_in_validation_falls_back_to_base(tmp_path, finalists):
    folder = tmp_path / "study"
    lines = tune(Tuning(PLAN, 3, finals=Finals(finalists)), folder, jobs=1, train=misled_train)
    plan = tuned_plan(folder, Plan([], [], [1], ""))
    base, kt = plan.tuned["BPR", "base"], plan.tuned["BPR", "kt"]
    assert kt.fell_back and not base.fell_back and kt.budget == base.budget
    assert kt.keys == {**base.keys, "kt_enabled": False} and kt.score == base.score
    assert "the arm's own are not better by a standard error" in _winners_table(folder, lines)
    records = compare(plan, tmp_path / "out", jobs=1, train=misled_train)
    (record,) = (record for record in records if record.arm == "kt")
    assert record.ok and record.settings["kt_enabled"] is False
    assert RunRecord.read(Fields(record.to_json(), "a test", "")).tuned == kt
    assert doubts(records) == [
        "kt of BPR fell back to base: it is not better in validation by a standard error."
    ]


@in_process
def noisy_train(config, saved=True, on_epoch=None):
    """Stand in for training: profiles add 0.06, and seeds differ by 0.1."""
    score = 0.5 + 0.1 * (config["seed"] % 3) + 0.06 * config["kt_enabled"]
    return {**fake_test(config, saved, on_epoch), "best_valid_score": score}


@pytest.mark.parametrize(
    ("finals", "falls"),
    [
        (Finals(0), False),  # one seed says nothing of the noise
        (Finals(1, seeds=2), True),  # of three scores that are 0.1 apart: 0.1 * sqrt(2 / 3)
        (Finals(1, seeds=5), False),  # of six: 0.0894 * sqrt(2 / 6)
    ],
)
def test_what_is_within_the_noise_of_the_seeds_falls_back(tmp_path, finals, falls):
    tune(Tuning(PLAN, 3, finals=finals), tmp_path, jobs=1, train=noisy_train)
    kt = tuned_plan(tmp_path, Plan([], [], [1], "")).tuned["BPR", "kt"]
    assert kt.fell_back == falls


def test_without_a_tuned_base_there_is_nothing_to_fall_back_to(tmp_path):
    tune(Tuning(replace(PLAN, arms=["kt"]), 3), tmp_path, jobs=1, train=misled_train)
    assert not tuned_plan(tmp_path, Plan([], [], [1], "")).tuned["BPR", "kt"].fell_back


# ---- the final round ---------------------------------------------------------------------------


@in_process
def lucky_train(config, saved=True, on_epoch=None):
    """Stand in for training: with seed 7, and no other, fast learning seems best."""
    result = fake_train(config, saved, on_epoch)
    luck = 1.0 if config["seed"] == 7 and config["learning_rate"] > 0.008 else 0.0
    return {**result, "best_valid_score": result["best_valid_score"] + luck}


def tuned_base(folder):
    return tuned_plan(folder, Plan([], ["base"], [1], "")).tuned["BPR", "base"]


def test_what_was_luck_does_not_win_the_last_round(tmp_path):
    lines = tune(Tuning(PLAN, 12), tmp_path, jobs=1, train=lucky_train)
    before = tuned_base(tmp_path)
    assert before.keys["learning_rate"] > 0.008
    assert before.seeds == 1
    finals = Finals(finalists=12)
    again = tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=2, train=lucky_train)
    assert again == lines
    good = sum(trial.ok for trial in lines)
    played = read_finals(tmp_path)
    assert len(played) == 2 * good
    assert {run.seed for run in played} == {8, 9}
    after = tuned_base(tmp_path)
    assert after.keys.get("learning_rate", 0.001) < 0.008
    assert after.seeds == 3
    own = [
        trial.score
        for trial in lines + played
        if trial.arm == "base" and trial.trial == after.trial
    ]
    assert after.score == pytest.approx(sum(own) / 3)
    tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=1, train=forbidden_train)
    path = tmp_path / "finals.jsonl"
    path.write_text(path.read_text()[:-20])
    tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=1, train=lucky_train)
    assert len(read_finals(tmp_path)) == 2 * good


@in_process
def failing_finals(config, saved=True, on_epoch=None):
    if config["seed"] == 8 and (config["kt_enabled"] or config["learning_rate"] > 0.008):
        raise DataError("not this time")
    return lucky_train(config, saved, on_epoch)


def test_a_cut_off_last_line_of_the_final_round_is_tolerated(tmp_path, caplog):
    tune(Tuning(PLAN, 3, finals=Finals(1)), tmp_path, jobs=1, train=fake_train)
    for name in ("finals.jsonl", "trials.jsonl"):
        with (tmp_path / name).open("ab") as file:
            file.write(b'{"model": "BPR", "ar')
    assert len(tuned_plan(tmp_path, Plan([], [], [1], "")).tuned) == 2
    assert "finals.jsonl was cut off" in caplog.text
    finals = tmp_path / "finals.jsonl"
    finals.write_bytes(finals.read_bytes().replace(b'"seed": 8', b'"seed": "8"', 1))
    with pytest.raises(
        DataError, match=r"finals\.jsonl, line 1: 'seed' must be an integer.*Delete"
    ):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_a_finalist_that_fails_is_out(tmp_path):
    finals = Finals(finalists=12)
    tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=1, train=failing_finals)
    assert tuned_base(tmp_path).keys.get("learning_rate", 0.001) < 0.008
    with pytest.raises(DataError, match="BPR, arm kt: every finalist failed"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_trials_outside_the_last_round_do_not_step_in(tmp_path):
    tune(Tuning(PLAN, 3, finals=Finals(1)), tmp_path, jobs=1, train=failing_finals)
    with pytest.raises(DataError, match="BPR, arm kt: every finalist failed"):
        tuned_plan(tmp_path, Plan([], ["kt"], [1], ""))


@pytest.mark.parametrize(
    ("trials", "finalists", "message"),
    [((2, 2), (0, 1), "base 0, kt 1"), ((3, 3), (1, 2), "base 1, kt 2")],
    ids=["no final round", "fewer finalists"],
)
def test_unequal_last_rounds_are_refused(tmp_path, trials, finalists, message):
    kt = replace(PLAN, arms=["kt"])
    for plan, count, finals in zip((PLAN, kt), trials, map(Finals, finalists)):
        tune(Tuning(plan, count, finals=finals), tmp_path, jobs=1, train=fake_train)
    with pytest.raises(ConfigError, match=rf"numbers of finalists \({message}\)"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_a_last_round_that_was_stopped_has_no_winner(tmp_path):
    tune(Tuning(PLAN, 3, finals=Finals(2)), tmp_path, jobs=1, train=fake_train)
    path = tmp_path / "finals.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"seed": 9' not in line))
    with pytest.raises(DataError, match=r"BPR, arm base: the final round .* is not finished"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_a_study_resumes_only_with_its_profiles(tiny, tmp_path):
    Path("tiny.yaml").write_text(json.dumps(tiny.settings(epochs=2)))
    plan = Plan(["BPR"], ["kt"], [7], "tiny", ["tiny.yaml"])
    (line,) = tune(Tuning(plan, 1), tmp_path / "out", jobs=1)
    assert list(line.outcome.texts) == ["user"]
    tune(Tuning(plan, 1), tmp_path / "out", train=forbidden_train)
    store = ProfileStore(tiny.folder / "profiles", "user")
    with store.writing():
        store.append(replace(store.read()["u7"], text="Likes noir."))
    for resume in (
        lambda: tune(Tuning(plan, 2), tmp_path / "out", train=forbidden_train),
        lambda: tuned_plan(tmp_path / "out", Plan([], [], [1], "")),
    ):
        with pytest.raises(DataError, match=r"BPR-kt-7 \(in trials\.jsonl\) learned from user"):
            resume()


def test_an_arm_may_have_profiles_of_its_own(tiny, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny.folder / "profiles", other)
    store = ProfileStore(other, "user")
    with store.writing():
        store.append(replace(store.read()["u7"], text="Likes noir."))
    Path("tiny.yaml").write_text(json.dumps(tiny.settings(epochs=2)))
    mine = Plan(
        ["BPR"], ["mine"], [7], "tiny", ["tiny.yaml"],
        own_arms={"mine": {"profile_dir": str(other)}},
    )  # fmt: skip
    tune(Tuning(mine, 1), tmp_path / "out", jobs=1, train=learning_train)
    kt = Plan(["BPR"], ["kt"], [7], "tiny", ["tiny.yaml"])
    tune(Tuning(kt, 1), tmp_path / "out", jobs=1, train=learning_train)
    assert tuned_plan(tmp_path / "out", Plan([], ["kt"], [1], "")).arms == ["kt"]


@in_process
def learning_train(config, saved=True, on_epoch=None):
    """Stand in for training: a run that notes the texts of its profiles."""
    store = ProfileStore(profile_folder(config, "user"), "user")
    term = {"entity": "user", "texts": texts_digest(store.usable())}
    return {**fake_train(config, saved, on_epoch), "transfer": {"terms": [term]}}


def test_the_table_says_which_arm_has_no_winner_yet(tmp_path):
    lines = tune(Tuning(PLAN, 3, finals=Finals(2)), tmp_path, jobs=1, train=fake_train)
    path = tmp_path / "finals.jsonl"
    played = [run.to_json() for run in read_finals(tmp_path) if run.arm == "kt"]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in played))
    table = _winners_table(tmp_path, lines)
    assert "arm base: the final round" in table
    assert "mean of 3 seeds" in table


def test_the_final_round_of_another_trial_with_the_same_number_does_not_count(tmp_path):
    finals = Finals(1)
    tune(Tuning(PLAN, 3, finals=finals), tmp_path, jobs=1, train=fake_train)
    path = tmp_path / "finals.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["keys"]["learning_rate"] = 0.0123
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    tune(Tuning(PLAN, 3, finals=finals), tmp_path, jobs=1, train=fake_train)
    assert len(read_finals(tmp_path)) == 2 * len(lines)


def test_files_that_changed_since_the_tuning_are_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 2")
    plan = Plan(["BPR"], ["base"], [7], "ml-100k", config_files=[str(file)])
    tune(Tuning(plan, 2), tmp_path / "study", jobs=1, train=fake_train)
    file.write_text("epochs: 3")
    with pytest.raises(DataError, match=r"another epochs of BPR/base \(2 -> 3\)"):
        tuned_plan(tmp_path / "study", Plan([], [], [1], ""))


def test_what_recbole_fills_in_is_no_change(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("train_neg_sample_args: {distribution: uniform, sample_num: 2}")
    plan = Plan(["BPR"], ["base"], [7], "ml-100k", [str(file)], {"epochs": 2})
    tune(Tuning(plan, 2), tmp_path / "study", jobs=1, train=fake_train)
    tune(Tuning(plan, 2), tmp_path / "study", jobs=1, train=forbidden_train)
    assert tuned_plan(tmp_path / "study", Plan([], [], [1], "")).arms == ["base"]


def test_every_seed_of_the_tuning_is_named_where_it_comes_again(tmp_path, caplog):
    tune(Tuning(PLAN, 2, finals=Finals(1)), tmp_path, jobs=1, train=fake_train)
    tuned_plan(tmp_path, Plan([], [], [8, 10], ""))
    assert "Seed 8 was also used for tuning" in caplog.text


@in_process
def fake_test(config, saved=True, on_epoch=None):
    return {**fake_train(config, saved, on_epoch), "test_result": {"ndcg@10": 0.5}}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"arms": ["base", "shuffled"]}, "BPR, arm shuffled: was not tuned"),
        ({"models": ["NeuMF"]}, "NeuMF, arm base: was not tuned"),
        ({"dataset": "ml-1m"}, "tuned on ml-100k, not on ml-1m"),
    ],
)
def test_what_was_not_tuned_is_refused(study, wanted, message):
    plan = Plan(**{"models": [], "arms": [], "seeds": [1], "dataset": "", **wanted})
    with pytest.raises((ConfigError, DataError), match=message):
        tuned_plan(study[0], plan)


def test_a_tuned_key_cannot_be_given(study):
    wanted = Plan([], [], [1], "", overrides={"weight_decay": 0.1})
    with pytest.raises(ConfigError, match="weight_decay was tuned"):
        tuned_plan(study[0], wanted).runs()


def test_unequal_trials_are_refused_or_noted(tmp_path):
    tune(Tuning(PLAN, 2), tmp_path, jobs=1, train=fake_train)
    more = Plan(["BPR"], ["kt"], [7], "ml-100k", overrides={"epochs": 2})
    tune(Tuning(more, 3), tmp_path, jobs=1, train=fake_train)
    wanted = Plan([], [], [1], "")
    with pytest.raises(ConfigError, match=r"different numbers of trials \(base 2, kt 3\)"):
        tuned_plan(tmp_path, wanted)
    tuned = tuned_plan(tmp_path, wanted, allow_unequal=True).tuned
    assert all(winner.unequal for winner in tuned.values())


def test_a_damaged_study_is_named(study, tmp_path):
    with pytest.raises(DataError, match="No study in"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    (tmp_path / "tuning.json").write_text("{")
    with pytest.raises(DataError, match=r"tuning\.json is damaged"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    (tmp_path / "tuning.json").write_bytes((study[0] / "tuning.json").read_bytes())
    damaged = json.loads((tmp_path / "tuning.json").read_text())
    damaged["studies"]["BPR/kt"]["space"] = 3
    (tmp_path / "tuning.json").write_text(json.dumps(damaged))
    with pytest.raises(DataError, match=r"tuning\.json, 'studies', 'BPR/kt': 'space' must be"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    (tmp_path / "tuning.json").write_bytes((study[0] / "tuning.json").read_bytes())
    (tmp_path / "trials.jsonl").write_text('{"model": "BPR"}\n')
    with pytest.raises(DataError, match=r"trials\.jsonl, line 1"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
