"""Train one model three ways on the tiny dataset, and compare.

``stock``: RecBole alone. ``off``: this package with ``kt_enabled: False`` or ``kt_weight: 0``.
``on``: with knowledge transfer. Every check of the matrix is a function of one :class:`Lab`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import recbole.data
import torch
from recbole.config import Config as StockConfig
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed
from recbole.utils import get_trainer as stock_trainer

from recbole_llmkt import compat
from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.compat import stock_recbole
from recbole_llmkt.config import Config
from recbole_llmkt.training.factory import get_trainer
from recbole_llmkt.transfer.auxiliary.task import TransferTask
from recbole_llmkt.transfer.auxiliary.terms import Term
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.layers import Call, Tap
from recbole_llmkt.transfer.inspection.probe import Probe, make_batch, recommendation_loss
from tests.helpers import method_of
from tests.parity.parity_cases import Case
from tests.parity.parity_data import NAME

LOSSES = ("calculate_loss", "calculate_rs_loss")


@dataclass
class Run:
    """What one training left."""

    config: Any
    model: Any
    trainer: Any
    data: tuple[Any, Any, Any]
    metrics: dict[str, float]
    batches: list[str] = field(default_factory=list)
    model_losses: list[list[float]] = field(default_factory=list)
    transfer_steps: int = 0

    @property
    def losses(self) -> dict[int, float]:
        return dict(self.trainer.train_loss_dict)


@contextmanager
def recorded(model_class: type, run: Run) -> Iterator[None]:
    """Note every batch and every loss of the class's own loss methods."""

    def recording(method: Any) -> Any:
        def loss(self: Any, interaction: Any, *arguments: Any, **keywords: Any) -> Any:
            if self is not run.model:  # a probe, on a shadow of the model
                return method(self, interaction, *arguments, **keywords)
            run.batches.append(digest(interaction))
            value = method(self, interaction, *arguments, **keywords)
            parts = value if isinstance(value, tuple) else (value,)
            run.model_losses.append([float(part.detach()) for part in parts])
            return value

        # The probe reads the signature to see whether there is an encoder_flag.
        loss.__wrapped__ = method  # type: ignore[attr-defined]
        return loss

    with ExitStack() as stack:
        for name in LOSSES:
            if name in vars(model_class):
                wrapper = recording(vars(model_class)[name])
                stack.enter_context(mock.patch.object(model_class, name, wrapper))
        yield


@contextmanager
def counted(run: Run) -> Iterator[None]:
    """Count how often a transfer loss is computed."""
    compute = Term.compute

    def counting(*arguments: Any) -> Any:
        run.transfer_steps += 1
        return compute(*arguments)

    with mock.patch.object(Term, "compute", counting):
        yield


def digest(interaction: Any) -> str:
    hashed = hashlib.blake2b(digest_size=8)
    for name in sorted(interaction.interaction):
        hashed.update(name.encode())
        hashed.update(interaction[name].contiguous().numpy().tobytes())
    return hashed.hexdigest()


class Lab:
    """One model on the tiny dataset.

    Parameters
    ----------
    case : Case
        The model.
    data_path : Path
        Folder that holds the tiny dataset.
    profiles : Path
        Folder of its profiles.
    """

    def __init__(self, case: Case, data_path: Path, profiles: Path) -> None:
        self.case = case
        self.settings = {"data_path": str(data_path)}
        self.transfer = {
            "profile_dir": str(profiles),
            "profile_encoder": "grouped-vectors",
            "kt_transform": "random",
            "kt_weight": 0.5,
        }

    def stock(self, **more: Any) -> Run:
        with stock_recbole():
            config = StockConfig(
                self.case.model, NAME, config_dict=self.case.config(**self.settings, **more)
            )
            trainer = stock_trainer(config["MODEL_TYPE"], config["model"])
            return self._train(config, get_model(self.case.model), trainer)

    def config(self, **more: Any) -> Config:
        values = self.case.config(**{**self.settings, **self.transfer, **more})
        return Config(self.case.model, NAME, config_dict=values, command_line=[])

    def run(self, **more: Any) -> Run:
        config = self.config(**more)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])
        return self._train(config, config.model_class, trainer, saved=bool(more.get("kt_enabled")))

    def _train(self, config: Any, model_class: Any, trainer: Any, saved: bool = False) -> Run:
        model, data = build(config, model_class)
        run = Run(config, model, trainer(config, model), data, {})
        with recorded(model_class, run), counted(run):
            run.trainer.fit(data[0], data[1], verbose=False, saved=saved, show_progress=False)
        run.metrics = dict(run.trainer.evaluate(data[2], load_best_model=False))
        return run


