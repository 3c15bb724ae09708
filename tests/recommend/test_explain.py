from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.profiles.embeddings import embedding_paths
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.recommend import explain
from recbole_llmkt.recommend.explain import Explainer
from recbole_llmkt.utils.exceptions import ProfileError
from tests.helpers import ENCODER

WORDS = ["war", "love", "space", "crime"]


class WordEncoder:
    """Counts four words; remembers what it was asked."""

    name = ENCODER

    def __init__(self):
        self.seen = []

    def encode(self, texts):
        self.seen += texts
        counts = np.array(
            [[text.lower().count(word) for word in WORDS] for text in texts], "float32"
        )
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def encoder(monkeypatch):
    made = WordEncoder()
    monkeypatch.setattr(explain, "get_encoder", lambda config: made)
    return made


@pytest.fixture
def config(make_dataset):
    dataset = make_dataset()
    folder = dataset.folder / "profiles"
    texts = {
        "user": {"u1": "Adores war. Adores war and space. Never love.", "u2": "Adores war."},
        "item": {"i1": "A war.", "i2": "Some love in space.", "i4": "A war."},
    }
    for entity, profiles in texts.items():
        store = ProfileStore(folder, entity)
        with store.writing():
            for token, text in profiles.items():
                store.append(Profile(token, text, "test", "", "", None, "2024-01-01T00:00:00"))
            store.append(Profile("i3", "", "test", "", "", None, "", error="refused"))
    return dataset.config()


def test_the_nearest_sentence_is_the_reason(config, encoder):
    explanations = Explainer(config, n_reasons=2).explain({"u1": ["i1", "i2"], "u2": ["i4"]})
    first, second = explanations["u1"]
    assert [reason.sentence for reason in first.reasons] == ["Adores war.", "Adores war and space."]
    assert [reason.cosine for reason in first.reasons] == pytest.approx([1.0, 0.5**0.5])
    assert second.reasons[0].sentence == "Never love."
    assert second.reasons[0].cosine == pytest.approx(0.5**0.5)
    assert explanations["u2"][0].reasons[0].cosine == pytest.approx(1.0)
    assert len(explanations["u2"][0].reasons) == 1  # that is all the profile has


def test_a_sentence_that_is_near_to_everything_explains_nothing(config, encoder):
    """Each item gets what sets it apart from the list; one that nothing sets apart gets a note."""
    texts = {"u5": "War and space and love. Love."}, {"i5": "War space love.", "i6": "Space love."}
    for entity, profiles in zip(("user", "item"), texts):
        store = ProfileStore(explain.profile_folder(config, entity), entity)
        with store.writing():
            for token, text in profiles.items():
                store.append(Profile(token, text, "test", "", "", None, "2024-01-01T00:00:00"))
    first, second = Explainer(config).explain({"u5": ["i5", "i6"]})["u5"]
    assert [each.sentence for each in first.reasons] == ["War and space and love."]
    assert first.reasons[0].margin == pytest.approx(1 - (2 / 3) ** 0.5, abs=1e-3)
    assert [each.sentence for each in second.reasons] == ["Love."]
    assert second.reasons[0].cosine < 0.75  # the other sentence is nearer, to both of them
    same = Explainer(config).explain({"u5": ["i1", "i4"]})["u5"]
    assert [each.note for each in same] == [explain.NONE_FITS] * 2
    (alone,) = Explainer(config).explain({"u5": ["i6"]})["u5"]
    assert alone.reasons[0].margin is None  # there is no list to compare with
    assert alone.reasons[0].sentence == "War and space and love."


def test_every_text_is_encoded_once(config, encoder):
    explainer = Explainer(config)
    explainer.explain({"u1": ["i1", "i2"], "u2": ["i4", "i1"]})
    texts = ["Adores war.", "Adores war and space.", "Never love.", "A war.", "Some love in space."]
    assert sorted(encoder.seen) == sorted(texts)
    encoder.seen.clear()
    explainer.explain({"u2": ["i1", "i2"]})  # the items are known by now
    assert encoder.seen == ["Adores war."]


def test_missing_profiles_are_said(config, encoder):
    explanations = Explainer(config).explain({"u1": ["i1", "i3"], "u9": ["i1", "i9"]})
    assert explanations["u1"][0].note is None and explanations["u1"][0].reasons
    assert explanations["u1"][1].note == "no profile of this item"
    assert [explanation.note for explanation in explanations["u9"]] == [
        "no profile of this user",
        "no profile of this user and this item",
    ]
    assert not any(explanation.reasons for explanation in explanations["u9"])


def test_without_a_text_nothing_is_encoded(config, monkeypatch):
    monkeypatch.setattr(explain, "get_encoder", lambda config: pytest.fail("not needed"))
    assert Explainer(config).explain({"u9": ["i1"]})["u9"][0].note == "no profile of this user"
    assert Explainer(config).explain({"u1": ["i9"]})["u1"][0].note == "no profile of this item"
    assert Explainer(config).explain({"u1": []}) == {"u1": []}


def test_without_any_profiles_there_is_one_warning_each(make_dataset, caplog):
    explainer = Explainer(make_dataset().config())
    notes = explainer.explain({"u1": ["i1"]})["u1"]
    assert notes[0].note == "no profile of this user and this item"
    assert len([record for record in caplog.records if "no user profiles" in record.message]) == 1


def stored(config, vectors):
    store = ProfileStore(explain.profile_folder(config, "item"), "item")
    from recbole_llmkt.profiles.embeddings import write_embeddings

    profiles = [store.read()[token] for token in vectors]
    made = {token: np.array(vector, "float32") for token, vector in vectors.items()}
    write_embeddings(store, ENCODER, profiles, made)
    assert embedding_paths(store.folder, ENCODER, "item")[0].is_file()


def test_stored_item_vectors_are_used_whatever_their_length(config, encoder):
    stored(config, {"i1": [0, 0, 5, 0], "i2": [0, 3, 0, 0]})
    first, second = Explainer(config).explain({"u1": ["i1", "i2"]})["u1"]
    assert not {"A war.", "Some love in space."} & set(encoder.seen)
    assert first.reasons[0].sentence == "Adores war and space."
    assert second.reasons[0].cosine == pytest.approx(1.0)


def test_stored_vectors_of_another_width_are_refused(config, encoder):
    stored(config, {"i1": [0, 0, 5]})
    with pytest.raises(ProfileError, match=r"width 4, but the stored ones have \[3\]"):
        Explainer(config).explain({"u1": ["i1"]})
