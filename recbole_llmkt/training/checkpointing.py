"""Plain checkpoints, and resuming from them, for any of RecBole's trainers."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping
from logging import getLogger
from typing import TYPE_CHECKING

import torch
from recbole.utils import set_color
from torch import nn

from recbole_llmkt.checkpoints import (
    check_ids,
    counters,
    fitting,
    load_checkpoint,
    load_weights,
    save_file,
)
from recbole_llmkt.compat import evaluate_own_part, kept_tensors, making_trainer, packed_solution
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.evaluation.pairs import PairRanker
from recbole_llmkt.transfer.methods import BUILT_IN, wanted_methods
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.utils.exceptions import DataError, TrainingError
from recbole_llmkt.utils.processes import of_first_process, wait_for_all
from recbole_llmkt.utils.randomness import get_random_state, set_random_state, transfer_seed
from recbole_llmkt.utils.types import Features, Loader, Metrics, RunConfig, Settings, State

if TYPE_CHECKING:
    from recbole.utils import WandbLogger
    from torch.utils.tensorboard import SummaryWriter

logger = getLogger(__name__)


class CheckpointMixin:
    """Checkpoints of tensors and plain Python values; a resumed run equals an uninterrupted one.

    One thing is not kept: the random streams of all processes but the first.

    Attributes
    ----------
    methods : list of Method
        The ways in which this run uses profiles; their state is stored with the model's.
    switch : int
        First epoch of phase 2 (0 without transfer).
    best_of_phase_1 : float or None
        Its best validation score; None before its end, and where it was not validated.
    """

    # What the mixins use of RecBole's Trainer.
    config: RunConfig
    model: nn.Module
    epochs: int
    eval_step: int
    start_epoch: int
    stopping_step: float
    cur_step: int
    best_valid_score: float
    best_valid_result: Metrics | None
    valid_metric_bigger: bool
    saved_model_file: str
    optimizer: torch.optim.Optimizer
    device: torch.device
    checkpoint_dir: str
    item_tensor: Features  # of all items
    tensorboard: SummaryWriter
    wandblogger: WandbLogger
    _train_data: Loader  # of the fit

    def __init__(self, config: RunConfig, model: nn.Module) -> None:
        with making_trainer(config["device"]):
            super().__init__(config, model)  # type: ignore[call-arg]
        # RecBole's name holds the second only: two runs of one second would share a file.
        stem, suffix = os.path.splitext(self.saved_model_file)
        self.saved_model_file = of_first_process(f"{stem}-{uuid.uuid4().hex[:8]}{suffix}")
        self.methods: list[Method] = []
        self.switch = 0
        self.best_of_phase_1: float | None = None
        self._settings = counters(model)
        self._resumed: State | None = None
        self._pair_ranker: PairRanker | None = None
        self._last_valid: tuple[float | None, Metrics | None] = (None, None)

    def _valid_epoch(
        self, valid_data: Loader, show_progress: bool = False
    ) -> tuple[float, Metrics]:
        score, result = super()._valid_epoch(valid_data, show_progress)  # type: ignore[misc]
        if math.isnan(score):  # better than no other: no checkpoint would ever be saved
            raise TrainingError(
                f"{self.config['valid_metric']} of the validation part is not a number, as AUC is "
                "where all labels are equal, and any metric where the model predicts NaN: check "
                "threshold and eval_args, or try a smaller learning_rate."
            )
        self._last_valid = (score, result)
        return score, result

    def _best_result(self) -> dict[str, float] | None:
        """Return the metrics of the best validation, even before RecBole records them."""
        score, result = self._last_valid
        best = result if score == self.best_valid_score else self.best_valid_result
        return {name: float(value) for name, value in best.items()} if best else None

    def _more_optimizers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """Return the optimizers of a trainer that has several (RecVAE), by name."""
        return [
            (name, optimizer)
            for name, optimizer in vars(self).items()
            if isinstance(optimizer, torch.optim.Optimizer) and name != "optimizer"
        ]

    def _state(self, epoch: int) -> State:
        """Return a checkpoint: stock keys, tensors and plain Python values only."""
        return {
            "config": self.config.plain(),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "other_parameter": _plain(self.model.other_parameter()),  # type: ignore[operator]
            "optimizer": self.optimizer.state_dict(),
            "transfer": {
                "ids": Vocabulary.of(self._train_data._dataset).pack(),
                "phase": 1 if epoch < self.switch else 2,
                "switch": self.switch,
                "optimizers": {
                    name: optimizer.state_dict() for name, optimizer in self._more_optimizers()
                },
                "counters": counters(self.model, self._settings),
                "clusters": kept_tensors(self.model),
                "solved": packed_solution(self.model),
                "best_valid_result": self._best_result(),
                "best_of_phase_1": self.best_of_phase_1,
                "random": get_random_state(),
                "loader": [generator.get_state() for generator in _generators(self._train_data)],
                "methods": {method.name: method.state_dict() for method in self.methods},
                "knowledge": {method.name: self._knowledge(method) for method in self.methods},
            },
        }

    def _knowledge(self, method: Method) -> Settings:
        """Return the settings and texts that a method learned from."""
        knowledge: Settings = {"kt_control": self.config["kt_control"]}
        if self.config["kt_control"] in ("shuffled", "random"):
            knowledge["kt_seed"] = transfer_seed(self.config)
        for profiles in method.profiles():
            knowledge[f"texts of the {profiles.entity} profiles"] = profiles.texts
            knowledge[f"encoder of the {profiles.entity} profiles"] = profiles.encoder
        return {**knowledge, **method.knowledge()}

    def _check_knowledge(self, saved: Mapping[str, Settings]) -> None:
        """Refuse to resume with other knowledge than before, where training still depends on it."""
        changed: dict[str, str] = {}
        for method in self.methods:
            before, now = saved.get(method.name, {}), self._knowledge(method)
            if method.uses_profiles_from(self.start_epoch):
                unequal = [key for key in now if key in before and before[key] != now[key]]
                changed.update({key: f"{key} {before[key]!r} -> {now[key]!r}" for key in unequal})
        if changed:
            raise DataError(
                f"'{self.saved_model_file}' was trained with other knowledge than this run would "
                f"resume with ({', '.join(changed.values())}): resume with what it was "
                "trained with, or start a new run."
            )

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **keywords: object) -> None:
        if not self._writes():
            return
        if epoch < 0 < self.start_epoch:
            return  # A resumed run that has nothing left to train: the file stays as it is.
        target = str(keywords.pop("saved_model_file", self.saved_model_file))
        save_file(self._state(epoch), target)
        if verbose:
            getLogger().info(set_color("Saving current", "blue") + f": {target}")

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Store a pre-trained model (RaCT, S3Rec) as a plain checkpoint.

        Parameters
        ----------
        epoch : int
            The current epoch.
        saved_model_file : str
            Where to store it.
        """
        if self._writes():
            save_file(self._state(epoch), saved_model_file)
        self.saved_model_file = saved_model_file
        wait_for_all()

    def _writes(self) -> bool:
        """Tell whether this process writes the checkpoints of its machine."""
        return bool(self.config["single_spec"]) or self.config["local_rank"] == 0

    def resume_checkpoint(self, resume_file: str) -> None:
        """Resume from a checkpoint of this trainer: call it before :meth:`fit`.

        The resumed run equals one that was never interrupted: phase, methods, optimizer and
        random streams are restored.

        Parameters
        ----------
        resume_file : str
            The checkpoint.

        Raises
        ------
        DataError
            The file is no checkpoint of this package, or is of another model.
        """
        checkpoint = load_checkpoint(resume_file, self.device)
        saved = str(checkpoint["config"].get("model")).rpartition(".")[2]
        if saved != self.config["model"]:
            raise DataError(
                f"'{resume_file}' is a checkpoint of {saved}, but the run trains "
                f"{self.config['model']}: give the checkpoint of the same model."
            )
        self.saved_model_file = str(resume_file)
        with fitting(resume_file, "run", "It is damaged: train from the start."):
            self.start_epoch = checkpoint["epoch"] + 1
            self.cur_step = checkpoint["cur_step"]
            self.best_valid_score = checkpoint["best_valid_score"]
            self.best_valid_result = checkpoint["transfer"]["best_valid_result"]
            self.best_of_phase_1 = checkpoint["transfer"]["best_of_phase_1"]
            for method in {*BUILT_IN, *wanted_methods(self.config)}:
                method.rewind(checkpoint)
        load_weights(self.model, checkpoint, resume_file)
        self._resumed = checkpoint
        logger.info("Checkpoint loaded. Resume training from epoch %d.", self.start_epoch)

    def evaluate(
        self,
        eval_data: Loader,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Metrics:
        """Evaluate the model, with the best checkpoint or another one of this package.

        Parameters and result are those of RecBole's ``Trainer.evaluate``.
        """
        if load_best_model:
            path = model_file or self.saved_model_file
            # On the CPU: the optimizer's state is not needed on the device.
            checkpoint = load_checkpoint(path)
            check_ids(checkpoint, eval_data._dataset, path)
            load_weights(self.model, checkpoint, path)
            logger.info("Loading model structure and parameters from %s", path)
        evaluate_own_part(eval_data)
        metrics: Metrics = super().evaluate(  # type: ignore[misc]
            eval_data, load_best_model=False, show_progress=show_progress
        )
        return metrics

    def _map_reduce(self, result: Metrics, num_sample: int) -> Metrics:
        """Return the metrics: the collector has joined the rows of all processes."""
        return result

    def _full_sort_batch_eval(self, batch: tuple[Features, ...]) -> object:
        """Rank all items for a batch of users: by blocks where that gives the same scores."""
        if self._pair_ranker is None:
            self._pair_ranker = PairRanker(self.config, self.model, self.item_tensor)
        with self._pair_ranker.ranking(batch[0].to(self.device)):
            return super()._full_sort_batch_eval(batch)  # type: ignore[misc]

    def _restore_resumed(self) -> None:
        """Restore what needs projectors and loader to exist."""
        if self._resumed is None:
            return
        checkpoint, self._resumed = self._resumed, None
        check_ids(checkpoint, self._train_data._dataset, self.saved_model_file)
        extra = checkpoint["transfer"]
        if extra.get("phase") == 2 and extra.get("switch") and self.switch > self.start_epoch:
            raise DataError(
                f"'{self.saved_model_file}' is past its phase 1 of {extra['switch']} epochs, and "
                f"this run's phase 1 has {self.switch}: set kt_epochs: {extra['switch']}, a count, "
                "where `epochs` has changed."
            )
        with fitting(
            self.saved_model_file,
            "run",
            "It was saved by a run with another learner, projector or layer: resume with the "
            "settings it was made with.",
        ):
            self._check_knowledge(extra["knowledge"])
            for method in self.methods:
                method.load_state_dict(extra["methods"][method.name])
            for name, optimizer in self._more_optimizers():
                optimizer.load_state_dict(extra["optimizers"][name])
            if not extra["optimizers"]:
                self.optimizer.load_state_dict(checkpoint["optimizer"])
            for generator, state in zip(_generators(self._train_data), extra["loader"]):
                generator.set_state(state.cpu())
            if self._writes():
                set_random_state(extra["random"])  # of all processes these would be the same draws


def _plain(values: State | None) -> State:
    """Copy a model's other parameters as tensors and plain values.

    What is neither is left out, because the model's constructor makes it again: modules
    (RecBole's feature embeddings; ``state_dict`` has their weights), and the matrices of models
    that are solved when they are made (ItemKNN, EASE), which are saved apart where profiles
    changed them.
    """
    return {key: _copied(value) for key, value in (values or {}).items() if _is_plain(value)}


def _copied(value: object) -> object:
    """Copy dicts and lists of plain values: RippleNet's defaultdict would be pickled."""
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(part) for part in value)
    return value


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (torch.Tensor, bool, int, float, str))


def _generators(loader: Loader) -> list[torch.Generator]:
    """Return what a loader shuffles with; one of knowledge graphs holds two loaders."""
    parts = [getattr(loader, name, None) for name in ("general_dataloader", "kg_dataloader")]
    generators = (getattr(part, "generator", None) for part in (loader, *parts))
    return [generator for generator in generators if generator is not None]
