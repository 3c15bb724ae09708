"""Settings that do not go with a loss are refused before training."""

from __future__ import annotations

import pytest

from recbole_llmkt.transfer.auxiliary.build import check_loss
from recbole_llmkt.transfer.losses import LOSSES, make_loss
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from tests.helpers import prepare, task_of

CONTRASTS = {"infonce", "generative"}


@pytest.mark.parametrize("name", LOSSES)
def test_only_a_contrast_may_map_the_targets(name):
    config = {"kt_loss": name, "kt_projector": "profile_mlp", "kt_transform": "none"}
    if name in CONTRASTS:
        check_loss(config, make_loss(name))
    else:
        with pytest.raises(ConfigError, match=f"profile_mlp maps the targets, and .*{name}"):
            check_loss(config, make_loss(name))


@pytest.mark.parametrize("transform", ["none", "random", "pca", "umap"])
def test_users_and_items_are_compared_only_in_one_space(transform):
    config = {"kt_loss": "softrank", "kt_projector": "none", "kt_transform": transform}
    if transform in ("none", "random"):
        check_loss(config, make_loss("softrank"))
    else:
        with pytest.raises(ConfigError, match=f"{transform} maps the two differently"):
            check_loss(config, make_loss("softrank"))
    check_loss({**config, "kt_loss": "rmse"}, make_loss("rmse"))


def test_targets_are_as_wide_as_the_layer_or_the_projector_says(tiny):
    def widths(**keys):
        (term,) = task_of(prepare(tiny.config(kt_enabled=True, kt_weight=0.5, **keys))).terms
        return term.width, term.table.values.shape[1]

    assert widths(kt_transform="pca") == (8, 8)
    projector = {"kt_projector": "mlp", "kt_transform": "pca"}
    assert widths(**projector, kt_projector_dim=5) == (8, 5)
    assert widths(kt_loss="gram", kt_transform="none") == (8, 24)


def test_a_layer_of_width_one_is_refused(tiny):
    run = prepare(tiny.config(kt_enabled=True, kt_weight=0.5, embedding_size=1))
    with pytest.raises(LayerError, match="'user_embedding' is 1 wide: there is nothing"):
        task_of(run)
