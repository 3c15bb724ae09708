"""What must be alike in one table: runs of a model differ by their arms and seeds alone."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmkt.experiment.runs.arms import arm_of, arm_settings
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.results import FILE_NAME, Record, run_key, run_name
from recbole_llmkt.experiment.runs.settings import differences
from recbole_llmkt.keys.table import is_knowledge_key
from recbole_llmkt.profiles.loading import texts_digest
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.transfer.methods.base import places
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError

logger = getLogger(__name__)


def check_alike(runs: Iterable[Run], records: Iterable[Record]) -> None:
    """See that runs can stand in one table with those that a folder holds already.

    Runs of one arm may differ by the seed alone, those of an arm and its control by ``kt_control``
    and what was tuned as well, those of two other arms by what either says and by the keys of this
    package.

    Parameters
    ----------
    runs : iterable of Run
        The comparison's runs.
    records : iterable of dict
        All records of the folder; failed ones do not matter.

    Raises
    ------
    DataError
        Naming two runs that do not belong together, and what differs.
    """
    one_of_each = {(run.model, run.arm): run for run in runs}.values()
    good = [record for record in records if record["status"] == "ok"]
    for run in one_of_each:
        for record in (one for one in good if one["model"] == run.model):
            if run_key(record) != run.key:
                _check_settings(run, record)
            if run.has_other_data(record.get("data") or ""):
                raise DataError(
                    f"{run_name(record)} was recorded on other data: the atomic files of "
                    f"'{run.dataset}' have changed. Choose another --output, or delete its line "
                    f"from {FILE_NAME}."
                )


def _check_settings(run: Run, record: Record) -> None:
    old, new, ignored = record.get("settings", {}), run.settings, {"seed"}
    if record["arm"] != run.arm:
        if "arm_keys" not in record:
            return  # of a version that did not note them
        if arm_of(record["arm"]) == arm_of(run.arm):
            ignored |= {"kt_control"}
            ignored |= {key for one in (run.tuned, record.get("tuned")) for key in _keys(one)}
        else:
            ignored |= {*run.arm_keys, *record["arm_keys"]}
            ignored |= {key for key in (*old, *new) if is_knowledge_key(key)}
    changed = differences(old, new, ignored)
    if changed:
        raise DataError(
            f"{run_name(record)} was recorded under other settings than {run.name} would have "
            f"({changed}): one table would mix them. Choose another --output, or delete its line "
            f"from {FILE_NAME}."
        )


def _keys(tuned: Mapping[str, Any] | None) -> list[str]:
    return list((tuned or {}).get("keys", {}))


def check_seeds(run: Run, seeds: Sequence[int], mend: str) -> None:
    """See that the profiles that an arm reads can be of every seed's split.

    Parameters
    ----------
    run : Run
        The arm's run with any of the seeds.
    seeds : sequence of int
        All seeds that the arm is run with.
    mend : str
        How to ask for one seed alone.

    Raises
    ------
    ConfigError
        Each seed is another split, and the arm reads profiles of users: they are written from the
        training part of one.
    """
    config = run.config()
    split = config["eval_args"]
    drawn = split["order"] == "RO" and not config["benchmark_filename"]
    allowed = config["profile_allow_leak"] or not _reads_user_profiles(config)
    if len({*seeds}) < 2 or not drawn or allowed:
        return
    raise ConfigError(
        f"{run.model}, arm {run.arm}: with `order: RO` in eval_args every seed is another split, "
        "and profiles of users are written from the training part of one. Split by time "
        "(eval_args: {order: TO, group_by: user}), name files that are split already "
        f"(benchmark_filename), or {mend}."
    )


def warn_of_leaks(runs: Iterable[Run]) -> None:
    """Say which arms are tuned on a validation part that their profiles of users may know."""
    arms = []
    for run in runs:
        config = run.config()
        if config["profile_allow_leak"] and _reads_user_profiles(config):
            arms.append(f"{run.model} {run.arm}")
    if arms:
        logger.warning(
            "profile_allow_leak is on, and profiles of users are read by %s. If they were written "
            "from the validation part too, tuning favours what leans on them most, which the test "
            "then pays for. Write them from the training part (llmkt profile), or use profiles of "
            "items alone (kt_entity: item).",
            ", ".join(arms),
        )


def _reads_user_profiles(config: Any) -> bool:
    return any("user" in method.entities(config) for method in wanted_methods(config))


def check_spaces(
    output: Path, entries: Mapping[str, Mapping[str, Any]], own_arms: Mapping[str, Any]
) -> None:
    """See that all arms of a model are tuned over the same values of the keys they share.

    Parameters
    ----------
    output : Path
        The study's folder.
    entries : mapping
        ``tuning.json``'s ``studies``, by ``model/arm``.
    own_arms : mapping
        Keys that the definitions of own arms fix.

    Raises
    ------
    DataError
        Naming two arms and where their spaces differ.
    """
    for known, name in itertools.combinations(entries, 2):
        one, other = entries[known], entries[name]
        if one["model"] != other["model"]:
            continue
        fixed = {key for arm in (one, other) for key in arm_settings(arm["arm"], own_arms)}
        changed = differences(*_shared(one, other, fixed))
        # Points are drawn in as many dimensions as all arms together have keys.
        drawn = [one.get("dimensions"), other.get("dimensions")]
        if not changed and None not in drawn and drawn[0] != drawn[1]:
            changed = f"keys {drawn[0]} -> {drawn[1]}"
        if changed:
            raise DataError(
                f"'{output}': the search space of {name} differs from that of {known} ({changed}), "
                "so the comparison would not be fair: tune all arms with one --space, or choose "
                "another --output."
            )


def _shared(
    one: Mapping[str, Any], other: Mapping[str, Any], fixed: Collection[str]
) -> list[dict[str, Any]]:
    """Return what must be equal of two arms' spaces: of knowledge, the keys that both tune.

    An arm and its control must tune the same.
    """
    own: set[str] = set()
    if arm_of(one["arm"]) != arm_of(other["arm"]):
        own = {key for key in {*one["space"]} ^ {*other["space"]} if is_knowledge_key(key)}
    return [
        {key: value for key, value in arm["space"].items() if key not in {*fixed, *own}}
        for arm in (one, other)
    ]


def uses(record: Record) -> list[tuple[str, Mapping[str, Any]]]:
    """Return where a run put its profiles, as text, and the facts of each place."""
    return places(record.get("transfer") or {})


def texts_of(record: Record) -> dict[str, str]:
    """Return the digest of the profiles' texts of each entity that a run learned from."""
    if "texts" in record:  # a trial's line has nothing but these
        return dict(record["texts"])
    return {str(one["entity"]): one["texts"] for _, one in uses(record) if "texts" in one}


