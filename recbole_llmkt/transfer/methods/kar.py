"""KAR for any context-aware model: profiles as two more input fields (arXiv 2306.10933).

KAR (Xi et al., RecSys 2024) changes a model's architecture, where knowledge transfer leaves it as
it is: the profile embeddings are needed whenever the model predicts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from logging import getLogger
from typing import ClassVar

import numpy as np
import torch
from recbole.model.abstract_recommender import ContextRecommender
from torch import Tensor, nn

from recbole_llmkt.compat import later_stage
from recbole_llmkt.profiles.loading import ProfileVectors, RunProfiles
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.methods.kar_adaptor import SIDES, AdaptorSizes, KnowledgeFields
from recbole_llmkt.transfer.targets.controls import Matrix, apply_control
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError
from recbole_llmkt.utils.randomness import isolated_randomness, transfer_seed
from recbole_llmkt.utils.types import Dataset, Features, RunConfig, Settings

logger = getLogger(__name__)


class _FurtherFields(ContextRecommender):  # type: ignore[misc]
    """What RecBole's base class tells a model: here, that there are two more fields.

    It stands between a model and RecBole's ``ContextRecommender`` in the order of inheritance, so
    the model's constructor finds the larger number, and its ``forward`` the added vectors.
    """

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.num_feature_field += len(SIDES)
        if self.double_tower:
            self.user_token_field_num += 1
            self.item_token_field_num += 1

    def embed_input_fields(self, interaction: Features) -> tuple[Tensor, Tensor | None]:
        """Embed the fields as RecBole does, and the profiles behind the token fields.

        Models with two towers get the user's profile behind the user's fields.

        Parameters
        ----------
        interaction : Interaction
            A batch.

        Returns
        -------
        tuple
            Vectors of the token fields and the profiles, shape (B, n_fields, embedding_size), and
            those of the numerical fields, or None.
        """
        tokens, numbers = super().embed_input_fields(interaction)
        user, item = self.knowledge_fields(
            interaction[self.user_id_field], interaction[self.item_id_field]
        )
        place = tokens.shape[1]
        if self.double_tower:
            place -= self.item_token_field_num - 1
        return torch.cat([tokens[:, :place], user, tokens[:, place:], item], dim=1), numbers


class _Augmented(nn.Module):
    """What goes over a model: the adaptor, made when all else is."""

    token_field_names: list[str]
    token_seq_field_names: list[str]
    feature2field: dict[int, int]
    knowledge: list[Settings]
    predict: Callable[[Features], Tensor]

    def __init__(
        self, config: RunConfig, dataset: Dataset, make_fields: Callable[[], KnowledgeFields]
    ) -> None:
        super().__init__(config, dataset)
        self.user_id_field, self.item_id_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        # After the model's constructor, whose initialisation goes over all modules it finds.
        self.knowledge_fields = make_fields()

    def _get_feature2field(self) -> None:
        """Count the profiles as fields of their own, where a model numbers its fields (FwFM)."""
        super()._get_feature2field()  # type: ignore[misc]
        first = len(self.token_field_names) + len(self.token_seq_field_names)
        further = len(set(self.feature2field.values()))
        moved = {n + len(SIDES) * (n >= first): number for n, number in self.feature2field.items()}
        self.feature2field = {**moved, first: further, first + 1: further + 1}


@functools.cache
def augmented_class(model_class: type) -> type[_Augmented]:
    """Return a context-aware model's class with two more input fields.

    Raises
    ------
    ConfigError
        The model is not context-aware.
    """
    if not issubclass(model_class, ContextRecommender):
        raise ConfigError(
            f"kt_method: kar gives a model two more input fields, and {model_class.__name__} "
            "has no input fields: only RecBole's context-aware models have (DCN, DeepFM, AutoInt, "
            "xDeepFM, ...). Choose one of them, or kt_method: transfer."
        )
    name = f"KAR{model_class.__name__}"
    return type(name, (_Augmented, model_class, _FurtherFields), {"__doc__": model_class.__doc__})


class KAR(Method):
    """Profiles as two more input fields of a context-aware model (Xi et al., 2024).

    Attributes
    ----------
    terms : list of dict
        What the model reads; empty for a model that was loaded with its weights.
    """

    name: ClassVar[str] = "kar"
    changes_architecture: ClassVar[bool] = True

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.terms: list[Settings] = []

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """With ``kt_method: kar``."""
        return bool(config["kt_method"] == "kar")

    @classmethod
    def entities(cls, config: RunConfig) -> set[str]:
        """Both, always."""
        return set(SIDES)

    @classmethod
    def build_model(
        cls,
        config: RunConfig,
        dataset: Dataset,
        profiles: RunProfiles,
        state_dict: Mapping[str, Tensor] | None,
    ) -> nn.Module:
        """Build the augmented model."""
        return build_augmented(config, dataset, profiles, state_dict)

    def prepare(self, context: RunContext) -> None:
        """Note what the model was built with."""
        self.terms = list(context.model.knowledge)  # type: ignore[arg-type]

    def uses_profiles_from(self, epoch: int) -> bool:
        """Never: the model's weights hold the profile embeddings."""
        return False

    def summary(self) -> Settings:
        """Describe both fields."""
        return {"terms": self.terms}