def build(config: Any, model_class: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Make model and loaders in the order of RecBole's quick start: by it, or by this package."""
    source = compat if isinstance(config, Config) else recbole.data
    init_seed(config["seed"], config["reproducibility"])
    data = source.data_preparation(config, source.create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    with compat.building_model() if isinstance(config, Config) else nullcontext():
        return model_class(config, data[0]._dataset).to(config["device"]), data


# ---- checks -------------------------------------------------------------------------------------


def check_equal(run: Run, stock: Run) -> None:
    """Losses, parameters, batches and metrics are those of stock RecBole, bit for bit."""
    assert run.losses == stock.losses
    assert run.model_losses == stock.model_losses
    assert run.batches == stock.batches
    assert run.metrics == stock.metrics
    ours, theirs = run.model.state_dict(), stock.model.state_dict()
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def check_transfer(run: Run, stock: Run) -> None:
    """The transfer loss falls; batches are stock's; phase 2 has the model's own losses only."""
    trainer, curve = run.trainer, method_of(run.trainer, "loss").transfer_losses
    assert trainer.switch == len(curve) > 1
    assert curve[-1] <= 0.9 * curve[0], curve
    assert run.batches[: len(stock.batches)] == stock.batches
    # The transfer loss is computed in every step of phase 1 and in no other.
    assert not set(LOSSES) & set(vars(run.model))
    n_epochs = len(run.losses)
    per_epoch = len(run.model_losses) // n_epochs
    assert n_epochs > trainer.switch
    assert run.transfer_steps == per_epoch * trainer.switch
    if stock_trainer(run.config["MODEL_TYPE"], run.config["model"]) is not Trainer:
        return  # RecBole sums the losses of these models in ways of their own.
    for epoch, total in run.losses.items():
        own = run.model_losses[epoch * per_epoch : (epoch + 1) * per_epoch]
        is_own = abs(total - sum(map(sum, own))) <= 1e-6 * max(1.0, abs(total))
        assert is_own == (epoch >= trainer.switch), epoch


def check_checkpoint(run: Run, stock: Run) -> None:
    """The best checkpoint is plain, has stock keys, and predicts the same in the stock class."""
    path = run.trainer.saved_model_file
    state = torch.load(path, weights_only=True)["state_dict"]
    init_seed(stock.config["seed"], stock.config["reproducibility"])
    with stock_recbole():
        model = type(stock.model)(stock.config, stock.data[0]._dataset).to(stock.config["device"])
    assert list(state) == list(model.state_dict())
    assert load_checkpoint(path)["transfer"]["phase"] == 2
    model.load_state_dict(state)
    model.load_other_parameter(load_checkpoint(path)["other_parameter"])
    run.model.load_state_dict(state)
    batch = make_batch(stock.data[0], 16)
    for judged in (model, run.model):
        judged.eval()
        if hasattr(judged, "e_step"):
            judged.e_step()
    with torch.no_grad():
        scores = [_scores(judged, batch) for judged in (model, run.model)]
    assert torch.equal(*scores)


def _scores(model: Any, batch: Any) -> torch.Tensor:
    init_seed(0, True)  # DiffRec and KGIN draw numbers to predict
    for name in ("restore_user_e", "restore_item_e", "restore_entity_e"):
        if hasattr(model, name):
            setattr(model, name, None)
    batch = copy.deepcopy(batch)
    if "item_id" in batch.interaction:
        scores: torch.Tensor = model.predict(batch)
    else:
        scores = model.full_sort_predict(batch)
    return scores


def check_alignment(lab: Lab) -> None:
    """Perturb one user's target: only that user's hidden states get another gradient.

    Whose a hidden state is, is found here by brute force: all rows of the user are replaced by
    other users', and what changes is the user's (in a table of all users, it is row number id).
    """
    config = lab.config(kt_enabled=True, kt_loss="mse")
    model, data = build(config, config.model_class)
    if data[0]._dataset.config["train_neg_sample_args"].get("dynamic"):
        data[0].get_model(model)
    task = TransferTask(RunContext(config, model, data[0]))
    term = task.terms[0]
    assert term.reached
    torch.manual_seed(5)
    batch = make_batch(data[0], 24)
    users = batch["user_id"]
    user = int(users[len(users) // 2])
    assert term.table.mask[user]
    check_counted(model, term, batch)
    before = gradients(model, term, batch)
    term.table.values[user] += 1.0
    after = gradients(model, term, batch)
    changed = [positions(old, new) for (_, old), (_, new) in zip(before, after)]
    assert any(changed)
    calls = [call for call, _ in before]
    owned = owned_positions(model, term, batch, user, [call.value for call in calls])
    for call, places, own in zip(calls, changed, owned):
        assert places <= own, f"{places - own} of {tuple(call.value.shape)} are not user {user}'s"


def check_counted(model: Any, term: Term, batch: Any) -> None:
    """Reading a table's rows once gives the loss and the gradients of all rows of the batch."""
    plain = record(model, term, batch)
    with Tap(model, term.layer) as tap:
        losses = []
        for tap.calls in (plain, [replace(call, table=None) for call in plain]):
            losses.append(term.compute(tap, batch))
        with mock.patch.object(term.rows, "counted", lambda *_: None):
            losses.append(term.compute(tap, batch))
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in losses
    ]
    for loss, own in zip(losses[:2], grads[:2]):
        torch.testing.assert_close(loss, losses[2], rtol=1e-6, atol=0.0)
        for ours, theirs in zip(own, grads[2]):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def gradients(model: Any, term: Term, batch: Any) -> list[tuple[Call, torch.Tensor]]:
    """Return what the layer recorded, with the gradient of the transfer loss at each call."""
    # Of the states themselves, not of the table that they were looked up in.
    calls = [replace(call, table=None) for call in record(model, term, batch)]
    with Tap(model, term.layer) as tap:
        tap.calls = calls
        loss = term.compute(tap, batch)
        grads = torch.autograd.grad(loss, [call.value for call in calls], allow_unused=True)
    zeros = (torch.zeros_like(call.value) for call in calls)
    return [(call, zero if grad is None else grad) for call, grad, zero in zip(calls, grads, zeros)]


def record(model: Any, term: Term, batch: Any) -> list[Call]:
    """Run the model's loss once, with dropout off and always the same random numbers."""
    init_seed(3, True)
    Probe.ready(model)
    with Tap(model, term.layer) as tap:
        recommendation_loss(model)(copy.deepcopy(batch))
        return list(tap.calls)


def owned_positions(
    model: Any, term: Term, batch: Any, user: int, values: list[torch.Tensor]
) -> list[set[tuple[int, ...]]]:
    """Return, call by call, the positions (all axes but the last) that are the user's."""
    n_users = term.rows.entities.n_users
    if all(len(value) in (n_users, n_users + term.rows.entities.n_items) for value in values):
        return [{(user,)} for _ in values]
    rows = (batch["user_id"] == user).nonzero().flatten()
    owned: list[set[tuple[int, ...]]] = [set() for _ in values]
    for source in (batch["user_id"] != user).nonzero().flatten()[:3].tolist():
        replaced = copy.deepcopy(batch)
        for name in replaced.interaction:
            replaced[name][rows] = batch[name][source].clone()
        others = [call.value for call in record(model, term, replaced)]
        owned = [own | positions(*pair) for own, *pair in zip(owned, values, others)]
    return owned


def positions(old: torch.Tensor, new: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(place) for place in (old != new).any(-1).nonzero().tolist()}
