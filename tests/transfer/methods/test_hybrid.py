"""Tables as hybrids of their own rows and a map of the profiles, folded after every step."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.methods.hybrid import HybridTables
from recbole_llmkt.transfer.methods.linear_map import profile_features
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.randomness import get_random_state
from tests.helpers import prepare, same_parameters
from tests.transfer.methods.test_initialize import MODELS

KEYS = {"kt_hybrid": "linear", "kt_entity": "both", "kt_weight": 0}


def table_sum(hybrid):
    """Write out R + P W of one parameter."""
    rows = hybrid.own.detach().clone()
    for part in hybrid.parts:
        view = part.table.rows({hybrid.name: rows})
        view += part.features @ part.weights.detach()
    return rows


@pytest.mark.parametrize("rate", [1.0, 0.2])
@pytest.mark.parametrize("learner", ["adam", "sgd", "adagrad"])
def test_a_step_is_that_of_the_sum_written_out(tiny, learner, rate):
    """Against autograd on E = R + P W, with R and W as leaves, W at its own learning rate."""
    keys = {**KEYS, "kt_hybrid_rate": rate}
    run = prepare(tiny.config("BPR", learner=learner, weight_decay=0.01, **keys))
    tables = run.prepared(HybridTables)
    tables.join_optimizers([run.trainer.optimizer])
    leaves = {
        learned.name: [p.detach().clone().requires_grad_() for p in learned.learned()]
        for learned in tables.parameters
    }
    features = {learned.name: learned.parts[0].features for learned in tables.parameters}
    makers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}
    lr = run.config["learning_rate"]
    groups = [{"params": [own for own, _ in leaves.values()]}]
    groups.append({"params": [weights for _, weights in leaves.values()], "lr": rate * lr})
    reference = makers[learner](groups, lr=lr, weight_decay=0.01)
    for step, batch in enumerate(run.train_data):
        run.trainer.optimizer.zero_grad()
        run.model.calculate_loss(batch).backward()
        run.trainer.optimizer.step()
        reference.zero_grad()
        whole = {name: own + features[name] @ w for name, (own, w) in leaves.items()}
        torch.func.functional_call(prepared_twin(tiny), whole, (batch,)).backward()
        reference.step()
        if step == 2:
            break
    run.trainer.optimizer.state_dict()
    for learned in tables.parameters:
        own, weights = leaves[learned.name]
        torch.testing.assert_close(learned.own, own)
        torch.testing.assert_close(learned.parts[0].weights, weights)
        torch.testing.assert_close(learned.parameter, own + features[learned.name] @ weights)
        assert weights.abs().max() > 0


def test_next_to_nothing_counts_as_nothing(tiny):
    """A matrix product of denormal numbers takes a hundred times longer than one of others."""
    run = prepare(tiny.config("BPR", **KEYS))
    hybrid, *_ = run.prepared(HybridTables).parameters
    (part,) = hybrid.parts
    part.weights.data.fill_(1e-39)
    hybrid.own.grad = torch.zeros_like(hybrid.own)
    hybrid.fold()
    assert torch.equal(hybrid.parameter, hybrid.own)
    hybrid.parameter.grad = torch.full_like(hybrid.parameter, 1e-39)
    hybrid.take_gradient()
    assert not part.weights.grad.any() and hybrid.own.grad.all()


def prepared_twin(tiny):
    """Return a stock model whose ``forward`` is its loss."""
    model = prepare(tiny.config("BPR", kt_enabled=False)).model
    model.forward, scores = model.calculate_loss, model.forward
    model_class = type(model)

    def loss(batch):
        model.forward = scores
        try:
            return model_class.calculate_loss(model, batch)
        finally:
            model.forward = loss

    model.forward = loss
    return model


def test_alternating_optimizers_drop_what_piled_up_for_the_other(tiny):
    """RecVAE: ten steps of the encoder's optimizer, then one of the decoder's, as in stock."""
    moved = {}
    for name, keys in {"stock": {"kt_enabled": False}, "hybrid": KEYS}.items():
        run = prepare(tiny.config("RecVAE", **keys, latent_dimension=8, learner="sgd"))
        optimizers = [run.trainer.optimizer_encoder, run.trainer.optimizer_decoder]
        if name == "hybrid":
            tables = run.prepared(HybridTables)
            for part in (part for learned in tables.parameters for part in learned.parts):
                part.features.zero_()  # so that nothing but the order of the steps can differ
            tables.join_optimizers(optimizers)
        torch.manual_seed(5)
        batch = next(iter(run.train_data))
        for step in range(11):
            optimizer = optimizers[step // 10]
            optimizer.zero_grad()
            run.model.calculate_loss(batch, encoder_flag=step < 10).backward()
            optimizer.step()
        moved[name] = {key: parameter.clone() for key, parameter in run.model.state_dict().items()}
    for key, value in moved["stock"].items():
        torch.testing.assert_close(moved["hybrid"][key], value, msg=key)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_ends_as_the_sum(tiny, model):
    settings, *_ = MODELS[model]
    run = prepare(tiny.config(model, **KEYS, **settings, epochs=2))
    before = run.model.state_dict().keys()
    run.fit()
    assert run.model.state_dict().keys() == before
    for learned in run.method("hybrid").parameters:
        torch.testing.assert_close(learned.parameter.detach(), table_sum(learned))
        # Of FFM's tables each part of one never meets a field to be multiplied with.
        assert any(part.weights.abs().max() > 0 for part in learned.parts)
    summary = run.trainer.transfer_summary()
    entities = [name for name, tables in zip(("user", "item"), MODELS[model][1:]) if tables]
    assert {table["entity"] for table in summary["hybrid"]} == set(entities)


@pytest.mark.parametrize("kind", ["linear", "neighbours"])
def test_rows_are_written_on_demand_and_whole_after_an_epoch(tiny, kind):
    keys = {**KEYS, "kt_hybrid": kind, "learner": "sgd", "epochs": 1, "kt_epochs": 1}
    trained = {}
    for weight in (0.0, 1e-9):  # with a transfer loss, all rows are written in every step
        run = prepare(tiny.config("BPR", **{**keys, "kt_weight": weight}))
        run.fit(saved=False)
        hybrid = run.method("hybrid")
        assert bool(hybrid._lookups) is (weight == 0.0)
        trained[weight] = {name: p.detach() for name, p in run.model.named_parameters()}
        for folded in hybrid.parameters:
            assert not torch.equal(folded.own, folded.parameter)
    for name, values in trained[0.0].items():
        torch.testing.assert_close(values, trained[1e-9][name])


def test_biases_are_hybrids_too(tiny):
    settings, *_ = MODELS["FM"]
    run = prepare(tiny.config("FM", **KEYS, **settings, epochs=2))
    run.fit()
    tables = [
        (table["entity"], table["width"]) for table in run.trainer.transfer_summary()["hybrid"]
    ]
    assert sorted(tables) == [("item", 1), ("item", 8), ("user", 1), ("user", 8)]


def test_features_are_centred_by_token_and_scaled(tiny):
    run = prepare(tiny.config("BPR", **KEYS, kt_hybrid_scale=0.5))
    hybrid = run.prepared(HybridTables)
    (part,) = hybrid.parameters[0].parts
    known = part.features[torch.from_numpy(part.profiles.ids)]
    torch.testing.assert_close(known.mean(0), torch.zeros(known.shape[1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(known.square().sum(1).mean().sqrt(), torch.tensor(0.5))
    assert part.features[0].abs().max() == 0
    true = torch.from_numpy(run.context.profiles.of(part.table.entity).vectors)
    ratio = (true - true.mean(0)) / known
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))


def test_features_are_the_leading_principal_components(tiny):
    whole, some = (
        profile_features_of(prepare(tiny.config("BPR", **KEYS, kt_hybrid_width=width)))
        for width in (None, 3)
    )
    assert some.shape == (len(whole), 3)
    left, values, _ = torch.linalg.svd(whole, full_matrices=False)
    expected = left[:, :3] * values[:3]  # all of them are trained, so these are centred
    expected *= some.norm() / expected.norm()
    torch.testing.assert_close(some.abs(), expected.abs(), atol=1e-5, rtol=1e-4)


def test_who_has_no_profile_has_no_features(make_dataset):
    from tests.helpers import add_profiles

    dataset = make_dataset()
    add_profiles(dataset, without=["u3"])
    run = prepare(dataset.config("BPR", **KEYS))
    run.fit()
    user = run.dataset.token2id("user_id", "u3")
    (table,) = [
        learned
        for learned in run.method("hybrid").parameters
        if learned.parts[0].table.entity == "user"
    ]
    assert torch.equal(table.parameter[user], table.own[user])


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_reach_the_features(tiny, control):
    true, broken = (
        profile_features_of(prepare(tiny.config("BPR", **KEYS, kt_control=chosen)))
        for chosen in ("none", control)
    )
    assert not (true[1:] == broken[1:]).all(1).any()
    if control == "shuffled":
        torch.testing.assert_close(true.sort(0).values, broken.sort(0).values)


def profile_features_of(run):
    profiles = RunProfiles(run.config, run.dataset)
    return profile_features(run.config, profiles.of("user"), profiles.trained_ids("user"))


def test_draws_nothing_and_leaves_a_stock_checkpoint(tiny, tmp_path):
    stock = prepare(tiny.config("BPR", kt_enabled=False))
    stock.fit()
    after = get_random_state()
    run = prepare(tiny.config("BPR", **KEYS, checkpoint_dir=str(tmp_path)))
    run.fit(saved=True)
    assert torch.equal(get_random_state()["torch"], after["torch"])
    assert not same_parameters(run.model, stock.model)
    path = run.trainer.saved_model_file
    run.trainer.evaluate(run.test_data)  # loads the best epoch
    loaded = load_data_and_model(path)[1]
    assert type(loaded) is type(stock.model)
    assert same_parameters(loaded, run.model)


def test_a_resumed_run_equals_a_whole_one(tiny):
    keys = {**KEYS, "epochs": 4, "eval_step": 2}
    whole = prepare(tiny.config("BPR", **keys))
    whole.fit(saved=True)
    first = prepare(tiny.config("BPR", **{**keys, "epochs": 2}))
    first.fit(saved=True)
    second = prepare(tiny.config("BPR", **keys))
    second.trainer.resume_checkpoint(first.trainer.saved_model_file)
    second.fit(saved=True)
    assert same_parameters(second.model, whole.model)


def test_together_with_loss_start_and_frozen_tables(tiny):
    keys = {**KEYS, "kt_weight": 0.3, "kt_init": "targets", "kt_projector": "linear"}
    run = prepare(tiny.config("BPR", **keys, kt_freeze_phase1=["item_embedding.*"]))
    frozen = []

    def note(epoch, score):
        frozen.append(run.model.item_embedding.weight.detach().clone())

    run.fit(callback_fn=note)
    summary = run.trainer.transfer_summary()
    assert summary["init"] and summary["hybrid"] and summary["terms"]
    assert torch.equal(frozen[0], frozen[1])
    assert not torch.equal(frozen[1], frozen[-1])


def test_what_it_cannot_do_is_refused(tiny):
    with pytest.raises(ConfigError, match="enable_scaler: False"):
        prepare(tiny.config("BPR", **KEYS, enable_scaler=True)).fit()
    run = prepare(tiny.config("BPR", **KEYS))
    tables = run.prepared(HybridTables)
    sparse = torch.optim.SparseAdam(run.model.parameters())
    with pytest.raises(ConfigError, match="sparse_adam"):
        tables.join_optimizers([sparse])
