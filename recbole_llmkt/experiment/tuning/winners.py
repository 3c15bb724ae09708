"""The winners of a study: a plan that runs each arm with the keys that validated best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmkt.experiment.runs.arms import ARMS
from recbole_llmkt.experiment.runs.consistency import check_knowledge, check_spaces
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.results import Record
from recbole_llmkt.experiment.runs.settings import same
from recbole_llmkt.experiment.tuning.finals import (
    FINALS,
    best_trials,
    further_seeds,
    read_finals,
    runs_of,
)
from recbole_llmkt.experiment.tuning.tune import (
    TRIALS,
    read_about,
    read_trials,
    tuned_runs,
    with_settings,
)
from recbole_llmkt.keys.table import NO_MATTER
from recbole_llmkt.utils.exceptions import ConfigError, DataError, nearest

logger = getLogger(__name__)

Winner = dict[str, Any]


def tuned_plan(folder: Path, wanted: Plan, allow_unequal: bool = False) -> Plan:
    """Lay a plan over what was tuned in a folder.

    Parameters
    ----------
    folder : Path
        The ``--output`` of ``llmkt tune``.
    wanted : Plan
        What the comparison asks for. Empty models and arms are all that were tuned, an empty
        dataset is the tuned one; files and keys go over those of the tuning.
    allow_unequal : bool
        Whether arms of a model may have had different numbers of trials; records say so.

    Raises
    ------
    ConfigError
        Other data, or another definition of an arm, than was tuned; unequal numbers of trials.
    DataError
        No study in the folder, or an arm without a trial that succeeded; a last round that is not
        finished; files that say something else than they did for the tuning.
    """
    about = read_about(folder)
    studies = about["studies"].values()
    arms = list(wanted.arms) or list(dict.fromkeys(one["arm"] for one in studies))
    models = list(wanted.models) or list(dict.fromkeys(one["model_path"] for one in studies))
    if wanted.dataset and wanted.dataset != about["dataset"]:
        raise ConfigError(f"'{folder}' was tuned on {about['dataset']}, not on {wanted.dataset}.")
    for name in {*wanted.own_arms} & {*about["own_arms"]}:
        if not same(wanted.own_arms[name], about["own_arms"][name]):
            raise ConfigError(f"The arm '{name}' was tuned with another definition: leave it out.")
    trials, finals = read_trials(folder), read_finals(folder)
    known = with_settings(trials, about)
    tuned_names = [
        name
        for name, one in about["studies"].items()
        if one["model_path"] in models and one["arm"] in arms
    ]
    elsewhere = {key: value for key, value in wanted.overrides.items() if key in NO_MATTER}
    there = {**about, "overrides": {**about["overrides"], **elsewhere}}
    check_knowledge(tuned_runs(folder, there, tuned_names), known, TRIALS)
    check_spaces(folder, about["studies"], about["own_arms"])
    _warn_of_tuned_seeds(about, wanted.seeds)
    tuned = {}
    for path in models:
        model = path.rpartition(".")[2]
        found = {arm: winner(folder, about, trials, finals, model, arm) for arm in arms}
        _check_equal(model, found, allow_unequal)
        tuned.update({(model, arm): one for arm, one in found.items()})
    return Plan(
        models=models,
        arms=arms,
        seeds=wanted.seeds,
        dataset=about["dataset"],
        config_files=[*about["config_files"], *wanted.config_files],
        overrides={**about["overrides"], **wanted.overrides},
        own_arms={**about["own_arms"], **wanted.own_arms},
        tuned=tuned,
    )


def _warn_of_tuned_seeds(about: Mapping[str, Any], seeds: Sequence[int]) -> None:
    most = max(one.get("final_seeds", 0) for one in about["studies"].values())
    tuned_with = {about["seed"], *further_seeds(about["seed"], most)} & {*seeds}
    if tuned_with:
        text = ", ".join(map(str, sorted(tuned_with)))
        logger.warning("Tuned with the seed %s, too: other seeds are a fairer test.", text)


def winner(
    folder: Path,
    about: Mapping[str, Any],
    trials: Sequence[Record],
    finals: Sequence[Record],
    model: str,
    arm: str,
) -> Winner:
    """Return the best trial of an arm, as the comparison's records note it.

    It is the best finalist by the mean over seeds; without a last round, the best trial.

    Returns
    -------
    dict
        ``keys`` (those it changes), ``trial`` (its number), ``metric`` and ``score`` (validation,
        mean over seeds), ``trials`` (all that finished, failed ones too), ``failed``,
        ``finalists`` and ``finals`` (of the last round, and its runs), ``seeds`` (behind the
        score), ``seed``, ``space`` (a digest), ``unequal`` (whether another arm of the model had
        more or fewer of them).
    """
    study = about["studies"].get(f"{model}/{arm}")
    own = [one for one in trials if (one["model"], one["arm"]) == (model, arm)]
    good = [one for one in own if one["status"] == "ok"]
    if study is None or not good:
        raise _no_trial(folder, about, model, arm, bool(own))
    ranked = best_trials(own, model, arm, study["bigger"])
    finalists = ranked[: study.get("finalists", 0)]
    seeds = further_seeds(about["seed"], study.get("final_seeds", 0))
    played = [(one, runs_of(finals, one, seeds)) for one in finalists]
    if any(len(again) < len(seeds) for _, again in played):
        raise DataError(
            f"{model}, arm {arm}: the last round of '{folder}' is not finished. The same `llmkt "
            "tune` goes on with it."
        )
    well = [(one, again) for one, again in played if all(run["status"] == "ok" for run in again)]
    if played and not well:
        raise DataError(
            f"{model}, arm {arm}: every finalist failed, '{folder / FINALS}' has the "
            "reasons. Mend them, and give the command of `llmkt tune` again, with --retry-failed."
        )
    means = [
        (sum(run["score"] for run in (one, *again)) / (1 + len(again)), one)
        for one, again in well or [(ranked[0], [])]
    ]
    score, best = (max if study["bigger"] else min)(means, key=lambda one: one[0])
    return {
        "keys": best["keys"],
        "trial": best["trial"],
        "metric": study["metric"],
        "score": score,
        "trials": len(own),
        "failed": len(own) - len(good),
        "finalists": len(finalists),
        "finals": sum(len(again) for _, again in played),
        "seeds": 1 + len(seeds),
        "seed": about["seed"],
        "space": study["space_digest"],
        "unequal": False,
    }


def _no_trial(
    folder: Path, about: Mapping[str, Any], model: str, arm: str, all_failed: bool
) -> DataError:
    """Return the error of an arm that has no good trial: each one failed, or there was none."""
    if all_failed:
        return DataError(
            f"{model}, arm {arm}: no trial succeeded, '{folder / TRIALS}' has the reasons. "
            "Mend them, and give the command of `llmkt tune` again, with --retry-failed."
        )
    arms = [name.partition("/")[2] for name in about["studies"]]
    near = "" if arm in (*ARMS, *arms) else nearest(arm, arms)
    return DataError(
        f"{model}, arm {arm}: was not tuned in '{folder}'.{near} `llmkt tune "
        f"--models={model} --arms={arm} --output={folder} ...` adds it."
    )


def _check_equal(model: str, found: Mapping[str, Winner], allow_unequal: bool) -> None:
    counted = ("trials", "finalists", "seeds")
    differing = [name for name in counted if len({one[name] for one in found.values()}) > 1]
    if not differing:
        return
    if not allow_unequal:
        name = differing[0]
        text = ", ".join(f"{arm} {one[name]}" for arm, one in found.items())
        raise ConfigError(
            f"{model}: the arms had different numbers of {name} ({text}), so the comparison would "
            "not be fair. Go on with llmkt tune, or say --allow-unequal; the report then says so."
        )
    for one in found.values():
        one["unequal"] = True
