"""A tiny dataset with profiles, and runs on it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile
from typing import Any, NoReturn

import numpy as np
import pytest
import recbole
import torch
from recbole.utils import init_seed

from recbole_llmkt import run_recbole_llmkt
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.profiles.embeddings import embedding_paths, text_digest
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.transfer.auxiliary.task import TransferTask
from recbole_llmkt.transfer.context import RunContext

# RecBole 1.2.0 lacks some models and keys (docs/versions.md).
IS_NEWEST_RECBOLE = recbole.__version__ == "1.2.1"
ASYMKNN = pytest.param(
    "AsymKNN", marks=pytest.mark.skipif(not IS_NEWEST_RECBOLE, reason="new in RecBole 1.2.1")
)
ENCODER = "test-encoder"
DIM_TEXT = 24
# A click model's settings on such a dataset.
LABELED = {
    "threshold": {"rating": 3},
    "LABEL_FIELD": "label",
    "train_neg_sample_args": None,
    "metrics": ["AUC"],
    "valid_metric": "AUC",
    "eval_args": {
        "split": {"RS": [0.6, 0.2, 0.2]},
        "order": "TO",
        "group_by": "user",
        "mode": "labeled",
    },
}


@dataclass
class TinyDataset:
    """Atomic files of a dataset that a test wrote, and how to configure a run on it.

    Attributes
    ----------
    name : str
        The dataset's name.
    data_path : Path
        What RecBole's ``data_path`` must be.
    rows : list of tuple
        (user token, item token, rating, timestamp), as in the file.
    """

    name: str
    data_path: Path
    rows: list[tuple[str, str, int, int]]

    @property
    def folder(self) -> Path:
        return self.data_path / self.name

    def settings(self, **keys: Any) -> dict[str, Any]:
        """Return a small, quick configuration; ``keys`` go over it."""
        return {
            "data_path": str(self.data_path),
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "RATING_FIELD": "rating",
            "TIME_FIELD": "timestamp",
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            "eval_args": {
                "split": {"RS": [0.6, 0.2, 0.2]},
                "order": "TO",
                "group_by": "user",
                "mode": "full",
            },
            "embedding_size": 8,
            "mf_embedding_size": 8,
            "mlp_embedding_size": 8,
            "mlp_hidden_size": [16, 8],
            "train_batch_size": 64,
            "eval_batch_size": 4096,
            "epochs": 4,
            "topk": [5],
            "metrics": ["Recall", "NDCG"],
            "valid_metric": "NDCG@5",
            "show_progress": False,
            "profile_encoder": ENCODER,
            "gpu_id": "",
            **keys,
        }

    def config(self, model: Any = "BPR", **keys: Any) -> Config:
        return Config(model, self.name, config_dict=self.settings(**keys), command_line=[])


def write_profiles(
    folder: Path,
    entity: str,
    vectors: Mapping[str, Sequence[float]],
    histories: Mapping[str, str | None],
) -> None:
    """Write profiles and their embeddings by :data:`ENCODER`, by token."""
    store = ProfileStore(folder, entity)
    texts = {token: f"Profile of {token}" for token in vectors}
    with store.writing():
        for token, text in texts.items():
            history = histories.get(token)
            store.append(Profile(token, text, "test", "", "", history, "2024-01-01T00:00:00"))
    table = np.array(list(vectors.values()), dtype=np.float32)
    vectors_path, ids_path = embedding_paths(folder, ENCODER, entity)
    vectors_path.parent.mkdir(parents=True, exist_ok=True)
    np.save(vectors_path, table)
    header = {
        "encoder": ENCODER,
        "dim": table.shape[1],
        "ids": list(texts),
        "texts": [text_digest(text) for text in texts.values()],
    }
    ids_path.write_text(json.dumps(header), encoding="utf-8")


def random_vectors(tokens: Sequence[str], seed: int = 3) -> dict[str, np.ndarray]:
    """Return a random vector of :data:`DIM_TEXT` numbers for each token."""
    table = np.random.default_rng(seed).standard_normal((len(tokens), DIM_TEXT))
    return dict(zip(tokens, table.astype(np.float32)))


@dataclass
class Prepared:
    """All that a run needs, made as :func:`recbole_llmkt.quick_start.train` makes it."""

    config: Any
    model: Any
    trainer: Any
    train_data: Any
    valid_data: Any
    test_data: Any

    @property
    def context(self) -> RunContext:
        """The run as its methods see it."""
        return RunContext(self.config, self.model, self.train_data)

    def method(self, name: str) -> Any:
        """Return a method of the trainer by its name; None where the run has none."""
        return method_of(self.trainer, name)

    def prepared(self, method: type) -> Any:
        """Return a method of this run, ready but outside the trainer."""
        made = method(self.config)
        made.prepare(self.context)
        return made

    @property
    def dataset(self) -> Any:
        return self.train_data._dataset

    def fit(self, **keywords: Any) -> Any:
        return self.trainer.fit(
            self.train_data, self.valid_data, **{"verbose": False, "saved": False, **keywords}
        )


def run(
    dataset: TinyDataset, model: str | type = "BPR", saved: bool = False, **keys: Any
) -> dict[str, Any]:
    """Train two epochs in one call, as a user does."""
    settings = dataset.settings(**{"epochs": 2, "state": "ERROR", **keys})
    result: Any = run_recbole_llmkt(model, dataset.name, config_dict=settings, saved=saved)
    return result


def in_fork(program: Callable[[], object], *arguments: str) -> CompletedProcess[str]:
    """Run what a script would, in a fork of this process: it need not import everything anew.

    Parameters
    ----------
    program : callable
        The script's code.
    *arguments : str
        Those of its command line.

    Returns
    -------
    CompletedProcess
        Its exit code, and what it wrote.
    """
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            _be_program(program, arguments, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return CompletedProcess(arguments, code, *texts)


def _be_program(
    program: Callable[[], object], arguments: Sequence[str], out: int, err: int
) -> NoReturn:
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["script.py", *arguments]
        root = logging.getLogger()
        root.handlers.clear()  # pytest's
        root.setLevel(logging.WARNING)
        program()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        else:
            code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def method_of(trainer: Any, name: str) -> Any:
    """Return a method of a trainer by its name; None where there is none."""
    return next((method for method in trainer.methods if method.name == name), None)


def prepare(config: Config) -> Prepared:
    """Make data, model and trainer of a configuration."""
    from recbole.utils import init_seed

    from recbole_llmkt.compat import create_dataset, data_preparation
    from recbole_llmkt.training.factory import build_model, get_trainer

    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, train_data._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    return Prepared(config, model, trainer, train_data, valid_data, test_data)


def add_profiles(dataset: TinyDataset, without: Sequence[str] = (), **keys: Any) -> None:
    """Give all users and items of the training split a profile with a random embedding.

    ``keys`` say how the data are split and filtered; ``without`` names tokens to leave out.
    """
    digests, all_items = _training_part(dataset, keys)
    users = [token for token in digests if token not in without]
    items = [token for token in all_items if token not in without]
    folder = dataset.folder / "profiles"
    write_profiles(folder, "user", random_vectors(users), digests)
    write_profiles(folder, "item", random_vectors(items, seed=4), {})


# Hundreds of tests write the same dataset; what RecBole makes of its files is found once.
_TRAINING_PARTS: dict[str, tuple[dict[str, str | None], list[str]]] = {}


def _training_part(
    dataset: TinyDataset, keys: Mapping[str, Any]
) -> tuple[dict[str, str | None], list[str]]:
    """Return the digest of each user's training history by token, and the tokens of the items."""
    files = {path.name: path.read_text() for path in sorted(dataset.folder.glob("*.*"))}
    key = repr((dataset.name, files, sorted(keys.items())))
    if key not in _TRAINING_PARTS:
        train = prepare(dataset.config("BPR", kt_enabled=False, **keys)).dataset
        tokens = [str(token) for token in train.field2id_token["item_id"][1:]]
        _TRAINING_PARTS[key] = dict(training_histories(train).digests()), tokens
    return _TRAINING_PARTS[key]


@contextmanager
def limited_files() -> Iterator[Callable[[int], None]]:
    """Yield a function that limits the length of files until the block ends: a full disk.

    Keep the block short: what pytest itself writes is limited, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def same_parameters(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Tell whether two models hold the same numbers, bit for bit."""
    first, second = model.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def task_of(run) -> TransferTask:
    return TransferTask(run.context)


def one_step(run, task=None):
    """Compute the loss and the gradients of the first batch, always with the same dropout."""
    init_seed(1, True)
    batch = next(iter(run.train_data))
    run.model.train()
    run.model.zero_grad()
    torch.manual_seed(11)
    if task is None:
        loss = run.model.calculate_loss(batch)
    else:
        with task.attached():
            loss = run.model.calculate_loss(batch)
    loss.backward()
    grads = {name: parameter.grad.clone() for name, parameter in run.model.named_parameters()}
    return batch, loss.detach(), grads


def ranked_pairs(ranker: Any, ids: Sequence[int], topk: int) -> list[list[tuple[int, float]]]:
    """Return each user's items and scores."""
    pairs = []
    for batch in ranker.rank(ids, topk):
        rows = zip(batch.items, batch.scores)
        pairs += [list(itertools.islice(rows, length)) for length in batch.lengths]
    return pairs
