"""One arm's study: which points it tries, what came of them, in Optuna's journal."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.settings import text_digest
from recbole_llmkt.experiment.tuning.space import UNKNOWN, Dimension, Range, Space
from recbole_llmkt.utils.files import drop_cut_line


def open_journal(path: Path) -> JournalStorage:
    """Open Optuna's journal, also one that a crash left; the folder's lock must be held."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    drop_cut_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


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
    given : mapping
        The configuration's values of the tuned keys.
    bigger : bool
        Whether a bigger validation score is better.
    dimensions : sequence of str
        All keys that ``points`` have values for.
    """

    run: Run
    space: Space
    points: Sequence[Mapping[str, Any]]
    given: Mapping[str, Any]
    bigger: bool
    dimensions: Sequence[str] = ()

    def open(self, storage: JournalStorage) -> None:
        """Go on with what the journal holds; trials that were interrupted are to be done again."""
        self._study = optuna.create_study(
            storage=storage,
            study_name=f"{self.run.model}/{self.run.arm}",
            direction="maximize" if self.bigger else "minimize",
            load_if_exists=True,
        )
        for trial in self._trials():
            if not trial.state.is_finished():
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def finished(self, failed: bool = True) -> dict[int, FrozenTrial]:
        """Return the trials that ended by themselves, the last of each index.

        Parameters
        ----------
        failed : bool
            Those with an error, too, not only those with a score.
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
        found = {key: _value(one, trial.params[key]) for key, one in searched.items()}
        keys = found if index else {}
        trial.set_user_attr("index", index)
        trial.set_user_attr("keys", keys)
        return replace(self.run, changes=keys, label=f"t{index:03d}"), trial

    def _sampler(self, index: int) -> tuple[Any, Space]:
        """Return what chooses the values of a trial, and the keys that it has values for."""
        if index > len(self.points):
            name = [self.run.seed, self.run.model, self.run.arm, index]
            seed = int(text_digest(name), 16) % 2**32  # of its own: resuming changes nothing
            return TPESampler(seed=seed, n_startup_trials=0, constant_liar=True), self.space
        point = self.points[index - 1] if index else self.given
        near = {key: dimension.nearest(point[key]) for key, dimension in self.space.items()}
        known = {key: value for key, value in near.items() if value is not UNKNOWN}
        searched = {key: self.space[key] for key in known}
        fixed = {key: _coded(searched[key], value) for key, value in known.items()}
        return PartialFixedSampler(fixed, RandomSampler(seed=0)), searched

    # ---- telling ------------------------------------------------------------------------------

    def tell(self, trial: optuna.Trial, facts: Mapping[str, Any]) -> None:
        """Record what came of a trial.

        Parameters
        ----------
        trial : optuna.Trial
            Of :meth:`ask`.
        facts : mapping
            ``seconds`` and ``epochs``; ``score`` and ``valid``, or ``error``.
        """
        for name, value in facts.items():
            if name != "score":
                trial.set_user_attr(name, value)
        if "error" in facts:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, facts["score"])

    def lines(self) -> list[dict[str, Any]]:
        """Return a record for each finished trial, in their order."""
        return [self._line(index, trial) for index, trial in sorted(self.finished().items())]

    def _line(self, index: int, trial: FrozenTrial) -> dict[str, Any]:
        known = trial.user_attrs
        line = {
            "model": self.run.model,
            "arm": self.run.arm,
            "trial": index,
            "seed": self.run.seed,
            "dataset": self.run.dataset,
            "status": "failed" if "error" in known else "ok",
            "keys": known["keys"],
            "epochs": known["epochs"],
            "seconds": known["seconds"],
        }
        if "error" in known:
            return {**line, "error": known["error"]}
        texts = {"texts": known["texts"]} if "texts" in known else {}
        return {**line, **texts, "score": trial.value, "valid": known["valid"]}


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {key: _distribution(dimension) for key, dimension in space.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Range):
        if dimension.whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return CategoricalDistribution([_coded(dimension, one) for one in dimension.values])


def _coded(dimension: Dimension, value: Any) -> Any:
    """Return a value as Optuna stores it: lists and mappings as JSON."""
    if isinstance(dimension, Range) or isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value)


def _value(dimension: Dimension, coded: Any) -> Any:
    if isinstance(dimension, Range):
        return coded
    return next(one for one in dimension.values if _coded(dimension, one) == coded)
