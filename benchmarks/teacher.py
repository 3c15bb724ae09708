r"""A trial: scores of EASE with item profiles as soft targets for the scores of another model.

    llmkt tune --models=BPR --arms=base,taught,taught+shuffled,plain --dataset=ml-100k-20 \
      --arm="taught: kt_method=benchmarks.teacher.Taught kt_entity=item" \
      --arm="plain: kt_method=benchmarks.teacher.Plain kt_entity=item" --output=FOLDER/tune ...
    llmkt compare --tuned=FOLDER/tune --trust --seeds=1,2,3 --output=FOLDER/compare

`Plain` is the same teacher without profiles: what it adds is what EASE knows, and only what
`Taught` adds to that is the profiles'. docs/decisions/no-teacher.md says what came of it. The
worlds are those of benchmarks/worlds.py, the settings those of benchmarks/studies/worlds.yaml.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn.functional import kl_div

from recbole_llmkt import Method
from recbole_llmkt.transfer.closed_forms.ease import solve_drawn
from recbole_llmkt.transfer.closed_forms.problem import default_weight
from recbole_llmkt.transfer.methods.closed_form import profile_features

RIDGE = 500.0  # of EASE
WEIGHT = 1.0  # of the soft targets' loss
USERS, TOP, OTHERS = (
    256,
    16,
    16,
)  # of a step: users, and for each the teacher's best and random items


class Taught(Method):
    """Add to the model's loss the divergence of its scores from the teacher's, over a few items."""

    name: ClassVar[str] = "teacher"
    with_profiles: ClassVar[bool] = True

    def prepare(self, context: Any) -> None:
        """Solve the teacher and wrap the model's loss."""
        dataset = context.train_data._dataset
        clicks = dataset.inter_matrix(form="csr").astype(np.float32)
        self._profiles = context.profiles.of("item")
        features = profile_features(
            self.config, self._profiles, context.profiles.trained_ids("item")
        )
        gram = torch.from_numpy((clicks.T @ clicks).toarray())
        weight = default_weight(clicks) if self.with_profiles else 0.0
        weights = solve_drawn(gram, features, RIDGE, weight)
        scores = torch.from_numpy(clicks @ weights.numpy())
        known = torch.from_numpy(clicks.toarray() > 0)
        spread = scores.std(dim=1, keepdim=True).clamp_min(1e-8)
        self.scores = ((scores - scores.mean(dim=1, keepdim=True)) / spread).masked_fill(
            known, -9.0
        )
        self.scores[:, 0] = -9.0
        self.best = self.scores.topk(TOP, dim=1).indices
        self.fields = dataset.uid_field, dataset.iid_field
        self.random = torch.Generator().manual_seed(int(self.config["seed"]))
        model = context.model
        self._own_loss = model.calculate_loss

        def with_teacher(model: Any, interaction: Interaction) -> Any:
            losses = self._own_loss(interaction)
            taught = WEIGHT * self.divergence(model, interaction[self.fields[0]])
            return (*losses, taught) if isinstance(losses, tuple) else losses + taught

        model.calculate_loss = MethodType(with_teacher, model)
        self._model = model

    def divergence(self, model: Any, users: Tensor) -> Tensor:
        """Return KL(teacher, model) over the candidates of some users of a batch; a scalar."""
        users = users.unique()
        users = users[torch.randperm(len(users), generator=self.random)[:USERS]]
        shape = (len(users), OTHERS)
        others = torch.randint(1, self.scores.shape[1], shape, generator=self.random)
        items = torch.cat([self.best[users], others], dim=1)
        pairs = {
            self.fields[0]: users.repeat_interleave(items.shape[1]),
            self.fields[1]: items.flatten(),
        }
        scores = model.predict(Interaction(pairs)).view(items.shape)
        teacher = self.scores[users].gather(1, items).log_softmax(dim=1)
        student = scores.log_softmax(dim=1)
        return kl_div(student, teacher, log_target=True, reduction="batchmean")

    def close(self) -> None:
        """Give the model its own loss back."""
        vars(self._model).pop("calculate_loss", None)

    def profiles(self) -> list[Any]:
        """Return the profiles in use."""
        return [self._profiles]

    def summary(self) -> dict[str, Any]:
        """Describe the teacher."""
        place = "teacher" if self.with_profiles else "teacher without profiles"
        return {self.name: [{"place": place, **self._profiles.summary()}]}


class Plain(Taught):
    """The same teacher without profiles."""

    with_profiles: ClassVar[bool] = False
