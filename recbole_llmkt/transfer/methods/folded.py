"""Parameters that the model holds as a sum and the optimizer trains by its summands."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from recbole_llmkt.compat import complete_adagrad
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.types import Settings


class Part:
    """What profiles add to the rows of one table: a linear function of what is trained.

    Parameters
    ----------
    table : EntityTable
        The users or items of one parameter.
    profiles : ProfileVectors
        Their profiles.
    """

    def __init__(self, table: EntityTable, profiles: ProfileVectors) -> None:
        self.table, self.profiles = table, profiles

    def learned(self) -> list[nn.Parameter]:
        """Return what is trained beside the rows' own values."""
        return []

    def rate(self) -> float:
        """Return the learning rate of :meth:`learned`, as a share of the optimizer's."""
        return 1.0

    def decay(self) -> float | None:
        """Return the weight decay of :meth:`learned`; None for the optimizer's."""
        return None

    def add_to(self, rows: Tensor, own: Tensor, ids: Tensor | None = None) -> None:
        """Add to the rows of E, which hold R so far.

        Parameters
        ----------
        rows : Tensor, shape (n, width)
            The rows, changed in place.
        own : Tensor, shape (n_entities, width)
            R, the own values of all rows.
        ids : Tensor of int64, shape (n,), optional
            Which rows they are, each once; all of them by default.
        """
        raise NotImplementedError

    def take_gradient(self, gradient: Tensor, ids: Tensor | None = None) -> None:
        """Set the gradients of :meth:`learned`, and make that of E the one of R, in place.

        Parameters
        ----------
        gradient : Tensor, shape (n_entities, width)
            That of the rows that the model holds (E).
        ids : Tensor of int64, optional
            Rows whose gradient is not zero, each once; any by default.
        """
        raise NotImplementedError

    def summary(self) -> Settings:
        """Describe the part in plain values."""
        return {}


class FoldedParameter:
    r"""One parameter of the model, trained as :math:`E = R + f(R, W)` with a linear f.

    R are the rows' own values; f is given by the parts. The model holds E, as before; the optimizer
    holds R and W in its place. Their gradients follow from that of E.

    Parameters
    ----------
    name : str
        The parameter, as in ``state_dict``.
    parameter : nn.Parameter
        E, which holds R so far.
    parts : sequence of Part
        Its users and items.
    """

    def __init__(self, name: str, parameter: nn.Parameter, parts: Sequence[Part]) -> None:
        self.name, self.parameter, self.parts = name, parameter, parts
        self.own = nn.Parameter(parameter.detach().clone())
        self._asked: Tensor | None = None
        self._stale = False

    def learned(self) -> list[nn.Parameter]:
        """Return what the optimizer trains in the parameter's place."""
        return [self.own, *(parameter for part in self.parts for parameter in part.learned())]

    @contextmanager
    def on_demand(self, modules: Sequence[nn.Embedding]) -> Iterator[None]:
        """Within the context, write rows of the sum to the model only when they are looked up.

        An optimizer like Adam moves all rows in every step, and to sum all of them up takes
        longer than the step. On leaving, all rows are written.

        Parameters
        ----------
        modules : sequence of nn.Embedding
            All that read the parameter.
        """
        with ExitStack() as stack:
            for module in modules:
                hook = module.register_forward_pre_hook(self._before_lookup, with_kwargs=True)
                stack.callback(hook.remove)
            self._asked = torch.zeros(
                len(self.parameter), dtype=torch.bool, device=self.parameter.device
            )
            try:
                yield
            finally:
                self._asked = None
                if self._stale:
                    self.write()

    @torch.no_grad()
    def _before_lookup(
        self, module: nn.Module, inputs: tuple[Tensor, ...], keywords: dict[str, Tensor]
    ) -> None:
        """Bring the rows up to date that are looked up for the first time in a step."""
        if self._asked is None:
            return
        ids = (inputs[0] if inputs else keywords["input"]).flatten()
        if self._stale:
            wanted = torch.zeros_like(self._asked)
            wanted[ids] = True
            self._write_rows(wanted.logical_and_(~self._asked).nonzero().flatten())
        self._asked[ids] = True

    def _write_rows(self, rows: Tensor) -> None:
        values = self.own.index_select(0, rows)
        for part in self.parts:
            inside, ids = part.table.inside(rows)
            own = part.table.rows({self.name: self.own})
            if len(ids) == len(rows):
                part.add_to(values, own, ids)
            elif len(ids):
                summed = values[inside]
                part.add_to(summed, own, ids)
                values[inside] = summed
        self.parameter.index_copy_(0, rows, values)

    @torch.no_grad()
    def take_gradient(self) -> None:
        """Hand the gradient of E on to R and W."""
        gradient, self.parameter.grad = self.parameter.grad, None
        self.own.grad = gradient
        if gradient is not None and self._reads_otherwise(gradient):
            self._asked = None
        asked = None if self._asked is None else self._asked.nonzero().flatten()
        for part in self.parts:
            if gradient is None:
                for weights in part.learned():
                    weights.grad = None
            elif asked is None:
                part.take_gradient(part.table.rows({self.name: gradient}))
            else:
                ids = part.table.inside(asked)[1]
                part.take_gradient(part.table.rows({self.name: gradient}), ids)

    def _reads_otherwise(self, gradient: Tensor) -> bool:
        """Tell whether rows have a gradient that nobody looked up.

        It is asked once an epoch, while all rows are up to date: a model may come to do so late.
        """
        if self._asked is None or self._stale:
            return False
        return bool(gradient[~self._asked].any())

    def fold(self) -> None:
        """Write the sum to the model, if the optimizer has just moved its summands."""
        if self.own.grad is None:
            return
        if self._asked is None:
            self.write()
        else:
            self._asked.zero_()
            self._stale = True

    @torch.no_grad()
    def write(self) -> None:
        """Write the sum to the model."""
        self._stale = False
        self.parameter.copy_(self.own)
        for part in self.parts:
            own = part.table.rows({self.name: self.own})
            part.add_to(part.table.rows({self.name: self.parameter}), own)


