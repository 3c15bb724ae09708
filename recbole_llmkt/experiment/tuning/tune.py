"""Tune every arm of every model with the same number of trials, by validation alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_llmkt.datasets.loading import download
from recbole_llmkt.experiment.runs.arms import arm_settings
from recbole_llmkt.experiment.runs.consistency import (
    check_knowledge,
    check_seeds,
    check_spaces,
    warn_of_leaks,
)
from recbole_llmkt.experiment.runs.plan import Plan, Run
from recbole_llmkt.experiment.runs.pool import Train, default_jobs, output_folder
from recbole_llmkt.experiment.runs.results import Record, folder_lock
from recbole_llmkt.experiment.runs.settings import not_default, same, text_digest
from recbole_llmkt.experiment.tuning.finals import Finals, further_seeds, run_finals
from recbole_llmkt.experiment.tuning.space import (
    arm_space,
    plain_space,
    quasi_random,
    search_spaces,
)
from recbole_llmkt.experiment.tuning.trials import outcomes, read_lines
from recbole_llmkt.keys.combinations import check_run
from recbole_llmkt.keys.table import without_secrets
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.files import replace_file

if TYPE_CHECKING:
    import optuna

    from recbole_llmkt.experiment.tuning.study import Study

logger = getLogger(__name__)

JOURNAL = "study.journal"
TRIALS = "trials.jsonl"
ABOUT = "tuning.json"
# The estimator would learn little from fewer trials than this (Optuna's own default).
_FEWEST_POINTS = 10


@dataclass(frozen=True)
class Tuning:
    """What is to be tuned.

    Attributes
    ----------
    plan : Plan
        Models, arms, one seed, dataset and settings. The plan's ``overrides`` are held fixed;
        values of its files are where the first trial starts.
    trials : int
        Trials of each arm of each model.
    space : Path, optional
        A search space file over the packaged ones.
    finals : Finals
        The last round, which chooses the winner among the best trials.
    retry_failed : bool
        Whether trials and runs of the last round that failed are done again.
    """

    plan: Plan
    trials: int
    space: Path | None = None
    finals: Finals = field(default_factory=Finals)
    retry_failed: bool = False


def tune(
    tuning: Tuning, output: Path, jobs: int | None = None, train: Train | None = None
) -> list[Record]:
    """Run the trials that ``output`` has not yet, and record each as it ends.

    Parameters
    ----------
    tuning : Tuning
        Models, arms, trials and search space.
    output : Path
        Folder of the journal, ``trials.jsonl``, ``finals.jsonl``, ``tuning.json`` and the trials'
        own folders.
    jobs : int, optional
        Trials at a time; by default one per core, and one only where there is a GPU.
    train : callable, optional
        Trains one trial; by default :func:`recbole_llmkt.quick_start.train` without the test part.

    Returns
    -------
    list of dict
        The lines of ``trials.jsonl``.

    Raises
    ------
    ConfigError, DataError
        Before anything runs: Optuna is missing, bad settings, or other settings than those that
        ``output`` was begun with.
    """
    points = _points(tuning, output)
    studies = _studies(tuning, points)
    for study in studies:
        check_run(study.run.config(), ("validation",))
    jobs = jobs or default_jobs(len(studies) * tuning.trials)
    output = output_folder(output)
    with folder_lock(output):
        _note(output, tuning, studies, points)
        known = with_settings(read_trials(output), read_about(output))
        check_knowledge([study.run for study in studies], known, TRIALS)
        download(studies[0].run.config())
        warn_of_leaks(study.run for study in studies)
        lines = _execute(studies, tuning, output, jobs, train or _train_blind)
        arms = [(study.run, study.bigger) for study in studies]
        again = tuning.retry_failed
        run_finals(tuning.finals, arms, lines, output, jobs, train or _train_blind, again)
        return lines


def _train_blind(config: Any, saved: bool, on_epoch: Any) -> dict[str, Any]:
    """Train without a checkpoint and without looking at the test part."""
    from recbole_llmkt.quick_start import train

    return train(config, saved=False, on_epoch=on_epoch, evaluate_test=False)


# ---- what is to be done -----------------------------------------------------------------------


def _points(tuning: Tuning, output: Path) -> int:
    """Return how many trials take quasi-random points: what the folder was begun with, if it was.

    Arms that are added with more trials then try the points that the others did.
    """
    begun = read_about(output) if (output / ABOUT).is_file() else {}
    return int(begun.get("points", max(tuning.trials // 2, _FEWEST_POINTS)))


def _studies(tuning: Tuning, n_points: int) -> list[Study]:
    try:
        from recbole_llmkt.experiment.tuning.study import Study
    except ImportError as error:
        raise ConfigError(
            f"Tuning needs Optuna ({error}): pip install 'recbole_llmkt[tune]'."
        ) from error
    studies = []
    for run in tuning.plan.runs():
        config = run.config()
        if tuning.finals.finalists:
            seeds = [run.seed, *further_seeds(run.seed, tuning.finals.seeds)]
            check_seeds(run, seeds, "tune without a last round (--finalists=0)")
        spaces = search_spaces(config, tuning.space)
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


def _held(plan: Plan, run: Run) -> dict[str, Any]:
    return {**plan.overrides, **arm_settings(run.arm, plan.own_arms)}


# ---- what the folder says ---------------------------------------------------------------------


def _note(output: Path, tuning: Tuning, studies: Sequence[Study], points: int) -> None:
    """Write what is tuned to ``tuning.json``, or see that it is what was begun there."""
    path = output / ABOUT
    plan = tuning.plan
    about: dict[str, Any] = {
        "dataset": plan.dataset,
        "seed": plan.seeds[0],
        "config_files": [str(Path(file).resolve()) for file in plan.config_files],
        "overrides": without_secrets(plan.overrides),
    }
    own = {name: without_secrets(keys) for name, keys in plan.own_arms.items()}
    entries = {f"{one.run.model}/{one.run.arm}": _entry(one, tuning.finals) for one in studies}
    if path.exists():
        before = read_about(output)
        for name in ("dataset", "seed"):
            _unchanged(output, name, before[name], about[name])
        for name in (one for one in own if one in before["own_arms"]):
            _unchanged(output, f"arm '{name}'", before["own_arms"][name], own[name])
        # Files may have moved, and devices may differ: what counts is what the arms make of them.
        tuned_runs(output, {**before, **about}, before["studies"])
        for name in (one for one in entries if one in before["studies"]):
            _same_study(output, name, before["studies"][name], entries[name])
        own = {**before["own_arms"], **own}
        entries = {**before["studies"], **entries}
    check_spaces(output, entries, own)
    about = {**about, "points": points, "own_arms": own, "studies": entries}
    text = json.dumps(about, indent=1, default=str)
    replace_file(path, f"{text}\n".encode())


def _entry(study: Study, finals: Finals) -> dict[str, Any]:
    run, space = study.run, plain_space(study.space)
    return {
        "model": run.model,
        "model_path": run.model_path,
        "arm": run.arm,
        "bigger": study.bigger,
        "metric": run.settings["valid_metric"],
        "space": space,
        "space_digest": text_digest(space),
        "dimensions": list(study.dimensions),
        "data": run.data,
        "settings": dict(run.settings),
        "finalists": finals.finalists,
        "final_seeds": finals.seeds if finals.finalists else 0,
    }


def read_about(output: Path) -> dict[str, Any]:
    """Read ``tuning.json``.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    path = output / ABOUT
    if not path.is_file():
        raise DataError(f"No study in '{output}': `llmkt tune --output={output} ...` makes one.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        about["studies"], about["own_arms"], about["overrides"], about["dataset"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): restore it, or tune anew.") from error
    return dict(about)


