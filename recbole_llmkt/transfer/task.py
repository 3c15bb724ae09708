"""The transfer task: taps, rows, targets and losses put together and added to a model's loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmkt.exceptions import ConfigError, LayerError
from recbole_llmkt.profiles.hook import ProfileVectors, load_profiles
from recbole_llmkt.randomness import isolated_randomness
from recbole_llmkt.transfer.catalog import Place, automatic_layer, catalog
from recbole_llmkt.transfer.decide import check_gradient, decide_rows, probed_layers
from recbole_llmkt.transfer.layers import Layer, Tap
from recbole_llmkt.transfer.losses import TransferLoss, make_loss
from recbole_llmkt.transfer.probe import Probe, loss_methods
from recbole_llmkt.transfer.projectors import make_projector
from recbole_llmkt.transfer.rows import Entities, Rows
from recbole_llmkt.transfer.targets import TargetTable, build_targets

logger = getLogger(__name__)

ENTITIES = ("user", "item")


@dataclass(frozen=True)
class TermSettings:
    """One layer that is to reconstruct profiles: what ``kt_*`` says of it."""

    layer: str
    rows: str
    entity: str
    weight: float


def term_settings(config: Any) -> list[TermSettings]:
    """Read the terms of the transfer loss.

    ``kt_layer``, ``kt_rows``, ``kt_entity`` and ``kt_weight`` may each be one value or a list;
    one value holds for all terms, and one ``kt_weight`` is shared by them in equal parts.

    Raises
    ------
    ConfigError
        Lists of different lengths, or weights that add up to more than 1.
    """
    entity = ["user", "item"] if config["kt_entity"] == "both" else config["kt_entity"]
    keys = {
        "kt_layer": config["kt_layer"],
        "kt_rows": config["kt_rows"],
        "kt_entity": entity,
        "kt_weight": config["kt_weight"],
    }
    lengths = {name: len(value) for name, value in keys.items() if isinstance(value, (list, tuple))}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"Lists of terms must be equally long, but {counts}.")
    count = next(iter(lengths.values()), 1)
    columns = {n: list(v) if n in lengths else [v] * count for n, v in keys.items()}
    if "kt_weight" not in lengths:
        columns["kt_weight"] = [config["kt_weight"] / count] * count
    if sum(columns["kt_weight"]) > 1.0 + 1e-9:
        raise ConfigError(f"kt_weight: {config['kt_weight']} adds up to more than 1.")
    rows = zip(columns["kt_layer"], columns["kt_rows"], columns["kt_entity"], columns["kt_weight"])
    return [TermSettings(*row) for row in rows if row[3] > 0.0]


def default_layers(
    config: Any, model: nn.Module, train_data: Any, places: Sequence[Place] | None = None
) -> dict[str, str]:
    """Return what ``kt_layer: auto`` means for the run's model, for ``user`` and ``item``.

    ``properties/model/<Model>.yaml`` says it; for any other model the rule of
    :func:`~recbole_llmkt.transfer.catalog.automatic_layer` chooses. An entity without a fitting
    layer is left out.
    """
    found = {one: str(config[f"kt_{one}_layer"]) for one in ENTITIES if config[f"kt_{one}_layer"]}
    for entity in ENTITIES:
        if entity not in found:
            places = catalog(model, train_data) if places is None else places
            with suppress(LayerError):
                found[entity] = automatic_layer(places, entity)
    return found


def chosen_layer(config: Any, model: nn.Module, train_data: Any, one: TermSettings) -> Layer:
    """Return the layer of a term, found by rule where the setting is ``auto``.

    Raises
    ------
    LayerError
        The model has no layer that could serve.
    """
    if one.layer != "auto":
        return Layer.parse(one.layer)
    preset = config[f"kt_{one.entity}_layer"]
    return Layer.parse(preset or automatic_layer(catalog(model, train_data), one.entity))


@dataclass
class Term:
    """One layer, its rows, its targets and its loss."""

    layer: Layer
    rows: Rows
    table: TargetTable
    projector: nn.Module | None
    loss: TransferLoss
    weight: float
    profiles: ProfileVectors
    width: int
    reached: list[str]

    def compute(self, tap: Tap, interaction: Interaction) -> Tensor:
        """Compute this term's transfer loss for a batch whose calls ``tap`` recorded."""
        hidden, ids = self.rows.align(tap.calls, interaction)
        known = self.table.mask[ids]
        hidden, ids = hidden[known], ids[known]
        if self.projector is not None:
            hidden = self.projector(hidden)
        loss: Tensor = self.loss(hidden, self.table.values[ids], ids)
        return loss

    def summary(self) -> dict[str, Any]:
        """Describe the term in plain values, for logs, results and checkpoints."""
        return {
            "layer": str(self.layer),
            "rows": str(self.rows),
            "entity": self.profiles.entity,
            "width": self.width,
            "target_width": int(self.table.values.shape[1]),
            "weight": self.weight,
            "coverage": self.profiles.coverage,
            "profiles": len(self.profiles.ids),
            "leaks": self.profiles.n_leaks,
            "encoder": self.profiles.encoder,
            "generator": self.profiles.generator,
            "parameters_reached": self.reached,
        }


