"""Phases, freezing, logs, projectors and presets."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.transfer.methods.base import places as places_of
from recbole_llmkt.utils.exceptions import ConfigError, LayerError, RowsError
from tests.helpers import add_profiles, prepare, same_parameters


def scripted(run, monkeypatch, scores):
    """Let validation return these scores, one an epoch."""
    left = iter(scores)

    def validate(valid_data, show_progress=False):
        score = next(left)
        return score, {"ndcg@5": score}

    monkeypatch.setattr(run.trainer, "_valid_epoch", validate)


def test_vectors_are_released_before_the_first_step(tiny, monkeypatch):
    """Training has targets, features and neighbours made of them."""
    keys = {"kt_init": "targets", "kt_hybrid": "linear", "kt_entity": "both"}
    run = prepare(tiny.config("BPR", epochs=2, **keys))
    run.trainer.run_profiles = profiles = RunProfiles(run.config, run.dataset)
    left = []

    def look():
        for method in run.trainer.methods:
            left.extend(len(source.vectors) for source in method.profiles())
        left.extend(profiles._read)

    run.trainer.before_training = look
    run.fit()
    assert left == [0] * 4  # two terms, two tables, and nothing else that was read
    places = places_of(run.trainer.transfer_summary())
    assert all(facts["coverage"] > 0 for _, facts in places)


# ---- phases --------------------------------------------------------------------------------------


def test_phase_1_adds_the_transfer_loss_and_phase_2_does_not(tiny, monkeypatch):
    run = prepare(tiny.config("BPR", epochs=5, kt_epochs=2))
    losses = [[]]  # the first list takes what the layer's experiments compute
    plain = type(run.model).calculate_loss

    def spying(model, interaction):
        loss = plain(model, interaction)
        losses[-1].append(loss.item())
        return loss

    epoch = run.trainer._train_epoch

    def opening(*arguments, **keywords):
        losses.append([])
        return epoch(*arguments, **keywords)

    monkeypatch.setattr(type(run.model), "calculate_loss", spying)
    run.trainer._train_epoch = opening
    run.fit()
    trainer, loss, batches = run.trainer, run.method("loss"), len(run.train_data)
    del losses[0]
    assert trainer.switch == 2 and len(loss.transfer_losses) == len(loss.model_losses) == 2
    for epoch in range(5):
        if epoch < 2:
            mixed = 0.5 * loss.model_losses[epoch] + 0.5 * loss.transfer_losses[epoch]
            assert trainer.train_loss_dict[epoch] / batches == pytest.approx(mixed, rel=1e-5)
            assert loss.model_losses[epoch] == pytest.approx(sum(losses[epoch]) / batches, rel=1e-5)
        else:
            assert trainer.train_loss_dict[epoch] == pytest.approx(sum(losses[epoch]), rel=1e-5)


def test_the_transfer_loss_falls(tiny):
    run = prepare(tiny.config("BPR", epochs=12, kt_epochs=1.0, kt_weight=0.9, learning_rate=0.02))
    run.fit()
    assert run.trainer.switch == 12
    assert run.method("loss").transfer_losses[-1] < 0.9 * run.method("loss").transfer_losses[0]


def test_the_weight_falls_within_phase_1(tiny):
    """train = (1 - a_t) model + a_t transfer, a_t falling by the epoch."""
    run = prepare(tiny.config("BPR", epochs=6, kt_epochs=4, kt_schedule="linear", kt_weight=0.8))
    run.fit()
    trainer, loss, batches = run.trainer, run.method("loss"), len(run.train_data)
    for epoch, weight in enumerate((0.8, 0.6, 0.4, 0.2)):
        mixed = (1 - weight) * loss.model_losses[epoch] + weight * loss.transfer_losses[epoch]
        assert trainer.train_loss_dict[epoch] / batches == pytest.approx(mixed, rel=1e-5)


def test_the_ratio_of_gradients_of_each_epoch_is_in_the_summary(tiny):
    run = prepare(tiny.config("BPR", epochs=3, kt_epochs=2))
    run.fit()
    ratios = run.trainer.transfer_summary()["gradient_ratio"]
    assert len(ratios) == 2 and all(ratio > 0 for ratio in ratios)


def test_early_stopping_never_ends_phase_1_and_starts_anew_at_the_switch(tiny, monkeypatch):
    run = prepare(tiny.config("BPR", epochs=12, kt_epochs=5, stopping_step=2))
    seen = []
    # Falling from the first epoch on: stock RecBole would stop after epoch 3.
    scripted(run, monkeypatch, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0])
    best, result = run.fit(callback_fn=lambda epoch, score: seen.append(epoch))
    # The best of phase 2 is its first epoch, then two more and a third without progress.
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert best == 0.4 and result == {"ndcg@5": 0.4}


def test_the_best_checkpoint_is_one_of_phase_2(tiny, monkeypatch):
    run = prepare(tiny.config("BPR", epochs=6, kt_epochs=3))
    scripted(run, monkeypatch, [0.9, 0.8, 0.7, 0.1, 0.3, 0.2])
    run.fit(saved=True)
    state = load_checkpoint(run.trainer.saved_model_file)
    assert (state["epoch"], state["transfer"]["phase"], state["best_valid_score"]) == (4, 2, 0.3)


@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.7, 0.1, 0.3, 0.2], [0.2, 0.1, 0.1, 0.1, 0.3, 0.2]])
def test_a_phase_1_that_validated_better_is_said(tiny, monkeypatch, caplog, scores):
    run = prepare(tiny.config("BPR", epochs=6, kt_epochs=3))
    scripted(run, monkeypatch, scores)
    with caplog.at_level(logging.INFO):
        run.fit(saved=True)
    said = "Phase 1 validated better (NDCG@5 0.9000) than any epoch of phase 2 (0.3000)"
    assert (said in caplog.text) == (scores[0] == 0.9)
    state = load_checkpoint(run.trainer.saved_model_file)
    assert state["transfer"]["best_of_phase_1"] == scores[0]


def test_smaller_is_better_restarts_too(tiny, monkeypatch):
    run = prepare(
        tiny.config(
            "DCN",
            epochs=4,
            kt_epochs=2,
            metrics=["LogLoss"],
            valid_metric="LogLoss",
            threshold={"rating": 3},
            eval_args={"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "mode": "labeled"},
            kt_enabled=True,
            profile_allow_leak=True,
        )
    )
    scripted(run, monkeypatch, [0.1, 0.2, 0.9, 0.8])
    best, _ = run.fit()
    assert best == 0.8


def test_transfer_only(tiny, monkeypatch):
    run = prepare(tiny.config("BPR", epochs=3, kt_epochs=1.0))
    scripted(run, monkeypatch, [0.1, 0.3, 0.2])
    run.fit(saved=True)
    state = load_checkpoint(run.trainer.saved_model_file)
    assert (state["epoch"], state["transfer"]["phase"]) == (1, 1)


def test_weight_0_and_disabled_make_no_task(tiny):
    for keys in ({"kt_enabled": False}, {"kt_weight": 0}, {"kt_weight": [0.0, 0.0]}):
        if isinstance(keys.get("kt_weight"), list):
            keys["kt_entity"] = ["user", "item"]
        run = prepare(tiny.config("BPR", epochs=1, **keys))
        run.fit()
        assert run.method("loss") is None and run.trainer.transfer_summary() is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"epochs": 1}, "leaves a phase without epochs"),
        ({"epochs": 3, "kt_epochs": 4}, "more than epochs"),
        ({"epochs": 4, "eval_step": 3, "kt_epochs": 3}, "without a validation"),
    ],
)
def test_impossible_schedules_stop_before_the_first_step(tiny, keys, message):
    run = prepare(tiny.config("BPR", **keys))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        run.fit(saved=True)
    assert all(torch.equal(before[name], value) for name, value in run.model.state_dict().items())
    assert not list(Path("saved").glob("*"))


# ---- freezing ------------------------------------------------------------------------------------


def test_frozen_parameters_stay_and_come_back(tiny):
    run = prepare(
        tiny.config(
            "NeuMF",
            epochs=4,
            kt_freeze_phase1=["item_*", "predict_layer.bias"],
            kt_freeze_phase2=["user_*"],
        )
    )
    states = [{name: value.clone() for name, value in run.model.named_parameters()}]
    keep = lambda *_: states.append({n: p.clone() for n, p in run.model.named_parameters()})  # noqa: E731
    run.fit(callback_fn=keep)

    def moved(first: int, last: int) -> set[str]:
        return {
            name for name in states[0] if not torch.equal(states[first][name], states[last][name])
        }

    phase_1, phase_2 = moved(0, 2), moved(2, 4)
    assert "user_mf_embedding.weight" in phase_1 and "user_mf_embedding.weight" not in phase_2
    assert "item_mf_embedding.weight" in phase_2 and "item_mf_embedding.weight" not in phase_1
    assert "predict_layer.bias" not in phase_1 and "predict_layer.weight" in phase_1 & phase_2
    assert all(parameter.requires_grad for parameter in run.model.parameters())


def test_freezing_the_tapped_layer_is_still_possible_where_something_trains(tiny):
    """The projector learns to read a frozen table; the model's loss trains the rest."""
    run = prepare(
        tiny.config(
            "BPR", epochs=2, kt_freeze_phase1=["user_embedding.weight"], kt_projector="linear"
        )
    )
    before = run.model.user_embedding.weight.clone()
    states = []
    run.fit(callback_fn=lambda *_: states.append(run.model.user_embedding.weight.clone()))
    assert torch.equal(states[0], before) and not torch.equal(states[1], before)


