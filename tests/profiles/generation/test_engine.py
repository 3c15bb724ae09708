from __future__ import annotations

import base64
import pickle
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest

from recbole_llmkt.profiles.generation.engine import _CARRIED, _Actor, _actors, _settle, spread
from recbole_llmkt.profiles.generation.run import generate_profiles
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.profiles.generation.helpers import write_items
from tests.profiles.generation.openai_server import OpenAIServer, Reply
from tests.profiles.generation.ray_workers import Meets, Refuses, Squares


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start a cluster of two workers on this machine."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    try:
        import ray.data.extensions
    except ImportError as error:
        pytest.skip(f"Ray Data does not run beside these versions: {error}")
    path = str(Path(__file__).parents[3])
    ray.init(
        num_cpus=3,  # Ray Data keeps one to itself
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        logging_level="error",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


def _settings(data: Any, server: OpenAIServer, engine: str) -> dict[str, Any]:
    return {
        "profile_generator": "openai",
        "profile_model": "m",
        "profile_api_base": server.address,
        "profile_concurrency": 2,
        "profile_engine": engine,
        "profile_dir": str(data.folder / engine),
    }


@pytest.mark.slow
def test_two_workers_share_the_work(cluster: None, tmp_path: Path) -> None:
    results = list(spread(partial(Meets, tmp_path), range(40), engine="ray", block_size=4))
    assert sorted(square for square, _ in results) == [n * n for n in range(40)]
    assert len({process for _, process in results}) == 2
    assert list(spread(Squares, [], engine="ray")) == []


@pytest.mark.slow
def test_an_error_of_a_worker_comes_back_as_it_was(cluster: None) -> None:
    with pytest.raises(ProfileError, match=r"^no root of -1$"):
        list(spread(Squares, [-1, 2], engine="ray", block_size=1))


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_said(cluster: None) -> None:
    with pytest.raises(ProfileError, match=r"worker of the Ray cluster failed.*no weights"):
        list(spread(Refuses, [1], engine="ray", block_size=1))


@pytest.mark.slow
def test_ray_and_local_write_the_same_profiles(cluster: None, make_dataset: Any) -> None:
    data = make_dataset()
    write_items(data)

    stored = {}
    with OpenAIServer(lambda *_: Reply()) as server:
        for engine in ("local", "ray"):
            config = data.config(**_settings(data, server, engine))
            summary = generate_profiles(config, "user")
            assert (summary.written, summary.failed) == (30, 0)
            profiles = ProfileStore(data.folder / engine, "user").read()
            stored[engine] = {
                token: (
                    profile.text,
                    profile.history,
                    profile.prompt,
                    profile.model,
                    profile.tokens_in,
                )
                for token, profile in profiles.items()
            }
            assert generate_profiles(config, "user").skipped == 30
    assert stored["ray"] == stored["local"]


def test_actors_fill_the_cluster() -> None:
    assert _actors({"CPU": 9.0, "GPU": 2.0}, on_gpu=True) == (2, {"num_gpus": 1})
    assert _actors({"CPU": 9.0, "GPU": 2.0}, on_gpu=False) == (8, {"num_cpus": 1})
    assert _actors({"CPU": 1.0}, on_gpu=True) == (1, {"num_cpus": 0})


def test_a_cluster_without_ray_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"cannot import Ray Data .*recbole_llmkt\[ray\]"):
        list(spread(Squares, [1], engine="ray"))
    assert list(spread(Squares, [], engine="ray")) == []


def test_an_actor_answers_a_block_and_sends_its_error_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda reference: reference))
    block = {"item": [pyarrow.scalar(pickle.dumps(number)) for number in (2, 3)]}
    done = _Actor(Squares)(block)
    assert [pickle.loads(result.as_py()) for result in done["result"]] == [4, 9]
    with pytest.raises(RuntimeError) as failed:
        _Actor(Squares)({"item": [pyarrow.scalar(pickle.dumps(-1))]})
    carried = pickle.loads(base64.b64decode(_CARRIED.search(f"ray: {failed.value}")[1]))
    assert isinstance(carried, ProfileError) and str(carried) == "no root of -1"


def test_both_kinds_of_ray_data_are_told_to_be_quiet() -> None:
    quiet: list[bool] = []
    old = SimpleNamespace(
        set_progress_bars=quiet.append, from_items=lambda items, *, parallelism=-1: None
    )
    assert _settle(old) == "parallelism" and quiet == [False]
    context = SimpleNamespace(enable_progress_bars=True)
    new = SimpleNamespace(
        DataContext=SimpleNamespace(get_current=lambda: context),
        from_items=lambda items, *, override_num_blocks=None: None,
    )
    assert _settle(new) == "override_num_blocks" and not context.enable_progress_bars
