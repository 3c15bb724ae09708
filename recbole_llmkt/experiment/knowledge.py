"""Which profiles a recorded run learned from, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from recbole_llmkt.exceptions import DataError, ProfileError
from recbole_llmkt.experiment.plan import Run
from recbole_llmkt.experiment.results import FILE_NAME, Record, run_key, run_name
from recbole_llmkt.profiles.hook import profile_folder, texts_digest
from recbole_llmkt.profiles.store import ProfileStore


def uses(record: Record) -> list[tuple[str, Mapping[str, Any]]]:
    """Return where a run put its profiles, as text, and the facts of each place."""
    transfer = record.get("transfer") or {}
    places = [(str(one.get("layer", "input")), one) for one in transfer.get("terms") or []]
    for name, what in (("init", "start of"), ("hybrid", "hybrid")):
        places += [(f"{what} {one['table']}", one) for one in transfer.get(name) or []]
    for one in transfer.get("cold_start") or []:
        places.append((f"cold start of {', '.join(one['tables'])}", one))
    return places


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