def tuned_runs(output: Path, about: Mapping[str, Any], names: Iterable[str]) -> list[Run]:
    """Return a run of each arm; see that its settings and data are those it was tuned with.

    Parameters
    ----------
    output : Path
        The study's folder.
    about : mapping
        What ``tuning.json`` says; its files and overrides may lie elsewhere now.
    names : iterable of str
        Of its ``studies``: ``model/arm``.

    Raises
    ------
    DataError
        Naming a key that has another value now, or the data.
    """
    runs = []
    for name in names:
        study = about["studies"][name]
        plan = Plan(
            models=[study["model_path"]],
            arms=[study["arm"]],
            seeds=[about["seed"]],
            dataset=about["dataset"],
            config_files=about["config_files"],
            overrides=about["overrides"],
            own_arms=about["own_arms"],
        )
        (run,) = plan.runs()
        _same_run(output, name, study, run)
        runs.append(run)
    return runs


def _unchanged(output: Path, name: str, before: Any, now: Any) -> None:
    if not same(before, now):
        raise DataError(
            f"'{output}' was begun with another {name} ({before} -> {now}): choose another "
            "--output, or go on as it was begun."
        )


def _same_study(output: Path, name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    _unchanged(output, f"search space of {name}", before["space"], now["space"])
    # They say at which points the trials are, those to come as well.
    drawn = before.get("dimensions", now["dimensions"])
    _unchanged(
        output, f"list of keys that the arms of {now['model']} search", drawn, now["dimensions"]
    )


def _same_run(output: Path, name: str, before: Mapping[str, Any], run: Run) -> None:
    if run.has_other_data(before.get("data") or ""):
        _unchanged(output, "digest of the dataset's files", before["data"], run.data)
    old, new = not_default(before["settings"]), not_default(run.settings)
    for key in sorted({*old, *new}):
        _unchanged(output, f"{key} of {name}", old.get(key), new.get(key))


# ---- running ----------------------------------------------------------------------------------


def _execute(
    studies: Sequence[Study], tuning: Tuning, output: Path, jobs: int, train: Train
) -> list[Record]:
    from recbole_llmkt.experiment.tuning.study import open_journal

    storage = open_journal(output / JOURNAL)
    for study in studies:
        study.open(storage)
    done = {id(study): study.finished(failed=not tuning.retry_failed) for study in studies}
    todo = [(one, i) for i in range(tuning.trials) for one in studies if i not in done[id(one)]]
    logger.info("%d trials to do, %d at a time.", len(todo), jobs)
    asked: dict[Run, tuple[Study, optuna.Trial]] = {}

    def runs() -> Iterator[Run]:
        for study, index in todo:
            run, trial = study.ask(index)
            asked[run] = (study, trial)
            yield run

    for run, facts in outcomes(runs(), len(todo), output, jobs, train):
        study, trial = asked.pop(run)
        study.tell(trial, facts)
        _write_trials(output, studies)
    return _write_trials(output, studies)


def _write_trials(output: Path, studies: Sequence[Study]) -> list[Record]:
    """Write ``trials.jsonl`` anew: the journal's trials, with those of other arms in the file."""
    path = output / TRIALS
    own = {(study.run.model, study.run.arm) for study in studies}
    lines = [line for line in read_trials(output) if (line["model"], line["arm"]) not in own]
    lines += [line for study in studies for line in study.lines()]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    replace_file(path, text.encode())
    return lines


def with_settings(lines: Sequence[Record], about: Mapping[str, Any]) -> list[Record]:
    """Return trials with the settings of their arm, which their lines do not repeat."""
    studies = about["studies"]
    return [
        {**line, "settings": studies[name]["settings"]}
        for line in lines
        if (name := f"{line['model']}/{line['arm']}") in studies
    ]


def read_trials(output: Path) -> list[Record]:
    """Read ``trials.jsonl``; a missing file holds no trials.

    Raises
    ------
    DataError
        A line cannot be read.
    """
    return read_lines(output / TRIALS, ("model", "arm", "trial", "keys", "status"))
