"""A loss of somebody's own, by class path: it trains, or says what is wrong with it."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.quick_start import train
from recbole_llmkt.transfer.losses import TransferLoss, make_loss
from recbole_llmkt.utils.exceptions import ConfigError, TrainingError
from tests.helpers import prepare, same_parameters


class Manhattan(TransferLoss):
    """Mean absolute difference, times a learned factor."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def compute(self, hidden, target, ids):
        return self.factor.square() * (hidden - target).abs().mean()


class Vector(TransferLoss):
    def compute(self, hidden, target, ids):
        return (hidden - target).square().mean(1)


class Number(TransferLoss):
    def compute(self, hidden, target, ids):
        return float((hidden - target).square().mean())


class Detached(TransferLoss):
    def compute(self, hidden, target, ids):
        return (hidden - target).square().mean().detach()


class Empty(TransferLoss):
    pass


class Needy(TransferLoss):
    def __init__(self, margin):
        super().__init__()

    def compute(self, hidden, target, ids):
        return hidden.mean()


class NotANumber(TransferLoss):
    def compute(self, hidden, target, ids):
        return (hidden - target).square().mean() * float("nan")


class Infinite(TransferLoss):
    def compute(self, hidden, target, ids):
        return (hidden - target).square().mean() + float("inf")


def path(loss):
    return f"{__name__}.{loss.__name__}"


def test_it_trains_and_resumes(tiny):
    keys = {"epochs": 4, "kt_loss": path(Manhattan)}
    whole = prepare(tiny.config(**keys))
    whole.fit(
        callback_fn=lambda epoch, score: whole.trainer._save_checkpoint(
            epoch, verbose=False, saved_model_file=f"{epoch}.pth"
        )
    )
    run = prepare(tiny.config(**keys))
    run.trainer.resume_checkpoint("0.pth")
    run.fit()
    assert same_parameters(whole.model, run.model)
    factors = [float(trained.method("loss").task.terms[0].loss.factor) for trained in (whole, run)]
    assert factors[0] == factors[1] != 1.0


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Vector, r"Vector' returned a tensor of shape \(\d+,\) .*shape \(\), such as the mean"),
        (Number, r"Number' returned a float: return one number, a float tensor"),
        (Detached, r"Detached' returned a loss without a gradient"),
        (Empty, r"Empty' has no compute\(hidden, target, ids\): define it"),
        (Needy, r"Needy' cannot be created: TypeError: .*margin"),
    ],
)
def test_an_unusable_one_stops_the_run_before_its_first_step(tiny, loss, message):
    run = prepare(tiny.config(epochs=2, kt_loss=path(loss)))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with pytest.raises(ConfigError, match=f"^kt_loss: '.*{message}") as caught:
        run.fit()
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize(("loss", "value"), [(NotANumber, "nan"), (Infinite, "inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_layer_and_step(tiny, loss, value):
    with pytest.raises(TrainingError) as caught:
        train(tiny.config(epochs=2, kt_loss=path(loss)), saved=False, verbose=False)
    message = str(caught.value)
    assert message.startswith(f"Epoch 0, step 1: the transfer loss ({path(loss)}, user profiles at")
    assert f"is {value}." in message and "own loss is" not in message
    assert "learning_rate" in message and "\n" not in message


def test_a_model_whose_own_loss_is_not_finite_is_told_apart(tiny, monkeypatch):
    run = prepare(tiny.config(epochs=3, kt_epochs=1))
    own = type(run.model)
    calculate = own.calculate_loss
    broken = lambda self, batch: calculate(self, batch) * float("nan")  # noqa: E731
    monkeypatch.setattr(own, "calculate_loss", broken)
    with pytest.raises(TrainingError, match=r"^Epoch 0, step 1: the model's own loss is nan\. Try"):
        run.fit()


@pytest.mark.parametrize("keys", [{"kt_epochs": 1}, {"kt_enabled": False}])
def test_parameters_that_a_step_made_unusable_are_named(tiny, keys):
    run = prepare(tiny.config(epochs=3, eval_step=3, **keys))
    epoch = run.trainer._train_epoch

    def spoiled(data, number, *arguments, **keywords):
        if number == 1:
            with torch.no_grad():
                run.model.item_embedding.weight[1:].fill_(float("nan"))
        return epoch(data, number, *arguments, **keywords)

    run.trainer._train_epoch = spoiled
    message = r"^Epoch 1, step 1: the model's own loss is nan\. .*'item_embedding\.weight' NaN"
    with pytest.raises(TrainingError, match=message):
        run.fit()


def test_names_are_checked_before_a_class_is_made():
    with pytest.raises(ConfigError, match=r"^kt_loss: 'torch\.nn\.Linear' is not a subclass of "):
        make_loss("torch.nn.Linear")