def build_augmented(
    config: RunConfig,
    dataset: Dataset,
    run_profiles: RunProfiles,
    state_dict: Mapping[str, Tensor] | None = None,
) -> _Augmented:
    """Build a context-aware model with profiles as two more input fields.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.
    dataset : recbole.data.dataset.Dataset
        The run's training split.
    run_profiles : RunProfiles
        The run's profiles; not read with ``state_dict``.
    state_dict : mapping, optional
        Weights of an augmented model: its tables of profile embeddings are taken instead of the
        profiles on disk.

    Returns
    -------
    AbstractRecommender
        On the run's device. Its ``knowledge`` describes the profiles in plain values.

    Raises
    ------
    ConfigError
        The model has no place for more fields.
    ProfileError
        There are no profiles, or the two sides were encoded differently.
    DataError
        ``state_dict`` is not one of an augmented model.
    """
    model_class = augmented_class(config.model_class)
    _check_stage(config)
    if state_dict is None:
        profiles = {side: run_profiles.of(side) for side in SIDES}
        tables, masks = _tables(config, profiles)
    else:
        profiles = {}
        tables, masks = _saved_tables(config, dataset, state_dict)
    sizes = _adaptor_sizes(config)

    def make_fields() -> KnowledgeFields:
        with isolated_randomness(transfer_seed(config)):
            return KnowledgeFields(tables, masks, sizes)

    model = model_class(config, dataset, make_fields).to(config["device"])
    _check_fields_are_read(model, config, dataset)
    place = {"place": "knowledge_fields", "layer": "knowledge_fields"}
    model.knowledge = [{**place, **vectors.summary()} for vectors in profiles.values()]
    logger.info(
        "KAR: user and item profiles are two more input fields of %s. There is no transfer "
        "loss: layers, losses, weights, phases and projector have no effect, and kt_entity and "
        "kt_transform only on kt_init, kt_hybrid and kt_cold_start.",
        config.model_class.__name__,
    )
    return model


def _adaptor_sizes(config: RunConfig) -> AdaptorSizes:
    return AdaptorSizes(
        config["embedding_size"],
        config["kt_kar_shared_experts"],
        config["kt_kar_own_experts"],
        config["kt_kar_hidden"],
        config["kt_kar_dropout"],
    )


def _check_stage(config: RunConfig) -> None:
    """Refuse a stage that takes its input vectors from an earlier training (KD_DAGFM)."""
    stage = later_stage(config)
    if stage:
        raise ConfigError(
            f"kt_method: kar cannot train {config['model']} in {stage}: its input vectors come "
            "from an earlier training and get no gradient, so profiles could not be adapted. Use "
            "kt_method: kar in the first stage (KD_DAGFM: phase: teacher_training)."
        )


def _tables(
    config: RunConfig, profiles: Mapping[str, ProfileVectors]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return profile embeddings and where there are any, by internal id.

    The embeddings are scaled to a mean square of 1 an entry, about that of the encoders that the
    method was made with: with entries of 1 / sqrt(dim_text) the experts' biases drown them.
    """
    tables, masks = {}, {}
    for side, loaded in profiles.items():
        vectors = _controlled(config["kt_control"], loaded.vectors, transfer_seed(config))
        ids = torch.from_numpy(np.asarray(loaded.ids))
        tables[side] = torch.zeros(loaded.n_entities, vectors.shape[1])
        tables[side][ids] = torch.from_numpy(vectors) * vectors.shape[1] ** 0.5
        masks[side] = torch.zeros(loaded.n_entities, dtype=torch.bool)
        masks[side][ids] = True
    widths = {side: table.shape[1] for side, table in tables.items()}
    if len(set(widths.values())) > 1:
        raise ProfileError(
            f"kt_method: kar needs profile embeddings of one width, but users' are "
            f"{widths['user']} wide and items' {widths['item']}: embed both with the same "
            "profile_encoder (`llmkt profile embed`)."
        )
    return tables, masks


def _controlled(name: str, vectors: Matrix, seed: int) -> Matrix:
    if name == "zero":
        return np.zeros_like(vectors)
    return apply_control(name, vectors, np.random.default_rng(seed))


def _saved_tables(
    config: RunConfig, dataset: Dataset, state_dict: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    try:
        tables = {side: state_dict[f"knowledge_fields.{side}_table"] for side in SIDES}
        masks = {side: state_dict[f"knowledge_fields.{side}_mask"] for side in SIDES}
    except KeyError as error:
        raise DataError(
            f"The weights hold no {error}, so they are not those of a {config['model']} trained "
            "with kt_method: kar."
        ) from error
    fields = {"user": dataset.uid_field, "item": dataset.iid_field}
    for side, field in fields.items():
        if len(tables[side]) != dataset.num(field):
            raise DataError(
                f"The weights know {len(tables[side])} {side}s, the dataset has "
                f"{dataset.num(field)} (padding included): the dataset must be the one that the "
                "model was trained on."
            )
    return tables, masks


def _check_fields_are_read(model: _Augmented, config: RunConfig, dataset: Dataset) -> None:
    """Score one interaction, to see that the model does read the added fields."""
    seen: list[bool] = []
    hook = model.knowledge_fields.register_forward_hook(lambda *_: seen.append(True))
    training = model.training
    try:
        with torch.no_grad(), isolated_randomness():
            model.eval()
            model.predict(dataset[torch.tensor([0])].to(config["device"]))
    except (RuntimeError, IndexError, KeyError) as error:
        raise ConfigError(
            f"kt_method: kar does not fit {config['model']}: with two more input fields it "
            f"fails with '{error}'. Choose another context-aware model, or kt_method: transfer."
        ) from error
    finally:
        hook.remove()
        model.train(training)
    if not seen:
        raise ConfigError(
            f"kt_method: kar does not fit {config['model']}: it does not embed its fields as one "
            "list of vectors, which two more could join. Choose another context-aware model, or "
            "kt_method: transfer."
        )
