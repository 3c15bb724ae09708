"""A model brought up to date, and resumed wherever it was interrupted."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
from pathlib import Path

import pytest

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend import refresh as module
from recbole_llmkt.recommend.refresh import Refresh, refresh
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError


@pytest.fixture
def checkpoint(make_dataset):
    dataset = make_dataset()
    config = dataset.config(kt_enabled=False, epochs=1)
    path = train(config, verbose=False, evaluate_test=False)["checkpoint"]
    lines = ["newcomer\ti1\t3\t5", "newcomer\ti2\t5\t6", "newcomer\ti3\t3\t7"]
    with (dataset.folder / "tiny.inter").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def lists(path):
    with open(path, newline="") as file:
        return {row["user"] for row in csv.DictReader(file)}


def test_every_step_is_done_once(checkpoint, monkeypatch):
    wanted = Refresh(checkpoint, Path("served"), topk=3, vectors="npz")
    done = refresh(wanted)
    assert done["skipped"] == [] and done["checkpoint"] != checkpoint
    names = ["recommendations.csv", "users.npz", "items.npz"]
    assert done["files"] == [f"served/{name}" for name in names]
    assert "newcomer" in lists("served/recommendations.csv")
    monkeypatch.setattr(module, "train", pytest.fail)
    again = refresh(wanted)
    assert again == {**done, "skipped": ["profiles", "checkpoint", "files"]}
    Path("served/items.npz").unlink()  # only what is missing is made
    assert refresh(wanted)["skipped"] == ["profiles", "checkpoint"]
    assert Path("served/items.npz").is_file()


def test_a_killed_training_is_resumed(checkpoint):
    """Killed as by a loss of power, after the second epoch."""
    wanted = Refresh(checkpoint, Path("served"), {"epochs": 4, "kt_enabled": False})
    child = os.fork()
    if child == 0:

        def kill(epoch, score):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        module.train = functools.partial(module.train, on_epoch=kill)
        try:
            refresh(wanted)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    unfinished = json.loads(Path("served/refresh.json").read_text())["done"]["unfinished"]
    assert load_checkpoint(unfinished)["epoch"] < 3
    done = refresh(wanted)
    assert done["checkpoint"] == unfinished and done["skipped"] == ["profiles"]
    assert "unfinished" not in done


def test_other_data_or_another_request_start_anew(checkpoint, make_dataset, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_export", lambda wanted, checkpoint: [])
    monkeypatch.setattr(module, "_train", lambda wanted, *_: calls.append(1) or checkpoint)
    wanted = Refresh(checkpoint, Path("served"))
    refresh(wanted)
    refresh(wanted)
    assert len(calls) == 1
    refresh(Refresh(checkpoint, Path("served"), retrain=True))
    assert len(calls) == 2
    path = Path(load_checkpoint(checkpoint)["config"]["data_path"]) / "tiny" / "tiny.inter"
    path.write_text(path.read_text() + "u1\ti1\t3\t9\n")
    refresh(Refresh(checkpoint, Path("served"), retrain=True))
    assert len(calls) == 3


def test_the_password_of_an_address_is_not_recorded(checkpoint):
    overrides = {"profile_api_base": "http://me:pass-word@127.0.0.1:9/v1?api_key=pass-word"}
    wanted = Refresh(checkpoint, Path("served"), overrides)
    refresh(wanted)
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert not [path for path in files if b"pass-word" in path.read_bytes()]
    assert len(refresh(wanted)["skipped"]) == 3


def test_a_forgotten_generator_stops_it_before_anything_is_replaced(tiny, monkeypatch):
    titles = [f"i{number}\tItem {number}" for number in range(40)]
    lines = ["item_id:token\ttitle:token_seq", *titles]
    (tiny.folder / "tiny.item").write_text("\n".join(lines) + "\n")
    store = ProfileStore(tiny.folder / "profiles", "user")
    config = tiny.config(kt_enabled=True, epochs=2)
    path = train(config, verbose=False, evaluate_test=False)["checkpoint"]
    with store.writing():
        paid = Profile("u1", "Bought.", "openai", "a-model", "", "old", "2024", tokens_in=9)
        store.append(paid)
    with pytest.raises(ProfileError, match="--profile_generator=openai"):
        refresh(Refresh(path, Path("served")))
    assert store.read()["u1"].text == "Bought."
    assert not Path("served/recommendations.csv").exists()
    monkeypatch.setattr(module, "_train", lambda *_: path)
    monkeypatch.setattr(module, "_export", lambda *_: [])
    assert refresh(Refresh(path, Path("served"), overwrite_others=True))["profiles"] == 30
    assert store.read()["u1"].generator == "template"


def test_refusals(checkpoint):
    with pytest.raises(ConfigError, match="format 'xls' cannot be written"):
        refresh(Refresh(checkpoint, Path("served"), form="xls"))
    assert not Path("served").exists()
    Path("served").mkdir()
    Path("served/refresh.json").write_text("[]")
    with pytest.raises(DataError, match="not a JSON object"):
        refresh(Refresh(checkpoint, Path("served")))
