"""The paper's method: phases, freezing and what a resumed run gets back."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.transfer.methods.loss import AuxiliaryLoss
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from tests.helpers import prepare

FREE = {"kt_enabled": True, "kt_freeze_phase1": [], "kt_freeze_phase2": []}
TERM = {"kt_layer": "auto", "kt_rows": "auto", "kt_entity": "user", "kt_weight": 0.5}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [({}, True), ({"kt_weight": 0.0}, False), ({"kt_method": "kar"}, False)],
)
def test_a_run_without_a_loss_has_no_phases_to_freeze_in(changes, wanted):
    config = {"kt_method": "transfer", **TERM, **FREE, **changes}
    assert AuxiliaryLoss.wanted(config) is wanted
    AuxiliaryLoss.check(config)
    frozen = {**config, "kt_freeze_phase2": ["*"]}
    if wanted:
        AuxiliaryLoss.check(frozen)
    else:
        with pytest.raises(ConfigError, match="belong to the phases of a transfer loss"):
            AuxiliaryLoss.check(frozen)
    AuxiliaryLoss.check({**frozen, "kt_enabled": False})


@pytest.fixture
def make(tiny):
    def make(**keys):
        run = prepare(tiny.config(kt_enabled=True, kt_weight=0.5, kt_epochs=0.5, **keys))
        context = run.context
        context.epochs = 4
        method = AuxiliaryLoss(run.config)
        method.prepare(context)
        return run, method

    return make


def test_the_loss_is_on_the_model_in_phase_1_alone(make):
    run, method = make()
    assert method.switch == 2
    assert [method.uses_profiles_from(epoch) for epoch in (0, 1, 2)] == [True, True, False]
    batch = next(iter(run.train_data))
    plain = run.model.calculate_loss(batch).item()
    method.on_epoch_begin(1)
    assert run.model.calculate_loss(batch).item() != plain
    assert set(method.progress()) == {"model", "transfer"}
    method.on_epoch_end(1)
    assert method.progress() == {}
    assert method.losses(1)["model_loss"] == pytest.approx(plain)
    method.on_epoch_begin(2)
    assert run.model.calculate_loss(batch).item() == plain
    method.on_epoch_end(2)
    assert method.losses(2) == {}
    assert len(method.transfer_losses) == 1
    method.close()


def test_parameters_are_frozen_by_phase_and_free_in_the_end(make):
    run, method = make(kt_freeze_phase1=["item_*"], kt_freeze_phase2=["user_*"])

    def trained():
        return [name for name, value in run.model.named_parameters() if value.requires_grad]

    names = trained()
    method.on_epoch_begin(0)
    assert trained() == ["user_embedding.weight"]
    method.on_epoch_end(0)
    method.on_epoch_begin(2)
    assert trained() == ["item_embedding.weight"]
    method.close()
    assert trained() == names


def test_patterns_that_match_nothing_or_everything_are_refused(make):
    with pytest.raises(ConfigError, match=r"kt_freeze_phase1: 'mlp\*' matches no parameter of BPR"):
        make(kt_freeze_phase1=["mlp*"])
    with pytest.raises(LayerError, match=r"kt_freeze_phase2: \['\*'\] freezes every parameter"):
        make(kt_freeze_phase2=["*"])


def test_a_resumed_run_gets_projectors_and_curves_back(make):
    _, first = make(kt_projector="mlp")
    first.model_losses, first.transfer_losses, first.gradient_ratios = [1.0], [None], [0.5]
    ((place, projector),) = first.task.projectors().items()
    with torch.no_grad():
        next(projector.parameters()).fill_(0.125)
    _, second = make(kt_projector="mlp")
    second.load_state_dict(first.state_dict())
    assert (second.model_losses, second.transfer_losses) == ([1.0], [None])
    resumed = second.task.projectors()[place]
    for name, value in projector.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    with pytest.raises(KeyError):
        second.load_state_dict({**first.state_dict(), "projectors": {}})
