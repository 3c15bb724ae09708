from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recbole_llmkt.evaluation.per_user import UserMetrics
from recbole_llmkt.experiment.report.significance import (
    Pair,
    compare_arms,
    evidence,
    holm,
    load_users,
    paired_tests,
    primary_metric,
    seed_differences,
    user_differences,
    verdicts,
)
from recbole_llmkt.experiment.report.statistics import estimate
from tests.experiment.fake_runs import as_record

N_USERS = 300


def users_of(values, tokens=None, metric="ndcg@10"):
    values = np.asarray(values, dtype=float)
    tokens = np.array(tokens if tokens is not None else [f"u{i}" for i in range(len(values))])
    ones = np.ones(len(values), dtype=np.int64)
    return UserMetrics(tokens, ones, ones, {metric: values})


def runs(arms, model="BPR", metric="ndcg@10"):
    """Make records and metrics by user of {arm: [a user vector for each seed]}."""
    records, users = [], {}
    for arm, seeds in arms.items():
        for seed, values in enumerate(seeds, start=1):
            test = {"hit@10": 0.5, metric: float(np.nanmean(values))}
            settings = {"valid_metric": metric.upper()}
            if "shuffled" in arm:
                settings["kt_control"] = "shuffled"
            names = {"model": model, "arm": arm, "seed": seed, "status": "ok"}
            records.append(as_record({**names, "test": test, "settings": settings}))
            users[model, arm, seed] = users_of(values, metric=metric)
    return records, users


def judge(arms, smaller=(), **keywords):
    records, users = runs(arms, **keywords)
    return verdicts(records, compare_arms(records, users, smaller))


def world(rng, arms, seeds=5, seed_sd=0.002, noise_sd=0.1):
    """Draw users with a level of their own, an effect of each training seed, and noise.

    ``arms`` gives each arm's true gain.
    """
    level = rng.normal(0.3, 0.1, N_USERS)
    return {
        arm: [
            level + gain + rng.normal(0.0, seed_sd) + rng.normal(0.0, noise_sd, N_USERS)
            for _ in range(seeds)
        ]
        for arm, gain in arms.items()
    }


# ---- the parts --------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_wilcoxon_and_t_by_hand():
    differences = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    wilcoxon, ttest = paired_tests(differences)
    assert wilcoxon == pytest.approx(2 / 2**6)  # all signs alike
    t = differences.mean() / (differences.std(ddof=1) / 6**0.5)
    assert ttest == pytest.approx(2 * stats.t.sf(t, 5))
    assert paired_tests(np.zeros(9)) == (1.0, 1.0)
    assert np.isnan(paired_tests(np.array([1.0]))).all()


def test_a_user_counts_once_and_is_found_by_token():
    first = users_of([0.5, 0.9, 0.4], ["a", "b", "c"])
    other = users_of([0.1, 0.2, 0.3], ["c", "a", "z"])
    again = users_of([0.7, np.nan], ["a", "b"])
    differences = user_differences(
        [(first, other), (again, users_of([0.1, 0.0], ["a", "b"]))], "ndcg@10"
    )
    # a: (0.5 - 0.2 and 0.7 - 0.1) / 2; c: 0.4 - 0.1; b is never measured by both.
    assert differences == pytest.approx([0.45, 0.3])
    assert len(user_differences([(first, other)], "hit@10")) == 0
    assert len(user_differences([], "hit@10")) == 0
    # A seed in which one arm lacks the metric is passed over, and those after it count.
    lacks = users_of([0.1, 0.2], ["a", "b"], "hit@10")
    halves = [(first, lacks), (lacks, first), (first, other)]
    assert user_differences(halves, "ndcg@10") == pytest.approx([0.3, 0.3])


def test_runs_without_their_file_are_left_out(tmp_path):
    records, users = runs({"base": [[0.1, 0.2]], "kt": [[0.3, 0.4]]})
    users["BPR", "kt", 1].save(tmp_path / "runs" / "BPR-kt-1" / "users.npz")
    per_user = load_users(tmp_path, records)
    assert list(per_user) == [("BPR", "kt", 1)]
    assert per_user["BPR", "kt", 1].values["ndcg@10"].tolist() == [0.3, 0.4]
    (verdict,) = verdicts(records, compare_arms(records, per_user))
    assert verdict.outcome == "untested" and "no metrics by user" in verdict.reason


