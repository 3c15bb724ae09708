"""What one results table requires: a model's runs differ only by their arms and seeds."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from recbole_llmkt.datasets.splits import build_splits
from recbole_llmkt.experiment.runs.arms import arm_of, arm_settings
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.records import Record, RunKey, RunRecord
from recbole_llmkt.experiment.runs.results import FILE_NAME
from recbole_llmkt.experiment.runs.settings import differences, text_digest
from recbole_llmkt.keys.table import is_knowledge_key
from recbole_llmkt.profiles.loading import check_learnable, texts_digest
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.transfer.methods.base import places
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError
from recbole_llmkt.utils.types import RunConfig, Settings

logger = getLogger(__name__)


def check_comparable(runs: Iterable[Run], records: Iterable[RunRecord]) -> None:
    """Check that runs can share a table with those that a folder already holds.

    Runs of one arm may differ only by the seed; those of an arm and its control also by
    ``kt_control`` and by the tuned keys; those of other arms, and of an arm or a control that fell
    back to base, also by the keys that either arm sets and by the keys of this package.

    Parameters
    ----------
    runs : iterable of Run
        The comparison's runs.
    records : iterable of RunRecord
        All records of the folder; failed ones are ignored.

    Raises
    ------
    DataError
        Naming two runs that cannot be compared, and what differs.
    """
    arms = {(run.model, run.arm): run for run in runs}.values()
    succeeded = [record for record in records if record.ok]
    for run in arms:
        for record in succeeded:
            if record.model != run.model:
                continue
            if record.key != run.key:
                _check_settings(run, record)
            if run.has_other_data(record.data):
                raise DataError(
                    f"{record.name} was recorded with other data: the atomic files of "
                    f"'{run.dataset}' have changed. Choose another --output, or delete its line "
                    f"from {FILE_NAME}."
                )


def _check_settings(run: Run, record: RunRecord) -> None:
    old, new, ignored = record.settings, run.settings, {"seed"}
    if record.arm != run.arm:
        if record.arm_keys is None:
            return  # of a version that did not note them
        winners = [tuned for tuned in (run.tuned, record.tuned) if tuned]
        is_same_arm = arm_of(record.arm) == arm_of(run.arm)
        if is_same_arm and not any(tuned.fell_back for tuned in winners):
            ignored |= {"kt_control"}
            ignored |= {key for tuned in winners for key in tuned.keys}
        else:
            ignored |= {*run.arm_keys, *record.arm_keys}
            ignored |= {key for key in (*old, *new) if is_knowledge_key(key)}
    changed = differences(old, new, ignored)
    if changed:
        raise DataError(
            f"{record.name} was recorded with other settings than {run.name} would have "
            f"({changed}), so they cannot share a table. Choose another --output, or delete its "
            f"line from {FILE_NAME}."
        )


def check_seeds(run: Run, seeds: Sequence[int], fix: str) -> None:
    """Check that the profiles that an arm reads suit the split of every seed.

    Parameters
    ----------
    run : Run
        The arm's run with any of the seeds.
    seeds : sequence of int
        All seeds of the arm.
    fix : str
        How to run with a single seed.

    Raises
    ------
    ConfigError
        Every seed is another split, and the arm reads user profiles: they are written from the
        training part of one split.
    """
    config = run.config()
    split = config["eval_args"]
    random_split = split["order"] == "RO" and not config["benchmark_filename"]
    allowed = config["profile_allow_leak"] or not _reads_user_profiles(config)
    if len({*seeds}) < 2 or not random_split or allowed:
        return
    raise ConfigError(
        f"{run.model}, arm {run.arm}: with `order: RO` in eval_args every seed is another split, "
        "and user profiles belong to one. Split by time (eval_args: {order: TO, group_by: user}), "
        f"name files that are split already (benchmark_filename), or {fix}."
    )


def check_leaks(runs: Iterable[Run]) -> None:
    """Refuse to tune arms on a validation part that their user profiles may know.

    Raises
    ------
    ConfigError
        ``profile_allow_leak`` is on, but not for tuning, and an arm reads user profiles.
    """
    for run in runs:
        config = run.config()
        allowed = config["profile_allow_leak"]
        if not allowed or not _reads_user_profiles(config):
            continue
        reason = (
            f"{run.model}, arm {run.arm}: profile_allow_leak is on, and user profiles that were "
            "written from the validation part make tuning favour the keys that rely on them most, "
            "at the expense of the test."
        )
        if allowed != "tune":
            raise ConfigError(
                f"{reason} Write them from the training part (llmkt profile), use item profiles "
                "alone (kt_entity: item), or set profile_allow_leak: tune."
            )
        logger.warning("%s It is allowed by profile_allow_leak: tune.", reason)


def _reads_user_profiles(config: RunConfig) -> bool:
    return any("user" in method.entities(config) for method in wanted_methods(config))


@dataclass(frozen=True)
class ArmSpace:
    """The search space of an arm.

    Attributes
    ----------
    model, arm : str
        Names.
    space : dict
        The keys it tunes, each with its values, plain.
    dimensions : sequence of str, optional
        Keys of the points that all arms share; None in files of versions that did not note them.
    """

    model: str
    arm: str
    space: Settings
    dimensions: Sequence[str] | None

    @property
    def name(self) -> str:
        """Return ``model/arm``."""
        return f"{self.model}/{self.arm}"


def check_spaces(
    output: Path, spaces: Iterable[ArmSpace], own_arms: Mapping[str, Settings]
) -> None:
    """Check that all arms of a model are tuned over the same values of the keys they share.

    Parameters
    ----------
    output : Path
        The study's folder.
    spaces : iterable of ArmSpace
        The spaces of all arms of the study.
    own_arms : mapping
        Keys that the definitions of own arms fix.

    Raises
    ------
    DataError
        Naming two arms and where their spaces differ.
    """
    for first, second in itertools.combinations(spaces, 2):
        if first.model != second.model:
            continue
        fixed = {key for arm in (first, second) for key in arm_settings(arm.arm, own_arms)}
        changed = differences(*_shared(first, second, fixed))
        # Points are drawn in as many dimensions as all arms together have keys.
        drawn = [first.dimensions, second.dimensions]
        if not changed and None not in drawn and drawn[0] != drawn[1]:
            changed = f"keys {drawn[0]} -> {drawn[1]}"
        if changed:
            raise DataError(
                f"'{output}': the search space of {second.name} differs from that of {first.name} "
                f"({changed}), so the comparison would not be fair: tune all arms with the same "
                "--space, or choose another --output."
            )


def _shared(first: ArmSpace, second: ArmSpace, fixed: Collection[str]) -> list[Settings]:
    """Return the parts of two arms' spaces that must be equal.

    Of the keys of this package these are the ones that both tune; an arm and its control must tune
    the same.
    """
    own: set[str] = set()
    if arm_of(first.arm) != arm_of(second.arm):
        own = {key for key in {*first.space} ^ {*second.space} if is_knowledge_key(key)}
    return [
        {key: value for key, value in arm.space.items() if key not in {*fixed, *own}}
        for arm in (first, second)
    ]


def uses(record: Record) -> list[tuple[str, Settings]]:
    """Return where a run put its profiles, as text, and the facts of each place."""
    return places(record.get("transfer") or {})


def texts_of(record: Record) -> dict[str, str]:
    """Return the digest of the profiles' texts of each entity that a run learned from."""
    if "texts" in record:  # a trial's line has nothing but these
        return dict(record["texts"])
    return {str(use["entity"]): use["texts"] for _, use in uses(record) if "texts" in use}


