"""A tiny dataset with every kind of atomic file, and profiles of its users and items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import init_seed

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.profiles.embeddings import build_embeddings
from recbole_llmkt.profiles.store import Profile, ProfileStore, utc_now

NAME = "tiny"
ENCODER = "grouped-vectors"
N_USERS, N_ITEMS, N_INTERACTIONS, N_GROUPS = 90, 70, 14, 3
WIDTH = 384


def write_atomic_files(folder: Path) -> None:
    """Write ``tiny.{inter,user,item,kg,link}``: users of three tastes, items of three kinds."""
    rng = np.random.default_rng(7)
    home = folder / NAME
    home.mkdir(parents=True)
    # Tokens in an order of their own: ids joined by position would be wrong ids.
    users = [f"u{number}" for number in rng.permutation(N_USERS) + 5]
    items = [f"i{number}" for number in rng.permutation(N_ITEMS) + 900]
    rows = []
    for u, user in enumerate(users):
        likes = np.where(np.arange(N_ITEMS) % N_GROUPS == u % N_GROUPS, 4.0, 1.0)
        liked = rng.choice(N_ITEMS, N_INTERACTIONS, replace=False, p=likes / likes.sum())
        for step, item in enumerate(liked):
            rating = int(
                rng.integers(3, 6) if item % N_GROUPS == u % N_GROUPS else rng.integers(1, 5)
            )
            rows.append(f"{user}\t{items[item]}\t{rating}\t{1000 * step + u}")
    _write(home, "inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float", rows)
    _write(
        home,
        "user",
        "user_id:token\tage:token\tgender:token",
        [f"{user}\t{20 + u % 5}\t{'FM'[u % 2]}" for u, user in enumerate(users)],
    )
    _write(
        home,
        "item",
        "item_id:token\trelease_year:token\tclass:token_seq",
        [f"{item}\t{1990 + i % 6}\tk{i % N_GROUPS} c{i % 7}" for i, item in enumerate(items)],
    )
    _write(home, "link", "item_id:token\tentity_id:token", [f"{i}\tm.{i}" for i in items])
    facts = [f"m.{item}\tgenre\tg.{i % N_GROUPS}" for i, item in enumerate(items)]
    facts += [f"m.{item}\tcast\ta.{i % 11}" for i, item in enumerate(items)]
    _write(home, "kg", "head_id:token\trelation_id:token\ttail_id:token", facts)


def _write(home: Path, suffix: str, header: str, rows: list[str]) -> None:
    (home / f"{NAME}.{suffix}").write_text("\n".join([header, *rows]) + "\n")


class GroupedVectors:
    """Encode a text to a vector of its own near those of its group."""

    name = ENCODER

    def encode(self, texts: list[str]) -> Any:
        vectors_of_texts = []
        for text in texts:
            group, own = (np.random.default_rng(int(part)) for part in text.split())
            vectors_of_texts.append(group.standard_normal(WIDTH) + 0.5 * own.standard_normal(WIDTH))
        vectors = np.stack(vectors_of_texts).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_profiles(folder: Path, config: Config) -> None:
    """Write profiles of all users (from the run's own training split) and items."""
    init_seed(config["seed"], config["reproducibility"])
    train_data, _, _ = data_preparation(config, create_dataset(config))
    dataset = train_data._dataset
    digests = training_histories(dataset).digests()
    digests_by_entity: dict[str, dict[str, str | None]] = {
        "user": dict(digests),
        "item": {str(token): None for token in dataset.field2id_token["item_id"][1:]},
    }
    for entity, known in digests_by_entity.items():
        store = ProfileStore(folder, entity)
        with store.writing():
            for token, digest in known.items():
                number = int(token[1:])
                store.append(
                    Profile(
                        token, f"{number % N_GROUPS} {number}", "test", "", "", digest, utc_now()
                    )
                )
        build_embeddings(store, GroupedVectors())
