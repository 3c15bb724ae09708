"""Losses that tell the own target from those of others.

The notation: z and p are the hidden states and the targets of m different entities, all of length
1 and width n; P are the targets they are told apart from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_llmkt.transfer.losses.base import Others, TransferLoss, to_unit_length


class InfoNCELoss(TransferLoss):
    r"""Contrast of hidden states with profiles, RLMRec-Con.

    .. math:: L = -\frac{1}{m} \sum_{i=1}^{m} \log
              \frac{\exp(z_i \cdot p_i / \tau)}{\sum_j \exp(z_i \cdot P_j / \tau)}

    Users are told apart from all users' profiles, items from those of the batch.

    Notes
    -----
    The authors sum over the rows of the batch, so an entity weighs as often as it occurs, and an
    item's second row is a negative of its first. Here every entity of the batch is one row; where
    no id occurs twice the two are equal. With P of all users, memory grows with (users of the
    batch) x (users with a profile).

    References
    ----------
    RLMRec (Ren et al., 2024, arXiv 2310.15950); the estimator is van den Oord et al.'s
    (2018, arXiv 1807.03748).
    """

    unique = True
    contrasts = True
    table_of: tuple[str, ...] = ("user",)

    def compute_among(
        self, hidden: Tensor, target: Tensor, ids: Tensor, others: Others | None
    ) -> Tensor:
        """Compute the mean over entities; without a table, P are the batch's own targets."""
        z, p = to_unit_length(hidden), to_unit_length(target)
        whole = others is not None and others.table is not None
        among = to_unit_length(others.table.float()) if whole else p  # type: ignore[union-attr]
        logits = (z / self.temperature) @ among.T
        own = (z * p).sum(1) / self.temperature
        return (torch.logsumexp(logits, dim=1) - own).mean()


class GenerativeLoss(InfoNCELoss):
    r"""Contrast of masked entities' reconstructions with profiles, RLMRec-Gen.

    In every step a learned token stands in for the embeddings of some of the batch's entities
    (``kt_mask_ratio``), before the model computes anything. What the model makes of the rest, the
    neighbours in the graph or the history, must tell whose profile belongs there:
    :class:`InfoNCELoss` over the m masked entities, P being their own targets.

    References
    ----------
    RLMRec (Ren et al., 2024, arXiv 2310.15950), the generative alignment.
    """

    table_of = ()
    masks = True
