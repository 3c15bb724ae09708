"""Find the parameters that hold one vector for every user or every item, by experiment."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger

import torch
from recbole.model.layers import FMEmbedding
from torch import Tensor, nn

from recbole_llmkt.compat import MASK_TOKENS
from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.probe import PROBE_SEED, Probe, shadow_of
from recbole_llmkt.transfer.inspection.row_inference import recorded_place
from recbole_llmkt.transfer.inspection.rows import Entities
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import LayerError
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import Loader

NAME_THEM = (
    "Name the tables in kt_init_tables, each with the entity whose rows it holds: "
    "kt_init_tables: ['user:<parameter>', 'item:<parameter>']."
)


@dataclass(frozen=True)
class EntityTable:
    """The part of a parameter that holds one vector for every user or every item.

    Attributes
    ----------
    name : str
        The parameter, as in ``state_dict``.
    entity : str
        ``"user"`` or ``"item"``.
    n : int
        Numbers of internal ids, the padding id 0 included.
    axis : int
        0 where the entities are rows, 1 where they are columns (an autoencoder's first layer).
    offset : int
        Position of the padding id along that axis.
    """

    name: str
    entity: str
    n: int
    axis: int = 0
    offset: int = 0

    def rows(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return a view of shape (n, width), row i of id i: writing there writes the parameter."""
        part = parameters[self.name].detach().narrow(self.axis, self.offset, self.n)
        return part.unsqueeze(1) if part.dim() == 1 else part.movedim(self.axis, 0)

    def inside(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rows of the parameter are the table's, and the ids of those.

        Parameters
        ----------
        rows : Tensor of int64, shape (n,)
            Positions along the table's axis.
        """
        inside = (rows >= self.offset) & (rows < self.offset + self.n)
        return inside, rows[inside] - self.offset

    def __str__(self) -> str:
        last = self.offset + self.n - 1
        return f"{self.name}[{':, ' if self.axis else ''}{self.offset}..{last}] ({self.entity})"


class TableFinder:
    """Find out for each parameter whether it is a table of users or items.

    Parameters
    ----------
    model : nn.Module
        The model; nothing of it changes.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.

    Attributes
    ----------
    sizes : dict of str to int
        Numbers of internal ids by entity, the padding id included.
    unclear : list of str
        Tables of users or items (which of them stays open) that were met so far.
    """

    def __init__(self, model: nn.Module, train_data: Loader) -> None:
        self.model, self.dataset = model, train_data._dataset
        self.modules = dict(model.named_modules())
        self.parameters = {
            n: parameter for n, parameter in model.named_parameters() if parameter.requires_grad
        }
        self.sizes = {"user": int(self.dataset.user_num), "item": int(self.dataset.item_num)}
        self.unclear: list[str] = []
        lookups = [
            Layer(n) for n, module in self.modules.items() if isinstance(module, nn.Embedding)
        ]
        inputs = [
            Layer(name, port="input")
            for name, module in self.modules.items()
            if isinstance(module, nn.Linear) and module.in_features in self.sizes.values()
        ]
        whole = [Layer(name) for name in self.parameters]
        self.probe = Probe(model, train_data, lookups + inputs + whole)
        self.entities = {
            entity: Entities.of(self.dataset, entity, self.probe.batches[0]) for entity in ENTITIES
        }

    def all(self) -> list[EntityTable]:
        """Return every table of the model."""
        return [table for name in self.parameters for table in self.of(name)]

    def of(self, name: str) -> list[EntityTable]:
        """Return the tables in one parameter; none if a training step does without it."""
        if not self.probe.readings[0].calls[Layer(name)]:
            return []
        owner = self.modules[name.rpartition(".")[0]]
        if isinstance(owner, nn.Embedding):
            return list(self._looked_up(name)) or self._by_field(name) or self._by_size(name)
        if isinstance(owner, nn.Linear):
            return list(self._of_linear(name, owner))
        return self._by_size(name)

    def matching(self, pattern: str) -> list[EntityTable]:
        """Return the tables that a pattern of ``kt_init_tables`` names."""
        entity, colon, glob = pattern.rpartition(":")
        names = fnmatch.filter(self.parameters, glob)
        if colon and entity not in ENTITIES:
            raise LayerError(f"kt_init_tables: '{pattern}' must begin with user: or item:.")
        if entity:
            tables = [self._claimed(name, entity) for name in names]
        else:
            tables = [table for name in names for table in self.of(name)]
        if not tables:
            known = ", ".join(map(str, self.all())) or "none"
            raise LayerError(
                f"kt_init_tables: '{pattern}' matches no table of users or items in "
                f"{type(self.model).__name__}. Found automatically: {known}. {NAME_THEM}"
            )
        return tables

    def _claimed(self, name: str, entity: str) -> EntityTable:
        """Return the table that the user says a parameter is."""
        by_evidence = [table for table in self.of(name) if table.entity == entity]
        if by_evidence:
            return by_evidence[0]
        n, shape = self.sizes[entity], tuple(self.parameters[name].shape)
        for axis, length in enumerate(shape[:2]):
            if len(shape) <= 2 and n <= length <= n + MASK_TOKENS:
                return EntityTable(name, entity, n, axis)
        raise LayerError(
            f"kt_init_tables: '{entity}:{name}' has the shape {shape}, but there are {n} {entity}s "
            "(with RecBole's padding): no axis fits."
        )

    # ---- evidence -----------------------------------------------------------------------------

    def _looked_up(self, name: str) -> Iterator[EntityTable]:
        """Compare the ids that an ``nn.Embedding`` is asked for with the batch's own."""
        layer = Layer(name.rpartition(".")[0])
        for entity in ENTITIES:
            place = recorded_place(self.probe, layer, self.entities[entity])
            n = self.sizes[entity]
            if place is not None and 0 <= place[0] <= len(self.parameters[name]) - n:
                yield EntityTable(name, entity, n, offset=place[0])

    def _by_field(self, name: str) -> list[EntityTable]:
        """Read RecBole's own book-keeping of a table that several fields share (DIN's items)."""
        fields = shared_fields(self.modules, name)
        if not fields:
            return []
        shared = self.modules[name.rpartition(".")[0].rpartition(".")[0]]
        return [
            EntityTable(name, entity, self.sizes[entity], offset=int(shared.offsets[place]))
            for entity in ENTITIES
            for place, field in enumerate(fields)
            if field == self.entities[entity].id_field
        ]

    def _by_size(self, name: str) -> list[EntityTable]:
        """Identify a table by its number of rows, if its name says that it is one."""
        lowered, shape = name.lower(), tuple(self.parameters[name].shape)
        if len(shape) > 2:
            return []
        if shape[0] == sum(self.sizes.values()) and len(shape) == 2:
            offsets = {"user": 0, "item": self.sizes["user"]}
            return [EntityTable(name, e, self.sizes[e], offset=offsets[e]) for e in ENTITIES]
        if "entity" in lowered and shape[0] == getattr(self.dataset, "entity_num", None):
            # RecBole numbers the items first among the entities of a knowledge graph.
            return [EntityTable(name, "item", self.sizes["item"])]
        if not any(word in lowered for word in ENTITIES):
            return []
        fitting = [e for e in ENTITIES if self.sizes[e] <= shape[0] <= self.sizes[e] + MASK_TOKENS]
        if len(fitting) == 2:
            fitting = self._by_name(name, fitting)
        return [EntityTable(name, entity, self.sizes[entity]) for entity in fitting]

    def _by_name(self, name: str, fitting: list[str]) -> list[str]:
        """Go by the name, unless the ids that were looked up contradict or do not confirm it.

        NNCF's ``user_neigh_embedding`` holds items.
        """
        named = [entity for entity in fitting if entity in name.lower()]
        asked = self.probe.readings[0].calls.get(Layer(name.rpartition(".")[0]))
        if len(named) == 1 and not asked:
            return named
        self.unclear.append(f"'{name}' {tuple(self.parameters[name].shape)}")
        return []

    def _of_linear(self, name: str, linear: nn.Linear) -> Iterator[EntityTable]:
        path, _, kind = name.rpartition(".")
        for entity in ENTITIES if kind == "weight" else ():
            if linear.in_features == self.sizes[entity] and self._fed_history(path, entity):
                yield EntityTable(name, entity, self.sizes[entity], axis=1)
        if linear.out_features == self.sizes["item"] and self._moves_scores(path):
            yield EntityTable(name, "item", self.sizes["item"])

    def _fed_history(self, path: str, entity: str) -> bool:
        """Tell whether a layer's input has its numbers at the items of each user's history.

        (Or at the users of each item's, where ``entity`` is ``"user"``.)
        """
        reading = self.probe.readings[1]
        other = self.entities["user" if entity == "item" else "item"]
        calls = reading.calls[Layer(path, port="input")]
        if not calls or other.id_field not in reading.interaction.interaction:
            return False
        matrix = self.dataset.inter_matrix(form="csr")
        matrix = matrix if entity == "item" else matrix.T.tocsr()
        value = calls[0].value.detach()
        ids = reading.interaction[other.id_field].cpu().numpy()
        if value.dim() != 2 or len(value) != len(ids):
            return False
        known = torch.from_numpy(matrix[ids].toarray() != 0).to(value.device)
        fed = value != 0
        return bool(fed.any()) and not bool((fed & ~known).any())

    def _moves_scores(self, path: str) -> bool:
        """Tell whether adding to two of a layer's outputs moves those two items' scores only."""
        shadow = shadow_of(self.model).eval()
        touched = [1, self.sizes["item"] - 1]
        calls: list[int] = []
        last = -1

        def nudge(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) != last:  # a diffusion model runs several times; its last run counts
                return output
            output = output.clone()
            output[..., touched] += 1.0
            return output

        handle = dict(shadow.named_modules())[path].register_forward_hook(nudge)
        try:
            before = self._scores(shadow)
            last = len(calls)
            calls.clear()
            after = self._scores(shadow)
        except NotImplementedError:
            return False
        finally:
            handle.remove()
        moved = (before != after).any(0).nonzero().flatten().tolist()
        return bool(moved == touched)

    def _scores(self, shadow: nn.Module) -> Tensor:
        """Return the scores of all items for the users of a batch, shape (B, n_items)."""
        batch = self.probe.batches[0]
        with isolated_randomness(PROBE_SEED), torch.no_grad():
            scores: Tensor = shadow.full_sort_predict(batch)  # type: ignore[operator]
        return scores.reshape(len(batch), -1)


def shared_fields(modules: Mapping[str, nn.Module], name: str) -> Sequence[str]:
    """Return the fields whose tokens share a table, in the order of their rows.

    Parameters
    ----------
    modules : mapping of str to nn.Module
        All modules of the model, by path.
    name : str
        The parameter.

    Returns
    -------
    sequence of str
        From RecBole's own book-keeping; empty where it keeps none.
    """
    path = name.rpartition(".")[0].rpartition(".")[0]
    if not isinstance(modules.get(path), FMEmbedding):
        return ()
    keeper, _, key = f".{path}".rpartition(".token_embedding_table")
    fields = getattr(modules[keeper[1:]], "token_field_names", ())
    named: Sequence[str] = fields.get(key[1:], ()) if isinstance(fields, dict) else fields
    return named


logger = getLogger(__name__)


def find_tables(
    finder: TableFinder, entities: Iterable[str], patterns: str | Sequence[str]
) -> dict[str, list[EntityTable]]:
    """Find the tables of users or items by what the model shows in two training batches.

    An ``nn.Embedding`` is known by the ids that it is asked for, an autoencoder's first layer by
    the history that it is fed, its last one by the scores that it moves. A table that no batch
    asks by its own ids (a graph model reads it whole) is known by its number of rows and a name
    that speaks of users, items, entities or nodes.

    Parameters
    ----------
    finder : TableFinder
        Of the model.
    entities : iterable of str
        ``"user"``, ``"item"`` or both.
    patterns : str or sequence of str
        ``"auto"`` or the value of ``kt_init_tables``: globs of parameter names, each optionally
        behind ``user:`` or ``item:``, which settles whose rows they are.

    Returns
    -------
    dict of str to list of EntityTable
        By entity, in the order of the model's parameters; tables of width 1 are among them.

    Raises
    ------
    LayerError
        Rows that cannot be told apart, or a pattern that matches nothing.
    """
    if patterns == "auto":
        tables = finder.all()
        if finder.unclear:
            raise LayerError(
                f"Cannot tell users from items in {type(finder.model).__name__}'s "
                f"{', '.join(finder.unclear)}: there are {finder.sizes['user']} users and "
                f"{finder.sizes['item']} items. {NAME_THEM}"
            )
    else:
        tables = [table for pattern in _listed(patterns) for table in finder.matching(pattern)]
    tables = list(dict.fromkeys(tables))
    return {entity: [table for table in tables if table.entity == entity] for entity in entities}


def wide_tables(
    model: nn.Module, tables: Mapping[str, Sequence[EntityTable]], min_width: int = 1
) -> dict[str, list[EntityTable]]:
    """Return the tables that a run is to write.

    Parameters
    ----------
    model : nn.Module
        The model; nothing of it changes.
    tables : mapping of str to sequence of EntityTable
        Of :func:`find_tables`.
    min_width : int
        Leave narrower tables out.

    Returns
    -------
    dict of str to list of EntityTable
        By entity. Of two entities one may be missing, with a warning: an autoencoder has no users.

    Raises
    ------
    LayerError
        There is no table at all.
    """
    parameters = dict(model.named_parameters())
    kept = {
        entity: [table for table in named if table.rows(parameters).shape[1] >= min_width]
        for entity, named in tables.items()
    }
    if not any(kept.values()):
        raise _no_tables(model, " or ".join(kept))
    for entity in [name for name, wide in kept.items() if not wide]:
        logger.warning("%s has no table of %ss: none is written.", type(model).__name__, entity)
    return {entity: wide for entity, wide in kept.items() if wide}


def _no_tables(model: nn.Module, entity: str) -> LayerError:
    shapes = [f"{name} {tuple(parameter.shape)}" for name, parameter in model.named_parameters()]
    return LayerError(
        f"{type(model).__name__} has no table with a row for every {entity}. Set kt_entity to "
        f"one that it has a table for, or name the table. {NAME_THEM} Its parameters: "
        f"{', '.join(shapes)}."
    )


def _listed(patterns: str | Sequence[str]) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns
