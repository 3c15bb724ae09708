"""Whoever comes after training gets a row from their profile, and nobody else's changes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recbole_llmkt.profiles.embeddings import embedding_paths, text_digest
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend import Recommender
from recbole_llmkt.recommend.newcomers import load_to_serve
from recbole_llmkt.utils.exceptions import DataError
from tests.helpers import ENCODER
from tests.recommend.test_rank import SEQUENTIAL

BY_USER = {
    "split": {"RS": [0.6, 0.2, 0.2]},
    "order": "TO",
    "group_by": "user",
    "mode": "full",
}
TASTES = ("war", "love", "space", "crime")


def write_tastes(folder, entity, tastes):
    """Write profiles whose vectors say which of four tastes each one has."""
    store = ProfileStore(folder, entity)
    rng = np.random.default_rng(0)
    with store.writing():
        for token, taste in tastes.items():
            text = f"{token} is about {TASTES[taste]}."
            store.append(Profile(token, text, "file", "", "", None, "2024-01-01T00:00:00"))
    profiles = store.usable()
    table = np.eye(8, dtype=np.float32)[[TASTES.index(p.text.split()[-1][:-1]) for p in profiles]]
    table += 0.05 * rng.standard_normal(table.shape).astype(np.float32)
    vectors, ids = embedding_paths(folder, ENCODER, entity)
    vectors.parent.mkdir(parents=True, exist_ok=True)
    np.save(vectors, table)
    header = {"encoder": ENCODER, "dim": 8, "ids": [profile.id for profile in profiles]}
    header["texts"] = [text_digest(profile.text) for profile in profiles]
    ids.write_text(json.dumps(header), encoding="utf-8")


@pytest.fixture
def shop(make_dataset):
    """Return 40 users and 40 items of four tastes, told by their profiles."""
    dataset = make_dataset(n_users=40, per_user=(1, 1))
    rng = np.random.default_rng(1)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(40):
        liked = [item for item in range(40) if item % 4 == user % 4]
        for time, item in enumerate(rng.permutation(liked)[:8]):
            lines.append(f"u{user}\ti{item}\t5\t{time}")
    (dataset.folder / "tiny.inter").write_text("\n".join(lines) + "\n")
    for entity in ("user", "item"):
        tastes = {f"{entity[0]}{number}": number % 4 for number in range(40)}
        write_tastes(dataset.folder / "profiles", entity, tastes)
    return dataset


def fit(dataset, model="BPR", **keys):
    keys = {"kt_enabled": False, "epochs": 25, "eval_args": BY_USER, "eval_step": 0, **keys}
    keys = {"learning_rate": 0.05, "train_batch_size": 512, **keys}
    return train(dataset.config(model, **keys), verbose=False, evaluate_test=False)["checkpoint"]


def lists(recommender, users):
    return {
        each.user: [(item.token, item.score) for item in each.items]
        for each in recommender.top_k(users, k=5)
    }


def served(checkpoint):
    return Recommender(checkpoint, {"profile_encoder": ENCODER})


def append(dataset, *lines):
    with (dataset.folder / "tiny.inter").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_a_profile_without_any_interaction_is_enough(shop):
    checkpoint = fit(shop)
    known = [f"u{number}" for number in range(40)]
    before = lists(served(checkpoint), known)
    write_tastes(shop.folder / "profiles", "user", {"told": 2, "asked": 1})
    write_tastes(shop.folder / "profiles", "item", {"novelty": 2})
    after = served(checkpoint)
    assert {"told", "asked"} <= set(after.users) and "novelty" in after.items
    for user, taste in (("told", 2), ("asked", 1)):
        (tokens,) = ([item for item, _ in pairs] for pairs in lists(after, [user]).values())
        right = [item == "novelty" or int(item[1:]) % 4 == taste for item in tokens]
        assert sum(right) >= 4, tokens
    # The new item goes to those who like its kind, and known rows stay as they are.
    shown = {user: dict(pairs) for user, pairs in lists(after, known).items()}
    seen_by = {user for user, pairs in shown.items() if "novelty" in pairs}
    assert len({user for user in seen_by if int(user[1:]) % 4 == 2}) >= len(seen_by) / 2 > 0
    for user, pairs in before.items():
        old = [(item, score) for item, score in pairs if item in shown[user]]
        assert [(item, shown[user][item]) for item, _ in old] == old


def test_random_parts_are_drawn_as_they_were(shop):
    """Otherwise other items would count as seen."""
    random = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": None, "mode": "full"}
    checkpoint = fit(shop, epochs=1, eval_args=random)
    before = load_to_serve(checkpoint).train_data._dataset.inter_feat
    write_tastes(shop.folder / "profiles", "user", {"told": 2})
    after = load_to_serve(checkpoint, {"profile_encoder": ENCODER}).train_data._dataset.inter_feat
    for name in ("user_id", "item_id"):
        assert before[name].tolist() == after[name].tolist()


def test_who_is_new_with_a_profile_is_ranked_for_and_others_are_named(shop):
    checkpoint = fit(shop)
    append(shop, "newcomer\ti2\t5\t1", "newcomer\ti6\t5\t2", "stranger\ti1\t5\t1")
    write_tastes(shop.folder / "profiles", "user", {"newcomer": 2})
    recommender = served(checkpoint)
    (items,) = lists(recommender, ["newcomer"]).values()
    assert sum(int(item[1:]) % 4 == 2 for item, _ in items) >= 4
    assert "i2" not in dict(items)  # an interaction of today
    with pytest.raises(DataError, match=r"'stranger': new since .*have no profile"):
        recommender.top_k(["newcomer", "stranger"])
    assert "stranger" not in recommender.users


def test_who_left_and_who_was_filtered_out_stay_out(shop):
    checkpoint = fit(shop, user_inter_num_interval="[3,inf)")
    append(shop, "rare\ti2\t5\t1")
    write_tastes(shop.folder / "profiles", "user", {"rare": 2, "told": 1})
    path = shop.folder / "tiny.inter"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("u7\t")]
    path.write_text("\n".join(kept) + "\n")
    recommender = served(checkpoint)
    assert "told" in recommender.users
    for user in ("rare", "u7"):
        assert user not in recommender.users
        with pytest.raises(DataError, match=f"'{user}': no such user"):
            recommender.top_k([user])


def test_a_user_of_the_user_file_without_interactions(shop):
    lines = ["user_id:token", "silent", *(f"u{number}" for number in range(40))]
    (shop.folder / "tiny.user").write_text("\n".join(lines) + "\n")
    load_col = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id"],
    }
    checkpoint = fit(shop, load_col=load_col)
    with pytest.raises(DataError, match="no training interactions"):
        served(checkpoint).top_k(["silent"])
    write_tastes(shop.folder / "profiles", "user", {"silent": 3})
    (items,) = lists(served(checkpoint), ["silent"]).values()
    assert sum(int(item[1:]) % 4 == 3 for item, _ in items) >= 4


@pytest.mark.parametrize("model", ["MultiVAE", "SASRec"])
def test_a_model_without_rows_of_users_says_so(shop, model):
    keys = {"mlp_hidden_size": [8], "latent_dimension": 4} if model == "MultiVAE" else SEQUENTIAL
    checkpoint = fit(shop, model, **{"epochs": 1, **keys})
    append(shop, "newcomer\ti2\t5\t1", "newcomer\ti6\t5\t2", "newcomer\ti10\t5\t3")
    write_tastes(shop.folder / "profiles", "user", {"told": 2, "newcomer": 2})
    recommender = served(checkpoint)
    assert len(lists(recommender, ["newcomer"])["newcomer"]) == 5  # by what they have done
    assert "told" not in recommender.users
    with pytest.raises(DataError, match=f"'told': {model} ranks .* no interactions yet"):
        recommender.top_k(["told"])


def test_simplex_ranks_by_the_row_alone_where_there_is_no_history(shop):
    sampling = {"distribution": "uniform", "sample_num": 4}
    checkpoint = fit(shop, "SimpleX", train_neg_sample_args=sampling, history_len=8)
    write_tastes(shop.folder / "profiles", "user", {"told": 2})
    (items,) = lists(served(checkpoint), ["told"]).values()
    assert sum(int(item[1:]) % 4 == 2 for item, _ in items) >= 4, items


def test_what_cannot_be_encoded_is_left_out_with_a_warning(shop, caplog):
    checkpoint = fit(shop, epochs=1)
    write_tastes(shop.folder / "profiles", "user", {"told": 2})
    recommender = Recommender(checkpoint, {"profile_encoder": "no/such-encoder"})
    assert "New users and items get no rows from their profiles." in caplog.text
    assert "told" not in recommender.users and len(recommender.users) == 40


def test_without_newcomers_nothing_is_done(shop, monkeypatch):
    checkpoint = fit(shop, epochs=1)
    monkeypatch.setattr("recbole_llmkt.recommend.newcomers.load_profiles", pytest.fail)
    run = load_to_serve(checkpoint)
    assert run.from_profile == {"user": set(), "item": set()} and not run.without_row
