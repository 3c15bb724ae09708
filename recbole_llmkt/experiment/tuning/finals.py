"""The final round of tuning: an arm's best trials again, with other seeds.

The best of many trials with one seed is partly lucky, and luck does not carry over to other
seeds. So the winner is the finalist with the best mean over several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.pool import Train
from recbole_llmkt.experiment.tuning.trials import (
    FINALS,
    TrialRecord,
    outcomes,
    read_finals,
)
from recbole_llmkt.utils.files import drop_cut_line
from recbole_llmkt.utils.jsonl import write_line

logger = getLogger(__name__)


@dataclass(frozen=True)
class Finals:
    """The size of the final round.

    Attributes
    ----------
    finalists : int
        How many of an arm's best trials take part; 0: none, the best trial wins.
    seeds : int
        How many more seeds each gets: those that follow the seed of the trials.
    """

    finalists: int = 0
    seeds: int = 2


def run_finals(
    finals: Finals,
    arms: Sequence[tuple[Run, bool]],
    trials: Sequence[TrialRecord],
    output: Path,
    jobs: int,
    train: Train,
    retry_failed: bool = False,
) -> None:
    """Run what ``output`` lacks of the final round, and record each run as it ends.

    Parameters
    ----------
    finals : Finals
        Finalists and seeds.
    arms : sequence of (Run, bool)
        Each arm's run at the configuration as given, and whether a larger score is better.
    trials : sequence of TrialRecord
        The lines of ``trials.jsonl``.
    output : Path
        Folder of the study; its lock must be held.
    jobs : int
        Runs at a time.
    train : callable
        Trains one run.
    retry_failed : bool
        Whether to repeat failed runs; of several lines about one run the last one counts.
    """
    path = output / FINALS
    drop_cut_line(path)
    last = {(*record.key, record.seed): record for record in read_finals(output)}
    done = {key for key, record in last.items() if record.ok or not retry_failed}
    remaining: dict[Run, TrialRecord] = {}
    for run, larger_is_better in arms:
        ranked = best_trials(trials, run.model, run.arm, larger_is_better)
        for trial in ranked[: finals.finalists]:
            for seed in further_seeds(run.seed, finals.seeds):
                if (*trial.key, seed) not in done:
                    remaining[_with_seed(run, trial, seed)] = replace(trial, seed=seed)
    if not remaining:
        return
    logger.info("Final round: %d runs to do, %d at a time.", len(remaining), jobs)
    with path.open("ab", buffering=0) as file:
        for run, outcome in outcomes(remaining, len(remaining), output, jobs, train):
            write_line(file, replace(remaining[run], outcome=outcome).to_json())


def best_trials(
    trials: Sequence[TrialRecord], model: str, arm: str, larger_is_better: bool
) -> list[TrialRecord]:
    """Return an arm's trials that succeeded, the best first."""
    succeeded = [trial for trial in trials if (trial.model, trial.arm) == (model, arm) and trial.ok]
    return sorted(succeeded, key=lambda trial: trial.score, reverse=larger_is_better)


def further_seeds(seed: int, count: int) -> range:
    """Return the seeds of the final round: those that follow the seed of the trials."""
    return range(seed + 1, seed + 1 + count)


def runs_of(
    finals: Sequence[TrialRecord], trial: TrialRecord, seeds: Sequence[int]
) -> list[TrialRecord]:
    """Return the runs of a finalist with these seeds, as far as they exist.

    Parameters
    ----------
    finals : sequence of TrialRecord
        The lines of ``finals.jsonl``.
    trial : TrialRecord
        A line of ``trials.jsonl``.
    seeds : sequence of int
        See :func:`further_seeds`.
    """
    by_seed = {run.seed: run for run in finals if run.key == trial.key}
    return [by_seed[seed] for seed in seeds if seed in by_seed]


def _with_seed(run: Run, trial: TrialRecord, seed: int) -> Run:
    label = f"t{trial.trial:03d}-s{seed}"
    return replace(run, seed=seed, changes={**trial.keys, "seed": seed}, label=label)
