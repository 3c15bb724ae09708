"""Train embedding tables as hybrids of their own rows and a learned map of the profiles."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from logging import getLogger
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llmkt.compat import complete_adagrad
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ConfigError, LayerError, ProfileError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import IntArray, RunConfig, Settings, State

logger = getLogger(__name__)


@dataclass
class Part:
    """The users or items of one parameter.

    Attributes
    ----------
    table : EntityTable
        Where they are.
    features : Tensor of float32, shape (n, r)
        Profile embeddings by internal id, centred, of length ``kt_hybrid_scale`` on average; zero
        for the padding id and where there is no profile.
    weights : nn.Parameter, shape (r, width)
        The map.
    profiles : ProfileVectors
        What the features were made from.
    """

    table: EntityTable
    features: Tensor
    weights: nn.Parameter
    profiles: ProfileVectors


class HybridParameter:
    r"""One parameter of the model, trained as :math:`E = R + P W`.

    R are the rows' own values, P the profile features, W a learned map. The model holds E, as ever;
    the optimizer holds R and W in its place. Their gradients follow from that of E:
    :math:`\partial R = \partial E` and :math:`\partial W = P^\top \partial E`. So what one item
    learns moves all items with a similar profile.

    Parameters
    ----------
    name : str
        The parameter, as in ``state_dict``.
    parameter : nn.Parameter
        E.
    parts : sequence of Part
        Its users and items; W starts at zero.
    """

    def __init__(self, name: str, parameter: nn.Parameter, parts: Sequence[Part]) -> None:
        self.name, self.parameter, self.parts = name, parameter, parts
        self.own = nn.Parameter(parameter.detach().clone())

    def learned(self) -> list[nn.Parameter]:
        """Return what the optimizer trains in the parameter's place."""
        return [self.own, *(part.weights for part in self.parts)]

    def take_gradient(self) -> None:
        """Hand the gradient of E on to R and W."""
        gradient, self.parameter.grad = self.parameter.grad, None
        self.own.grad = gradient
        for part in self.parts:
            if gradient is None:
                part.weights.grad = None
            else:
                rows = part.table.rows({self.name: gradient})
                part.weights.grad = part.features.T @ _flushed(rows)

    @torch.no_grad()
    def fold(self) -> None:
        """Write R + P W to the model, if the optimizer has just moved them."""
        if self.own.grad is None:
            return
        self.parameter.copy_(self.own)
        for part in self.parts:
            rows = part.table.rows({self.name: self.parameter})
            rows += part.features @ _flushed(part.weights)
        for parameter in self.learned():
            parameter.grad = None


