"""Layers as they are written, found and recorded."""

from __future__ import annotations

import random
import string

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.layers import Layer, Tap, parameters_reached, tappable
from recbole_llmkt.utils.exceptions import LayerError, LLMKTError


class Toy(nn.Module):
    """A model with a bit of everything that can be tapped."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.tower = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.pair = Pair()
        self.free = nn.Parameter(torch.randn(5, 3))
        self.register_buffer("constant", torch.randn(5, 3))
        self.number = 3

    def encode(self, ids):
        return self.tower(self.table(ids))

    def parts(self, ids):
        return {"x": ids}, (self.table(ids), [ids, self.table(ids) * 2])

    def forward(self, ids):
        return self.encode(ids)

    def calculate_loss(self, ids):
        self.parts(ids)
        left, _ = self.pair(self.table(ids), 2.0)
        return self.forward(ids).sum() + left.sum()


class Pair(nn.Module):
    def forward(self, state, scale):
        return state * scale, state


IDS = torch.tensor([1, 4, 1])


def record(model: Toy, spec: str):
    with Tap(model, Layer.parse(spec)) as tap:
        model.calculate_loss(IDS)
        return list(tap.calls)


@pytest.mark.parametrize(
    "spec",
    [
        "user_embedding",
        "mlp_layers.mlp_layers.4@input",
        "user_embedding.weight",
        "forward()[0]",
        "encoder.encode()",
        "forward()[1][12]",
        "a.b@input[1]",
        "_x.1.y2",
    ],
)
def test_written_and_read_again(spec):
    assert str(Layer.parse(spec)) == spec
    assert str(Layer.parse(f"  {spec} ")) == spec
    assert Layer.parse(str(Layer.parse(spec))) == Layer.parse(spec)


def test_parts_of_a_layer():
    assert Layer.parse("a.b.4@input[1][0]") == Layer("a.b.4", False, "input", (1, 0))
    assert Layer.parse("forward()[2]") == Layer("forward", True, "output", (2,))
    assert Layer.parse("a@output") == Layer("a") and str(Layer.parse("a@output")) == "a"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "4.a",
        "a b",
        "a()()",
        "a().b",
        "a@in",
        "a@input@output",
        "a[x]",
        "a[-1]",
        "a[0",
        "a\nb",
        "__import__('os').system('x')",
        "a[0].b",
        "forward(1)",
    ],
)
def test_what_cannot_be_read_says_how_to_write_it(spec):
    with pytest.raises(LayerError, match="Write a dotted path"):
        Layer.parse(spec)


def test_random_text_is_a_layer_or_one_clear_error():
    rng = random.Random(1)
    letters = string.ascii_letters + string.digits + "._()[]@ \n\t\u00e9\u4e2d'\"\\" + "\x00"
    model = Toy()
    for _ in range(3000):
        text = "".join(rng.choices(letters, k=rng.randrange(12)))
        try:
            layer = Layer.parse(text)
            Tap(model, layer)
        except LLMKTError as error:
            assert "layer" in str(error)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("table", lambda m: m.table(IDS)),
        ("tower.0", lambda m: m.tower[0](m.table(IDS))),
        ("tower.2@input", lambda m: m.tower[1](m.tower[0](m.table(IDS)))),
        ("encode()", lambda m: m(IDS)),
        ("forward()", lambda m: m(IDS)),
        ("table.weight", lambda m: m.table.weight),
        ("free", lambda m: m.free),
        ("parts()[1][1][1]", lambda m: m.table(IDS) * 2),
        ("pair[0]", lambda m: m.table(IDS) * 2),
        ("pair@input[0]", lambda m: m.table(IDS)),
    ],
)
def test_the_recorded_tensor(spec, expected):
    model = Toy()
    call = record(model, spec)[-1]
    assert torch.equal(call.value, expected(model))
    assert call.value.requires_grad


def test_an_embedding_records_what_it_was_asked_for_in_every_call():
    calls = record(Toy(), "table")
    assert len(calls) == 4
    assert all(torch.equal(call.ids, IDS) for call in calls)
    assert record(Toy(), "tower.0")[0].ids is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("tabel", ["no layer 'tabel'", "Did you mean 'table'", "tower.0", "encode()"]),
        ("encode", ["no layer 'encode'", "encode()"]),
        ("table()", ["no layer 'table()'"]),
        ("number", ["no layer 'number'"]),
        ("tower.9", ["no layer 'tower.9'"]),
        ("table.weight.data", ["no layer"]),
        ("table.weight.sum()", ["no layer"]),
    ],
)
def test_an_unknown_layer_lists_the_choices(spec, words):
    with pytest.raises(LayerError) as caught:
        Tap(Toy(), Layer.parse(spec))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pair", r"a tuple of 2: \[0\] a float32 tensor of shape \(3, 3\)"),
        ("pair[2]", r"has no \[2\]"),
        ("forward()[0]", r"has no \[0\]"),
        ("parts()[0]", "holds a dict"),
        ("parts()[1][1][0]", "int64"),
        ("encode()@input", "int64"),
    ],
)
def test_a_place_without_a_hidden_state_says_what_is_there(spec, message):
    with pytest.raises(LayerError, match=message):
        record(Toy(), spec)


@pytest.mark.parametrize("spec", ["table", "forward()", "tower.2@input", "pair[0]", "free"])
def test_a_tap_changes_nothing_and_leaves_no_trace(spec):
    model = Toy()
    before = (set(vars(model)), model.calculate_loss(IDS))
    with Tap(model, Layer.parse(spec)) as tap:
        assert torch.equal(model.calculate_loss(IDS), before[1])
        assert tap.calls
    assert set(vars(model)) == before[0] and "forward" not in vars(model)
    model.calculate_loss(IDS)
    assert not tap.calls
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_two_taps_of_one_method_come_off_in_any_order():
    model = Toy()
    with Tap(model, Layer.parse("forward()")) as outer:
        with Tap(model, Layer.parse("forward()")) as inner:
            model.calculate_loss(IDS)
            assert len(outer.calls) == len(inner.calls) == 1
        model.calculate_loss(IDS)
        assert len(outer.calls) == 2
    assert "forward" not in vars(model)


def test_a_resting_tap_records_nothing():
    model = Toy()
    for spec in ("table", "tower.2@input", "forward()", "table.weight"):
        with Tap(model, Layer.parse(spec)) as tap:
            tap.rest()
            model.calculate_loss(IDS)
            assert not tap.calls
            tap.clear()
            model.calculate_loss(IDS)
            assert tap.calls


def test_a_plain_table_is_recorded_and_any_other_is_not():
    model = Toy()
    for change, plain in ({}, True), ({"max_norm": 1.0}, False), ({"sparse": True}, False):
        model.table = nn.Embedding(5, 3, **change)
        with Tap(model, Layer.parse("table")) as tap:
            model.table(torch.tensor([1, 4]))
            assert (tap.calls[0].table is model.table.weight) is plain


def test_a_tap_comes_off_when_the_step_fails():
    model = Toy()
    with pytest.raises(LayerError), Tap(model, Layer.parse("pair")):
        model.calculate_loss(IDS)
    assert not model.pair._forward_hooks


def test_tappable_lists_modules_parameters_and_methods():
    paths = tappable(Toy())
    assert {"table", "tower.2", "free", "table.weight", "encode()", "forward()"} <= set(paths)
    assert len(paths) == len(set(paths))


def test_parameters_reached():
    model = Toy()
    assert parameters_reached(model.table(IDS), model) == ["table.weight"]
    assert set(parameters_reached(model(IDS), model)) == {
        "table.weight",
        "tower.0.weight",
        "tower.0.bias",
        "tower.2.weight",
        "tower.2.bias",
    }
    assert parameters_reached(model.constant, model) == []
    model.table.weight.requires_grad_(False)
    assert "table.weight" not in parameters_reached(model(IDS), model)
