"""The interface of a method: one way to use profiles in a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from recbole_llmkt.profiles.loading import ProfileVectors, RunProfiles
from recbole_llmkt.transfer.context import RunContext, entities_of
from recbole_llmkt.utils.types import Dataset, RunConfig, Settings, State


class Method:
    """A way to use profiles in a run. Each method of this class does nothing unless overridden.

    The trainer holds a list of these objects and calls them in this order::

        check, wanted, __init__
        [build_model]                       before the trainer is made
        rewind                              on a checkpoint that training resumes from
        prepare, join_optimizers, load_state_dict
        on_epoch_begin, on_epoch_end        every epoch
        close, finish

    Checkpoints hold ``state_dict()`` under the method's name, results hold ``summary()``.

    Parameters
    ----------
    config : RunConfig
        The run's configuration.

    Attributes
    ----------
    name : str
        Key of its state in checkpoints and of its places in results.
    changes_architecture : bool
        Whether the model is no longer RecBole's own.
    switch : int
        First epoch of phase 2; 0 for a method without phases. Early stopping restarts there.
    """

    name: ClassVar[str]
    changes_architecture: ClassVar[bool] = False
    switch: int = 0

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse unusable settings of this method, whether it is wanted or not.

        Raises
        ------
        ConfigError
            Naming the key and the fix.
        """

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """Tell whether the run's keys ask for this method; ``kt_enabled`` is on."""
        return True

    @classmethod
    def entities(cls, config: RunConfig) -> set[str]:
        """Return whose profiles the method reads: a subset of ``{"user", "item"}``."""
        return set(entities_of(config["kt_entity"]))

    @classmethod
    def build_model(
        cls,
        config: RunConfig,
        dataset: Dataset,
        profiles: RunProfiles,
        state_dict: Mapping[str, torch.Tensor] | None,
    ) -> nn.Module | None:
        """Build the run's model; None leaves that to RecBole.

        Parameters
        ----------
        config : RunConfig
            The run's configuration.
        dataset : Dataset
            The run's training split.
        profiles : RunProfiles
            Its profiles; not read where ``state_dict`` has all that is needed.
        state_dict : mapping, optional
            Weights that will be loaded into the model.
        """
        return None

    def prepare(self, context: RunContext) -> None:
        """Read profiles and check that everything can work, before the first step.

        Raises
        ------
        LLMKTError
            Something cannot work.
        """

    def join_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Add the parameters that the method learns outside the model to the run's optimizers."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Set up an epoch; the first is 0."""

    def on_epoch_end(self, epoch: int) -> None:
        """Clean up after an epoch."""

    def progress(self) -> Mapping[str, float]:
        """Return means so far for the progress bar of the running epoch, by label."""
        return {}

    def losses(self, epoch: int) -> Mapping[str, float]:
        """Return what the log shows of an epoch that has ended, by key (``transfer_loss``)."""
        return {}

    def loss_parts(self) -> Mapping[str, float]:
        """Return the parts of the last batch's loss by name: they tell which one is not finite."""
        return {}

    def close(self) -> None:
        """Detach from the model and the optimizers: training has ended, possibly with an error."""

    def finish(self, model: nn.Module, checkpoint: str | None) -> None:
        """Change what was trained.

        Parameters
        ----------
        model : nn.Module
            The model as the last epoch left it.
        checkpoint : str or None
            The best checkpoint, where one is kept: that is what will be tested.
        """

    @classmethod
    def rewind(cls, checkpoint: State) -> None:
        """Undo in a checkpoint what :meth:`finish` changed, so that training can resume."""

    def state_dict(self) -> State:
        """Return what a resumed run needs: tensors and plain values."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises
        ------
        KeyError, ValueError, RuntimeError
            The state does not fit.
        """

    def uses_profiles_from(self, epoch: int) -> bool:
        """Tell whether training from an epoch on depends on profiles."""
        return True

    def profiles(self) -> Sequence[ProfileVectors]:
        """Return the profiles in use, one entry for each place they are used in."""
        return ()

    def knowledge(self) -> Settings:
        """Return the settings that change which knowledge the method brings in.

        A run resumes only with the same ones, and with the same texts and encoder.
        """
        return {}

    def summary(self) -> Settings:
        """Describe in plain values what the method did, for results and reports.

        A list of places is one entry for each place that profiles were used in; it has the keys
        ``place`` (in words) and those of
        :meth:`~recbole_llmkt.profiles.loading.ProfileVectors.summary`.
        """
        return {}


def places(summary: Settings) -> list[tuple[str, Settings]]:
    """List the places that profiles were used in, in words, with the facts of each.

    Parameters
    ----------
    summary : mapping
        A run's summary: what its methods returned, merged.
    """
    listed = []
    for key, entries in summary.items():
        if not isinstance(entries, list):
            continue
        for facts in entries:
            if isinstance(facts, dict) and "entity" in facts:
                listed.append((_in_words(key, facts), facts))
    return listed


def _in_words(key: str, facts: Settings) -> str:
    """Return where profiles were used; results of older versions do not say it in words."""
    if "place" in facts:
        return str(facts["place"])
    if key == "terms":
        return str(facts.get("layer", "input"))
    tables = ", ".join(facts["tables"]) if "tables" in facts else str(facts.get("table", ""))
    words = {"init": "start of", "cold_start": "cold start of"}.get(key, key)
    return f"{words} {tables}".strip()
