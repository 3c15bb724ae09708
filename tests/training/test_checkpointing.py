"""Checkpoints, and runs that go on from them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recbole.trainer import Trainer

from recbole_llmkt.checkpoints import load_checkpoint, save_file
from recbole_llmkt.profiles.embeddings import embedding_paths, text_digest
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.quick_start import train
from recbole_llmkt.registry import get_model
from recbole_llmkt.training import trainer
from recbole_llmkt.utils.exceptions import DataError, LLMKTError, TrainingError
from recbole_llmkt.utils.processes import of_first_process
from tests.helpers import ASYMKNN, ENCODER, IS_NEWEST_RECBOLE, prepare, same_parameters

STOCK_KEYS = {
    "config",
    "epoch",
    "cur_step",
    "best_valid_score",
    "state_dict",
    "other_parameter",
    "optimizer",
}


# ---- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_has_the_stock_keys_and_plain_values_only(tiny):
    run = prepare(tiny.config("NeuMF", kt_projector="linear"))
    run.fit(saved=True)
    state = torch.load(run.trainer.saved_model_file, weights_only=True)
    assert set(state) == STOCK_KEYS | {"transfer"}
    assert list(state["state_dict"]) == list(
        run.config.model_class(run.config, run.dataset).state_dict()
    )
    assert state["config"]["model"] == "NeuMF" and state["config"]["kt_projector"] == "linear"
    assert not list(Path("saved").glob("*.partial"))


def test_two_trainers_of_one_second_have_different_files(tiny):
    files = {prepare(tiny.config("BPR")).trainer.saved_model_file for _ in range(3)}
    assert len(files) == 3


def _agree(rank, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    (folder / str(rank)).write_text(of_first_process(f"saved by {rank}"))
    while not all((folder / name).exists() for name in "01"):
        time.sleep(0.05)  # a barrier of old PyTorch may wait for one that has left it already
    torch.distributed.destroy_process_group()  # its threads may abort a process that just ends


def test_several_processes_have_one_file(tmp_path):
    """The first one saves it, and all of them read it for the test."""
    torch.multiprocessing.start_processes(_agree, (tmp_path,), nprocs=2, start_method="fork")
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["saved by 0"] * 2


def test_all_processes_wait_for_what_the_first_one_writes(tiny, monkeypatch):
    run = prepare(tiny.config("BPR", epochs=2))
    seen = []
    monkeypatch.setattr(trainer, "wait_for_all", lambda: seen.append("wait"))
    save = run.trainer._save_checkpoint
    monkeypatch.setattr(
        run.trainer, "_save_checkpoint", lambda *a, **k: (seen.append("save"), save(*a, **k))
    )
    run.fit(saved=True)
    assert seen[-1] == "wait" and "save" in seen and seen.count("wait") == 1


def test_several_writers_never_share_a_part_of_a_file(tiny, monkeypatch):
    written = []
    save = torch.save
    monkeypatch.setattr(
        torch, "save", lambda state, file: (written.append(file.name), save(state, file))
    )
    for value in (1, 2):
        save_file({"value": value}, "saved/one.pth")
    assert len({*written}) == 2 and torch.load("saved/one.pth")["value"] == 2
    monkeypatch.setattr(torch, "save", lambda state, file: file.write(b"x") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_file({}, "saved/one.pth")
    assert [path.name for path in Path("saved").iterdir()] == ["one.pth"]
    assert torch.load("saved/one.pth")["value"] == 2
    run = prepare(tiny.config("BPR"))
    run.config["single_spec"], run.config["local_rank"] = False, 1
    run.trainer.save_pretrained_model(0, "saved/pretrained.pth")
    assert run.trainer.saved_model_file == "saved/pretrained.pth"
    assert not Path("saved/pretrained.pth").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_unreadable_checkpoints(content):
    Path("broken.pth").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.pth"):
        load_checkpoint("broken.pth")


def test_missing_truncated_and_foreign_checkpoints(tiny):
    with pytest.raises(DataError, match=r"nowhere\.pth"):
        load_checkpoint("nowhere.pth")
    run = prepare(tiny.config("BPR", epochs=2))
    run.fit(saved=True)
    whole = Path(run.trainer.saved_model_file).read_bytes()
    Path("half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.pth"):
        load_checkpoint("half.pth")
    torch.save({"state_dict": {}}, "foreign.pth")
    with pytest.raises(DataError, match="not a checkpoint of recbole_llmkt"):
        load_checkpoint("foreign.pth")
    torch.save([1, 2], "list.pth")
    with pytest.raises(DataError, match="not a checkpoint of recbole_llmkt"):
        load_checkpoint("list.pth")


class Evil:
    def __reduce__(self):
        return (open, ("owned", "w"))


def test_a_checkpoint_executes_nothing():
    torch.save({"config": Evil(), "state_dict": {}, "transfer": {}}, "evil.pth")
    with pytest.raises(DataError):
        load_checkpoint("evil.pth")
    assert not Path("owned").exists()


def test_a_checkpoint_of_another_model_or_size(tiny):
    run = prepare(tiny.config("BPR", epochs=2))
    run.fit(saved=True)
    path = run.trainer.saved_model_file
    with pytest.raises(DataError, match=r"is a checkpoint of BPR, but the run trains NeuMF"):
        prepare(tiny.config("NeuMF")).trainer.resume_checkpoint(path)
    with pytest.raises(LLMKTError, match="does not fit this BPR"):
        prepare(tiny.config("BPR", embedding_size=16)).trainer.resume_checkpoint(path)


# ---- resuming ------------------------------------------------------------------------------------


def uninterrupted(tiny, model, keys):
    """Train once, keeping a checkpoint of every epoch."""
    run = prepare(tiny.config(model, **keys))

    def keep(epoch, score):
        run.trainer._save_checkpoint(epoch, verbose=False, saved_model_file=f"{epoch}.pth")

    result = run.fit(callback_fn=keep)
    return run, result


@pytest.mark.parametrize("model", ["NeuMF", "MultiVAE", "SimpleX", "RecVAE"])
@pytest.mark.parametrize("projector", ["none", "mlp"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tiny, model, projector):
    keys = {
        "epochs": 6,
        "kt_projector": projector,
        "dropout_prob": 0.3,
        "history_len": 5,
        "hidden_dimension": 32,
        "latent_dimension": 8,
    }
    if projector == "none":
        keys["kt_transform"] = "random"
    if model == "SimpleX" and not IS_NEWEST_RECBOLE:
        del keys["dropout_prob"]  # fixed at .1 there
    whole, result = uninterrupted(tiny, model, keys)
    for last in (0, 2, 3):  # in phase 1, at its end, in phase 2
        run = prepare(tiny.config(model, **keys))
        run.trainer.resume_checkpoint(f"{last}.pth")
        again = run.fit()
        assert same_parameters(whole.model, run.model), last
        assert again[0] == result[0]
        assert run.method("loss").model_losses == whole.method("loss").model_losses
        assert run.method("loss").transfer_losses == whole.method("loss").transfer_losses
        for epoch in range(last + 1, 6):
            assert run.trainer.train_loss_dict[epoch] == whole.trainer.train_loss_dict[epoch]


@pytest.mark.parametrize(
    "keys",
    [
        {"kt_loss": "generative", "kt_mask_ratio": 0.4, "kt_projector": "mlp"},
        {"kt_loss": "infonce", "kt_projector": "profile_mlp", "kt_schedule": "cosine"},
        {"kt_loss": "softrank", "kt_transform": "none", "kt_regularizer": "vicreg"},
    ],
    ids=lambda keys: keys["kt_loss"],
)
def test_a_resumed_run_repeats_masks_and_weights(tiny, keys):
    keys = {"epochs": 4, "kt_epochs": 3, "kt_entity": "both", "kt_transform": "none", **keys}
    whole, result = uninterrupted(tiny, "LightGCN", keys)
    run = prepare(tiny.config("LightGCN", **keys))
    run.trainer.resume_checkpoint("0.pth")
    assert run.fit()[0] == result[0]
    assert same_parameters(whole.model, run.model)
    assert run.method("loss").transfer_losses == whole.method("loss").transfer_losses
    assert run.method("loss").gradient_ratios == whole.method("loss").gradient_ratios


def test_masks_stay_out_of_the_models_state(tiny):
    run = prepare(tiny.config("LightGCN", kt_loss="generative", kt_projector="mlp", epochs=2))
    run.fit(saved=True)
    state = load_checkpoint(run.trainer.saved_model_file)
    assert list(state["state_dict"]) == list(run.model.state_dict())
    assert set(state["transfer"]["methods"]["loss"]["projectors"]) == {"0", "0.mask"}
    assert state["transfer"]["methods"]["loss"]["projectors"]["0.mask"]["tokens.0"].abs().sum() > 0


def test_a_resumed_run_that_never_improves_keeps_its_best_result(tiny):
    run = prepare(tiny.config("BPR", epochs=4))
    _, result = run.fit(saved=True)
    again = prepare(tiny.config("BPR", epochs=4))
    again.trainer.resume_checkpoint(run.trainer.saved_model_file)
    assert again.fit()[1] == pytest.approx(result)


def test_a_validation_that_is_no_number_is_named(tiny, monkeypatch):
    """No epoch would be the best one, and the test would look for a checkpoint in vain."""
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda *_, **__: (math.nan, {}))
    with pytest.raises(TrainingError, match="NDCG@5 of the validation part is not a number"):
        train(tiny.config(kt_enabled=False))


def test_resuming_with_other_settings(tiny):
    run = prepare(tiny.config("BPR", epochs=4))
    run.fit(saved=True)
    for keys in ({"kt_projector": "linear"},):
        again = prepare(tiny.config("BPR", epochs=4, **keys))
        again.trainer.resume_checkpoint(run.trainer.saved_model_file)
        with pytest.raises(DataError, match="another learner, projector or layer"):
            again.fit()


@pytest.mark.parametrize(
    ("keys", "changed", "message"),
    [
        ({"kt_hybrid": "linear"}, {"kt_control": "shuffled"}, "kt_control 'none' -> 'shuffled'"),
        ({"kt_hybrid": "linear"}, {"kt_hybrid_scale": 2.0}, r"kt_hybrid_scale 0\.5 -> 2\.0"),
        ({}, {"kt_transform": "random"}, "kt_transform 'pca' -> 'random'"),
        ({"kt_control": "shuffled"}, {"kt_seed": 9}, "kt_seed 2020 -> 9"),
        ({}, None, "texts of the user profiles"),
    ],
)
def test_resuming_with_other_knowledge(tiny, keys, changed, message):
    uninterrupted(tiny, "BPR", {"epochs": 4, "kt_seed": 2020, **keys})
    if changed is None:
        store = ProfileStore(tiny.folder / "profiles", "user")
        with store.writing():
            store.append(replace(store.read()["u7"], text="Likes noir."))
        add_vector(tiny, "u7", "Likes noir.")
    again = prepare(tiny.config("BPR", **{"epochs": 4, "kt_seed": 2020, **keys, **(changed or {})}))
    again.trainer.resume_checkpoint("0.pth")
    with pytest.raises(DataError, match=f"other knowledge .*{message}"):
        again.fit()
    if not keys:  # phase 2 of a transfer loss alone needs none
        again.trainer.resume_checkpoint("2.pth")
        again.fit()


def add_vector(tiny, token, text):
    """Let the embeddings say that they are of this text."""
    path = embedding_paths(tiny.folder / "profiles", ENCODER, "user")[1]
    header = json.loads(path.read_text())
    header["texts"][header["ids"].index(token)] = text_digest(text)
    path.write_text(json.dumps(header))


def test_resuming_for_longer_does_not_fall_back_into_phase_1(tiny):
    whole, _ = uninterrupted(tiny, "BPR", {"epochs": 4})  # phase 1: epochs 0 and 1
    longer = {"epochs": 12}
    run = prepare(tiny.config("BPR", **longer))
    run.trainer.resume_checkpoint("3.pth")
    with pytest.raises(DataError, match="set kt_epochs: 2, a count"):
        run.fit()
    run = prepare(tiny.config("BPR", **longer, kt_epochs=2))
    run.trainer.resume_checkpoint("3.pth")
    run.fit()
    assert run.method("loss").transfer_losses == whole.method("loss").transfer_losses


def test_resuming_a_finished_run_keeps_its_checkpoint(tiny):
    run = prepare(tiny.config("BPR", epochs=3))
    run.fit(saved=True, callback_fn=lambda epoch, _: run.trainer._save_checkpoint(epoch, False))
    path = run.trainer.saved_model_file
    before = load_checkpoint(path)
    again = prepare(tiny.config("BPR", epochs=3))
    again.trainer.resume_checkpoint(path)
    again.fit(saved=True)
    assert load_checkpoint(path)["epoch"] == before["epoch"] == 2
    assert all(
        torch.equal(value, load_checkpoint(path)["state_dict"][name])
        for name, value in before["state_dict"].items()
    )


def test_the_best_checkpoint_is_tested_with_what_the_model_counts_beside_it(tiny):
    """MultiVAE's annealing steps are no part of state_dict."""
    run = prepare(tiny.config("MultiVAE", latent_dimension=8, epochs=2))
    run.fit(saved=True)
    steps, run.model.update = run.model.update, -1
    run.trainer.evaluate(run.test_data)
    assert run.model.update == steps


@pytest.mark.parametrize("model", ["ItemKNN", ASYMKNN, "EASE", "SLIMElastic"])
def test_models_solved_when_they_are_made_are_tested_from_their_checkpoint(tiny, model):
    """Their matrices are no tensors; the constructor makes them again."""
    run = prepare(tiny.config(model, kt_enabled=False, epochs=1))
    run.fit(saved=True)
    saved = run.trainer.evaluate(run.test_data, load_best_model=True)
    assert saved == run.trainer.evaluate(run.test_data, load_best_model=False)


def test_a_resumed_run_has_the_settings_it_was_given(tiny):
    run = prepare(tiny.config("NeuMF", dropout_prob=0.3, epochs=2))
    run.fit(saved=True)
    again = prepare(tiny.config("NeuMF", dropout_prob=0.05, epochs=4))
    again.trainer.resume_checkpoint(run.trainer.saved_model_file)
    rates = {module.p for module in again.model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.05}


def test_ncl_goes_on_with_its_clusters(tiny):
    pytest.importorskip("faiss", reason="NCL needs faiss in stock RecBole too")
    keys = {"epochs": 4, "m_step": 3, "num_clusters": 5, "warm_up_step": 1}
    whole, result = uninterrupted(tiny, "NCL", keys)
    run = prepare(tiny.config("NCL", **keys))
    run.trainer.resume_checkpoint("1.pth")
    assert run.fit()[0] == result[0]
    assert same_parameters(whole.model, run.model)


class Remembering(get_model("BPR")):
    """Keep what was computed from the weights, as RecBole's KGIN does."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.restore_user_e = None

    def calculate_loss(self, interaction):
        self.restore_user_e = None
        return super().calculate_loss(interaction)

    def full_sort_predict(self, interaction):
        if self.restore_user_e is None:
            self.restore_user_e = self.user_embedding.weight.detach().clone()
        user = self.restore_user_e[interaction[self.USER_ID]]
        return (user @ self.item_embedding.weight.T).view(-1)


@pytest.mark.parametrize("cold", [False, True])
def test_the_test_is_of_the_best_checkpoint_alone(tiny, monkeypatch, cold):
    """Not of what the model has kept from the last validation."""
    keys = {"kt_cold_start": cold, "kt_cold_threshold": 8}
    run = prepare(tiny.config(f"{__name__}.Remembering", epochs=4, learning_rate=0.1, **keys))
    scores = iter([0.1, 0.1, 0.9, 0.2])
    validate = type(run.trainer)._valid_epoch

    def scripted(*arguments, **keywords):
        return next(scores), validate(run.trainer, *arguments, **keywords)[1]

    monkeypatch.setattr(run.trainer, "_valid_epoch", scripted)
    run.fit(saved=True)
    evaluated = run.trainer.evaluate(run.test_data)
    fresh = prepare(tiny.config(f"{__name__}.Remembering", kt_enabled=False))
    state = load_checkpoint(run.trainer.saved_model_file)
    fresh.model.load_state_dict(state["state_dict"])
    assert state["epoch"] == 2
    assert evaluated == fresh.trainer.evaluate(fresh.test_data, load_best_model=False)


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("model", ["DiffRec", "LDiffRec"])
def test_diffusion_models_resume_with_the_losses_of_their_steps(tiny, model, enabled):
    keys = {"epochs": 4, "dims_dnn": [8], "embedding_size": 4, "steps": 2, "n_cate": 1}
    keys.update(history_num_per_term=3, in_dims=[8], out_dims=[], kt_enabled=enabled)
    whole, result = uninterrupted(tiny, model, keys)
    assert (whole.model.Lt_count == 3).all()  # from here on, they decide which steps are drawn
    run = prepare(tiny.config(model, **keys))
    run.trainer.resume_checkpoint("1.pth")
    assert run.fit()[0] == result[0]
    assert same_parameters(whole.model, run.model)