class Meter:
    """Mean model loss and transfer loss of an epoch, kept on the device until they are read."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self.batches = 0

    def add(self, model_loss: Tensor, transfer_loss: Tensor) -> None:
        """Add the (unweighted) losses of one batch."""
        losses = [model_loss.detach().float(), transfer_loss.detach().float()]
        self._sums = [a + b for a, b in zip(self._sums, losses)] if self._sums else losses
        self.batches += 1

    def means(self) -> tuple[float, float]:
        """Return the mean model loss and the mean transfer loss of a batch."""
        if not self.batches:
            return float("nan"), float("nan")
        model_loss, transfer_loss = (float(one) / self.batches for one in self._sums)
        return model_loss, transfer_loss


class TransferTask:
    """The auxiliary task of phase 1.

    Parameters
    ----------
    config : Config
        The run's configuration.
    model : nn.Module
        The model; its parameters, buffers and random streams stay as they are.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.

    Raises
    ------
    LLMKTError
        A layer, rows, profiles, targets or weights that cannot be used.
    """

    def __init__(self, config: Any, model: nn.Module, train_data: Any) -> None:
        self.config, self.model, self.train_data = config, model, train_data
        self.seed = config["kt_seed"] if config["kt_seed"] is not None else config["seed"]
        settings = term_settings(config)
        layers = [chosen_layer(config, model, train_data, one) for one in settings]
        probe = Probe(model, train_data, probed_layers(model, layers))
        self.terms = [self._term(probe, layer, one) for layer, one in zip(layers, settings)]
        self.weight = sum(term.weight for term in self.terms)
        for term in self.terms:
            logger.info(
                "Transfer of %s profiles to '%s' (rows: %s, width %d, weight %g): %d profiles, "
                "coverage %.1f%%.",
                term.profiles.entity,
                term.layer,
                term.rows,
                term.width,
                term.weight,
                len(term.profiles.ids),
                100 * term.profiles.coverage,
            )

    def _term(self, probe: Probe, layer: Layer, setting: TermSettings) -> Term:
        dataset = self.train_data._dataset
        entities = Entities.of(dataset, setting.entity, probe.batches[0])
        rows = decide_rows(probe, layer, entities, setting.rows)
        reached = check_gradient(probe, layer)
        hidden = self._check(probe, layer, rows)
        width = hidden.shape[1]
        if width < 2:
            raise LayerError(
                f"'{layer}' is {width} wide: there is nothing to reconstruct a profile in. "
                "Choose a wider layer (`llmkt layers` lists them)."
            )
        profiles = load_profiles(self.config, dataset, setting.entity)
        device = hidden.device
        target_width = self._target_width(width, profiles)
        trained = np.unique(np.asarray(dataset.inter_feat[entities.id_field]))
        table = build_targets(
            profiles,
            target_width,
            self.config["kt_transform"],
            self.config["kt_control"],
            self.seed,
            trained,
        )
        with isolated_randomness(self.seed):
            projector = make_projector(self.config["kt_projector"], width, target_width)
        return Term(
            layer,
            rows,
            table.to(device),
            projector.to(device) if projector is not None else None,
            make_loss(self.config["kt_loss"]).to(device),
            setting.weight,
            profiles,
            width,
            reached,
        )

    @staticmethod
    def _check(probe: Probe, layer: Layer, rows: Rows) -> Tensor:
        """Align both probe batches once, so that a misfit shows before training."""
        for reading in probe.readings:
            hidden, _ = rows.align(reading.calls[layer], reading.interaction)
        return hidden

    def _target_width(self, width: int, profiles: ProfileVectors) -> int:
        if self.config["kt_projector"] == "none":
            return width
        return int(self.config["kt_projector_dim"] or profiles.vectors.shape[1])

    # ---- parameters ---------------------------------------------------------------------------

    def projectors(self) -> dict[str, nn.Module]:
        """Return the learned projectors by the place of their term."""
        return {
            str(i): term.projector
            for i, term in enumerate(self.terms)
            if term.projector is not None
        }

    def join_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Add each projector to the optimizer that trains the layer it reads.

        Of several that do, it is the one with the fewest parameters: the most specific.
        """
        named = dict(self.model.named_parameters())
        for term in self.terms:
            if term.projector is None:
                continue
            reached = {id(named[name]) for name in term.reached}
            holding = [one for one in optimizers if reached & _parameter_ids(one)]
            if not holding:
                raise LayerError(f"No optimizer trains the parameters behind '{term.layer}'.")
            chosen = min(holding, key=lambda one: len(_parameter_ids(one)))
            if isinstance(chosen, torch.optim.SparseAdam):
                raise ConfigError(
                    "learner: sparse_adam cannot train a projector: use another learner or "
                    "kt_projector: none."
                )
            chosen.add_param_group({"params": list(term.projector.parameters())})
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                # RecBole's DistributedDataParallel knows the model's parameters only.
                for parameter in term.projector.parameters():
                    parameter.register_hook(average_over_processes)  # type: ignore[no-untyped-call]

    # ---- the loss -----------------------------------------------------------------------------

    @contextmanager
    def attached(self) -> Iterator[Meter]:
        """Add the transfer loss to the model's recommendation loss while the context is open."""
        meter = Meter()
        with ExitStack() as stack:
            for name in loss_methods(self.model):
                original, own = getattr(self.model, name), vars(self.model).get(name)
                setattr(self.model, name, self._with_transfer(original, meter))
                stack.callback(_put_back, self.model, name, own)
            yield meter

    def _with_transfer(self, original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
        @functools.wraps(original)
        def loss(interaction: Interaction, *arguments: Any, **keywords: Any) -> Any:
            with ExitStack() as stack:
                taps = [stack.enter_context(Tap(self.model, term.layer)) for term in self.terms]
                model_loss = original(interaction, *arguments, **keywords)
                losses = [term.compute(tap, interaction) for term, tap in zip(self.terms, taps)]
            parts = model_loss if isinstance(model_loss, tuple) else (model_loss,)
            total = torch.stack([part.detach().sum() for part in parts]).sum()
            shares = [term.weight * one for term, one in zip(self.terms, losses)]
            meter.add(total, torch.stack(shares).sum() / self.weight)
            balanced = [self._balance(total, one) * share for one, share in zip(losses, shares)]
            transfer = torch.stack(balanced).sum()
            kept = tuple((1.0 - self.weight) * part for part in parts)
            # Tuples stay tuples, the transfer loss first: NCL drops the last part in its warm-up.
            return (transfer, *kept) if isinstance(model_loss, tuple) else kept[0] + transfer

        return loss

    def _balance(self, model_loss: Tensor, transfer_loss: Tensor) -> Tensor | float:
        """Return beta: what brings a transfer loss to the size of the model's, where wanted.

        It is a number to the gradient: the transfer loss still falls (arXiv 2604.21536).
        """
        if self.config["kt_balance"] == "fixed":
            return 1.0
        size = transfer_loss.detach()
        return torch.where(size > 0, model_loss.abs() / size, torch.zeros_like(size))


def _put_back(model: nn.Module, name: str, own: Any) -> None:
    """Undo ``setattr``: restore the instance's own attribute, or uncover the class's."""
    if own is None:
        delattr(model, name)
    else:
        setattr(model, name, own)


def average_over_processes(gradient: Tensor) -> Tensor:
    """Return the mean of a gradient over the processes of the group."""
    averaged = gradient.clone()
    torch.distributed.all_reduce(averaged)
    return averaged / torch.distributed.get_world_size()


def _parameter_ids(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(one) for group in optimizer.param_groups for one in group["params"]}
