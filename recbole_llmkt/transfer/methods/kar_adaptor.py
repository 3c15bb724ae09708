"""KAR's hybrid-expert adaptor: profile embeddings become field vectors (arXiv 2306.10933)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SIDES = ("user", "item")


@dataclass(frozen=True)
class AdaptorSizes:
    """Widths and numbers of the adaptor's parts.

    Attributes
    ----------
    width : int
        Width of the field vectors: the model's ``embedding_size``.
    shared, own : int
        Experts that both sides share, and experts of each side alone.
    hidden : int
        Width of an expert's hidden layer.
    dropout : float
        Dropout within the experts.
    """

    width: int
    shared: int = 2
    own: int = 5
    hidden: int = 128
    dropout: float = 0.0


class HybridExpertAdaptor(nn.Module):
    r"""Map profile embeddings of users and items to the space of field vectors.

    With the experts :math:`E_s` that both sides share and the side's own :math:`E_o`,

    .. math:: a = \mathrm{softmax}(W r + b), \quad
              e = \sum_{k \in s \cup o} a_k \, E_k(r)

    for a profile embedding :math:`r` (Xi et al., RecSys 2024, section 4.3). As in the authors'
    released code, an expert is two linear layers, each followed by ReLU and dropout.

    Parameters
    ----------
    dim_text : int
        Width of the profile embeddings.
    sizes : AdaptorSizes
        Its other sizes.
    """

    def __init__(self, dim_text: int, sizes: AdaptorSizes) -> None:
        super().__init__()

        def experts(count: int) -> nn.ModuleList:
            return nn.ModuleList(_expert(dim_text, sizes) for _ in range(count))

        self.shared_experts = experts(sizes.shared)
        self.own_experts = nn.ModuleDict({side: experts(sizes.own) for side in SIDES})
        count = sizes.shared + sizes.own
        self.gates = nn.ModuleDict({side: nn.Linear(dim_text, count) for side in SIDES})

    def forward(self, embeddings: Tensor, side: str) -> Tensor:
        """Map profile embeddings of one side.

        Parameters
        ----------
        embeddings : Tensor of float, shape (n, dim_text)
            Profile embeddings.
        side : str
            ``user`` or ``item``.

        Returns
        -------
        Tensor of float, shape (n, width)
        """
        own: nn.ModuleList = self.own_experts[side]  # type: ignore[assignment]
        answers = [expert(embeddings) for expert in (*self.shared_experts, *own)]
        shares = self.gates[side](embeddings).softmax(dim=-1)
        return torch.einsum("nk,nkw->nw", shares, torch.stack(answers, dim=1))


def _expert(dim_text: int, sizes: AdaptorSizes) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((dim_text, sizes.hidden), (sizes.hidden, sizes.width)):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(sizes.dropout)]
    return nn.Sequential(*layers)


class KnowledgeFields(nn.Module):
    """Two field vectors for each pair of user and item, made from their profiles.

    The tables of profile embeddings are buffers: ``state_dict`` holds them, so a checkpoint
    predicts the same whatever becomes of the profiles. Users and items without a profile share
    one learned vector on each side, which starts at zero.

    Parameters
    ----------
    tables : mapping of str to Tensor of float32, shape (n_entities, dim_text)
        For ``user`` and ``item``: profile embeddings by RecBole's internal id.
    masks : mapping of str to Tensor of bool, shape (n_entities,)
        True where there is a profile.
    sizes : AdaptorSizes
        The adaptor's sizes.
    """

    def __init__(
        self, tables: Mapping[str, Tensor], masks: Mapping[str, Tensor], sizes: AdaptorSizes
    ) -> None:
        super().__init__()
        for side in SIDES:
            self.register_buffer(f"{side}_table", tables[side])
            self.register_buffer(f"{side}_mask", masks[side])
        self.adaptor = HybridExpertAdaptor(tables["user"].shape[1], sizes)
        self.missing = nn.ParameterDict(
            {side: nn.Parameter(torch.zeros(sizes.width)) for side in SIDES}
        )

    def forward(self, user_ids: Tensor, item_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field vectors of a batch.

        Parameters
        ----------
        user_ids, item_ids : Tensor of int64, shape (B,)
            RecBole's internal ids.

        Returns
        -------
        tuple of Tensor of float, shape (B, 1, width)
            The users' and the items'.
        """
        return self._side("user", user_ids), self._side("item", item_ids)

    def _side(self, side: str, ids: Tensor) -> Tensor:
        # A ranking asks for the same user and the same items again and again: adapt each once.
        distinct, rows = torch.unique(ids, return_inverse=True)
        adapted = self.adaptor(self.get_buffer(f"{side}_table")[distinct], side)
        known = self.get_buffer(f"{side}_mask")[distinct].unsqueeze(1)
        vectors = torch.where(known, adapted, self.missing[side])
        return vectors[rows].unsqueeze(1)
