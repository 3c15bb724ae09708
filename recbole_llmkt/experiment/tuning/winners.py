"""The winners of a study: a plan that runs each arm with its best keys by validation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path

from recbole_llmkt.experiment.runs.arms import ARMS
from recbole_llmkt.experiment.runs.consistency import check_profiles_used
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.records import Winner
from recbole_llmkt.experiment.runs.settings import same
from recbole_llmkt.experiment.tuning.finals import best_trials, further_seeds, runs_of
from recbole_llmkt.experiment.tuning.study_file import StudyFile
from recbole_llmkt.experiment.tuning.trials import (
    FINALS,
    TRIALS,
    TrialRecord,
    read_finals,
    read_trials,
)
from recbole_llmkt.experiment.tuning.trust import check_trust
from recbole_llmkt.keys.table import IRRELEVANT_KEYS
from recbole_llmkt.utils.exceptions import ConfigError, DataError, nearest

logger = getLogger(__name__)


def tuned_plan(
    folder: Path, wanted: Plan, allow_unequal: bool = False, trust: bool = False
) -> Plan:
    """Return a plan that runs the winners of a study.

    Parameters
    ----------
    folder : Path
        The ``--output`` of ``llmkt tune``.
    wanted : Plan
        What to compare. Without models or arms it is all that were tuned, without a dataset the
        tuned one; files and keys override those of the tuning.
    allow_unequal : bool
        Whether arms of a model may have had different budgets; records say so.
    trust : bool
        Whether the study is one's own: class paths, addresses and folders to write in it are used.

    Raises
    ------
    ConfigError
        Another dataset or another definition of an arm than was tuned; unequal budgets; a class
        path, an address or a folder to write in a study that is not trusted.
    DataError
        No study in the folder; an arm without a successful trial or with an unfinished final
        round; settings, data or profiles that have changed since the tuning.
    """
    study = TunedStudy.read(folder)
    if not trust:
        study.check_trust(wanted)
    tuned_arms = study.file.studies.values()
    arms = list(wanted.arms) or list(dict.fromkeys(arm.arm for arm in tuned_arms))
    models = list(wanted.models) or list(dict.fromkeys(arm.model_path for arm in tuned_arms))
    _check_wanted(study, wanted)
    _check_profiles(study, wanted, models, arms)
    study.file.check_spaces(folder)
    _warn_of_tuned_seeds(study.file, wanted.seeds)
    tuned = {}
    for path in models:
        model = path.rpartition(".")[2]
        winners = {arm: study.winner(model, arm) for arm in arms}
        for arm, winner in _with_equal_budgets(model, winners, allow_unequal).items():
            tuned[model, arm] = winner
    return Plan(
        models=models,
        arms=arms,
        seeds=wanted.seeds,
        dataset=study.file.dataset,
        config_files=[*study.file.config_files, *wanted.config_files],
        overrides={**study.file.overrides, **wanted.overrides},
        own_arms={**study.file.own_arms, **wanted.own_arms},
        tuned=tuned,
    )


def _check_wanted(study: TunedStudy, wanted: Plan) -> None:
    if wanted.dataset and wanted.dataset != study.file.dataset:
        raise ConfigError(
            f"'{study.folder}' was tuned on {study.file.dataset}, not on {wanted.dataset}: leave "
            "--dataset out."
        )
    for name in {*wanted.own_arms} & {*study.file.own_arms}:
        if not same(wanted.own_arms[name], study.file.own_arms[name]):
            raise ConfigError(f"The arm '{name}' was tuned with another definition: leave it out.")


def _check_profiles(
    study: TunedStudy, wanted: Plan, models: Sequence[str], arms: Sequence[str]
) -> None:
    """Check that settings, data and profiles of the wanted arms are as when they were tuned."""
    names = [
        name
        for name, arm in study.file.studies.items()
        if arm.model_path in models and arm.arm in arms
    ]
    # The data may lie elsewhere, and the device may be another one.
    elsewhere = {key: value for key, value in wanted.overrides.items() if key in IRRELEVANT_KEYS}
    here = replace(study.file, overrides={**study.file.overrides, **elsewhere})
    runs = here.runs(study.folder, names)
    check_profiles_used(runs, study.file.profiles_used(study.trials), TRIALS)


def _warn_of_tuned_seeds(study_file: StudyFile, seeds: Sequence[int]) -> None:
    most = max((arm.final_seeds for arm in study_file.studies.values()), default=0)
    tuned_with = {study_file.seed, *further_seeds(study_file.seed, most)} & {*seeds}
    if tuned_with:
        text = ", ".join(map(str, sorted(tuned_with)))
        logger.warning("Seed %s was also used for tuning: other seeds are a fairer test.", text)


@dataclass(frozen=True)
class TunedStudy:
    """A folder of ``llmkt tune``, read once.

    Attributes
    ----------
    folder : Path
        The folder.
    file : StudyFile
        Its ``tuning.json``.
    trials, finals : sequence of TrialRecord
        Trials, and runs of the final round.
    """

    folder: Path
    file: StudyFile
    trials: Sequence[TrialRecord]
    finals: Sequence[TrialRecord]

    @classmethod
    def read(cls, folder: Path) -> TunedStudy:
        """Read a folder.

        Raises
        ------
        DataError
            There is no study in it, or a file cannot be read.
        """
        return cls(folder, StudyFile.read(folder), read_trials(folder), read_finals(folder))

    def check_trust(self, today: Plan) -> None:
        """Refuse what only the study names: see :mod:`recbole_llmkt.experiment.tuning.trust`."""
        points = [trial.keys for trial in (*self.trials, *self.finals)]
        check_trust(self.folder, self.file, points, today)

    def winner(self, model: str, arm: str) -> Winner:
        """Return the winner of an arm.

        It is the best finalist by the mean over seeds; without a final round, the best trial. Where
        base was tuned, an arm falls back to base's winner unless its own is better by at least the
        standard error of the difference, which is 0 without further seeds: of two that cannot be
        told apart, the one without knowledge is the simpler one.

        Raises
        ------
        DataError
            The arm was not tuned, no trial of it succeeded, its final round is not finished, or
            every finalist failed.

        References
        ----------
        Breiman, Friedman, Olshen and Stone, "Classification and regression trees" (1984), section
        3.4.3: the rule of one standard error.
        """
        best, scores = self._own_winner(model, arm)
        base = self.file.studies.get(f"{model}/base")
        if arm == "base" or base is None:
            return best
        try:
            rival, base_scores = self._own_winner(model, "base")
        except DataError:  # which is said of base itself, where it takes part
            return best
        gain = best.score - rival.score if base.bigger else rival.score - best.score
        if gain >= _standard_error(scores, base_scores):
            return best
        keys = {**rival.keys, "kt_enabled": False}
        return replace(best, keys=keys, trial=rival.trial, score=rival.score, fell_back=True)

    def _own_winner(self, model: str, arm: str) -> tuple[Winner, list[float]]:
        """Return the winner among an arm's own trials, and its score with each seed."""
        entry = self.file.studies.get(f"{model}/{arm}")
        own = [trial for trial in self.trials if (trial.model, trial.arm) == (model, arm)]
        if entry is None or not any(trial.ok for trial in own):
            raise self._no_trial(model, arm, all_failed=bool(own))
        ranked = best_trials(own, model, arm, entry.bigger)
        finalists = ranked[: entry.finalists]
        seeds = further_seeds(self.file.seed, entry.final_seeds)
        rounds = {trial.key: runs_of(self.finals, trial, seeds) for trial in finalists}
        candidates = self._candidates(model, arm, finalists, rounds, len(seeds)) or ranked[:1]
        scores = {
            trial.key: [run.score for run in (trial, *rounds.get(trial.key, []))]
            for trial in candidates
        }
        choose = max if entry.bigger else min
        best = choose(candidates, key=lambda trial: statistics.fmean(scores[trial.key]))
        winner = Winner(
            keys=best.keys,
            trial=best.trial,
            metric=entry.metric,
            score=statistics.fmean(scores[best.key]),
            trials=len(own),
            failed=len(own) - len(ranked),
            finalists=len(finalists),
            finals=sum(map(len, rounds.values())),
            seeds=1 + len(seeds),
            seed=self.file.seed,
            space=entry.space_digest,
        )
        return winner, scores[best.key]

    def _candidates(
        self,
        model: str,
        arm: str,
        finalists: Sequence[TrialRecord],
        rounds: Mapping[tuple[str, str, int, str], Sequence[TrialRecord]],
        count: int,
    ) -> list[TrialRecord]:
        """Return the finalists whose ``count`` runs of the final round all succeeded."""
        if any(len(runs) < count for runs in rounds.values()):
            raise DataError(
                f"{model}, arm {arm}: the final round in '{self.folder}' is not finished. The same "
                "`llmkt tune` command resumes it."
            )
        succeeded = [trial for trial in finalists if all(run.ok for run in rounds[trial.key])]
        if finalists and not succeeded:
            raise DataError(
                f"{model}, arm {arm}: every finalist failed; see '{self.folder / FINALS}' for the "
                "reasons. Fix them, and run the same `llmkt tune` command with --retry-failed."
            )
        return succeeded

    def _no_trial(self, model: str, arm: str, all_failed: bool) -> DataError:
        """Return the error for an arm without a good trial: all failed, or there was none."""
        if all_failed:
            return DataError(
                f"{model}, arm {arm}: no trial succeeded; see '{self.folder / TRIALS}' for the "
                "reasons. Fix them, and run the same `llmkt tune` command with --retry-failed."
            )
        arms = [study.arm for study in self.file.studies.values()]
        near = "" if arm in (*ARMS, *arms) else nearest(arm, arms)
        return DataError(
            f"{model}, arm {arm}: was not tuned in '{self.folder}'.{near} `llmkt tune "
            f"--models={model} --arms={arm} --output={self.folder} ...` adds it."
        )


def _standard_error(*groups: Sequence[float]) -> float:
    """Return the standard error of the difference of two means; 0 where there is one seed."""
    if any(len(scores) < 2 for scores in groups):
        return 0.0
    return math.sqrt(sum(statistics.variance(scores) / len(scores) for scores in groups))


def _with_equal_budgets(
    model: str, winners: Mapping[str, Winner], allow_unequal: bool
) -> Mapping[str, Winner]:
    """Check that all arms had the same budget; if they need not have, mark those that did not."""
    for number, name in enumerate(("trials", "finalists", "seeds")):
        counts = {arm: winner.budget[number] for arm, winner in winners.items()}
        if len({*counts.values()}) < 2:
            continue
        if allow_unequal:
            return {arm: replace(winner, unequal=True) for arm, winner in winners.items()}
        text = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        raise ConfigError(
            f"{model}: the arms had different numbers of {name} ({text}), so the comparison would "
            "not be fair. Continue with llmkt tune, or pass --allow-unequal; the report says so."
        )
    return winners