def test_the_metric_of_verdicts_is_the_one_that_chose_the_checkpoint():
    def record(model, test, metric="NDCG@10"):
        settings = {"valid_metric": metric}
        names = {"model": model, "arm": "kt", "seed": 1, "status": "ok"}
        return as_record({**names, "test": test, "settings": settings})

    other = record("EASE", {"mrr@10": 0.2}, "MRR@10")
    empty = record("BPR", {})
    both = record("BPR", {"hit@10": 0.5, "ndcg@10": 0.3})
    assert primary_metric([other, empty, both], "BPR") == "ndcg@10"
    assert primary_metric([record("BPR", {"hit@10": 0.5})], "BPR") == "hit@10"
    assert primary_metric([other, empty], "BPR") is None


def test_seeds_are_paired_and_errors_turn_the_sign():
    records, _ = runs({"base": [[0.1], [0.2]], "kt": [[0.4], [0.3], [0.9]]})
    difference = seed_differences(records, ("BPR", "kt", "base", "ndcg@10"))
    assert (difference.n, difference.mean) == (2, pytest.approx(0.2))
    worse = seed_differences(records, ("BPR", "kt", "base", "ndcg@10"), ["ndcg"])
    assert worse.mean == pytest.approx(-0.2)
    assert seed_differences(records, ("BPR", "kt", "none", "ndcg@10")) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ""),
        ([0.25], ""),
        ([0.25, 0.25], "; +0.2500 with each of 2 seeds"),
        ([0.25, 0.26], "; 95% interval over 2 seeds +0.1915 to +0.3185"),
    ],
)
def test_the_evidence_of_a_pair(values, words):
    seeds = estimate(values) if values else None
    pair = Pair("BPR", "kt", "base", "ndcg@10", 300, 0.25, 0.01, 0.01, 0.0204, seeds)
    assert evidence(pair) == f"p = 0.02 over 300 users{words}"


def test_two_users_are_enough_to_test():
    wilcoxon, ttest = paired_tests(np.array([1.0, 2.0]))
    assert wilcoxon == pytest.approx(0.5)  # two of the four signs
    assert ttest == pytest.approx(2 * stats.t.sf(3.0, 1))
    assert np.isnan(paired_tests(np.array([1.0]))).all()


# ---- verdicts ---------------------------------------------------------------------------------


def test_a_planted_gain_is_a_win():
    rng = np.random.default_rng(1)
    (verdict,) = judge(world(rng, {"base": 0.0, "kt": 0.03, "shuffled": 0.0}))
    assert verdict.outcome == "win" and verdict.metric == "ndcg@10"
    assert [(pair.rival, pair.proven) for pair in verdict.pairs] == [("base", 1), ("shuffled", 1)]
    assert "better than base (p = " in verdict.reason


def test_a_model_without_randomness_is_judged_by_its_users_alone():
    rng = np.random.default_rng(1)
    drawn = world(rng, {"base": 0.0, "kt": 0.03, "shuffled": 0.0}, seeds=1)
    (verdict,) = judge({arm: seeds * 3 for arm, seeds in drawn.items()})
    assert verdict.outcome == "win"
    assert re.search(r"users; \+0\.0\d+ with each of 3 seeds\)", verdict.reason)


def test_what_the_shuffled_control_gains_too_is_no_win():
    rng = np.random.default_rng(2)
    (verdict,) = judge(world(rng, {"base": 0.0, "kt": 0.03, "shuffled": 0.03}))
    assert verdict.outcome == "no win" and "but not proven better than shuffled" in verdict.reason


def test_a_loss_is_called_one():
    rng = np.random.default_rng(3)
    (verdict,) = judge(world(rng, {"base": 0.0, "kt": -0.03, "shuffled": 0.0}))
    assert verdict.outcome == "worse"


def test_less_is_better_where_it_is():
    rng = np.random.default_rng(4)
    arms = world(rng, {"base": 0.0, "kt": -0.03, "shuffled": 0.0})
    assert judge(arms, ["logloss"], metric="logloss")[0].outcome == "win"


