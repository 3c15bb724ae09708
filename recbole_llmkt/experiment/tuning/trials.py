"""What a study records: a line for each trial, and for each run of the final round."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llmkt.experiment.runs.consistency import texts_of
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.pool import Ended, Train, Validated, run_all
from recbole_llmkt.experiment.runs.progress import Progress
from recbole_llmkt.experiment.runs.records import FAILED, OK, Record, RunKey
from recbole_llmkt.utils.jsonl import Fields, read_objects
from recbole_llmkt.utils.types import Metrics, Settings

TRIALS, FINALS = "trials.jsonl", "finals.jsonl"
_FIX = "Delete the file; `llmkt tune` writes it again."


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes
    ----------
    seconds : float
        How long it took.
    epochs : int
        Epochs trained.
    score : float or None
        The best validation score; None for a failed trial.
    valid : mapping
        Validation metrics.
    texts : mapping
        Digest of the profiles' texts that it learned from, by entity.
    error : str
        Why it failed.
    """

    seconds: float
    epochs: int
    score: float | None = None
    valid: Metrics = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """A trial, or a run of the final round: a line of ``trials.jsonl`` or ``finals.jsonl``.

    Attributes
    ----------
    model, arm, dataset : str
        Names.
    trial : int
        Number of the trial among those of its arm.
    seed : int
        Seed of the run.
    keys : dict
        The keys it changes, with their values.
    outcome : Outcome
        What came of it.
    """

    model: str
    arm: str
    trial: int
    seed: int
    dataset: str
    keys: Settings
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """Return whether the trial succeeded."""
        return self.outcome.score is not None

    @property
    def score(self) -> float:
        """Return the best validation score of a trial that succeeded."""
        assert self.outcome.score is not None, "a failed trial has no score"
        return self.outcome.score

    @property
    def run_key(self) -> RunKey:
        """Return what identifies the run; equals ``Run.key``."""
        return (self.model, self.arm, self.seed, self.dataset)

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what identifies the trial, its keys included: numbers may be given again."""
        return (self.model, self.arm, self.trial, json.dumps(self.keys, sort_keys=True))

    @classmethod
    def read(cls, fields: Fields) -> TrialRecord:
        """Read a line.

        Raises
        ------
        DataError
            A field is missing or has a wrong type.
        """
        ok = fields.choice("status", (OK, FAILED)) == OK
        outcome = Outcome(
            seconds=fields.with_default("seconds", 0.0),
            epochs=fields.with_default("epochs", 0),
            score=fields.required("score", float) if ok else None,
            valid=fields.mapping("valid", float),
            texts=fields.mapping("texts", str),
            error=fields.with_default("error", ""),
        )
        return cls(
            model=fields.required("model", str),
            arm=fields.required("arm", str),
            trial=fields.required("trial", int),
            seed=fields.required("seed", int),
            dataset=fields.required("dataset", str),
            keys=fields.required("keys", dict),
            outcome=outcome,
        )

    def to_json(self) -> Record:
        """Return the line's JSON object."""
        outcome = self.outcome
        values: Record = {
            "model": self.model,
            "arm": self.arm,
            "trial": self.trial,
            "seed": self.seed,
            "dataset": self.dataset,
            "status": OK if self.ok else FAILED,
            "keys": self.keys,
            "epochs": outcome.epochs,
            "seconds": outcome.seconds,
        }
        if not self.ok:
            return {**values, "error": outcome.error}
        if outcome.texts:
            values["texts"] = dict(outcome.texts)
        return {**values, "score": outcome.score, "valid": dict(outcome.valid)}


def read_trials(output: Path) -> list[TrialRecord]:
    """Read a study's ``trials.jsonl``; a missing file holds no trials.

    Raises
    ------
    DataError
        A line (but a cut-off last one) cannot be read, or a field is missing or of a wrong type.
    """
    return [TrialRecord.read(fields) for fields in read_objects(output / TRIALS, _FIX)]


def read_finals(output: Path) -> list[TrialRecord]:
    """Read a study's ``finals.jsonl``; as :func:`read_trials`."""
    return [TrialRecord.read(fields) for fields in read_objects(output / FINALS, _FIX)]


def outcomes(
    runs: Iterable[Run], count: int, output: Path, jobs: int, train: Train
) -> Iterator[tuple[Run, Outcome]]:
    """Train runs under a progress bar, and yield each with its outcome as it ends.

    Parameters
    ----------
    runs : iterable of Run
        Requested one by one, as processes become free.
    count : int
        How many there are.
    output : Path
        Folder of the runs' own folders.
    jobs : int
        Runs at a time.
    train : callable
        Trains one run.

    Yields
    ------
    Run, Outcome
    """
    epochs: dict[Run, int] = {}
    with Progress(count) as progress:
        for event in run_all(runs, output, jobs, train):
            if isinstance(event, Validated):
                epochs[event.run] = event.run.epochs_until(event.epoch + 1)
            elif isinstance(event, Ended):
                yield event.run, _outcome(event, epochs.pop(event.run, 0))
            progress.show(event)


def _outcome(event: Ended, epochs: int) -> Outcome:
    result = event.result
    if result is None:
        return Outcome(event.seconds, epochs, error=event.error)
    if result.score is None or not math.isfinite(result.score):
        error = f"the validation score is {result.score}"
        return Outcome(event.seconds, epochs, error=error)
    texts = texts_of({"transfer": result.transfer})
    return Outcome(event.seconds, epochs, result.score, result.valid, texts)
