"""The paper's method: reconstruct profiles at hidden layers, by an auxiliary loss (LLM-KT)."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from logging import getLogger
from typing import ClassVar

import torch

from recbole_llmkt.compat import trained_parts
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.auxiliary.schedule import transfer_epochs, weight_factor
from recbole_llmkt.transfer.auxiliary.settings import term_settings
from recbole_llmkt.transfer.auxiliary.task import Meter, TransferTask
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.processes import process_means
from recbole_llmkt.utils.types import RunConfig, Settings, State

logger = getLogger(__name__)

_FREEZING = ("kt_freeze_phase1", "kt_freeze_phase2")


class AuxiliaryLoss(Method):
    """Phase 1 trains with the model's loss plus the transfer loss, phase 2 with the model's alone.

    Severin et al. (2024), arXiv 2411.00556, equation 1.

    Attributes
    ----------
    task : TransferTask
        The auxiliary task, from :meth:`prepare` on.
    model_losses, transfer_losses : list of float or None
        Mean losses of a batch, an entry for each epoch of phase 1; None where an epoch had no
        batch with interactions (KTUP's epochs of knowledge-graph triples).
    gradient_ratios : list of float or None
        How strongly the transfer loss pulls at the parameters that both losses train, against the
        model's own: ratio of the norms of their gradients in the first batch of each epoch of
        phase 1.
    """

    name: ClassVar[str] = "loss"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.task: TransferTask
        self.model_losses: list[float | None] = []
        self.transfer_losses: list[float | None] = []
        self.gradient_ratios: list[float | None] = []
        self._attached = ExitStack()
        self._meter: Meter | None = None
        self._trainable: set[str] | None = None
        self._entered: int | None = None  # the phase whose parameters are frozen

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse to freeze parameters in phases that the run does not have."""
        frozen = any(config[key] for key in _FREEZING)
        if config["kt_enabled"] and frozen and not cls.wanted(config):
            raise ConfigError(
                "kt_freeze_phase1 and kt_freeze_phase2 belong to the phases of a transfer loss, "
                "and this run has none (kt_weight is 0, or kt_method is not transfer): leave them "
                "out."
            )

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """Not with ``kt_weight: 0``."""
        return bool(config["kt_method"] == "transfer" and term_settings(config))

    @classmethod
    def entities(cls, config: RunConfig) -> set[str]:
        """Return whose profiles the terms of the loss reconstruct."""
        return {term.entity for term in term_settings(config)}

    # ---- training -----------------------------------------------------------------------------

    def prepare(self, context: RunContext) -> None:
        """Build the terms of the loss, and set the length of phase 1."""
        self.model = context.model
        self._check_patterns()
        self.switch = transfer_epochs(context.epochs, self.config["kt_epochs"], context.eval_step)
        self.task = TransferTask(context)
        logger.info("Phase 1 (transfer): epochs 0 to %d of %d.", self.switch - 1, context.epochs)

    def join_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Train projectors, masks and own losses."""
        self.task.join_optimizers(optimizers)

    def on_epoch_begin(self, epoch: int) -> None:
        """Add the transfer loss to the model's, in phase 1."""
        phase = 1 if epoch < self.switch else 2
        if phase != self._entered:
            self._entered = phase
            self._freeze(self.config[f"kt_freeze_phase{phase}"])
        if phase == 1:
            factor = weight_factor(self.config["kt_schedule"], epoch, self.switch)
            parts = trained_parts(self.config, epoch)
            attached = self.task.attached(epoch, factor, parts, measure_gradients=True)
            self._meter = self._attached.enter_context(attached)

    def on_epoch_end(self, epoch: int) -> None:
        """Remove the transfer loss from the model, and record the epoch's means."""
        self._attached.close()
        meter, self._meter = self._meter, None
        if meter is not None:
            means = meter.means() if meter.batches else (None, None)
            model_loss, transfer_loss, ratio = process_means([*means, meter.gradient_ratio])
            self.model_losses.append(model_loss)
            self.transfer_losses.append(transfer_loss)
            self.gradient_ratios.append(ratio)

    def close(self) -> None:
        """Remove everything from the model."""
        self._attached.close()
        self._freeze(())

    def progress(self) -> Mapping[str, float]:
        """Return both mean losses of the running epoch."""
        if self._meter is None:
            return {}
        model_loss, transfer_loss = self._meter.means()
        return {"model": model_loss, "transfer": transfer_loss}

    def losses(self, epoch: int) -> Mapping[str, float]:
        """Return both losses and the gradient ratio of an epoch of phase 1."""
        if epoch >= self.switch:
            return {}
        last = {
            "model_loss": self.model_losses[-1],
            "transfer_loss": self.transfer_losses[-1],
            "gradient_ratio": self.gradient_ratios[-1],
        }
        return {key: value for key, value in last.items() if value is not None}

    def loss_parts(self) -> Mapping[str, float]:
        """Return the model's loss of the last batch, and that of each term."""
        if self._meter is None or self._meter.last is None:
            return {}
        model_loss, losses = self._meter.last
        name = self.config["kt_loss"]
        parts = {
            f"the transfer loss ({name}, {term.profiles.entity} profiles at '{term.layer}')": loss
            for term, loss in zip(self.task.terms, losses)
        }
        return {
            "the model's own loss": float(model_loss),
            **{words: float(loss) for words, loss in parts.items()},
        }

    # ---- freezing -----------------------------------------------------------------------------

    def _check_patterns(self) -> None:
        if any(self.config[key] for key in _FREEZING) and not self.config["single_spec"]:
            raise ConfigError(
                "kt_freeze_phase1 and kt_freeze_phase2 cannot be used with several processes: "
                "PyTorch's DistributedDataParallel wants the same parameters throughout."
            )
        parameters = dict(self.model.named_parameters())
        names = list(parameters)
        trained = [name for name in names if parameters[name].requires_grad]
        for key in _FREEZING:
            if all(_matches(name, self.config[key]) for name in trained):
                raise LayerError(
                    f"{key}: {list(self.config[key])} freezes every parameter of the model."
                )
            for pattern in self.config[key]:
                if not fnmatch.filter(names, pattern):
                    raise ConfigError(
                        f"{key}: '{pattern}' matches no parameter of "
                        f"{type(self.model).__name__}. Its parameters: {', '.join(names)}."
                    )

    def _freeze(self, patterns: Sequence[str]) -> None:
        """Train all parameters but those that match a pattern (and those that never trained)."""
        parameters = dict(self.model.named_parameters())
        if self._trainable is None:
            self._trainable = {
                name for name, parameter in parameters.items() if parameter.requires_grad
            }
        for name, parameter in parameters.items():
            frozen = _matches(name, patterns)
            parameter.requires_grad_(name in self._trainable and not frozen)

    # ---- checkpoints and results --------------------------------------------------------------

    def state_dict(self) -> State:
        """Return the learned modules outside the model, and the curves."""
        projectors = self.task.projectors().items()
        return {
            "projectors": {place: module.state_dict() for place, module in projectors},
            "model_losses": self.model_losses,
            "transfer_losses": self.transfer_losses,
            "gradient_ratios": self.gradient_ratios,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore both."""
        for place, module in self.task.projectors().items():
            module.load_state_dict(state["projectors"][place])
        self.model_losses = list(state["model_losses"])
        self.transfer_losses = list(state["transfer_losses"])
        self.gradient_ratios = list(state["gradient_ratios"])

    def uses_profiles_from(self, epoch: int) -> bool:
        """Tell whether phase 1 is still on."""
        return epoch < self.switch

    def profiles(self) -> Sequence[ProfileVectors]:
        """Return those of each term."""
        return [term.profiles for term in self.task.terms]

    def knowledge(self) -> Settings:
        """Return how profiles become targets."""
        return {"kt_transform": self.config["kt_transform"]}

    def summary(self) -> Settings:
        """Describe the terms and both curves."""
        terms = [term.summary() for term in self.task.terms]
        return {
            "terms": [{"place": term["layer"], **term} for term in terms],
            "phase_switch": self.switch,
            "model_loss": self.model_losses,
            "transfer_loss": self.transfer_losses,
            "gradient_ratio": self.gradient_ratios,
        }


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
