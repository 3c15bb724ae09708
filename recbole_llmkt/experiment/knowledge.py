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


def check_knowledge(runs: Iterable[Run], records: Iterable[Record]) -> None:
    """See that there are no other profiles now than those that recorded runs learned from.

    Parameters
    ----------
    runs : iterable of Run
        The comparison's runs.
    records : iterable of dict
        Records of some of them, done earlier.

    Raises
    ------
    DataError
        Naming a run and whose texts have changed: one table would mix two kinds of knowledge.
    """
    by_key = {run.key: run for run in runs}
    now: dict[tuple[Any, ...], str | None] = {}
    for record in records:
        run = by_key[run_key(record)]
        for _, facts in uses(record):
            entity = facts.get("entity")
            where = (entity, run.given["profile_dir"], run.given["data_path"], run.dataset)
            if "texts" in facts and where not in now:
                now[where] = _texts_now(run, str(entity))
            if "texts" in facts and now[where] not in (None, facts["texts"]):
                raise DataError(
                    f"{run_name(record)} learned from other {entity} profiles than there are now. "
                    f"Choose another --output, or delete its line from {FILE_NAME}."
                )


def _texts_now(run: Run, entity: str) -> str | None:
    """Return the digest of the texts that a run would read; None where there are none."""
    with suppress(ProfileError):
        return texts_digest(ProfileStore(profile_folder(run.config(), entity), entity).usable())
    return None