class HybridTables(Method):
    """The embedding tables of ``kt_entity`` as hybrids (``kt_hybrid: linear``) during training.

    A hybrid of collaborative and content-based embeddings (Kula, 2015, arXiv 1507.08439: a row is
    a sum over features, one of them the item itself) with a language model's profile as content.
    The sum is in the model's own table after every step, so architecture, checkpoint and serving
    cost are the stock model's, and nothing is left to fold when training ends. The global random
    streams are not touched.

    Parameters
    ----------
    config : RunConfig
        ``kt_entity``, ``kt_init_tables``, ``kt_hybrid_scale`` and ``kt_control`` hold.

    Attributes
    ----------
    parameters : list of HybridParameter
        What is trained as a hybrid, from :meth:`prepare` on.
    """

    name: ClassVar[str] = "hybrid"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.parameters: list[HybridParameter] = []
        self._joined = ExitStack()

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """With ``kt_hybrid: linear``."""
        return bool(config["kt_hybrid"] == "linear")

    def prepare(self, context: RunContext) -> None:
        """Find the tables, and make the profiles' features.

        Raises
        ------
        LLMKTError
            No tables, or profiles that cannot be used.
        """
        if self.config["enable_scaler"]:
            raise ConfigError(
                "kt_hybrid: linear takes gradients as they are: set enable_scaler: False."
            )
        parameters = dict(context.model.named_parameters())
        parts: dict[str, list[Part]] = {}
        for entity, tables in context.written_tables().items():
            profiles = context.profiles.of(entity)
            trained = context.profiles.trained_ids(entity)
            features = profile_features(self.config, profiles, trained)
            for table in tables:
                rows = table.rows(parameters)
                weights = nn.Parameter(rows.new_zeros(features.shape[1], rows.shape[1]))
                features = features.to(rows)  # one copy on the device for all tables
                part = Part(table, features, weights, profiles)
                parts.setdefault(table.name, []).append(part)
        self.parameters = [HybridParameter(n, parameters[n], own) for n, own in parts.items()]
        for part in (part for hybrid in self.parameters for part in hybrid.parts):
            logger.info("%s is trained as rows of its own plus a map of profiles.", part.table)

    def join_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Put R and W in the parameters' place, and keep the model's tables up to date.

        Raises
        ------
        LayerError
            No optimizer trains a table.
        ConfigError
            An optimizer for sparse gradients does.
        """
        for optimizer in optimizers:
            mine = [hybrid for hybrid in self.parameters if _replace(optimizer, hybrid)]
            if mine and isinstance(optimizer, torch.optim.SparseAdam):
                raise ConfigError("learner: sparse_adam cannot train kt_hybrid: use another one.")
            if mine:
                self._join(optimizer, mine)
        held = {
            id(p)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }
        for hybrid in self.parameters:
            if id(hybrid.own) not in held:
                raise LayerError(f"No optimizer trains '{hybrid.name}', so kt_hybrid cannot.")

    def _join(self, optimizer: torch.optim.Optimizer, mine: Sequence[HybridParameter]) -> None:
        def take(*_: object) -> None:
            for hybrid in mine:
                hybrid.take_gradient()

        def fold(*_: object) -> None:
            for hybrid in mine:
                hybrid.fold()

        clear_own = optimizer.zero_grad

        @functools.wraps(clear_own)
        def clear(set_to_none: bool = True) -> None:
            # It no longer holds E. RecVAE's two optimizers alternate over one backward pass, and
            # each thereby drops what has piled up while the other one trained.
            clear_own(set_to_none)
            for hybrid in mine:
                hybrid.parameter.grad = None

        self._joined.callback(optimizer.register_step_pre_hook(take).remove)
        self._joined.callback(optimizer.register_step_post_hook(fold).remove)
        vars(optimizer)["zero_grad"] = clear
        self._joined.callback(vars(optimizer).pop, "zero_grad", None)

    def profiles(self) -> list[ProfileVectors]:
        """Return what the features of each part were made from."""
        return [part.profiles for hybrid in self.parameters for part in hybrid.parts]

    def close(self) -> None:
        """Detach from the optimizers."""
        self._joined.close()

    def state_dict(self) -> State:
        """Return R and the W of each parameter."""
        return {hybrid.name: [p.detach() for p in hybrid.learned()] for hybrid in self.parameters}

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Restore R and W."""
        for hybrid in self.parameters:
            for mine, stored in zip(hybrid.learned(), state[hybrid.name]):
                if mine.shape != stored.shape:
                    raise ValueError(f"{hybrid.name}: {tuple(stored.shape)} is not {mine.shape}.")
                mine.copy_(stored)

    def knowledge(self) -> Settings:
        """Return how far profiles move a row."""
        return {"kt_hybrid_scale": float(self.config["kt_hybrid_scale"])}

    def summary(self) -> Settings:
        """Describe every table."""
        tables = [
            {
                "place": f"hybrid {part.table}",
                "table": str(part.table),
                **part.profiles.summary(),
                "width": int(part.weights.shape[1]),
                "features": int(part.weights.shape[0]),
                "map_norm": float(torch.linalg.vector_norm(part.weights.detach())),
            }
            for hybrid in self.parameters
            for part in hybrid.parts
        ]
        return {self.name: tables}


def profile_features(config: RunConfig, profiles: ProfileVectors, trained_ids: IntArray) -> Tensor:
    """Return the profile embeddings of a run's users or items as features.

    Parameters
    ----------
    config : Config
        ``kt_hybrid_scale``, ``kt_control``, ``kt_seed``.
    profiles : ProfileVectors
        Their profiles.
    trained_ids : ndarray of int64
        Who occurs in the training split: the mean is theirs.

    Returns
    -------
    Tensor of float32, shape (n_entities, dim_text)
    """
    trained = np.isin(profiles.ids, trained_ids)
    if not trained.any():
        raise ProfileError(
            f"None of the {len(profiles.ids)} {profiles.entity}s with a profile occurs in the "
            "training split: kt_hybrid has nothing to learn its map from."
        )
    centred = profiles.vectors - profiles.vectors[trained].mean(axis=0)
    length = float(np.sqrt(np.square(centred[trained]).sum(axis=1).mean()))
    if not length > 0:
        raise ConfigError(f"The {profiles.entity} profile embeddings are all the same.")
    scaled = centred * (float(config["kt_hybrid_scale"]) / length)
    rng = np.random.default_rng(transfer_seed(config))
    controlled = apply_control(config["kt_control"], scaled.astype(np.float32), rng)
    features = torch.zeros(profiles.n_entities, scaled.shape[1])
    features[torch.from_numpy(np.asarray(profiles.ids))] = torch.from_numpy(controlled)
    return features


def _flushed(values: Tensor) -> Tensor:
    """Return values with 0 for what is next to nothing.

    Where a part of the model has died (ReLUs that never fire), weight decay wears maps and
    gradients down to denormal numbers, and a CPU multiplies matrices of those a hundred times
    slower.
    """
    return nn.functional.hardshrink(values, 1e-30)


def _replace(optimizer: torch.optim.Optimizer, hybrid: HybridParameter) -> bool:
    """Put R and W where an optimizer holds E; tell whether it does."""
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if parameter is hybrid.parameter:
                group["params"][place] = hybrid.own
                group["params"] += hybrid.learned()[1:]
                optimizer.state.pop(hybrid.parameter, None)
                complete_adagrad(optimizer)
                return True
    return False
