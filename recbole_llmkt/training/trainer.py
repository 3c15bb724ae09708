"""The trainer: RecBole's own for the model, with a list of methods that use profiles."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from recbole.utils import set_color
from torch import nn

from recbole_llmkt.compat import MetricsCollector, make_folders, pretrains
from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.training.checkpointing import CheckpointMixin
from recbole_llmkt.training.refusals import model_refusals
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.transfer.methods.base import places as places_of
from recbole_llmkt.utils.exceptions import ConfigError, TrainingError
from recbole_llmkt.utils.files import remove_leftovers
from recbole_llmkt.utils.processes import process_means, wait_for_all
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.text import one_line
from recbole_llmkt.utils.types import Features, Loader, Metrics, RunConfig, Settings

logger = getLogger(__name__)


class TransferMixin(CheckpointMixin):
    """Knowledge transfer for the trainer class that RecBole picks for a model.

    It calls the run's methods and knows none of them by name. Where a method has two phases, early
    stopping cannot end a run in phase 1; its best score and its step counter are reset at the
    switch, so the best checkpoint is one of phase 2.

    Attributes
    ----------
    run_profiles : RunProfiles or None
        The run's profiles, where they have been read before.
    has_weights : bool
        Whether the model starts with the weights of an earlier run.
    before_training : callable
        Called when all checks are through, before the first step.
    """

    def __init__(self, config: RunConfig, model: nn.Module) -> None:
        super().__init__(config, model)
        self.eval_collector = MetricsCollector(config)
        self.run_profiles: RunProfiles | None = None
        self.has_weights = False
        self.before_training: Callable[[], None] = lambda: None
        self._patience = self.stopping_step
        self._epoch = self._step = 0

    # ---- training -----------------------------------------------------------------------------

    def fit(
        self, train_data: Loader, *arguments: object, **keywords: object
    ) -> tuple[float, Metrics | None]:
        """Train as RecBole's trainer does, with the methods that the run asks for.

        Parameters and result are those of RecBole's ``Trainer.fit``.

        Raises
        ------
        LLMKTError
            Before the first step, if the transfer cannot work.
        """
        self._train_data = train_data
        if self.config["train_neg_sample_args"].get("dynamic"):
            train_data.get_model(self.model)  # type: ignore[attr-defined]
        self._prepare(*self._length(arguments, keywords))
        self._restore_resumed()
        if self._writes():
            remove_leftovers(Path(self.saved_model_file).parent)
        self.before_training()
        make_folders(self, self._writes())
        try:
            score, metrics = super().fit(  # type: ignore[misc]
                train_data, *arguments, **keywords
            )
        finally:
            for method in self.methods:
                method.close()
        self._compare_phases()
        saved = arguments[2] if len(arguments) > 2 else keywords.get("saved", True)
        if self._writes() or not saved:
            for method in self.methods:
                method.finish(self.model, self.saved_model_file if saved else None)
        if saved:
            wait_for_all()  # all of them test what the first one has written
        return score, metrics

    def _prepare(self, epochs: int, eval_step: int) -> None:
        """Prepare the methods: what cannot work is refused here."""
        self.methods = [method(self.config) for method in wanted_methods(self.config)]
        context = RunContext(
            self.config,
            self.model,
            self._train_data,
            self.run_profiles or RunProfiles(self.config, self._train_data._dataset),
            epochs,
            eval_step,
            resumed=self._resumed is not None or self.has_weights,
            pretraining=pretrains(self.model),
        )
        for method in self.methods:
            method.prepare(context)
        context.profiles.forget()
        for method in self.methods:
            method.join_optimizers(self._optimizers())
        self.switch = max((method.switch for method in self.methods), default=0)

    def _length(
        self, arguments: Sequence[object], keywords: Mapping[str, object]
    ) -> tuple[int, int]:
        """Return the epochs of this fit, and those between validations (0: there are none)."""
        if pretrains(self.model):
            return int(self.config["pretrain_epochs"]), 0
        validated = arguments[0] if arguments else keywords.get("valid_data")
        return self.epochs, self.eval_step if validated else 0

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [value for value in vars(self).values() if isinstance(value, torch.optim.Optimizer)]

    def _train_epoch(
        self,
        train_data: Loader,
        epoch_idx: int,
        loss_func: Callable[..., object] | None = None,
        show_progress: bool = False,
    ) -> object:
        self._enter(epoch_idx)
        self._epoch, self._step = epoch_idx, 0
        for method in self.methods:
            method.on_epoch_begin(epoch_idx)
        data: Loader | _LossBar = train_data
        if show_progress and self._progress():
            data, show_progress = _LossBar(train_data, epoch_idx, self._progress), False
        epoch = super()._train_epoch  # type: ignore[misc]
        with model_refusals(self.model, lambda: self._step == 0):
            try:
                losses: object = epoch(data, epoch_idx, loss_func, show_progress)
            except RuntimeError as error:
                if self.config["enable_amp"] and self._step < 2:
                    raise ConfigError(self._without_amp(error)) from error
                raise
        for method in self.methods:
            method.on_epoch_end(epoch_idx)
        return _of_all_processes(losses)

    def _without_amp(self, error: RuntimeError) -> str:
        reason = one_line(str(error).partition("\n")[0]).rstrip(".")
        return (
            f"enable_amp: True: {self.config['model']} fails in its first step on "
            f"{self.device.type}, where it computes in half precision: {reason}. Set enable_amp: "
            "False."
        )

    def _check_nan(self, loss: torch.Tensor) -> None:
        """Stop at a loss that is NaN, or infinite if profiles are used, and name the part."""
        self._step += 1
        value = loss.item()
        if math.isnan(value) or (self.methods and math.isinf(value)):
            raise TrainingError(self._not_finite(value))

    def _not_finite(self, loss: float) -> str:
        parts = {name: value for m in self.methods for name, value in m.loss_parts().items()}
        broken = [f"{name} is {value}" for name, value in parts.items() if not np.isfinite(value)]
        named = self.model.named_parameters()
        spoiled = next(
            (name for name, parameter in named if not torch.isfinite(parameter).all()), None
        )
        since = (
            f" The step before made the parameter '{spoiled}' NaN or infinite."
            if spoiled is not None
            else ""
        )
        place = f"Epoch {self._epoch}, step {self._step}"
        whole = "the sum of all parts" if parts else "the model's own loss"
        return (
            f"{place}: {', '.join(broken) or f'{whole} is {loss}'}.{since} Try a smaller "
            "learning_rate, or clip_grad_norm: {max_norm: 5}; kt_weight: 0 shows whether the model "
            "trains without profiles."
        )

    def _progress(self) -> dict[str, float]:
        return {key: mean for method in self.methods for key, mean in method.progress().items()}

    def _enter(self, epoch_idx: int) -> None:
        """Set up early stopping for the phase that ``epoch_idx`` lies in."""
        self.stopping_step = sys.maxsize if epoch_idx < self.switch else self._patience
        if epoch_idx == self.switch > 0:
            logger.info("Phase 2 (fine-tuning) begins with epoch %d.", epoch_idx)
            validated = self.best_valid_result is not None
            self.best_of_phase_1 = float(self.best_valid_score) if validated else None
            self.cur_step = 0
            self.best_valid_score = -np.inf if self.valid_metric_bigger else np.inf
            self.best_valid_result = None

    def _compare_phases(self) -> None:
        """Log it if phase 1 validated better than the checkpoint that is kept."""
        first, kept = self.best_of_phase_1, self.best_valid_score
        if first is None or (first <= kept if self.valid_metric_bigger else first >= kept):
            return
        logger.info(
            "Phase 1 validated better (%s %.4f) than any epoch of phase 2 (%.4f), and the best "
            "checkpoint is from phase 2. Too long a phase 1 overfits: try a smaller kt_epochs "
            "(it is %s).",
            self.config["valid_metric"],
            first,
            kept,
            self.config["kt_epochs"],
        )

    # ---- logs ---------------------------------------------------------------------------------

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: object
    ) -> str:
        line: str = super()._generate_train_loss_output(  # type: ignore[misc]
            epoch_idx, s_time, e_time, losses
        )
        places = self.config["loss_decimal_place"] or 4
        text = ", ".join(
            f"{set_color(key.replace('_', ' '), 'blue')}: {value:.{places}f}"
            for key, value in self._losses(epoch_idx).items()
        )
        return f"{line[:-1]}, {text}]" if text else line

    def _losses(self, epoch_idx: int) -> dict[str, float]:
        return {
            key: loss for method in self.methods for key, loss in method.losses(epoch_idx).items()
        }

    def _add_train_loss_to_tensorboard(
        self, epoch_idx: int, losses: object, tag: str = "Loss/Train"
    ) -> None:
        super()._add_train_loss_to_tensorboard(epoch_idx, losses, tag)  # type: ignore[misc]
        logged = self._losses(epoch_idx)
        for key, value in logged.items():
            self.tensorboard.add_scalar(_tag(key), value, epoch_idx)
        if logged:
            self.wandblogger.log_metrics({**logged, "train_step": epoch_idx}, head="train")

    def transfer_summary(self) -> Settings | None:
        """Describe in plain values how this run used profiles; None if it did not.

        Returns
        -------
        dict
            ``method`` (``kt_method``), ``terms``, ``phase_switch``, what each method's summary
            adds, and ``leaks``: profiles that were written from other interactions.
        """
        if not self.methods:
            return None
        summary: Settings = {
            "method": self.config["kt_method"],
            "terms": [],
            "phase_switch": self.switch,
        }
        for method in self.methods:
            summary.update(method.summary())
        # Counted once for each entity, however many places use its profiles.
        leaks = {facts["entity"]: facts.get("leaks", 0) for _, facts in places_of(summary)}
        return {**summary, "leaks": sum(leaks.values())}


def _of_all_processes(losses: object) -> object:
    """Return the mean over the processes of a loss, or of each part of a loss."""
    if isinstance(losses, tuple):
        return tuple(process_means(losses))
    return process_means([losses])[0] if isinstance(losses, float) else losses


def _tag(key: str) -> str:
    """Return TensorBoard's tag of a value: ``Loss/Transfer`` for ``transfer_loss``."""
    first, _, last = key.partition("_")
    words = (last, first) if last == "loss" else (first, last)
    return "/".join(word.capitalize() for word in words if word)


class _LossBar:
    """A loader with a progress bar that shows each loss."""

    def __init__(
        self, loader: Loader, epoch_idx: int, progress: Callable[[], Mapping[str, float]]
    ) -> None:
        self._loader, self._epoch, self._progress = loader, epoch_idx, progress

    def __iter__(self) -> Iterator[Features]:
        title = set_color(f"Train {self._epoch:>5}", "pink")
        with tqdm(self._loader, total=len(self._loader), ncols=100, desc=title) as bar:
            for batch in bar:
                yield batch
                means = self._progress().items()
                bar.set_postfix_str(" ".join(f"{key} {mean:.4f}" for key, mean in means), False)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)
