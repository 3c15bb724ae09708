"""The transfer task: what its terms ask for, added to a model's loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmkt.compat import complete_adagrad
from recbole_llmkt.transfer.auxiliary.build import build_terms
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.layers import Tap
from recbole_llmkt.transfer.inspection.probe import Loss, loss_methods
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.randomness import transfer_seed

logger = getLogger(__name__)


class Meter:
    """Mean model loss and transfer loss of an epoch, kept on the device until they are read.

    Attributes
    ----------
    batches : int
        Batches so far.
    gradient_ratio : float or None
        See :func:`gradient_ratio`; of the first batch, where it was asked for.
    last : tuple of Tensor and list of Tensor, or None
        The model's loss of the last batch, and that of each term.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self.batches = 0
        self.gradient_ratio: float | None = None
        self.last: tuple[Tensor, list[Tensor]] | None = None

    def add(self, model_loss: Tensor, transfer_loss: Tensor) -> None:
        """Add the (unweighted) losses of one batch."""
        losses = [model_loss.detach().float(), transfer_loss.detach().float()]
        self._sums = [a + b for a, b in zip(self._sums, losses)] if self._sums else losses
        self.batches += 1

    def means(self) -> tuple[float, float]:
        """Return the mean model loss and the mean transfer loss of a batch."""
        if not self.batches:
            return float("nan"), float("nan")
        model_loss, transfer_loss = (float(total) / self.batches for total in self._sums)
        return model_loss, transfer_loss


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
            chosen.add_param_group({"params": learned})
            complete_adagrad(chosen)
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                # RecBole's DistributedDataParallel knows the model's parameters only.
                for parameter in learned:
                    parameter.register_hook(average_over_processes)  # type: ignore[no-untyped-call]

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
            Whether to compute :func:`gradient_ratio` for the first batch, at the cost of two
            more backward passes.
        """
        meter = Meter()
        with ExitStack() as stack:
            for name in loss_methods(self.model):
                original, own = getattr(self.model, name), vars(self.model).get(name)
                setattr(
                    self.model,
                    name,
                    self._with_transfer(original, meter, epoch, factor, parts, measure_gradients),
                )
                stack.callback(_put_back, self.model, name, own)
            yield meter

    def _with_transfer(
        self,
        original: Callable[..., Loss],
        meter: Meter,
        epoch: int,
        factor: float,
        end: int | None,
        measure_gradients: bool,
    ) -> Callable[..., Loss]:
        weight = factor * self.weight

        @functools.wraps(original)
        def loss(interaction: Interaction, *arguments: object, **keywords: object) -> Loss:
            compute = functools.partial(original, interaction, *arguments, **keywords)
            model_loss, losses = self._read(compute, interaction, (epoch, meter.batches))
            parts = model_loss if isinstance(model_loss, tuple) else (model_loss,)
            total = _sum([part.detach().sum() for part in parts[:end]])
            meter.last = (total, [loss.detach() for loss in losses])
            shares = [term.weight * loss for term, loss in zip(self.terms, losses)]
            measure = measure_gradients and meter.batches == 0
            meter.add(total, _sum(shares).detach() / self.weight)
            if self.config["kt_balance"] != "fixed":
                shares = [balance(total, loss) * share for loss, share in zip(losses, shares)]
            transfer = factor * _sum(shares)
            kept = tuple((1.0 - weight) * part for part in parts)
            if measure:
                meter.gradient_ratio = gradient_ratio(transfer, kept[:end], self._shared())
            # Tuples stay tuples, the transfer loss first: NCL drops the last part in its warm-up.
            return (transfer, *kept) if isinstance(model_loss, tuple) else kept[0] + transfer

        return loss

    def _read(
        self, compute: Callable[[], Loss], interaction: Interaction, step: tuple[int, int]
    ) -> tuple[Loss, list[Tensor]]:
        """Compute the model's loss, and from what passes the taps on the way each term's."""
        chosen = [term.choose(interaction, (*step, i)) for i, term in enumerate(self.terms)]
        with ExitStack() as stack:
            for term, masked in zip(self.terms, chosen):
                stack.enter_context(term.hiding(self.model, masked))
            sources = [source for term in self.terms for source in (term, term.partner) if source]
            layers = dict.fromkeys(source.layer for source in sources)
            taps = {layer: stack.enter_context(Tap(self.model, layer)) for layer in layers}
            model_loss = compute()
            losses = []
            for term, masked in zip(self.terms, chosen):
                partner_tap = taps[term.partner.layer] if term.partner else None
                losses.append(term.compute(taps[term.layer], interaction, partner_tap, masked))
        return model_loss, losses

    def _shared(self) -> list[nn.Parameter]:
        """Return the parameters that the transfer loss trains, of the model's trained ones."""
        named = dict(self.model.named_parameters())
        names = dict.fromkeys(name for term in self.terms for name in term.reached)
        return [named[name] for name in names if named[name].requires_grad]


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


def gradient_ratio(
    transfer: Tensor, model_parts: Sequence[Tensor], parameters: Sequence[Tensor]
) -> float | None:
    """Return how strongly the transfer loss pulls at the parameters it shares with the model's.

    Parameters
    ----------
    transfer : Tensor, shape ()
        The weighted transfer loss, as it enters the sum.
    model_parts : sequence of Tensor
        The weighted model loss, in parts.
    parameters : sequence of Tensor
        The shared parameters; their ``.grad`` stays as it is.

    Returns
    -------
    float or None
        Norm of the transfer loss's gradient over that of the model's; None where the model's is
        zero.
    """
    pull = _gradient_norm([transfer], parameters)
    own = _gradient_norm(model_parts, parameters)
    return pull / own if own > 0 else None


def _gradient_norm(parts: Sequence[Tensor], parameters: Sequence[Tensor]) -> float:
    total = torch.stack([part.float().sum() for part in parts]).sum()
    if not parameters or not total.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    norms = [
        torch.linalg.vector_norm(gradient.float()) for gradient in gradients if gradient is not None
    ]
    return float(torch.stack(norms).square().sum().sqrt()) if norms else 0.0


def _put_back(model: nn.Module, name: str, own: object) -> None:
    """Undo ``setattr``: restore the instance's own attribute, or uncover the class's."""
    if own is None:
        delattr(model, name)
    else:
        setattr(model, name, own)


def average_over_processes(gradient: Tensor) -> Tensor:
    """Return the mean of a gradient over the processes of the group."""
    averaged = gradient.clone()
    torch.distributed.all_reduce(averaged)
    processes: int = torch.distributed.get_world_size()
    return averaged / processes


def _parameter_ids(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
