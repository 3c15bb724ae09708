"""The winners of a study: a plan that runs each arm with the keys that validated best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmkt.exceptions import ConfigError, DataError, nearest
from recbole_llmkt.experiment.arms import ARMS
from recbole_llmkt.experiment.finals import FINALS, final_scores, read_finals
from recbole_llmkt.experiment.plan import Plan
from recbole_llmkt.experiment.results import Record
from recbole_llmkt.experiment.settings import same
from recbole_llmkt.experiment.tune import read_about, read_trials

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
        No study in the folder, or an arm without a trial that succeeded.
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
    if about["seed"] in wanted.seeds:
        logger.warning(
            "Seed %s is the one that was tuned with: other seeds are a fairer test.", about["seed"]
        )
    trials, finals = read_trials(folder), read_finals(folder)
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
        mean over seeds), ``trials`` (all that finished, failed ones too), ``failed``, ``finals``
        (runs of the last round), ``seeds`` (behind the score), ``seed``, ``space`` (a digest),
        ``unequal`` (whether another arm of the model had more or fewer trials).
    """
    study = about["studies"].get(f"{model}/{arm}")
    own = [one for one in trials if (one["model"], one["arm"]) == (model, arm)]
    good = [one for one in own if one["status"] == "ok"]
    if study is None or not good:
        what = "no trial succeeded" if own else "was not tuned"
        arms = [name.partition("/")[2] for name in about["studies"]]
        near = "" if own or arm in (*ARMS, *arms) else nearest(arm, arms)
        raise DataError(
            f"{model}, arm {arm}: {what} in '{folder}'.{near} `llmkt tune "
            f"--models={model} --arms={arm} --output={folder} ...` adds it."
        )
    finalists = final_scores(finals, good)
    if not finalists:
        raise DataError(f"{model}, arm {arm}: every finalist failed, see '{folder / FINALS}'.")
    most = max(len(scores) for _, scores in finalists)
    means = [(sum(own) / most, trial) for trial, own in finalists if len(own) == most]
    score, best = (max if study["bigger"] else min)(means, key=lambda one: one[0])
    return {
        "keys": best["keys"],
        "trial": best["trial"],
        "metric": study["metric"],
        "score": score,
        "trials": len(own),
        "failed": len(own) - len(good),
        "finals": sum((one["model"], one["arm"]) == (model, arm) for one in finals),
        "seeds": most,
        "seed": about["seed"],
        "space": study["space_digest"],
        "unequal": False,
    }


def _check_equal(model: str, found: Mapping[str, Winner], allow_unequal: bool) -> None:
    counts = {arm: (one["trials"], one["seeds"]) for arm, one in found.items()}
    if len(set(counts.values())) == 1:
        return
    if not allow_unequal:
        name = ("trials", "seeds in the last round")[len({n for n, _ in counts.values()}) == 1]
        text = ", ".join(f"{arm} {one[name.partition(' ')[0]]}" for arm, one in found.items())
        raise ConfigError(
            f"{model}: the arms had different numbers of {name} ({text}), so the comparison would "
            "not be fair. Go on with llmkt tune, or say --allow-unequal; the report then says so."
        )
    for one in found.values():
        one["unequal"] = True
