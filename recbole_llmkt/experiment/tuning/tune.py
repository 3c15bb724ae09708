"""Tune every arm of every model with the same number of trials, by validation alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import download
from recbole_llmkt.experiment.runs.arms import arm_settings
from recbole_llmkt.experiment.runs.consistency import (
    check_leaks,
    check_profiles_used,
    check_run_profiles,
    check_seeds,
)
from recbole_llmkt.experiment.runs.plan import Plan, Run
from recbole_llmkt.experiment.runs.pool import Train, default_jobs, output_folder
from recbole_llmkt.experiment.runs.results import folder_lock
from recbole_llmkt.experiment.runs.settings import text_digest
from recbole_llmkt.experiment.tuning.finals import Finals, further_seeds, run_finals
from recbole_llmkt.experiment.tuning.space import (
    arm_space,
    plain_space,
    quasi_random,
    search_spaces,
)
from recbole_llmkt.experiment.tuning.study_file import (
    FILE_NAME,
    ArmStudy,
    StudyFile,
    update_study_file,
)
from recbole_llmkt.experiment.tuning.trials import TRIALS, TrialRecord, outcomes, read_trials
from recbole_llmkt.experiment.tuning.trust import check_trust
from recbole_llmkt.keys.combinations import check_run
from recbole_llmkt.keys.table import without_secrets
from recbole_llmkt.training.result import Result
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.jsonl import encoded_line
from recbole_llmkt.utils.types import Settings

if TYPE_CHECKING:
    import optuna

    from recbole_llmkt.experiment.tuning.study import Study

logger = getLogger(__name__)

JOURNAL = "study.journal"
# The estimator would learn little from fewer trials than this (Optuna's own default).
_FEWEST_POINTS = 10


@dataclass(frozen=True)
class Tuning:
    """What to tune.

    Attributes
    ----------
    plan : Plan
        Models, arms, one seed, dataset and settings. The plan's ``overrides`` are held fixed;
        the values of its files are where the first trial starts.
    trials : int
        Trials of each arm of each model.
    space : Path, optional
        A search space file over the packaged ones.
    finals : Finals
        The final round, which chooses the winner among the best trials.
    retry_failed : bool
        Whether to repeat failed trials and failed runs of the final round.
    trust : bool
        Whether a study that is resumed is one's own: what it imports, asks or writes is used.
    """

    plan: Plan
    trials: int
    space: Path | None = None
    finals: Finals = field(default_factory=Finals)
    retry_failed: bool = False
    trust: bool = False


def tune(
    tuning: Tuning, output: Path, jobs: int | None = None, train: Train | None = None
) -> list[TrialRecord]:
    """Run the trials that ``output`` lacks, and record each as it ends.

    Parameters
    ----------
    tuning : Tuning
        Models, arms, trials and search space.
    output : Path
        Folder of the journal, ``trials.jsonl``, ``finals.jsonl``, ``tuning.json`` and the trials'
        own folders.
    jobs : int, optional
        Trials at a time; by default one per core, but only one if there is a GPU.
    train : callable, optional
        Trains one trial; by default :func:`recbole_llmkt.quick_start.train` without the test part.

    Returns
    -------
    list of TrialRecord
        The lines of ``trials.jsonl``.

    Raises
    ------
    ConfigError, DataError
        Before anything runs: Optuna is missing, a setting is bad, ``output`` was started with
        other settings, or an arm may not learn from its profiles.
    """
    points = _points(tuning, output)
    studies = _studies(tuning, points)
    for study in studies:
        check_run(study.run.config(), ("validation",))
    check_leaks(study.run for study in studies)
    jobs = jobs or default_jobs(len(studies) * tuning.trials)
    output = output_folder(output)
    with folder_lock(output):
        if not tuning.trust and (output / FILE_NAME).exists():
            before = replace(StudyFile.read(output), config_files=(), overrides={})  # not used
            check_trust(output, before, (), tuning.plan)
        study_file = update_study_file(output, _study_file(tuning, studies, points))
        used = study_file.profiles_used(read_trials(output))
        check_profiles_used([study.run for study in studies], used, TRIALS)
        download(studies[0].run.config())
        if train is None:
            check_run_profiles([study.run for study in studies])
        train = train or _train_without_test
        trials = _execute(studies, tuning, output, jobs, train)
        arms = [(study.run, study.bigger) for study in studies]
        run_finals(tuning.finals, arms, trials, output, jobs, train, tuning.retry_failed)
        return trials


def _train_without_test(
    config: Config, saved: bool = False, on_epoch: Callable[[int, float], None] | None = None
) -> Result:
    """Train without a checkpoint and without evaluating the test part."""
    from recbole_llmkt.quick_start import train

    return train(config, saved=False, on_epoch=on_epoch, evaluate_test=False)


# ---- preparing --------------------------------------------------------------------------------


def _points(tuning: Tuning, output: Path) -> int:
    """Return how many trials take quasi-random points: as many as when the folder was started.

    Arms that are added with more trials then try the same points as the others.
    """
    if (output / FILE_NAME).is_file():
        points = StudyFile.read(output).points
        if points is not None:
            return points
    return max(tuning.trials // 2, _FEWEST_POINTS)


def _studies(tuning: Tuning, n_points: int) -> list[Study]:
    try:
        from recbole_llmkt.experiment.tuning.study import Study
    except ImportError as error:
        raise ConfigError(
            f"Tuning needs Optuna ({error}): pip install 'recbole_llmkt[tune]'."
        ) from error
    studies = []
    preset = tuning.plan.preset()
    for run in tuning.plan.runs():
        config = run.config()
        if tuning.finals.finalists:
            seeds = [run.seed, *further_seeds(run.seed, tuning.finals.seeds)]
            check_seeds(run, seeds, "tune without a final round (--finalists=0)")
        spaces = search_spaces(config, tuning.space, preset)
        space = arm_space(spaces, config, {*_held(tuning.plan, run)})
        if not space:
            raise ConfigError(
                f"{run.model}, arm {run.arm}: nothing is left to tune. Name keys in a file for "
                "--space, or give fewer keys on the command line (those are held fixed)."
            )
        points = quasi_random(spaces, n_points, run.seed)
        given = {key: config[key] for key in space}
        bigger = bool(config["valid_metric_bigger"])
        dimensions = [key for section in spaces.values() for key in section]
        studies.append(Study(run, space, points, given, bigger, dimensions))
    return studies


def _held(plan: Plan, run: Run) -> Settings:
    return {**plan.overrides, **arm_settings(run.arm, plan.own_arms)}


def _study_file(tuning: Tuning, studies: Sequence[Study], points: int) -> StudyFile:
    plan = tuning.plan
    arms = [_arm_study(study, tuning.finals) for study in studies]
    return StudyFile(
        dataset=plan.dataset,
        seed=plan.seeds[0],
        config_files=[str(Path(file).resolve()) for file in plan.config_files],
        overrides=without_secrets(plan.overrides),
        points=points,
        own_arms={name: without_secrets(keys) for name, keys in plan.own_arms.items()},
        studies={arm.name: arm for arm in arms},
    )


def _arm_study(study: Study, finals: Finals) -> ArmStudy:
    run, space = study.run, plain_space(study.space)
    return ArmStudy(
        model=run.model,
        model_path=run.model_path,
        arm=run.arm,
        bigger=study.bigger,
        metric=run.settings["valid_metric"],
        space=space,
        space_digest=text_digest(space),
        dimensions=list(study.dimensions),
        data=run.data,
        settings=dict(run.settings),
        finalists=finals.finalists,
        final_seeds=finals.seeds if finals.finalists else 0,
    )


# ---- running ----------------------------------------------------------------------------------


def _execute(
    studies: Sequence[Study], tuning: Tuning, output: Path, jobs: int, train: Train
) -> list[TrialRecord]:
    from recbole_llmkt.experiment.tuning.study import journal_checked, open_journal

    storage = open_journal(output / JOURNAL)
    with journal_checked(output / JOURNAL):
        for study in studies:
            study.open(storage)
    done = {id(study): study.finished(failed=not tuning.retry_failed) for study in studies}
    remaining = [
        (study, index)
        for index in range(tuning.trials)
        for study in studies
        if index not in done[id(study)]
    ]
    logger.info("%d trials to do, %d at a time.", len(remaining), jobs)
    asked: dict[Run, tuple[Study, optuna.Trial]] = {}

    def runs() -> Iterator[Run]:
        for study, index in remaining:
            run, trial = study.ask(index)
            asked[run] = (study, trial)
            yield run

    for run, outcome in outcomes(runs(), len(remaining), output, jobs, train):
        study, trial = asked.pop(run)
        study.tell(trial, outcome)
        _write_trials(output, studies)
    return _write_trials(output, studies)


def _write_trials(output: Path, studies: Sequence[Study]) -> list[TrialRecord]:
    """Write ``trials.jsonl``: the journal's trials, and those of other arms from the old file."""
    own = {(study.run.model, study.run.arm) for study in studies}
    trials = [trial for trial in read_trials(output) if (trial.model, trial.arm) not in own]
    trials += [trial for study in studies for trial in study.records()]
    lines = [encoded_line(trial.to_json()) for trial in trials]
    replace_file(output / TRIALS, b"".join(lines), "--output")
    return trials