def test_unknown_and_total_patterns(tiny):
    run = prepare(tiny.config("BPR", kt_freeze_phase2=["user_embeding*"]))
    with pytest.raises(ConfigError, match=r"kt_freeze_phase2: 'user_embeding\*' matches no param"):
        run.fit()
    with pytest.raises(ConfigError, match="belong to the phases of a transfer loss"):
        prepare(tiny.config("BPR", kt_freeze_phase1=["*"], kt_weight=0, kt_hybrid="linear"))
    run = prepare(tiny.config("BPR", kt_freeze_phase1=["*"]))
    with pytest.raises(LayerError, match=r"kt_freeze_phase1: .* freezes every parameter"):
        run.fit()
    assert [
        str(path) for path in Path().iterdir()
    ] == []  # nothing is made for a run that cannot start


# ---- logs ----------------------------------------------------------------------------------------


def test_both_losses_are_logged_apart(tiny, caplog, monkeypatch):
    run = prepare(tiny.config("BPR", epochs=3, kt_epochs=1))
    scalars = {}
    monkeypatch.setattr(
        SummaryWriter,
        "add_scalar",
        lambda self, tag, value, step=None, *rest: scalars.setdefault(tag, []).append(
            (step, value)
        ),
    )
    with caplog.at_level(logging.INFO):
        run.fit(verbose=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(record.message for record in caplog.records))
    lines = [line for line in plain.splitlines() if re.search(r"epoch \d training", line)]
    assert len(lines) == 3
    numbers = ", ".join(
        rf"{name}: [\d.]+"
        for name in ("train loss", "model loss", "transfer loss", "gradient ratio")
    )
    assert re.search(numbers + r"\]$", lines[0])
    assert all("transfer" not in line for line in lines[1:])
    assert scalars["Loss/Model"] == [(0, run.method("loss").model_losses[0])]
    assert scalars["Loss/Transfer"] == [(0, run.method("loss").transfer_losses[0])]
    assert scalars["Gradient/Ratio"] == [(0, run.method("loss").gradient_ratios[0])]
    assert len(scalars["Loss/Train"]) == 3
    assert "Transfer of user profiles to 'user_embedding'" in plain and "coverage 100.0%" in plain


