"""A study's ``tuning.json``: what it tunes, and what every later command must agree with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from recbole_llmkt.experiment.runs.consistency import ArmSpace, ProfilesUsed, check_spaces
from recbole_llmkt.experiment.runs.plan import Plan, Run
from recbole_llmkt.experiment.runs.settings import not_default, same
from recbole_llmkt.experiment.tuning.trials import TrialRecord
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.jsonl import Fields, read_object
from recbole_llmkt.utils.types import Settings

FILE_NAME = "tuning.json"
_FIX = "Restore the file, or tune again in another --output."


@dataclass(frozen=True)
class ArmStudy:
    """The tuning of one arm of one model.

    Attributes
    ----------
    model, model_path, arm : str
        Names; the model's as it was given, too.
    bigger : bool
        Whether a larger validation score is better.
    metric : str
        The validation metric.
    space : dict
        The search space, as plain values.
    space_digest : str
        Its digest.
    dimensions : sequence of str, optional
        Keys of the points that all arms share; None in files of versions that did not note them.
    data : str
        Digest of the dataset's files; "" if they were not there yet.
    settings : dict
        The arm's settings at the configuration as given.
    finalists, final_seeds : int
        Size of the final round.
    """

    model: str
    model_path: str
    arm: str
    bigger: bool
    metric: str
    space: Settings
    space_digest: str
    dimensions: Sequence[str] | None
    data: str
    settings: Settings
    finalists: int
    final_seeds: int

    @property
    def name(self) -> str:
        """Return ``model/arm``."""
        return f"{self.model}/{self.arm}"

    @classmethod
    def read(cls, fields: Fields) -> ArmStudy:
        """Read an entry of the file's ``studies``."""
        return cls(
            model=fields.required("model", str),
            model_path=fields.required("model_path", str),
            arm=fields.required("arm", str),
            bigger=fields.required("bigger", bool),
            metric=fields.required("metric", str),
            space=fields.required("space", dict),
            space_digest=fields.required("space_digest", str),
            dimensions=fields.optional_items("dimensions", str),
            data=fields.with_default("data", ""),
            settings=fields.required("settings", dict),
            finalists=fields.with_default("finalists", 0),
            final_seeds=fields.with_default("final_seeds", 0),
        )


@dataclass(frozen=True)
class StudyFile:
    """What ``tuning.json`` holds.

    Attributes
    ----------
    dataset : str
        The dataset's name.
    seed : int
        Seed of all trials.
    config_files : sequence of str
        YAML files of every run.
    overrides : dict
        Keys and values over those of the files; tuning holds them fixed.
    points : int, optional
        How many trials take quasi-random points; None in files of versions that did not note it.
    own_arms : dict
        Definitions of own arms.
    studies : dict of str to ArmStudy
        By ``model/arm``.
    """

    dataset: str
    seed: int
    config_files: Sequence[str]
    overrides: Settings
    points: int | None
    own_arms: Mapping[str, Settings]
    studies: Mapping[str, ArmStudy]

    @classmethod
    def read(cls, output: Path) -> StudyFile:
        """Read the file of a study.

        Raises
        ------
        DataError
            It is missing or damaged.
        """
        path = output / FILE_NAME
        if not path.is_file():
            raise DataError(
                f"No study in '{output}': `llmkt tune --output={output} ...` creates one."
            )
        fields = read_object(path, _FIX)
        studies = fields.part("studies")
        return cls(
            dataset=fields.required("dataset", str),
            seed=fields.required("seed", int),
            config_files=fields.items("config_files", str),
            overrides=fields.required("overrides", dict),
            points=fields.optional("points", int),
            own_arms=fields.mapping("own_arms", dict),
            studies={name: ArmStudy.read(studies.part(name)) for name in studies.names()},
        )

    def write(self, output: Path) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps(asdict(self), indent=1, default=str)
        replace_file(output / FILE_NAME, f"{text}\n".encode(), "--output")

    def runs(self, output: Path, names: Iterable[str]) -> list[Run]:
        """Return a run of each arm, after checking that settings and data are as when tuned.

        Parameters
        ----------
        output : Path
            The study's folder.
        names : iterable of str
            Of the ``studies``.

        Raises
        ------
        DataError
            Naming the key, or the data, that has changed.
        """
        runs = []
        for name in names:
            study = self.studies[name]
            plan = Plan(
                models=[study.model_path],
                arms=[study.arm],
                seeds=[self.seed],
                dataset=self.dataset,
                config_files=self.config_files,
                overrides=self.overrides,
                own_arms=self.own_arms,
            )
            (run,) = plan.runs()
            _check_run(output, study, run)
            runs.append(run)
        return runs

    def profiles_used(self, trials: Iterable[TrialRecord]) -> list[ProfilesUsed]:
        """Return the profiles that trials learned from; their arms say with which settings."""
        return [
            ProfilesUsed(
                trial.run_key,
                f"{trial.model}-{trial.arm}-{trial.seed}",
                self.studies[name].settings,
                trial.outcome.texts,
            )
            for trial in trials
            if (name := f"{trial.model}/{trial.arm}") in self.studies
        ]

    def check_spaces(self, output: Path) -> None:
        """Check that all arms of a model are tuned over the same values of shared keys."""
        spaces = [
            ArmSpace(study.model, study.arm, study.space, study.dimensions)
            for study in self.studies.values()
        ]
        check_spaces(output, spaces, self.own_arms)


def update_study_file(output: Path, study_file: StudyFile) -> StudyFile:
    """Write what is tuned to ``tuning.json``, together with what is already there.

    Raises
    ------
    DataError
        The folder was started with something else.
    """
    merged = study_file
    if (output / FILE_NAME).exists():
        before = StudyFile.read(output)
        _check_unchanged(output, "dataset", before.dataset, study_file.dataset)
        _check_unchanged(output, "seed", before.seed, study_file.seed)
        for name in study_file.own_arms:
            if name in before.own_arms:
                old, new = before.own_arms[name], study_file.own_arms[name]
                _check_unchanged(output, f"arm '{name}'", old, new)
        # Files may have moved and devices may differ: the settings that result are what counts.
        replace(study_file, own_arms=before.own_arms, studies=before.studies).runs(
            output, before.studies
        )
        for name, study in study_file.studies.items():
            if name in before.studies:
                _check_study(output, before.studies[name], study)
        merged = replace(
            study_file,
            own_arms={**before.own_arms, **study_file.own_arms},
            studies={**before.studies, **study_file.studies},
        )
    merged.check_spaces(output)
    merged.write(output)
    return merged


def _check_unchanged(output: Path, name: str, before: object, now: object) -> None:
    if not same(before, now):
        raise DataError(
            f"'{output}' was started with another {name} ({before} -> {now}): choose another "
            "--output, or continue with what it was started with."
        )


def _check_study(output: Path, before: ArmStudy, now: ArmStudy) -> None:
    _check_unchanged(output, f"search space of {now.name}", before.space, now.space)
    # These decide the points of all trials, those to come included.
    drawn = now.dimensions if before.dimensions is None else before.dimensions
    name = f"list of keys that the arms of {now.model} search"
    _check_unchanged(output, name, drawn, now.dimensions)


def _check_run(output: Path, study: ArmStudy, run: Run) -> None:
    if run.has_other_data(study.data):
        _check_unchanged(output, "digest of the dataset's files", study.data, run.data)
    old, new = not_default(study.settings), not_default(run.settings)
    for key in sorted({*old, *new}):
        _check_unchanged(output, f"{key} of {study.name}", old.get(key), new.get(key))