def check_knowledge(runs: Iterable[Run], records: Iterable[Record], file: str = FILE_NAME) -> None:
    """See that there are no other profiles now than those that recorded runs learned from.

    Parameters
    ----------
    runs : iterable of Run
        The comparison's runs.
    records : iterable of dict
        All records of the folder, or trials of a study.
    file : str
        The file that holds them.

    Raises
    ------
    DataError
        Naming a run and whose texts have changed: one table would mix two kinds of knowledge.
    """
    by_key = {run.key: run for run in runs}
    by_folder = {run.settings.get("profile_dir"): run for run in by_key.values() if _knows(run)}
    now: dict[tuple[Any, ...], str | None] = {}
    for record in records:
        # A run that is no part of this comparison stands in the same table.
        elsewhere = by_folder.get(record.get("settings", {}).get("profile_dir"))
        run = by_key.get(run_key(record), elsewhere)
        if run is None:
            continue
        for entity, texts in texts_of(record).items():
            where = (entity, run.given["profile_dir"], run.given["data_path"], run.dataset)
            if where not in now:
                now[where] = _texts_now(run, entity)
            if now[where] not in (None, texts):
                mend = f", or delete its line from {file}" if file == FILE_NAME else ""
                raise DataError(
                    f"{run_name(record)} (in {file}) learned from other {entity} profiles than "
                    f"there are now. Choose another --output{mend}."
                )


def _knows(run: Run) -> bool:
    return bool(run.settings["kt_enabled"])


def _texts_now(run: Run, entity: str) -> str | None:
    """Return the digest of the texts that a run would read; None where there are none."""
    with suppress(ProfileError):
        return texts_digest(ProfileStore(profile_folder(run.config(), entity), entity).usable())
    return None