def join_optimizers(
    parameters: Sequence[FoldedParameter], optimizers: Sequence[torch.optim.Optimizer]
) -> ExitStack:
    """Put the summands in the parameters' place, and keep the model's sums up to date.

    Parameters
    ----------
    parameters : sequence of FoldedParameter
        What is trained as a sum.
    optimizers : sequence of Optimizer
        Those of the run.

    Returns
    -------
    ExitStack
        Closing it leaves the optimizers alone.

    Raises
    ------
    LayerError
        No optimizer trains a table.
    ConfigError
        An optimizer for sparse gradients does.
    """
    joined = ExitStack()
    for optimizer in optimizers:
        mine = [parameter for parameter in parameters if _replace(optimizer, parameter)]
        if mine and isinstance(optimizer, torch.optim.SparseAdam):
            raise ConfigError("learner: sparse_adam cannot train kt_hybrid: use another one.")
        if mine:
            _join(optimizer, mine, joined)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in parameters:
        if id(parameter.own) not in held:
            raise LayerError(f"No optimizer trains '{parameter.name}', so kt_hybrid cannot.")
    return joined


def _join(
    optimizer: torch.optim.Optimizer, mine: Sequence[FoldedParameter], joined: ExitStack
) -> None:
    def take(*_: object) -> None:
        for folded in mine:
            folded.take_gradient()

    def fold(*_: object) -> None:
        for folded in mine:
            folded.fold()

    clear_own = optimizer.zero_grad

    @functools.wraps(clear_own)
    def clear(set_to_none: bool = True) -> None:
        # It no longer holds E. RecVAE's two optimizers alternate over one backward pass, and
        # each drops so what has piled up while the other one trained.
        clear_own(set_to_none)
        for folded in mine:
            folded.parameter.grad = None

    joined.callback(optimizer.register_step_pre_hook(take).remove)
    joined.callback(optimizer.register_step_post_hook(fold).remove)
    vars(optimizer)["zero_grad"] = clear
    joined.callback(vars(optimizer).pop, "zero_grad", None)


def _replace(optimizer: torch.optim.Optimizer, folded: FoldedParameter) -> bool:
    """Put the summands where an optimizer holds E; tell whether it does."""
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if parameter is folded.parameter:
                group["params"][place] = folded.own
                optimizer.state.pop(folded.parameter, None)
                settings = {key: value for key, value in group.items() if key != "params"}
                for part in folded.parts:
                    if part.learned():
                        own = {"params": part.learned(), "lr": group["lr"] * part.rate()}
                        if part.decay() is not None:
                            own["weight_decay"] = part.decay()
                        optimizer.add_param_group({**settings, **own})
                complete_adagrad(optimizer)
                return True
    return False


def flushed(values: Tensor) -> Tensor:
    """Return values with 0 for what is next to nothing.

    Where a part of the model has died (ReLUs that never fire), weight decay wears maps and
    gradients down to denormal numbers, and a CPU multiplies matrices of those a hundred times
    slower.
    """
    return nn.functional.hardshrink(values, 1e-30)
