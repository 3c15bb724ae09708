"""An encoder and a generator of somebody's own, by class path."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.profiles.embeddings import read_embeddings
from recbole_llmkt.profiles.encoders import Encoder, get_encoder, is_class_path
from recbole_llmkt.profiles.generation.generators import Answer, Generator, get_generator
from recbole_llmkt.profiles.generation.run import generate_profiles
from recbole_llmkt.profiles.locations import embedding_home
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.quick_start import load_data_and_model, train
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.profiles.generation.helpers import SETTINGS, write_items


class Letters(Encoder):
    """Counts letters; reads whole texts."""

    def split(self, texts):
        return [[(text, len(text))] for text in texts]

    def encode_batch(self, texts):
        counts = [[text.count(letter) for letter in "aefilopru0123456789"] for text in texts]
        return np.array(counts, dtype=np.float32) + 0.1


class Scaled(Letters):
    """Reads a key of its own choice."""

    @classmethod
    def from_config(cls, config):
        encoder = cls("scaled", batch_size=2)
        encoder.topk = config["topk"]
        return encoder


class Unfinished(Encoder):
    def split(self, texts):
        return [[(text, 1)] for text in texts]


class Needy(Letters):
    def __init__(self, name, batch_size, weights):
        super().__init__(name, batch_size)


class Echo(Generator):
    """Repeats ids."""

    def answer_batch(self, requests):
        return [Answer(r.id, f"A viewer called {r.id}.", r.history) for r in requests]


class Broken(Echo):
    def __init__(self, settings):
        raise RuntimeError("no weights\nhere")


def path(own):
    return f"{__name__}.{own.__name__}"


# ---- encoders ------------------------------------------------------------------------------------


def test_a_run_makes_vectors_with_it_once_and_keeps_them_under_its_path(tiny, monkeypatch):
    config = tiny.config(epochs=2, kt_transform="random", profile_encoder=path(Letters))
    facts = train(config, verbose=False)["transfer"]["terms"][0]
    assert facts["encoder"] == path(Letters)
    home = embedding_home(tiny.folder / "profiles")
    stored = read_embeddings(home, path(Letters), "user")
    assert stored.encoder == path(Letters) and stored.vectors.shape == (30, 19)
    assert stored.fits(ProfileStore(tiny.folder / "profiles", "user").usable())
    monkeypatch.setattr(Letters, "encode_batch", lambda self, texts: pytest.fail("made already"))
    train(config, verbose=False)


def test_it_makes_itself_from_the_configuration(tiny):
    encoder = get_encoder(tiny.config(profile_encoder=path(Scaled)))
    assert (encoder.name, encoder.batch_size, encoder.topk) == (path(Scaled), 2, [5])
    plain = get_encoder(tiny.config(profile_encoder=path(Letters), profile_encoder_batch_size=7))
    assert (plain.name, plain.batch_size) == (path(Letters), 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "collections.OrderedDict",
            r"is not a subclass of Encoder: derive it from recbole_llmkt\.",
        ),
        (f"{__name__}.path", "is not a class"),
        ("no_such_module.Mine", r"Cannot import 'no_such_module\.Mine'.*no folder"),
        (path(Unfinished), r"cannot be created: TypeError: .*encode_batch"),
        (path(Needy), r"cannot be created: TypeError: .*weights"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(tiny, name, message):
    with pytest.raises(ConfigError, match=f"^profile_encoder: .*{message}") as caught:
        get_encoder(tiny.config(profile_encoder=name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "./models/x.v2",
        "models/x.v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        "all-MiniLM-L6-v2.1",
        "average_word_embeddings_glove.6B.300d",
        "org/package.module.Class",
        "wordllama",
        "test-encoder",
        "a..b",
        ".b",
    ],
)
def test_folders_and_hub_names_are_no_class_paths(name):
    assert not is_class_path(name)


def test_a_folder_of_that_name_goes_first(tiny):
    assert is_class_path("helper.v2")
    Path("helper.v2").mkdir()
    Path("helper.py").write_text("open('owned', 'w')\n")
    assert not is_class_path("helper.v2")
    with pytest.raises(ProfileError, match=r"helper\.v2"):
        get_encoder(tiny.config(profile_encoder="helper.v2"))
    assert not Path("owned").exists()


def test_a_strangers_checkpoint_does_not_import_it(tiny, monkeypatch):
    Path("stranger.py").write_text("open('owned', 'w')\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    config = tiny.config(epochs=1, kt_enabled=False, profile_encoder="stranger.Encoder")
    checkpoint = train(config, verbose=False)["checkpoint"]
    loaded = load_data_and_model(checkpoint)[0]
    assert loaded["profile_encoder"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert load_data_and_model(checkpoint, trust=True)[0]["profile_encoder"] == "stranger.Encoder"
    shown = CliRunner().invoke(
        main, ["recommend", f"--checkpoint={checkpoint}", "--users=u1", "--reasons=1"]
    )
    assert "stranger" not in sys.modules and not Path("owned").exists(), shown.output


# ---- generators ----------------------------------------------------------------------------------


def test_a_generator_writes_profiles_that_a_run_learns_from(make_dataset):
    dataset = make_dataset()
    write_items(dataset)
    keys = {"profile_generator": path(Echo), "profile_encoder": path(Letters), "epochs": 2}
    summary = generate_profiles(dataset.config(**keys), "user")
    assert (summary.written, summary.failed) == (30, 0)
    store = ProfileStore(dataset.folder / "profiles", "user")
    assert store.read()["u3"].text == "A viewer called u3."
    facts = train(dataset.config(**keys), verbose=False)["transfer"]["terms"][0]
    assert facts["generator"] == path(Echo) and facts["encoder"] == path(Letters)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "collections.OrderedDict",
            r"'collections\.OrderedDict' is not a subclass of Generator: derive it from "
            r"recbole_llmkt\.Generator\.$",
        ),
        ("no_such_module.Mine", r"Cannot import 'no_such_module\.Mine'"),
        (path(Broken), "cannot be created: RuntimeError: no weights here"),
    ],
)
def test_what_is_no_generator_is_refused_in_one_line(name, message):
    with pytest.raises(ConfigError, match=f"^profile_generator: .*{message}") as caught:
        get_generator({**SETTINGS, "profile_generator": name})
    assert "\n" not in str(caught.value)
