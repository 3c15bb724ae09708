"""The last round of tuning: an arm's best trials once more, with other seeds.

The best of many trials with one seed owes its place to luck as well as to its keys, and luck does
not carry over to other seeds. So the winner is the finalist with the best mean over several.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.pool import Train
from recbole_llmkt.experiment.runs.results import Record
from recbole_llmkt.experiment.tuning.trials import outcomes, read_lines
from recbole_llmkt.utils.files import drop_cut_line

logger = getLogger(__name__)

FINALS = "finals.jsonl"
_OUTCOME = ("status", "epochs", "seconds", "score", "valid")


@dataclass(frozen=True)
class Finals:
    """How the last round is played.

    Attributes
    ----------
    finalists : int
        So many of an arm's best trials take part; 0: none, the best trial wins.
    seeds : int
        Each with so many further seeds, those that follow the seed of the trials.
    """

    finalists: int = 0
    seeds: int = 2


def run_finals(
    finals: Finals,
    arms: Sequence[tuple[Run, bool]],
    trials: Sequence[Record],
    output: Path,
    jobs: int,
    train: Train,
    retry_failed: bool = False,
) -> None:
    """Run what ``output`` has not yet of the last round, and record each run as it ends.

    Parameters
    ----------
    finals : Finals
        Finalists and seeds.
    arms : sequence of (Run, bool)
        Each arm's run at the configuration as given, and whether a bigger score is better.
    trials : sequence of dict
        The lines of ``trials.jsonl``.
    output : Path
        Folder of the study; its lock must be held.
    jobs : int
        Runs at a time.
    train : callable
        Trains one of them.
    retry_failed : bool
        Run again what failed; of several lines about one run the last one counts.
    """
    path = output / FINALS
    drop_cut_line(path)
    lines = {(*trial_key(line), line["seed"]): line for line in read_finals(output)}
    known = {key for key, line in lines.items() if line["status"] == "ok" or not retry_failed}
    todo: dict[Run, dict[str, Any]] = {}
    for run, bigger in arms:
        for trial in best_trials(trials, run.model, run.arm, bigger)[: finals.finalists]:
            for seed in further_seeds(run.seed, finals.seeds):
                line = {key: one for key, one in trial.items() if key not in _OUTCOME}
                line["seed"] = seed
                if (*trial_key(line), seed) not in known:
                    todo[_again(run, trial, seed)] = line
    if not todo:
        return
    logger.info("The last round: %d runs to do, %d at a time.", len(todo), jobs)
    with path.open("a", encoding="utf-8") as file:
        for run, facts in outcomes(todo, len(todo), output, jobs, train):
            line = {**todo[run], "status": "failed" if "error" in facts else "ok", **facts}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()


def best_trials(trials: Sequence[Record], model: str, arm: str, bigger: bool) -> list[Record]:
    """Return an arm's trials that succeeded, the best first."""
    own = [one for one in trials if (one["model"], one["arm"]) == (model, arm)]
    good = [one for one in own if one["status"] == "ok"]
    return sorted(good, key=lambda one: one["score"], reverse=bigger)


def read_finals(output: Path) -> list[Record]:
    """Read ``finals.jsonl``; a missing file holds no runs.

    Raises
    ------
    DataError
        A line cannot be read.
    """
    return read_lines(output / FINALS, ("model", "arm", "trial", "seed", "keys", "status"))


def further_seeds(seed: int, count: int) -> range:
    """Return the seeds of the last round: those that follow the seed of the trials."""
    return range(seed + 1, seed + 1 + count)


def runs_of(finals: Sequence[Record], trial: Record, seeds: Sequence[int]) -> list[Record]:
    """Return a finalist's runs with these seeds, as far as there are any.

    Parameters
    ----------
    finals : sequence of dict
        The lines of ``finals.jsonl``.
    trial : dict
        A line of ``trials.jsonl``.
    seeds : sequence of int
        See :func:`further_seeds`.
    """
    known = {one["seed"]: one for one in finals if trial_key(one) == trial_key(trial)}
    return [known[seed] for seed in seeds if seed in known]


def _again(run: Run, trial: Mapping[str, Any], seed: int) -> Run:
    changes = {**trial["keys"], "seed": seed}
    return replace(run, seed=seed, changes=changes, label=f"t{trial['trial']:03d}-s{seed}")


def trial_key(line: Mapping[str, Any]) -> tuple[str, str, int, str]:
    """Return what tells a trial from others, its keys among it: numbers are given anew."""
    keys = json.dumps(line["keys"], sort_keys=True)
    return (line["model"], line["arm"], line["trial"], keys)
