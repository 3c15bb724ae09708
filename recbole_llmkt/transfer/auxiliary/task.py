"""The transfer task: what its terms ask for, added to a model's loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmkt.compat import complete_adagrad
from recbole_llmkt.transfer.auxiliary.build import build_terms
from recbole_llmkt.transfer.auxiliary.gradients import GradientRatio
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.layers import Layer, Tap
from recbole_llmkt.transfer.inspection.probe import Loss, loss_methods
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.processes import average_gradients, process_count
from recbole_llmkt.utils.randomness import transfer_seed

logger = getLogger(__name__)


# To add two numbers on the device costs as much as a small step's every tenth operation.
_ADDED_AT_ONCE = 64


class Meter:
    """Mean model loss and transfer loss of an epoch, kept on the device until they are read.

    Parameters
    ----------
    weights : sequence of float
        Weight of each term's loss.

    Attributes
    ----------
    batches : int
        Batches so far.
    last : tuple of Tensor and list of Tensor, or None
        The model's loss of the last batch, and that of each term.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = tuple(weights)
        self._pending: list[Tensor] = []
        self._sums: Tensor | None = None
        self.batches = 0
        self.last: tuple[Tensor, list[Tensor]] | None = None
        self._gradients: GradientRatio | None = None

    @property
    def gradient_ratio(self) -> float | None:
        """See :class:`GradientRatio`; of the first batch, where it was asked for."""
        return self._gradients.value if self._gradients else None

    def watch(self, transfer: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Measure the gradients of the step that follows, until :meth:`watched`."""
        self._gradients = GradientRatio(transfer, parameters)

    def watched(self) -> None:
        """Stop measuring gradients: the step is over."""
        if self._gradients is not None:
            self._gradients.close()

    def add(self, model_loss: Tensor, losses: Sequence[Tensor]) -> None:
        """Add the losses of one batch: the model's, and each term's, not weighted."""
        self.last = (model_loss.detach(), [loss.detach() for loss in losses])
        self._pending += [self.last[0], *self.last[1]]
        self.batches += 1
        if self.batches % _ADDED_AT_ONCE == 0:
            self._add_pending()

    def _add_pending(self) -> None:
        if self._pending:
            losses = torch.stack([loss.float() for loss in self._pending])
            sums = losses.view(-1, 1 + len(self._weights)).double().sum(0)
            self._sums = sums if self._sums is None else self._sums + sums
            self._pending = []

    def means(self) -> tuple[float, float]:
        """Return the mean model loss and the mean transfer loss of a batch."""
        self._add_pending()
        if self._sums is None:
            return float("nan"), float("nan")
        model_loss, *losses = (total / self.batches for total in self._sums.tolist())
        transfer_loss = sum(weight * loss for weight, loss in zip(self._weights, losses))
        return model_loss, transfer_loss / sum(self._weights)


class TransferTask:
    """The auxiliary task of phase 1.

    Parameters
    ----------
    context : RunContext
        The run; its model's parameters, buffers and random streams stay as they are.

    Raises
    ------
    LLMKTError
        A layer, rows, profiles, targets or weights that cannot be used.
    """

    def __init__(self, context: RunContext) -> None:
        self.config, self.model = context.config, context.model
        self.seed = transfer_seed(context.config)
        self.terms = build_terms(context, self.seed)
        self.weight = sum(term.weight for term in self.terms)
        sources = [source for term in self.terms for source in (term, term.partner) if source]
        self._layers = list(dict.fromkeys(source.layer for source in sources))
        self._balanced = self.config["kt_balance"] != "fixed"
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

    # ---- parameters ---------------------------------------------------------------------------

    def projectors(self) -> dict[str, nn.Module]:
        """Return the learned modules outside the model, by the position of their term.

        A projector is named by the place alone, other parts by place and part (``"0.mask"``).
        """
        return {
            str(i) if part == "projector" else f"{i}.{part}": module
            for i, term in enumerate(self.terms)
            for part, module in term.learned().items()
        }

    def join_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Add the learned modules to the optimizer that trains the layer they read.

        Of several that do, it is the one with the fewest parameters: the most specific.
        """
        named = dict(self.model.named_parameters())
        for term in self.terms:
            learned = [p for module in term.learned().values() for p in module.parameters()]
            if not learned:
                continue
            reached = {id(named[name]) for name in term.reached}
            holding = [optimizer for optimizer in optimizers if reached & _parameter_ids(optimizer)]
            if not holding:
                raise LayerError(f"No optimizer trains the parameters behind '{term.layer}'.")
            chosen = min(holding, key=lambda optimizer: len(_parameter_ids(optimizer)))
            if isinstance(chosen, torch.optim.SparseAdam):
                raise ConfigError(
                    "learner: sparse_adam cannot train a projector or a mask: use another learner, "
                    "or kt_projector: none and another kt_loss than generative."
                )
            if self.config["enable_scaler"] and process_count() > 1:
                raise ConfigError(
                    "enable_scaler: True and several processes: each would scale the gradients of "
                    "a projector for itself. Set enable_scaler: False, or kt_projector: none."
                )
            chosen.add_param_group({"params": learned})
            complete_adagrad(chosen)
            # DistributedDataParallel, which RecBole uses, knows the model's parameters alone.
            chosen.register_step_pre_hook(lambda *_, mine=tuple(learned): average_gradients(mine))

    # ---- the loss -----------------------------------------------------------------------------

    @contextmanager
    def attached(
        self,
        epoch: int = 0,
        factor: float = 1.0,
        parts: int | None = None,
        measure_gradients: bool = False,
    ) -> Iterator[Meter]:
        """Add the transfer loss to the model's recommendation loss while the context is open.

        Parameters
        ----------
        epoch : int
            The epoch; together with the batch's number it seeds the choice of masked entities.
        factor : float
            What the weights are multiplied with in this epoch.
        parts : int, optional
            Where the trained parts of a loss in parts end, as a slice says it; by default all are
            trained. The others are no part of what is measured and balanced.
        measure_gradients : bool
            Whether to compute :class:`GradientRatio` for the first batch, at the cost of another
            backward pass of the transfer loss.
        """
        meter = Meter([term.weight for term in self.terms])
        with ExitStack() as stack:
            stack.callback(meter.watched)
            taps = {layer: stack.enter_context(Tap(self.model, layer)) for layer in self._layers}
            for tap in taps.values():
                tap.rest()
            for name in loss_methods(self.model):
                original, own = getattr(self.model, name), vars(self.model).get(name)
                read = functools.partial(self._read, original, taps, epoch)
                setattr(
                    self.model,
                    name,
                    self._with_transfer(original, read, meter, factor, parts, measure_gradients),
                )
                stack.callback(_put_back, self.model, name, own)
            yield meter

    def _with_transfer(
        self,
        original: Callable[..., Loss],
        read: Callable[..., tuple[Loss, list[Tensor]]],
        meter: Meter,
        factor: float,
        end: int | None,
        measure_gradients: bool,
    ) -> Callable[..., Loss]:
        kept_share = 1.0 - factor * self.weight
        weights = [factor * term.weight for term in self.terms]

        @functools.wraps(original)
        def loss(interaction: Interaction, *arguments: object, **keywords: object) -> Loss:
            if meter.batches == 1:
                meter.watched()
            model_loss, losses = read(meter.batches, interaction, *arguments, **keywords)
            parts = model_loss if isinstance(model_loss, tuple) else (model_loss,)
            total = _sum([_number(part.detach()) for part in parts[:end]])
            shares = [weight * loss for weight, loss in zip(weights, losses)]
            first = meter.batches == 0
            meter.add(total, losses)
            if self._balanced:
                shares = [balance(total, loss) * share for loss, share in zip(losses, shares)]
            transfer = _sum(shares)
            if measure_gradients and first:
                meter.watch(transfer, self._shared())
            # Tuples stay tuples, the transfer loss first: NCL drops the last part in its warm-up.
            if isinstance(model_loss, tuple):
                return (transfer, *(kept_share * part for part in parts))
            return kept_share * model_loss + transfer

        return loss

    def _read(
        self,
        compute: Callable[..., Loss],
        taps: Mapping[Layer, Tap],
        epoch: int,
        batch: int,
        interaction: Interaction,
        *arguments: object,
        **keywords: object,
    ) -> tuple[Loss, list[Tensor]]:
        """Compute the model's loss, and from what passes the taps on the way each term's."""
        masked = [term.choose(interaction, (epoch, batch, i)) for i, term in enumerate(self.terms)]
        with ExitStack() as hiding:
            for term, ids in zip(self.terms, masked):
                hiding.enter_context(term.hiding(self.model, ids))
            try:
                for tap in taps.values():
                    tap.clear()
                model_loss = compute(interaction, *arguments, **keywords)
                losses = [
                    term.compute(
                        taps[term.layer],
                        interaction,
                        taps[term.partner.layer] if term.partner else None,
                        ids,
                    )
                    for term, ids in zip(self.terms, masked)
                ]
            finally:
                for tap in taps.values():
                    tap.rest()
        return model_loss, losses

    def _shared(self) -> list[nn.Parameter]:
        """Return the parameters that the transfer loss trains, of the model's trained ones."""
        named = dict(self.model.named_parameters())
        names = dict.fromkeys(name for term in self.terms for name in term.reached)
        return [named[name] for name in names if named[name].requires_grad]


def _number(part: Tensor) -> Tensor:
    """Return a part of a loss as a tensor of shape ()."""
    return part.sum() if part.dim() else part


def _sum(numbers: Sequence[Tensor]) -> Tensor:
    """Add tensors of shape (); a single one costs nothing."""
    return sum(numbers[1:], numbers[0])


def balance(model_loss: Tensor, transfer_loss: Tensor) -> Tensor:
    """Return beta: what brings a transfer loss to the size of the model's.

    It is a number to the gradient: the transfer loss still falls (arXiv 2604.21536).

    Parameters
    ----------
    model_loss, transfer_loss : Tensor, shape ()
        Losses of a batch.
    """
    size = transfer_loss.detach()
    return torch.where(size > 0, model_loss.abs() / size, torch.zeros_like(size))


def _put_back(model: nn.Module, name: str, own: object) -> None:
    """Undo ``setattr``: restore the instance's own attribute, or uncover the class's."""
    if own is None:
        delattr(model, name)
    else:
        setattr(model, name, own)


def _parameter_ids(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