def test_two_seeds_prove_nothing():
    rng = np.random.default_rng(5)
    (verdict,) = judge(world(rng, {"base": 0.0, "kt": 0.2, "shuffled": 0.0}, seeds=2))
    assert verdict.outcome == "untested" and "not enough seeds (2 of at least 3)" in verdict.reason
    assert verdict.pairs[0].holm < 1e-6


def test_without_a_control_there_is_no_win():
    rng = np.random.default_rng(6)
    (verdict,) = judge(world(rng, {"base": 0.0, "kt": 0.03}))
    assert verdict.outcome == "untested" and "shuffled" in verdict.reason
    (verdict,) = judge({"kt": world(rng, {"kt": 0.0})["kt"]})
    assert verdict.outcome == "untested" and "base" in verdict.reason


def test_an_own_arm_has_its_own_control():
    rng = np.random.default_rng(7)
    arms = {"base": 0.0, "init": 0.03, "init+shuffled": 0.0, "shuffled": 0.03}
    (verdict,) = judge(world(rng, arms))
    assert (verdict.arm, verdict.outcome) == ("init", "win")


def test_seeds_that_disagree_are_no_win_however_sure_the_users_are():
    """The users' tests cannot know that another seed would have turned the sign."""
    rng = np.random.default_rng(8)
    arms = world(rng, {"base": 0.0, "kt": 0.0, "shuffled": 0.0}, seeds=3, seed_sd=0.0)
    for shift, values in zip((0.09, -0.02, 0.02), arms["kt"]):
        values += shift
    (verdict,) = judge(arms)
    assert verdict.pairs[0].holm < 0.001
    assert verdict.outcome == "no win"


def test_holm_looks_at_all_models():
    """What would be significant alone is not, as one of ten models."""
    records, users, pairs = [], {}, []
    rng = np.random.default_rng(9)
    for number in range(10):
        more, theirs = runs(world(rng, {"base": 0.0, "kt": 0.0}), model=f"M{number}")
        records += more
        users.update(theirs)
    pairs = compare_arms(records, users)
    assert len(pairs) == 10
    assert [pair.holm for pair in pairs] == pytest.approx(holm([pair.p for pair in pairs]))
    assert any(pair.holm > pair.p for pair in pairs)


# ---- base against base ------------------------------------------------------------------------


def _most(draws, level=0.05):
    """Return the count that a test of that level exceeds in one of a thousand series."""
    return int(stats.binom.ppf(0.999, draws, level))


def test_base_against_base_proves_nothing_more_often_than_the_level_allows():
    rng = np.random.default_rng(10)
    draws = 100
    proven, naive, wins = 0, 0, 0
    for _ in range(draws):
        records, users = runs(
            world(rng, {"base": 0.0, "kt": 0.0, "shuffled": 0.0}, seed_sd=0.01), model="BPR"
        )
        pairs = compare_arms(records, users)
        proven += pairs[0].proven != 0
        naive += pairs[0].holm < 0.05
        wins += verdicts(records, pairs)[0].outcome == "win"
    assert proven <= _most(draws)
    assert wins <= _most(draws, 0.025)
    assert naive > _most(draws)  # why the interval over seeds is asked for as well


def test_base_against_base_on_movielens():
    """NDCG@10 of 943 users by BPR trained with twenty seeds; two times five of them, 20 draws."""
    path = Path(__file__).parent / "data" / "bpr_seeds.npz"
    with np.load(path, allow_pickle=False) as file:
        seeds = file["ndcg"].astype(float)
    rng = np.random.default_rng(11)
    draws, wins, proven = 20, 0, 0
    for _ in range(draws):
        parts = seeds[rng.permutation(len(seeds))[:15]].reshape(3, 5, -1)
        records, users = runs(dict(zip(("base", "kt", "shuffled"), parts)))
        pairs = compare_arms(records, users)
        proven += pairs[0].proven != 0
        wins += verdicts(records, pairs)[0].outcome == "win"
    assert proven <= _most(draws)
    assert wins <= _most(draws, 0.025)
