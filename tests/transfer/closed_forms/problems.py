"""Problems small enough to solve by hand, and RecBole's own solutions of them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from recbole_llmkt.transfer.closed_forms.problem import Problem

# Users x items. Nobody clicks two items, so all that links items are profiles: X'X = diag(3, 2, 1).
APART = np.array([[1, 0, 0]] * 3 + [[0, 1, 0]] * 2 + [[0, 0, 1]], dtype=np.float32)
# Items 0 and 1 share two users.
TOGETHER = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float32)
# Items 0 and 2 are told alike (cosine .96), item 1 has no profile.
FEATURES = np.array([[0.6, 0.8], [0.0, 0.0], [0.8, 0.6]], dtype=np.float32)


def problem(kind, weight, clicks, features=FEATURES, **config):
    config = {"show_progress": False, "device": "cpu", **config}
    matrix = sp.csr_matrix(np.asarray(clicks, dtype=np.float32))
    table = torch.tensor(np.asarray(features), dtype=torch.float32)
    return Problem(config, matrix, table, kind, weight)


def random_data(seed=0, users=40, items=8, width=5):
    """Return clicks, and features of 0 and 1 that could be clicks."""
    rng = np.random.default_rng(seed)
    clicks = (rng.random((users, items)) < 0.4).astype(np.float32)
    return clicks, (rng.random((items, width)) < 0.5).astype(np.float32)


def ease(gram, ridge):
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    return np.eye(len(gram)) - inverse / np.diag(inverse)


class _Data:
    """What the constructors of RecBole's models ask of a dataset."""

    def __init__(self, clicks):
        self._clicks = sp.csr_matrix(np.asarray(clicks, dtype=np.float32))

    def inter_matrix(self, form):
        assert form == "csr"
        return self._clicks.copy()

    def num(self, field):
        return self._clicks.shape[0 if field == "user_id" else 1]


class _Config(dict):
    device = "cpu"


def stock(model_class, clicks, **config):
    """Return a model as RecBole's constructor solves it."""
    fields = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "NEG_PREFIX": "neg_"}
    return model_class(_Config(**fields, device="cpu", **config), _Data(clicks))


def stacked(clicks, features, weight):
    """Return the clicks above the profiles, as further rows."""
    return np.concatenate([clicks, np.sqrt(weight) * features.T])
