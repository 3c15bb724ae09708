"""The matrices of models that RecBole solves in their constructor: not made, put in, packed.

RecBole's checkpoints leave some of them out, and pickle the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import Array, Dataset, RunConfig, State, Values

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

    # As RecBole has them, and as checkpoints have them.
    Made = Union[Array, Tensor, spmatrix]
    Packed = Union[Tensor, dict[str, Tensor]]

_TINY = 1e-6  # RecBole's, in asymknn.py
_SPARSE = ("data", "indices", "indptr")
# They solve a matrix of items x items, with several as large beside it.
_OF_ITEMS = ("EASE", "SLIMElastic", "ADMMSLIM")


class _OneClick:
    """A dataset whose matrix of interactions is a single click."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def inter_matrix(self, **_: object) -> spmatrix:
        return sp.csr_matrix(np.ones((1, 1), dtype=np.float32))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


def unsolved_model(config: RunConfig, dataset: Dataset) -> nn.Module | None:
    """Return a model of items x items as RecBole makes it, but for its solution.

    RecBole's takes as long as the one that replaces it, and up to eleven matrices of its size.

    Parameters
    ----------
    config : Config
        The run's configuration.
    dataset : recbole.data.dataset.Dataset
        The run's training split.

    Returns
    -------
    nn.Module or None
        Its ``item_similarity`` is zero, and :func:`put_solution` or :func:`unpack_solution` has to
        replace it. None for other models, and for classes of the user's own.
    """
    name = config["model"]
    if name not in _OF_ITEMS or not config.model_class.__module__.startswith("recbole."):
        return None
    model: nn.Module = config.model_class(config, _OneClick(dataset))
    clicks = dataset.inter_matrix(form="csr").astype(np.float32)
    attributes = vars(model)
    attributes["interaction_matrix"] = clicks.tolil() if name == "SLIMElastic" else clicks
    if "item_means" in attributes:
        attributes["item_means"] = clicks.mean(axis=0).getA1()
    n_items = clicks.shape[1]
    if name == "SLIMElastic":
        attributes["item_similarity"] = sp.csc_matrix((n_items, n_items), dtype=np.float32)
    else:  # without memory of its own
        attributes["item_similarity"] = np.broadcast_to(np.float32(0), (n_items, n_items))
    attributes["is_solved"] = False
    return model.to(config["device"])


def put_solution(model: nn.Module, solution: Values) -> None:
    """Replace matrices of a model, and what its constructor computes from them.

    Parameters
    ----------
    model : nn.Module
        A model that RecBole solves in its constructor.
    solution : mapping
        By attribute: an array, a scipy.sparse matrix or a tensor.
    """
    attributes = vars(model)
    attributes.update(solution)
    attributes["solved_names"], attributes["is_solved"] = tuple(solution), True
    if "w" in solution:
        attributes["pred_mat"] = _neighbour_scores(model)


def _neighbour_scores(model: nn.Module) -> spmatrix:
    """Return the scores of ItemKNN or AsymKNN, as itemknn.py and asymknn.py compute them."""
    made = vars(model)
    clicks, weights, beta = made["interaction_matrix"], made["w"], made.get("beta")
    users = made.get("method", "item") == "user"  # RecBole 1.2.0 compares items alone
    scores = weights.dot(clicks) if users else clicks.dot(weights)
    if beta is None:
        return scores.tolil()
    scores = scores.tocoo()
    # |user|^(2 beta) |item|^(2 - 2 beta): of the neighbours on the one side, of the clicks on the
    # other.
    if users:
        of_users = weights.power(2).sum(axis=1)
        of_items = clicks.power(2).sum(axis=0)
    else:
        of_users = clicks.power(2).sum(axis=1)
        of_items = weights.power(2).sum(axis=1)
    by_user = np.asarray(of_users).ravel() ** beta
    by_item = np.asarray(of_items).ravel() ** (1.0 - beta)
    scores.data = scores.data / (by_user[scores.row] * by_item[scores.col] + _TINY)
    return scores.tocsr().power(made["q"])


def packed_solution(model: nn.Module) -> State:
    """Return the matrices that a model got from profiles, by attribute, as tensors.

    Its constructor makes them without profiles, so the checkpoint must hold them.
    """
    names = vars(model).get("solved_names", ())
    return {name: _packed(vars(model)[name]) for name in names}


def _packed(matrix: Made) -> Packed:
    if isinstance(matrix, torch.Tensor):
        return matrix
    if isinstance(matrix, np.ndarray):
        return torch.from_numpy(matrix)
    columns = matrix.tocsc()
    return {name: torch.from_numpy(getattr(columns, name)) for name in _SPARSE}


def unpack_solution(model: nn.Module, packed: Values, path: str) -> None:
    """Put the matrices of a checkpoint into a model.

    Parameters
    ----------
    model : nn.Module
        The model as its constructor made it.
    packed : mapping
        Of :func:`packed_solution`.
    path : str
        The checkpoint's file, for the message.

    Raises
    ------
    DataError
        They do not fit the model.
    """
    solution = {}
    for name, matrix in packed.items():
        made = vars(model).get(name)
        try:
            solution[name] = _unpacked(matrix, made)
        except (KeyError, ValueError) as error:
            raise DataError(
                f"'{path}' does not fit this {type(model).__name__}: its {name} has other sizes. "
                "The model and the dataset must be those it was trained with."
            ) from error
    if solution:
        put_solution(model, solution)
    elif not vars(model).get("is_solved", True):
        raise DataError(
            f"'{path}' holds no solution, and its {type(model).__name__} was solved with profiles: "
            "train it again."
        )


def _unpacked(matrix: Packed, made: Made) -> Made:
    """Return a matrix of the kind and the sizes that the model's constructor made."""
    if sp.issparse(made) and isinstance(matrix, Mapping):
        parts = tuple(matrix[name].cpu().numpy() for name in _SPARSE)
        columns = sp.csc_matrix(parts, shape=made.shape)
        columns.check_format(full_check=True)  # a wrong index would read foreign memory
        return columns
    if not isinstance(matrix, torch.Tensor) or sp.issparse(made):
        raise ValueError("another kind of matrix")
    if tuple(matrix.shape) != getattr(made, "shape", None):
        raise ValueError("other sizes")
    return matrix.to(made.device) if isinstance(made, torch.Tensor) else matrix.cpu().numpy()