def test_the_progress_bar_shows_both_losses_and_changes_nothing(tiny, capsys):
    quiet = prepare(tiny.config("BPR", epochs=2))
    quiet.fit()
    assert capsys.readouterr().err == ""
    shown = prepare(tiny.config("BPR", epochs=2))
    shown.fit(show_progress=True)
    assert re.search(r"model \d+\.\d{4} transfer \d+\.\d{4}", capsys.readouterr().err)
    assert same_parameters(quiet.model, shown.model)


# ---- projector -----------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["adam", "sgd", "adagrad", "rmsprop"])
def test_the_projector_trains_in_the_models_optimizer_and_stays_out_of_the_state(tiny, learner):
    run = prepare(tiny.config("BPR", epochs=2, kt_projector="mlp", learner=learner))
    run.fit(saved=True)
    projector = run.method("loss").task.projectors()["0"]
    groups = [id(p) for group in run.trainer.optimizer.param_groups for p in group["params"]]
    assert {id(parameter) for parameter in projector.parameters()} <= set(groups)
    assert not any("projector" in name for name in run.model.state_dict())
    assert run.method("loss").task.terms[0].table.values.shape[1] == 24
    state = load_checkpoint(run.trainer.saved_model_file)
    assert set(state["state_dict"]) == set(run.model.state_dict())
    assert (
        state["transfer"]["methods"]["loss"]["projectors"]["0"].keys()
        == projector.state_dict().keys()
    )


