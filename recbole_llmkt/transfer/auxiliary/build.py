"""Build the terms of the transfer loss; what cannot work is refused here, before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.auxiliary.masking import EntityMask
from recbole_llmkt.transfer.auxiliary.projectors import PROFILE_SIDE, make_projector
from recbole_llmkt.transfer.auxiliary.regularizers import make_regularizer
from recbole_llmkt.transfer.auxiliary.settings import (
    TermSettings,
    chosen_layer,
    partner_settings,
    term_settings,
)
from recbole_llmkt.transfer.auxiliary.terms import Source, Term
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.probe import Probe
from recbole_llmkt.transfer.inspection.row_inference import (
    check_gradient,
    infer_rows,
    probed_layers,
)
from recbole_llmkt.transfer.inspection.rows import Entities
from recbole_llmkt.transfer.losses import TransferLoss, make_loss
from recbole_llmkt.transfer.targets.build import TargetTable, build_targets, widest
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import RunConfig

# Transforms that map users' and items' profiles in the same way: the two can be compared.
COMMON_TRANSFORMS = ("none", "random")


@dataclass(frozen=True)
class PlacedSetting:
    """A setting, and the layer that it chooses."""

    setting: TermSettings
    layer: Layer


def build_terms(context: RunContext, seed: int) -> list[Term]:
    """Build the terms that ``kt_*`` ask for.

    Parameters
    ----------
    context : RunContext
        The run; its model is only read.
    seed : int
        Seed of transform, control, projector and masks.

    Raises
    ------
    LLMKTError
        A layer, rows, profiles, targets or a loss that cannot be used.
    """
    config, model = context.config, context.model
    settings = term_settings(config)
    with isolated_randomness(seed):
        loss = make_loss(config["kt_loss"])
    check_loss(config, loss)

    def place(term: TermSettings) -> PlacedSetting:
        return PlacedSetting(term, chosen_layer(context, term))

    places = [place(term) for term in settings]
    partners = [
        place(partner_settings(settings, term)) if loss.partners else None for term in settings
    ]
    layers = [placed.layer for placed in [*places, *partners] if placed is not None]
    probe = Probe(model, context.train_data, probed_layers(model, layers))
    builder = _Builder(context, probe, seed)
    return [builder.term(*pair) for pair in zip(places, partners)]


def check_loss(config: RunConfig, loss: TransferLoss) -> None:
    """Refuse settings that do not go with a loss.

    Raises
    ------
    ConfigError
        A map of the target without a contrast, or users and items mapped differently.
    """
    name, projector, transform = (config[f"kt_{k}"] for k in ("loss", "projector", "transform"))
    if projector == PROFILE_SIDE and not loss.contrasts:
        raise ConfigError(
            f"kt_projector: {PROFILE_SIDE} maps the targets, and with kt_loss: {name} it would "
            "learn to map all of them to one point. Use kt_projector: mlp, or kt_loss: infonce."
        )
    if loss.partners and transform not in COMMON_TRANSFORMS:
        raise ConfigError(
            f"kt_loss: {name} compares users' profiles with items', but kt_transform: {transform} "
            "maps the two differently. Use kt_transform: none."
        )


class _Builder:
    """Build terms from what one probe of the model shows."""

    def __init__(self, context: RunContext, probe: Probe, seed: int) -> None:
        self.context, self.probe, self.seed = context, probe, seed
        self.config, self.model = context.config, context.model

    def term(self, place: PlacedSetting, partner: PlacedSetting | None) -> Term:
        config, entity = self.config, place.setting.entity
        with isolated_randomness(self.seed):  # one of the user's own may have weights
            loss = make_loss(config["kt_loss"], config["kt_temperature"])
        source = self._source(place, loss)
        reached = check_gradient(self.probe, place.layer)
        regularizer = make_regularizer(config["kt_regularizer"])
        device = source.table.values.device
        with isolated_randomness(self.seed):
            projector = make_projector(
                config["kt_projector"], source.width, source.table.values.shape[1]
            )
        term = Term(
            **vars(source),
            loss=loss.to(device),
            weight=place.setting.weight,
            reached=reached,
            projector=projector.to(device) if projector is not None else None,
            projects_target=config["kt_projector"] == PROFILE_SIDE,
            partner=self._partner(source, partner, loss) if partner is not None else None,
            mask=self._mask(entity, place.layer, reached).to(device) if loss.masks else None,
            regularizer=regularizer,
            regularizer_weight=config["kt_regularizer_weight"],
        )
        if term.mask is not None:
            self._check_mask(term)
        return term

    def _source(self, place: PlacedSetting, loss: TransferLoss) -> Source:
        dataset, layer = self.context.train_data._dataset, place.layer
        entities = Entities.of(dataset, place.setting.entity, self.probe.batches[0])
        rows = infer_rows(self.probe, layer, entities, place.setting.rows)
        # Align both probe batches once, so that a misfit shows before training.
        for reading in self.probe.readings:
            hidden, _ = rows.align(reading.calls[layer], reading.interaction)
        width = hidden.shape[1]
        if width < 2:
            raise LayerError(
                f"'{layer}' is {width} wide: there is nothing to reconstruct a profile in. "
                "Choose a wider layer (`llmkt layers` lists them)."
            )
        profiles = self.context.profiles.of(place.setting.entity)
        table = self._targets(profiles, width, loss)
        return Source(layer, rows, table.to(hidden.device), profiles.described(), width)

    def _targets(self, profiles: ProfileVectors, width: int, loss: TransferLoss) -> TargetTable:
        trained = self.context.profiles.trained_ids(profiles.entity)
        transform, control = self.config["kt_transform"], self.config["kt_control"]
        own = int(profiles.vectors.shape[1])
        if self.config["kt_projector"] != "none":
            # PCA, for one, gives no more directions than there are profiles.
            most = widest(transform, profiles, own, trained)
            width = int(self.config["kt_projector_dim"] or most)
        elif transform == "none" and not loss.same_width:
            width = own
        return build_targets(profiles, width, transform, control, self.seed, trained)

    def _partner(self, source: Source, place: PlacedSetting, loss: TransferLoss) -> Source:
        partner = self._source(place, loss)
        if partner.width != source.width:
            entity, other = source.profiles.entity, partner.profiles.entity
            raise LayerError(
                f"kt_loss: {self.config['kt_loss']} multiplies {entity} states with {other} "
                f"states, but '{source.layer}' is {source.width} wide and '{partner.layer}' "
                f"{partner.width}. Set kt_{entity}_layer and kt_{other}_layer to layers of one "
                "width (see `llmkt layers`), or another kt_loss."
            )
        if partner.table.values.shape[1] != source.table.values.shape[1]:
            raise ConfigError(
                f"kt_loss: {self.config['kt_loss']} compares users' profiles with items', so both "
                "need the same profile_encoder."
            )
        return partner

    def _mask(self, entity: str, layer: Layer, reached: Sequence[str]) -> EntityMask:
        tables = self.context.tables([entity])[entity]
        tables = [table for table in tables if table.name in reached]
        if not tables:
            raise LayerError(
                f"kt_loss: {self.config['kt_loss']} masks the embeddings of {entity}s, and there "
                f"is no table of them behind '{layer}'. Choose another kt_layer or kt_entity, or "
                "kt_loss: infonce."
            )
        return EntityMask(tables, self.model, self.config["kt_mask_ratio"], self.seed)

    def _check_mask(self, term: Term) -> None:
        """Refuse a layer at which all hidden entities look the same."""
        batch = self.probe.batches[0]
        ids = torch.unique(term.rows.batch_ids(batch))
        with term.hiding(self.probe.shadow, ids):
            reading = self.probe.read(batch)
        hidden, ids = term.rows.align(reading.calls[term.layer], reading.interaction)
        if _all_equal(hidden.detach()[ids > 0]):
            entity = term.profiles.entity
            raise LayerError(
                f"kt_loss: {self.config['kt_loss']} masks embeddings, and '{term.layer}' depends "
                f"on the {entity}'s embedding alone: nothing is left to reconstruct it from. "
                "Choose a deeper kt_layer (see `llmkt layers`), or kt_loss: infonce."
            )


def _all_equal(rows: Tensor) -> bool:
    return bool(torch.equal(rows, rows[:1].expand_as(rows)))
