"""Checkpoints: torch files with wrong fields, damaged ones, and those of others."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.checkpoints import (
    check_ids,
    load_checkpoint,
    load_weights,
    needs_trust,
    saved_settings,
    saved_vocabulary,
)
from recbole_llmkt.config import Config
from recbole_llmkt.utils.exceptions import LLMKTError
from tests.fuzz.cases import ODD, changed, damaged, no_leftovers, survives
from tests.helpers import TinyDataset, prepare

TENSORS = st.sampled_from(
    [
        *(torch.zeros(0), torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.tensor(1.0)),
        *(torch.full((6, 8), math.nan), torch.zeros(6, 8, dtype=torch.float16), torch.zeros(6, 9)),
    ]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a trained run with a transfer loss and a hybrid table, and its checkpoint."""
    from tests.helpers import add_profiles

    folder = tmp_path_factory.mktemp("data")
    rows = [
        (f"u{user}", f"i{item}", 3, user + item)
        for user in range(6)
        for item in range(6)
        if user != item
    ]
    dataset = TinyDataset("tiny", folder, rows)
    dataset.folder.mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += ["\t".join(map(str, row)) for row in rows]
    (dataset.folder / "tiny.inter").write_text("\n".join(lines) + "\n")
    add_profiles(dataset)
    keys = {"epochs": 2, "embedding_size": 4, "kt_hybrid": "linear", "topk": [2]}
    config = dataset.config(valid_metric="NDCG@2", checkpoint_dir=str(folder / "saved"), **keys)
    run = prepare(config)
    run.fit(saved=True)
    return run


def use(run, path):
    """Do with a checkpoint what commands do with it."""
    checkpoint = load_checkpoint(path)
    settings = saved_settings(checkpoint, path, {"data_path": run.config["data_path"]})
    needs_trust(checkpoint["config"])
    survives(lambda: Config(config_dict=settings, command_line=[]))
    survives(saved_vocabulary, checkpoint, path)
    survives(check_ids, checkpoint, run.train_data._dataset, path)
    survives(load_weights, run.model, checkpoint, path)


def resume(run, path):
    run.trainer.resume_checkpoint(path)
    run.trainer._restore_resumed()


@given(st.data())
def test_wrong_fields(run, tmp_path, data):
    whole = torch.load(run.trainer.saved_model_file, weights_only=True)
    values = data.draw(changed(whole))
    if data.draw(st.booleans()) and isinstance(values, dict):
        place = data.draw(
            st.sampled_from([values, values.get("transfer"), values.get("state_dict")])
        )
        if isinstance(place, dict) and place:
            place[data.draw(st.sampled_from(sorted(place, key=str)))] = data.draw(TENSORS | ODD)
    path = str(tmp_path / "model.pth")
    torch.save(values, path)
    kept = run.trainer.saved_model_file
    survives(use, run, path)
    survives(resume, run, path)
    run.trainer.saved_model_file = kept
    no_leftovers(tmp_path)


@given(st.data())
def test_damaged_files(run, tmp_path, data):
    path = tmp_path / "model.pth"
    path.write_bytes(data.draw(damaged(Path(run.trainer.saved_model_file).read_bytes())))
    survives(use, run, str(path))


@given(ODD)
@example({"config": {}, "state_dict": {}, "transfer": {}})
def test_other_files_of_torch(tmp_path, value):
    path = tmp_path / "model.pth"
    content = io.BytesIO()
    torch.save(value, content)
    path.write_bytes(content.getvalue())
    state = survives(load_checkpoint, str(path))
    assert isinstance(state, LLMKTError) or {"config", "state_dict", "transfer"} <= set(state)
