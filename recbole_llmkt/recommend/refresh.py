"""Bring a model up to date with its data: profiles, weights and exports, step by step."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import files_digest
from recbole_llmkt.keys.table import without_secrets
from recbole_llmkt.profiles.generation.run import generate_profiles
from recbole_llmkt.profiles.generation.selection import Selection
from recbole_llmkt.profiles.locations import own_folder
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend.files import (
    LIST_FORMATS,
    VECTOR_FORMATS,
    check_format,
    write_recommendations,
    write_vectors,
)
from recbole_llmkt.recommend.recommender import Recommender
from recbole_llmkt.training.continuing import open_checkpoint
from recbole_llmkt.transfer.context import entities_of
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import exclusive, replace_file
from recbole_llmkt.utils.jsonl import Fields, read_object
from recbole_llmkt.utils.types import Settings

logger = getLogger(__name__)

_STATE = "refresh.json"


@dataclass(frozen=True)
class Refresh:
    """What to bring up to date, and where the result goes.

    Attributes
    ----------
    checkpoint : str
        The present model.
    output : Path
        A folder for the exports and for the record of finished steps.
    overrides : mapping
        Settings that replace the checkpoint's.
    trust : bool
        The checkpoint is your own.
    retrain : bool
        Train from scratch instead of from the checkpoint's weights.
    profiles : bool
        Write the profiles of changed histories, if the run uses profiles.
    overwrite_others : bool
        Also write those by another generator, model or prompt anew.
    topk : int
        Items recommended to each user.
    form : str
        One of :data:`~recbole_llmkt.recommend.files.LIST_FORMATS`.
    vectors : str or None
        One of :data:`~recbole_llmkt.recommend.files.VECTOR_FORMATS`; None writes no vectors.
    """

    checkpoint: str
    output: Path
    overrides: Settings = field(default_factory=dict)
    trust: bool = False
    retrain: bool = False
    profiles: bool = True
    overwrite_others: bool = False
    topk: int = 10
    form: str = "csv"
    vectors: str | None = None


def refresh(wanted: Refresh) -> Settings:
    """Do the steps that have not been done since the data or the request changed.

    The steps are the profiles whose histories changed, the model, and the exports. Each finished
    step is recorded in ``refresh.json``; the same request resumes after an interruption, even in
    the middle of training.

    Parameters
    ----------
    wanted : Refresh
        The request.

    Returns
    -------
    dict
        ``checkpoint`` (the new model), ``profiles`` (number written), ``files`` (the exports)
        and ``skipped`` (steps that were already done).

    Raises
    ------
    LLMKTError
        A step fails; the results of earlier steps stay.
    Interrupted
        Ctrl-C during training: the same request resumes it.
    """
    check_format(wanted.form, LIST_FORMATS)
    if wanted.vectors is not None:
        check_format(wanted.vectors, VECTOR_FORMATS)
    with exclusive(wanted.output / ".refresh.lock", error_class=DataError, option="--output"):
        _, config, _ = open_checkpoint(
            wanted.checkpoint, wanted.overrides, wanted.trust, to_train=True
        )
        state = _State.of(wanted, config)
        skipped = [step for step in ("profiles", "checkpoint", "files") if step in state.done]
        if "profiles" not in state.done:
            state.note(profiles=_write_profiles(config, wanted) if wanted.profiles else 0)
        if "checkpoint" not in state.done:
            state.note(checkpoint=_train(wanted, config, state))
        if "files" not in state.done:
            state.note(files=_export(wanted, str(state.done["checkpoint"])))
        return {**state.done, "skipped": skipped}


class _State:
    """The finished steps of a request, on disk."""

    def __init__(self, path: Path, request: Settings, done: Settings) -> None:
        self._path, self._request, self.done = path, request, done

    @classmethod
    def of(cls, wanted: Refresh, config: Config) -> _State:
        """Read the finished steps of the same request on the same data; none if either changed."""
        request: Settings = {
            "checkpoint": str(Path(wanted.checkpoint).resolve()),
            "data": files_digest(Path(config["data_path"]), config["dataset"]),
            "overrides": json.loads(json.dumps(without_secrets(wanted.overrides), default=str)),
            "retrain": wanted.retrain,
            "profiles": "overwrite-others" if wanted.overwrite_others else wanted.profiles,
            "exports": [wanted.topk, wanted.form, wanted.vectors],
        }
        path = wanted.output / _STATE
        done: Settings = {}
        if path.is_file():
            fields = read_object(path, "Delete it: every step is done again.")
            if fields.required("request", dict) == request:
                done = steps_done(fields.part("done"))
        return cls(path, request, done)

    def note(self, **done: object) -> None:
        """Record a finished step."""
        self.done.update(done)
        text = json.dumps({"request": self._request, "done": self.done}, indent=2)
        replace_file(self._path, f"{text}\n".encode(), "--output")


def steps_done(noted: Fields) -> Settings:
    """Return the steps of ``refresh.json`` whose results are where they were noted.

    Parameters
    ----------
    noted : Fields
        Its ``done``.

    Returns
    -------
    dict
        The result of each step, by its name.

    Raises
    ------
    DataError
        A result of another type than a step has.
    """
    files = noted.optional_items("files", str)
    done: Settings = {
        "profiles": noted.optional("profiles", int),
        "checkpoint": noted.optional("checkpoint", str),
        "unfinished": noted.optional("unfinished", str),
        "files": None if files is None else list(files),
    }
    if not all(os.path.isfile(file) for file in files or ()):
        done["files"] = None
    if done["checkpoint"] is not None and not os.path.isfile(done["checkpoint"]):
        done["checkpoint"] = done["files"] = None
    return {step: result for step, result in done.items() if result is not None}


def _write_profiles(config: Config, wanted: Refresh) -> int:
    """Write profiles that are missing or whose history changed; return how many."""
    if not config["kt_enabled"]:
        return 0
    stores = [ProfileStore(own_folder(config), name) for name in entities_of(config["kt_entity"])]
    existing = [store for store in stores if store.exists()]
    selection = Selection(overwrite_others=wanted.overwrite_others)
    return sum(generate_profiles(config, store.entity, selection).written for store in existing)


def _train(wanted: Refresh, config: Config, state: _State) -> str:
    unfinished = state.done.get("unfinished")
    resume = str(unfinished) if unfinished and os.path.isfile(str(unfinished)) else None
    start = None if wanted.retrain or resume else wanted.checkpoint
    # Noted before the first epoch, it is resumed also after a loss of power.
    result = train(
        config,
        verbose=False,
        resume=resume,
        start_from=start,
        on_begin=lambda path: state.note(unfinished=path),
    )
    state.done.pop("unfinished", None)
    return str(result["checkpoint"])


def _export(wanted: Refresh, checkpoint: str) -> list[str]:
    recommender = Recommender(checkpoint, wanted.overrides, wanted.trust)
    paths = [wanted.output / f"recommendations.{wanted.form}"]
    if wanted.vectors is not None:
        factors = recommender.factors()
        users, items = recommender.users, recommender.items
        paths += write_vectors(wanted.output, users, items, factors, wanted.vectors)
    write_recommendations(paths[0], recommender.blocks(k=wanted.topk), with_reasons=False)
    return [str(path) for path in paths]
