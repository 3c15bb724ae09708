"""The trials of one arm: which points it tries and their outcomes, in Optuna's journal."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.settings import text_digest
from recbole_llmkt.experiment.tuning.space import UNKNOWN, Dimension, Range, Space
from recbole_llmkt.experiment.tuning.trials import Outcome, TrialRecord
from recbole_llmkt.utils.exceptions import DataError, LLMKTError
from recbole_llmkt.utils.files import drop_cut_line
from recbole_llmkt.utils.jsonl import Fields
from recbole_llmkt.utils.text import one_line
from recbole_llmkt.utils.types import Settings

# A value as Optuna stores it.
Coded = Union[None, bool, int, float, str]


def open_journal(path: Path) -> JournalStorage:
    """Open Optuna's journal, even after a crash; the folder's lock must be held.

    Raises
    ------
    DataError
        A line, but a cut-off last one, is none of a journal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    drop_cut_line(path)
    with journal_checked(path):
        return JournalStorage(JournalFileBackend(str(path)))


@contextmanager
def journal_checked(path: Path) -> Iterator[None]:
    """Turn what a damaged journal makes Optuna raise within the block into one line.

    Parameters
    ----------
    path : Path
        The journal.

    Raises
    ------
    DataError
        Naming the file and the fix.
    """
    try:
        yield
    except LLMKTError:
        raise
    except Exception as error:  # Optuna checks nothing that it reads: KeyError, TypeError, ...
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {one_line(str(error))[:100]}). Restore "
            "it, or tune into another --output."
        ) from error


@dataclass
class Study:
    """The trials of one arm of one model.

    Trial 0 is the configuration as given. The next ones are ``points``, the same for all arms of
    a model as far as they share keys. The rest is chosen by a tree-structured Parzen estimator
    (Bergstra et al., 2011) from this arm's own earlier trials.

    Attributes
    ----------
    run : Run
        The arm's run, at the configuration as given.
    space : dict
        What is tuned.
    points : sequence of dict
        Values of all keys of the model's space, for the trials after the first.
    given : dict
        The configuration's values of the tuned keys.
    bigger : bool
        Whether a larger validation score is better.
    dimensions : sequence of str
        All keys that ``points`` have values for.
    """

    run: Run
    space: Space
    points: Sequence[Settings]
    given: Settings
    bigger: bool
    dimensions: Sequence[str] = ()

    def open(self, storage: JournalStorage) -> None:
        """Resume what the journal holds; interrupted trials will be repeated.

        Call it within :func:`journal_checked`.

        Raises
        ------
        DataError
            A trial in the journal is none of this package.
        """
        self._study = optuna.create_study(
            storage=storage,
            study_name=f"{self.run.model}/{self.run.arm}",
            direction="maximize" if self.bigger else "minimize",
            load_if_exists=True,
        )
        for trial in self._trials():
            if not trial.state.is_finished():
                self._study.tell(trial.number, state=TrialState.FAIL)
        for record in self.records():
            fix = f"Restore {self.run.arm}'s journal, or tune into another --output."
            TrialRecord.read(Fields(record.to_json(), f"Trial {record.trial} of {record.arm}", fix))

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def finished(self, failed: bool = True) -> dict[int, FrozenTrial]:
        """Return the trials that were not interrupted, the last of each index.

        Parameters
        ----------
        failed : bool
            Whether to include those that ended with an error.
        """
        return {
            trial.user_attrs["index"]: trial
            for trial in self._trials()
            if trial.state == TrialState.COMPLETE or (failed and "error" in trial.user_attrs)
        }

    # ---- asking -------------------------------------------------------------------------------

    def ask(self, index: int) -> tuple[Run, optuna.Trial]:
        """Return what to run as trial ``index``, and Optuna's trial."""
        with warnings.catch_warnings():  # parts of the samplers are marked experimental
            warnings.simplefilter("ignore")
            self._study.sampler, searched = self._sampler(index)
            trial = self._study.ask(_distributions(searched))
        values = {key: _decoded(searched[key], trial.params[key]) for key in searched}
        keys = values if index else {}
        trial.set_user_attr("index", index)
        trial.set_user_attr("keys", keys)
        return replace(self.run, changes=keys, label=f"t{index:03d}"), trial

    def _sampler(self, index: int) -> tuple[BaseSampler, Space]:
        """Return the sampler of a trial, and the keys that it has values for."""
        if index > len(self.points):
            name = [self.run.seed, self.run.model, self.run.arm, index]
            # Each trial has its own seed: resuming changes nothing.
            seed = int(text_digest(name), 16) % 2**32
            return TPESampler(seed=seed, n_startup_trials=0, constant_liar=True), self.space
        point = self.points[index - 1] if index else self.given
        near = {key: dimension.nearest(point[key]) for key, dimension in self.space.items()}
        known = {key: value for key, value in near.items() if value is not UNKNOWN}
        searched = {key: self.space[key] for key in known}
        fixed = {key: _coded(value) for key, value in known.items()}
        return PartialFixedSampler(fixed, RandomSampler(seed=0)), searched

    # ---- telling ------------------------------------------------------------------------------

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Record the outcome of a trial that :meth:`ask` returned."""
        trial.set_user_attr("seconds", outcome.seconds)
        trial.set_user_attr("epochs", outcome.epochs)
        if outcome.score is None:
            trial.set_user_attr("error", outcome.error)
            self._study.tell(trial, state=TrialState.FAIL)
            return
        if outcome.texts:
            trial.set_user_attr("texts", dict(outcome.texts))
        trial.set_user_attr("valid", dict(outcome.valid))
        self._study.tell(trial, outcome.score)

    def records(self) -> list[TrialRecord]:
        """Return a record of each finished trial, in their order."""
        return [self._record(index, trial) for index, trial in sorted(self.finished().items())]

    def _record(self, index: int, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        outcome = Outcome(
            seconds=attributes["seconds"],
            epochs=attributes["epochs"],
            score=None if "error" in attributes else trial.value,
            valid=attributes.get("valid", {}),
            texts=attributes.get("texts", {}),
            error=attributes.get("error", ""),
        )
        return TrialRecord(
            model=self.run.model,
            arm=self.run.arm,
            trial=index,
            seed=self.run.seed,
            dataset=self.run.dataset,
            keys=attributes["keys"],
            outcome=outcome,
        )


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {key: _distribution(dimension) for key, dimension in space.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Range):
        if dimension.whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return CategoricalDistribution([_coded(value) for value in dimension.values])


def _coded(value: object) -> Coded:
    """Return a value as Optuna stores it: lists and mappings as JSON."""
    if isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value)


def _decoded(dimension: Dimension, coded: object) -> object:
    if isinstance(dimension, Range):
        return coded
    return next(value for value in dimension.values if _coded(value) == coded)
