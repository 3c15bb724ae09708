"""What single models of RecBole need that the others do not: one table, by model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from recbole_llmkt.utils.types import RunConfig

# Most rows for mask tokens that a model keeps behind those of the items (BERT4Rec, S3Rec).
MASK_TOKENS = 2


@dataclass(frozen=True)
class Quirks:
    """What one model, and any class derived from it, needs.

    Attributes
    ----------
    kept : tuple of str
        Attributes with tensors that it computes from time to time, and that no ``state_dict``
        holds: a resumed run needs them.
    recomputed : str
        Method that computes from the weights what the model stores nowhere.
    pretraining : tuple of str
        Values of ``train_stage`` for which RecBole's trainer runs ``pretrain_epochs`` without
        validation.
    later : mapping of str to tuple
        Keys, and their values for which the model starts with weights of an earlier training.
    warm_up : str
        Key with the number of epochs in which the last part of the loss is not trained.
    """

    kept: tuple[str, ...] = ()
    recomputed: str = ""
    pretraining: tuple[str, ...] = ()
    later: Mapping[str, tuple[bool | str, ...]] = field(default_factory=dict)
    warm_up: str = ""


QUIRKS: dict[str, Quirks] = {
    "ConvNCF": Quirks(later={"train_method": ("after_pretrain",)}),
    # It draws its steps by the losses that each had lately; LDiffRec derives from it.
    "DiffRec": Quirks(kept=("Lt_history", "Lt_count")),
    "KD_DAGFM": Quirks(later={"phase": ("distillation", "finetuning")}),
    # Its trainer updates the attention matrix after each epoch (trainer.py, KGATTrainer).
    "KGAT": Quirks(recomputed="update_attentive_A"),
    # Clusters are made every m_step epochs only; NCLTrainer drops the last part in its warm-up.
    "NCL": Quirks(
        kept=("user_centroids", "user_2cluster", "item_centroids", "item_2cluster"),
        warm_up="warm_up_step",
    ),
    "NeuMF": Quirks(later={"use_pretrain": (True,)}),
    "RaCT": Quirks(
        pretraining=("actor_pretrain", "critic_pretrain"),
        later={"train_stage": ("critic_pretrain", "finetune")},
    ),
    "S3Rec": Quirks(pretraining=("pretrain",), later={"train_stage": ("finetune",)}),
}


def quirks(model_class: type) -> Quirks:
    """Return what a model needs; a class derived from one of RecBole's needs the same."""
    names = (ancestor.__name__ for ancestor in model_class.__mro__)
    return next((QUIRKS[name] for name in names if name in QUIRKS), Quirks())


def kept_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that a checkpoint must hold besides the model's own, by attribute."""
    named = {name: vars(model).get(name) for name in quirks(type(model)).kept}
    return {name: tensor for name, tensor in named.items() if isinstance(tensor, torch.Tensor)}


def restore_kept(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put what :func:`kept_tensors` returned into a model, on its device.

    Parameters
    ----------
    model : nn.Module
        The model.
    tensors : mapping of str to Tensor
        Of a checkpoint.

    Raises
    ------
    ValueError
        It is of another model, or of another size of this one.
    """
    device = next(model.parameters()).device
    for name, tensor in tensors.items():
        before = vars(model).get(name)
        sized = isinstance(before, torch.Tensor) and before.shape != tensor.shape
        if name not in quirks(type(model)).kept or sized:
            raise ValueError(f"'{name}' does not belong to it")
        setattr(model, name, tensor.to(device))


def forget_computed(model: nn.Module) -> None:
    """Forget what a model keeps of its own weights, because they have just changed.

    ``kgin.py`` and ``mcclk.py`` keep users' and entities' vectors from one batch of an evaluation
    to the next. Unlike other models they do not name them in ``other_parameter_name``, so after
    loading the best checkpoint stock RecBole tests with the vectors of the last epoch (no upstream
    issue is known). Your own models that imitate them are treated the same way.
    """
    named = getattr(model, "other_parameter_name", None) or ()
    for name, value in vars(model).items():
        if name.startswith("restore_") and name not in named and isinstance(value, torch.Tensor):
            setattr(model, name, None)


def weights_loaded(model: nn.Module) -> None:
    """Forget what a model computed from its former weights; recompute what it stores nowhere."""
    forget_computed(model)
    recomputed = quirks(type(model)).recomputed
    if recomputed:
        with torch.no_grad():
            getattr(model, recomputed)()


def pretrains(model: nn.Module) -> bool:
    """Tell whether RecBole's trainer pre-trains a model: another run trains it further."""
    return getattr(model, "train_stage", None) in quirks(type(model)).pretraining


def later_stage(config: RunConfig) -> str:
    """Return the setting with which a model starts from an earlier training; "" without one."""
    for key, values in quirks(config.model_class).later.items():
        if config[key] in values:
            return f"{key}: {config[key]}"
    return ""


def trained_parts(config: RunConfig, epoch: int) -> int | None:
    """Return where the trained parts of a model's loss end, as a slice says it; None: all are."""
    key = quirks(config.model_class).warm_up
    return -1 if key and epoch < config[key] else None
