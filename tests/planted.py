"""Synthetic data whose held-out clicks depend on what the profiles say, or on nothing they say.

Each user loves two topics. Training clicks are few and half of them are noise; held-out clicks are
true to the topics. Profiles name the topics of their user (or item), so they tell what the clicks
do not; if they are noise, they name those of somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.profiles.store import Profile, ProfileStore

TOPICS = (
    ("trumpets", "saxophones", "smoky jazz clubs", "swing bands", "bebop"),
    ("rockets", "distant planets", "astronauts", "space stations", "alien moons"),
    ("knights", "castles", "medieval sieges", "crusaders", "jousting"),
    ("courtrooms", "lawyers", "jury trials", "cross-examination", "verdicts"),
    ("sailing ships", "pirates", "the open ocean", "lighthouses", "shipwrecks"),
    ("football", "stadiums", "coaches", "championship games", "penalty kicks"),
    ("bakeries", "chefs", "sourdough bread", "recipes", "pastry kitchens"),
    ("ghosts", "haunted houses", "vampires", "graveyards", "curses"),
)


@dataclass(frozen=True)
class World:
    """How much there is of everything.

    Attributes
    ----------
    n_users, n_items : int
        Entities; items are spread evenly over the topics.
    clicks : tuple of int
        Of each user, in the training, validation and test part.
    noise : float
        Share of the training clicks that fall on any item.
    """

    n_users: int = 300
    n_items: int = 160
    clicks: tuple[int, int, int] = (4, 2, 5)
    noise: float = 0.5


PARTS = ("train", "valid", "test")


def write_planted(folder: Path, seed: int, informed: bool, world: World = World()) -> None:
    """Write atomic files, and profiles that tell the topics or (not ``informed``) nothing.

    Parameters
    ----------
    folder : Path
        Becomes ``data_path``; the dataset is called ``planted``.
    seed : int
        Of everything that is drawn; it stands in the users' ids: other data, other users.
    informed : bool
        Whether the profiles name the true topics.
    world : World
        Sizes.
    """
    rng = np.random.default_rng(seed)
    home = folder / "planted"
    home.mkdir(parents=True)
    item_topics = np.arange(world.n_items) % len(TOPICS)
    loved = np.array([rng.permutation(len(TOPICS))[:2] for _ in range(world.n_users)])
    clicks: dict[str, list[str]] = {part: [] for part in PARTS}
    for user, topics in enumerate(loved):
        true = rng.permutation(np.flatnonzero(np.isin(item_topics, topics)))
        order = list(rng.permutation(world.n_items))
        seen: set[int] = set()
        for part, count in zip(PARTS, world.clicks):
            for _ in range(count):
                noisy = part == "train" and rng.random() < world.noise
                item = next(
                    int(candidate)
                    for candidate in (order if noisy else true)
                    if candidate not in seen
                )
                seen.add(item)
                clicks[part].append(f"u{seed}-{user}\ti{item}")
    for part, lines in clicks.items():
        text = "user_id:token\titem_id:token\n" + "\n".join(lines) + "\n"
        (home / f"planted.{part}.inter").write_text(text, encoding="utf-8")
    if not informed:
        item_topics = rng.permutation(item_topics)
        loved = rng.permutation(loved)
    users = {f"u{seed}-{user}": topics for user, topics in enumerate(loved)}
    _write_profiles(folder, rng, users, item_topics)


def _write_profiles(
    folder: Path,
    rng: np.random.Generator,
    users: Mapping[str, Sequence[int]],
    item_topics: Sequence[int],
) -> None:
    def words(topic: int) -> str:
        first, second, third = rng.permutation(TOPICS[topic])[:3]
        return f"{first}, {second} and {third}"

    train = load_data(Config("BPR", "planted", config_dict=settings(folder), command_line=[]))[1]
    histories = training_histories(train._dataset).digests()
    texts = {
        "user": {
            token: f"Loves {words(first)}. Never tires of {words(second)}."
            for token, (first, second) in users.items()
        },
        "item": {
            f"i{item}": f"A tale of {words(topic)}." for item, topic in enumerate(item_topics)
        },
    }
    for entity, profiles in texts.items():
        store = ProfileStore(folder / "planted" / "profiles", entity)
        with store.writing():
            for token, text in profiles.items():
                history = histories.get(token)
                store.append(Profile(token, text, "planted", "", "", history, "2024-01-01"))


def settings(folder: Path, **keys: Any) -> dict[str, Any]:
    """Return the configuration of a run on the planted data; ``keys`` go over it."""
    return {
        "data_path": str(folder),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "benchmark_filename": list(PARTS),
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "full"},
        "embedding_size": 16,
        "learning_rate": 0.01,
        "train_batch_size": 512,
        "eval_batch_size": 100_000,
        "epochs": 20,
        "eval_step": 5,
        "topk": [10],
        "metrics": ["NDCG"],
        "valid_metric": "NDCG@10",
        "profile_encoder": "wordllama",
        "show_progress": False,
        "state": "ERROR",
        "gpu_id": "",
        **keys,
    }
