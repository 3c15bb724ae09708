"""The trainer: RecBole's own for the model, with two phases."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Iterator, Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.trainer.trainer import NCLTrainer
from recbole.utils import set_color
from torch import nn
from tqdm import tqdm

from recbole_llmkt.training.checkpointing import ResumingMixin, wait_for_all
from recbole_llmkt.transfer.auxiliary.schedule import transfer_epochs, weight_factor
from recbole_llmkt.transfer.auxiliary.settings import term_settings
from recbole_llmkt.transfer.auxiliary.task import Meter, TransferTask
from recbole_llmkt.transfer.methods.cold_start import ColdStart
from recbole_llmkt.transfer.methods.hybrid import HybridTables
from recbole_llmkt.transfer.methods.initialize import start_tables
from recbole_llmkt.utils.exceptions import ConfigError, LayerError

logger = getLogger(__name__)


class TransferMixin(ResumingMixin):
    """Knowledge transfer for the trainer class that RecBole picks for a model.

    Phase 1 trains with the model's loss plus the transfer loss, phase 2 with the model's alone.
    Early stopping cannot end a run in phase 1; its best score and its step counter start anew at
    the switch, so the best checkpoint is one of phase 2.

    Attributes
    ----------
    enabled : bool
        Whether there is a transfer loss: not with ``kt_enabled: False`` or ``kt_weight: 0``. Only
        then is there a ``task``, from the start of training on.
    cold_start : ColdStart or None
        What ``kt_cold_start`` does after training.
    before_training : callable
        Called when all checks are through, before the first step.
    """

    def __init__(self, config: Any, model: nn.Module) -> None:
        super().__init__(config, model)
        transfers = config["kt_enabled"] and config["kt_method"] == "transfer"
        self.enabled = bool(transfers and term_settings(config))
        self.cold_start: ColdStart | None = None
        self.before_training: Callable[[], None] = lambda: None
        self._patience = self.stopping_step

    # ---- phases -------------------------------------------------------------------------------

    def fit(self, train_data: Any, *arguments: Any, **keywords: Any) -> Any:
        """Train as RecBole's trainer does, with knowledge transfer in the first epochs.

        Parameters and result are those of RecBole's ``Trainer.fit``.

        Raises
        ------
        LLMKTError
            Before the first step, if anything about the transfer cannot be done.
        """
        self._train_data = train_data
        self._check_patterns()
        if self.config["train_neg_sample_args"].get("dynamic"):
            train_data.get_model(self.model)
        self._use_tables()
        if self.enabled:
            epochs, eval_step = self._length(arguments, keywords)
            self.switch = transfer_epochs(epochs, self.config["kt_epochs"], eval_step)
            self.task = TransferTask(self.config, self.model, train_data)
            self.task.join_optimizers(self._optimizers())
            logger.info("Phase 1 (transfer): epochs 0 to %d of %d.", self.switch - 1, epochs)
        if self.hybrid is not None:
            self.hybrid.join_optimizers(self._optimizers())
        self._restore_resumed()
        self.before_training()
        try:
            result = super().fit(train_data, *arguments, **keywords)  # type: ignore[misc]
        finally:
            self._freeze(())
            if self.hybrid is not None:
                self.hybrid.close()
        self._compare_phases()
        saved = arguments[2] if len(arguments) > 2 else keywords.get("saved", True)
        self._fill_cold(saved)
        if saved:
            wait_for_all()  # all of them test what the first one has written
        return result

    def _use_tables(self) -> None:
        """Start the embedding tables from profiles, and find out who is cold, where wanted."""
        if not self.config["kt_enabled"]:
            return
        if self.config["kt_init"] == "targets" and self._resumed is None:
            started = start_tables(self.config, self.model, self._train_data)
            self.starts = [one.summary() for one in started]
        if self.config["kt_hybrid"] == "linear":
            self.hybrid = HybridTables(self.config, self.model, self._train_data)
        if self.config["kt_cold_start"] and not self._pretrains():
            self.cold_start = ColdStart(self.config, self.model, self._train_data)

    def _pretrains(self) -> bool:
        return "pretrain" in str(getattr(self.model, "train_stage", ""))

    def _fill_cold(self, saved: bool) -> None:
        """Give cold users and items their embeddings: in the best checkpoint, else in memory."""
        if self.cold_start is None:
            return
        if not saved:
            self.cold_start.fill_model(self.model)
        elif self._writes():
            self.cold_start.fill_checkpoint(self.saved_model_file)

    def _length(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> tuple[int, int]:
        """Return the epochs of this fit, and those between validations (0: there are none)."""
        if self._pretrains():
            return int(self.config["pretrain_epochs"]), 0
        validated = arguments[0] if arguments else keywords.get("valid_data")
        return self.epochs, self.eval_step if validated else 0

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [one for one in vars(self).values() if isinstance(one, torch.optim.Optimizer)]

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: Any = None,
        show_progress: bool = False,
    ) -> Any:
        self._enter(epoch_idx)
        epoch = super()._train_epoch  # type: ignore[misc]
        if self.task is None or epoch_idx >= self.switch:
            return epoch(train_data, epoch_idx, loss_func, show_progress)
        factor = weight_factor(self.config["kt_schedule"], epoch_idx, self.switch)
        parts = self._parts(epoch_idx)
        with self.task.attached(epoch_idx, factor, parts, measure_gradients=True) as meter:
            if show_progress:
                train_data, show_progress = _LossBar(train_data, epoch_idx, meter), False
            losses = epoch(train_data, epoch_idx, loss_func, show_progress)
        model_loss, transfer_loss = meter.means() if meter.batches else (None, None)
        self.model_losses.append(model_loss)
        self.transfer_losses.append(transfer_loss)
        self.gradient_ratios.append(meter.gradient_ratio)
        return losses

    def _parts(self, epoch_idx: int) -> int | None:
        """Return how many parts of the model's loss are trained, as a slice's end: None is all."""
        warms_up = isinstance(self, NCLTrainer) and epoch_idx < self.config["warm_up_step"]
        return -1 if warms_up else None  # RecBole's NCLTrainer drops the last

    def _enter(self, epoch_idx: int) -> None:
        """Set up the phase that ``epoch_idx`` lies in."""
        in_transfer = self.task is not None and epoch_idx < self.switch
        self.stopping_step = sys.maxsize if in_transfer else self._patience
        if epoch_idx == self.start_epoch or epoch_idx == self.switch:
            phase = 1 if in_transfer else 2
            self._freeze(self.config[f"kt_freeze_phase{phase}"] if self.task is not None else ())
        if self.task is not None and epoch_idx == self.switch > 0:
            logger.info("Phase 2 (fine-tuning) begins with epoch %d.", epoch_idx)
            validated = self.best_valid_result is not None
            self.best_of_phase_1 = float(self.best_valid_score) if validated else None
            self.cur_step = 0
            self.best_valid_score = -np.inf if self.valid_metric_bigger else np.inf
            self.best_valid_result = None

    def _compare_phases(self) -> None:
        """Say so where phase 1 validated better than all that is kept."""
        first, kept = self.best_of_phase_1, self.best_valid_score
        if first is None or (first <= kept if self.valid_metric_bigger else first >= kept):
            return
        logger.info(
            "Phase 1 validated better (%s %.4f) than any epoch of phase 2 (%.4f), and the best "
            "checkpoint is one of phase 2. Too long a phase 1 overfits: try a smaller kt_epochs "
            "(it is %s).",
            self.config["valid_metric"],
            first,
            kept,
            self.config["kt_epochs"],
        )

    # ---- freezing -----------------------------------------------------------------------------

    def _check_patterns(self) -> None:
        frozen = [*self.config["kt_freeze_phase1"], *self.config["kt_freeze_phase2"]]
        if self.config["kt_enabled"] and frozen and not self.enabled:
            raise ConfigError(
                "kt_freeze_phase1 and kt_freeze_phase2 belong to the phases of a transfer loss, "
                "and this run has none (kt_weight is 0, or kt_method is kar): leave them out."
            )
        if self.enabled and frozen and not self.config["single_spec"]:
            raise ConfigError(
                "kt_freeze_phase1 and kt_freeze_phase2 cannot be used with several processes: "
                "PyTorch's DistributedDataParallel wants the same parameters throughout."
            )
        names = [name for name, _ in self.model.named_parameters()]
        for phase in (1, 2):
            for pattern in self.config[f"kt_freeze_phase{phase}"] if self.enabled else ():
                if not fnmatch.filter(names, pattern):
                    raise ConfigError(
                        f"kt_freeze_phase{phase}: '{pattern}' matches no parameter of "
                        f"{type(self.model).__name__}. Its parameters: {', '.join(names)}."
                    )

    def _freeze(self, patterns: Sequence[str]) -> None:
        """Train all parameters but those that match a pattern (and those that never trained)."""
        if not hasattr(self, "_trainable"):
            self._trainable = {n for n, one in self.model.named_parameters() if one.requires_grad}
        for name, parameter in self.model.named_parameters():
            frozen = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            parameter.requires_grad_(name in self._trainable and not frozen)
        if not any(one.requires_grad for one in self.model.parameters()):
            raise LayerError(f"The patterns {list(patterns)} freeze every parameter of the model.")

    # ---- logs ---------------------------------------------------------------------------------

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: Any
    ) -> str:
        line: str = super()._generate_train_loss_output(  # type: ignore[misc]
            epoch_idx, s_time, e_time, losses
        )
        if not self._transfers(epoch_idx):
            return line
        places = self.config["loss_decimal_place"] or 4
        parts = {
            "model loss": self.model_losses[-1],
            "transfer loss": self.transfer_losses[-1],
            "gradient ratio": self.gradient_ratios[-1],
        }
        text = ", ".join(
            f"{set_color(name, 'blue')}: {value:.{places}f}"
            for name, value in parts.items()
            if value is not None
        )
        return f"{line[:-1]}, {text}]"

    def _add_train_loss_to_tensorboard(
        self, epoch_idx: int, losses: Any, tag: str = "Loss/Train"
    ) -> None:
        super()._add_train_loss_to_tensorboard(epoch_idx, losses, tag)  # type: ignore[misc]
        if self._transfers(epoch_idx):
            values = {"model": self.model_losses[-1], "transfer": self.transfer_losses[-1]}
            logged = {f"{name}_loss": one for name, one in values.items() if one is not None}
            for name, value in logged.items():
                label = name.partition("_")[0].capitalize()
                self.tensorboard.add_scalar(f"Loss/{label}", value, epoch_idx)
            if self.gradient_ratios[-1] is not None:
                logged["gradient_ratio"] = self.gradient_ratios[-1]
                self.tensorboard.add_scalar("Gradient/Ratio", logged["gradient_ratio"], epoch_idx)
            self.wandblogger.log_metrics({**logged, "train_step": epoch_idx}, head="train")

    def transfer_summary(self) -> dict[str, Any] | None:
        """Describe the transfer of this run in plain values; None if there was none."""
        if self.task is None and not self.starts and self.hybrid is None and not self.cold_start:
            return None
        terms = [term.summary() for term in self.task.terms] if self.task is not None else []
        hybrid = self.hybrid.summary() if self.hybrid is not None else []
        cold = self.cold_start.summary() if self.cold_start is not None else []
        used = (*terms, *self.starts, *hybrid, *cold)
        return {
            "terms": terms,
            "init": self.starts,
            "hybrid": hybrid,
            "cold_start": cold,
            "phase_switch": self.switch,
            "model_loss": self.model_losses,
            "transfer_loss": self.transfer_losses,
            "gradient_ratio": self.gradient_ratios,
            # One number for each entity, whatever its profiles were used for.
            "leaks": sum({one["entity"]: one["leaks"] for one in used}.values()),
        }


class _LossBar:
    """A loader with a progress bar that shows the model loss and the transfer loss apart."""

    def __init__(self, loader: Any, epoch_idx: int, meter: Meter) -> None:
        self._loader, self._epoch, self._meter = loader, epoch_idx, meter

    def __iter__(self) -> Iterator[Any]:
        title = set_color(f"Train {self._epoch:>5}", "pink")
        with tqdm(self._loader, total=len(self._loader), ncols=100, desc=title) as bar:
            for batch in bar:
                yield batch
                model_loss, transfer_loss = self._meter.means()
                bar.set_postfix_str(f"model {model_loss:.4f} transfer {transfer_loss:.4f}", False)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
