"""The names that `import recbole_llmkt` promises."""

from __future__ import annotations

import pytest

import recbole_llmkt
from recbole_llmkt.profiles.encoders import get_encoder
from recbole_llmkt.transfer.losses import LOSSES


@pytest.mark.parametrize("name", recbole_llmkt.__all__)
def test_every_public_name_is_there(name):
    assert getattr(recbole_llmkt, name)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        recbole_llmkt.no_such_name  # noqa: B018 - reading it is the test


def test_own_classes_derive_from_the_built_in_ones_bases(tiny):
    assert all(issubclass(loss, recbole_llmkt.TransferLoss) for loss in LOSSES.values())
    assert isinstance(get_encoder(tiny.config(profile_encoder="wordllama")), recbole_llmkt.Encoder)