def profile_uses(record: RunRecord) -> list[tuple[str, Settings]]:
    """Return where a run used its profiles, as text, and the facts of each place."""
    return uses(record.to_json())


@dataclass(frozen=True)
class ProfilesUsed:
    """The profiles that a recorded run or trial learned from.

    Attributes
    ----------
    key : tuple
        As ``Run.key``.
    name : str
        As ``Run.name``, with the seed.
    settings : dict
        The run's settings.
    texts : dict
        Digest of the profiles' texts, by entity.
    """

    key: RunKey
    name: str
    settings: Settings
    texts: Mapping[str, str]


def check_profiles(runs: Iterable[Run], records: Iterable[RunRecord]) -> None:
    """Check that the profiles are those that the recorded runs of a folder learned from.

    Parameters
    ----------
    runs : iterable of Run
        The comparison's runs.
    records : iterable of RunRecord
        All records of the folder.

    Raises
    ------
    DataError
        Naming a run and the entity whose texts have changed: one table would mix two kinds of
        knowledge.
    """
    used = [
        ProfilesUsed(record.key, record.name, record.settings, texts_of(record.to_json()))
        for record in records
    ]
    check_profiles_used(runs, used, FILE_NAME, f", or delete its line from {FILE_NAME}")


def check_run_profiles(runs: Iterable[Run]) -> None:
    """Check that runs may learn from their profiles, which takes their data and no training.

    Parameters
    ----------
    runs : iterable of Run
        Those that read the same profiles for the same model are checked once.

    Raises
    ------
    LeakError, ProfileError
        See :func:`recbole_llmkt.profiles.loading.load_profiles`.
    """
    checked = set()
    for run in runs:
        config = run.config()
        entities = {name for method in wanted_methods(config) for name in method.entities(config)}
        keys = {key: value for key, value in run.settings.items() if key.startswith("profile_")}
        place = (run.model, run.dataset, *sorted(entities), text_digest(keys))
        if entities and place not in checked:
            checked.add(place)
            train_dataset = build_splits(config)[0]
            for entity in sorted(entities):
                check_learnable(config, train_dataset, entity)


def check_profiles_used(
    runs: Iterable[Run], records: Iterable[ProfilesUsed], file: str, alternative: str = ""
) -> None:
    """Check that the profiles are those that recorded runs or trials learned from.

    Parameters
    ----------
    runs : iterable of Run
        The runs that would read profiles now.
    records : iterable of ProfilesUsed
        What was recorded.
    file : str
        The file that holds the records.
    alternative : str
        What else to do than choose another --output.

    Raises
    ------
    DataError
        See :func:`check_profiles`.
    """
    by_key = {run.key: run for run in runs}
    by_folder = {
        str(run.settings.get("profile_dir")): run
        for run in by_key.values()
        if run.settings["kt_enabled"]
    }
    current: dict[tuple[str, ...], str | None] = {}
    for record in records:
        # A run that is not part of this comparison shares its table.
        elsewhere = by_folder.get(str(record.settings.get("profile_dir")))
        run = by_key.get(record.key, elsewhere)
        if run is None:
            continue
        for entity, texts in record.texts.items():
            place = (
                entity,
                str(run.given["profile_dir"]),
                str(run.given["data_path"]),
                run.dataset,
            )
            if place not in current:
                current[place] = _current_texts(run, entity)
            if current[place] not in (None, texts):
                raise DataError(
                    f"{record.name} (in {file}) learned from {entity} profiles that have changed "
                    f"since. Choose another --output{alternative}."
                )


def _current_texts(run: Run, entity: str) -> str | None:
    """Return the digest of the texts that a run would read; None if there are none."""
    with suppress(ProfileError):
        return texts_digest(ProfileStore(profile_folder(run.config(), entity), entity).usable())
    return None