def test_the_projector_moves(tiny):
    run = prepare(tiny.config("BPR", epochs=2, kt_projector="linear", kt_projector_dim=6))
    seen = []
    epoch = run.trainer._train_epoch

    def keeping(*arguments, **keywords):
        seen.append(run.method("loss").task.projectors()["0"].weight.detach().clone())
        return epoch(*arguments, **keywords)

    run.trainer._train_epoch = keeping
    run.fit()
    assert seen[0].shape == (6, 8)
    assert not torch.equal(seen[0], seen[1])


def test_sparse_adam_cannot_train_a_projector(tiny):
    run = prepare(tiny.config("BPR", learner="sparse_adam", kt_projector="linear"))
    with pytest.raises(ConfigError, match=r"sparse_adam.*kt_projector: none"):
        run.fit()


def test_clipping_and_half_precision(tiny):
    run = prepare(
        tiny.config(
            "NeuMF", clip_grad_norm={"max_norm": 1.0}, enable_amp=True, kt_projector="linear"
        )
    )
    run.fit()
    assert all(math.isfinite(loss) for loss in run.method("loss").transfer_losses)


# ---- odd settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"shuffle": False},
        {"worker": 1},
        {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 2}},
        {
            "train_neg_sample_args": {
                "distribution": "uniform",
                "sample_num": 1,
                "dynamic": True,
                "candidate_num": 3,
            }
        },
        {"train_batch_size": 1},
        {"train_batch_size": 100_000},
        {"kt_entity": "both"},
        {"kt_control": "shuffled"},
        {"kt_control": "random", "kt_entity": "item"},
        {"kt_loss": "cosine"},
        {"kt_loss": "sce", "kt_regularizer": "vicreg", "kt_schedule": "linear"},
        {"kt_loss": "softrank", "kt_transform": "random", "enable_amp": True},
        {"kt_loss": "infonce", "kt_projector": "linear", "enable_amp": True},
        {"kt_loss": "gram", "kt_transform": "none", "kt_control": "random"},
        {"weight_decay": 0.1},
        {"eval_step": 2, "epochs": 4},
    ],
    ids=str,
)
def test_transfer_runs_under(tiny, keys):
    run = prepare(tiny.config("BPR", **{"epochs": 2, **keys}))
    run.fit()
    assert all(math.isfinite(loss) for loss in run.method("loss").transfer_losses)
    assert len(run.method("loss").transfer_losses) == run.trainer.switch


def test_half_precision_that_a_model_cannot_use_is_one_line(tiny):
    run = prepare(tiny.config("LightGCN", enable_amp=True, kt_enabled=False, gpu_id=""))
    message = r"^enable_amp: True: LightGCN fails in its first step on cpu.* enable_amp: False\.$"
    with pytest.raises(ConfigError, match=message):
        run.fit()


@pytest.mark.parametrize("size", [(3, 9, (3, 4)), (12, 12, (5, 8)), (2, 6, (4, 5))], ids=str)
@pytest.mark.parametrize("model", ["BPR", "NeuMF", "MultiVAE", "LightGCN", "SimpleX"])
def test_very_small_data(make_dataset, model, size):
    dataset = make_dataset(*size)
    add_profiles(dataset)
    keys = {"kt_transform": "random", "epochs": 2, "latent_dimension": 4, "history_len": 3}
    if model == "LightGCN" and size[0] == size[1]:
        with pytest.raises(RowsError, match="as many users as items: set kt_rows: table"):
            prepare(dataset.config(model, **keys)).fit()
        keys["kt_rows"] = "table"
    run = prepare(dataset.config(model, **keys))
    run.fit()
    assert math.isfinite(run.method("loss").transfer_losses[0])


def test_odd_tokens(make_dataset):
    dataset = make_dataset(
        user=lambda i: f"Zoë {i} \u4e2d\u6587 #\U0001f600", item=lambda i: f" it em,{i}'\"\\"
    )
    add_profiles(dataset)
    run = prepare(dataset.config("BPR", epochs=2, kt_entity="both"))
    run.fit()
    assert [term.profiles.coverage for term in run.method("loss").task.terms] == [1.0, 1.0]
