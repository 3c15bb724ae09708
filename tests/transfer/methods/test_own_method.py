"""A method of somebody's own: this one file, and ``kt_method`` with the path of its class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from recbole_llmkt.config import Config
from recbole_llmkt.experiment.report.report import make_report
from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.consistency import profile_uses, texts_of
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.space import arm_space, search_spaces
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.quick_start import load_data_and_model, train
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.randomness import transfer_seed
from tests.helpers import prepare, same_parameters
from tests.training.test_checkpointing import add_vector, uninterrupted

PATH = f"{__name__}.Toy"


class Toy(Method):
    """Push rows towards their profiles before each epoch, a little less every time."""

    name: ClassVar[str] = "toy"

    def __init__(self, config):
        super().__init__(config)
        self.pushes = 0

    def prepare(self, context):
        parameters = dict(context.model.named_parameters())
        rng = np.random.default_rng(transfer_seed(self.config))
        self.used, self.targets = [], []
        for entity, tables in context.written_tables(min_width=2).items():
            profiles = context.profiles.of(entity)
            vectors = apply_control(self.config["kt_control"], profiles.vectors, rng)
            for table in tables:
                self.used.append((table, profiles))
                rows, ids = table.rows(parameters), torch.from_numpy(profiles.ids)
                self.targets.append((rows, ids, torch.from_numpy(vectors)[:, : rows.shape[1]]))

    def on_epoch_begin(self, epoch):
        self.pushes += 1
        with torch.no_grad():
            for rows, ids, targets in self.targets:
                rows[ids] += 0.1 / self.pushes * targets

    def state_dict(self):
        return {"pushes": self.pushes}

    def load_state_dict(self, state):
        self.pushes = state["pushes"]

    def profiles(self):
        return [profiles for _, profiles in self.used]

    def summary(self):
        places = [
            {"place": f"push of {table}", **profiles.summary()} for table, profiles in self.used
        ]
        return {self.name: places, "pushes": self.pushes}


class Nameless(Method):
    """It does not say under which name checkpoints keep its state."""


def test_it_trains(tiny):
    stock = train(tiny.config(epochs=2, kt_enabled=False), verbose=False)
    result = train(tiny.config(epochs=2, kt_method=PATH), verbose=False)
    facts = result["transfer"]
    assert facts["method"] == PATH and facts["pushes"] == 2 and facts["leaks"] == 0
    assert [place["place"] for place in facts["toy"]] == [
        "push of user_embedding.weight[0..30] (user)"
    ]
    assert result["best_valid_result"] != stock["best_valid_result"]
    model = load_data_and_model(result["checkpoint"], trust=True)[1]
    assert type(model).__module__.startswith("recbole.")


def test_it_resumes_bit_for_bit(tiny):
    keys = {"epochs": 4, "kt_method": PATH, "kt_entity": "both"}
    whole, result = uninterrupted(tiny, "BPR", keys)
    run = prepare(tiny.config(**keys))
    run.trainer.resume_checkpoint("1.pth")
    assert run.fit()[0] == result[0]
    assert run.method("toy").pushes == whole.method("toy").pushes == 4
    assert same_parameters(whole.model, run.model)


def test_it_does_not_resume_with_other_texts(tiny):
    keys = {"epochs": 2, "kt_method": PATH}
    uninterrupted(tiny, "BPR", keys)
    store = ProfileStore(tiny.folder / "profiles", "user")
    with store.writing():
        store.append(replace(store.read()["u7"], text="Likes noir."))
    add_vector(tiny, "u7", "Likes noir.")
    run = prepare(tiny.config(**keys))
    run.trainer.resume_checkpoint("0.pth")
    with pytest.raises(DataError, match="texts of the user profiles"):
        run.fit()


def test_it_is_compared_and_reported(tiny, tmp_path, undrawn):
    plan = Plan(
        ["BPR"],
        ["base", "toy", "toy+shuffled"],
        [1],
        "tiny",
        overrides=tiny.settings(epochs=2, kt_entity="both"),
        own_arms={"toy": {"kt_method": PATH}},
    )
    output = tmp_path / "out"
    records = {record.arm: record for record in compare(plan, output, 1)}
    assert {record.status for record in records.values()} == {"ok"}
    own, control = records["toy"], records["toy+shuffled"]
    assert own.valid != control.valid
    assert own.transfer["pushes"] == 2
    assert [place for place, _ in profile_uses(own)] == [
        "push of user_embedding.weight[0..30] (user)",
        "push of item_embedding.weight[0..40] (item)",
    ]
    assert {*texts_of(own.to_json())} == {"user", "item"}
    assert texts_of(own.to_json()) == texts_of(control.to_json())
    assert texts_of(records["base"].to_json()) == {}
    make_report(output)
    page = (output / "report.md").read_text()
    row = next(line for line in page.splitlines() if "| toy " in line and "test-encoder" in line)
    assert "100.0%" in row

    # Other texts than those that the recorded runs learned from are noticed.
    store = ProfileStore(tiny.folder / "profiles", "item")
    with store.writing():
        store.append(replace(store.read()["i7"], text="Noir."))
    with pytest.raises(DataError, match="learned from item profiles that have changed since"):
        compare(plan, output, 1)


def test_it_has_its_own_search_space(tiny):
    space = f"shared: {{}}\n{PATH}:\n  kt_init_scale: [0.5, 1.0]\n"
    Path("space.yaml").write_text(space)
    spaces = search_spaces(tiny.config(kt_enabled=False), Path("space.yaml"))
    own = arm_space(spaces, tiny.config(kt_method=PATH), ())
    assert "kt_init_scale" in own and "kt_weight" not in own and "learning_rate" in own
    assert "kt_init_scale" not in arm_space(spaces, tiny.config(), ())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("collections.OrderedDict", r"^kt_method: 'collections.OrderedDict' is not a subclass of "),
        (f"{__name__}.prepare", r"^kt_method: .* is not a class"),
        ("nowhere.Toy", r"^kt_method: Cannot import 'nowhere\.Toy'"),
        (f"{__name__}.Nameless", r"^kt_method: .*Nameless' has no name"),
    ],
)
def test_what_is_no_method_is_refused(path, message):
    config = Config("BPR", "ml-100k", config_dict={"kt_method": path}, command_line=[])
    with pytest.raises(ConfigError, match=message):
        wanted_methods(config)
