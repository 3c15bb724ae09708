from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.experiment.tuning.space import search_spaces
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.parsing import load_yaml
from tests.helpers import ENCODER, TinyDataset, add_profiles

PAPER = Path(__file__).parent.parent.parent / "examples" / "paper"
RANKING = ["NeuMF", "SimpleX", "MultiVAE"]
CLICKS = ["DCN", "DeepFM"]
DATA = {
    "ml-1m": ("ml-1m", RANKING + CLICKS),
    "ml-1m-files": ("ml-1m", RANKING),
    "ml-1m-ctr-files": ("ml-1m-ctr", CLICKS),
    "amazon-cds-vinyl": ("amazon-cds-vinyl", RANKING + CLICKS),
}
CASES = [(data, model) for data, (_, models) in DATA.items() for model in models]


def files(data, model):
    return [str(PAPER / "data" / f"{data}.yaml"), str(PAPER / "models" / f"{model}.yaml")]


def test_every_file_is_used():
    assert {path.stem for path in (PAPER / "data").glob("*.yaml")} == {*DATA}
    assert {path.stem for path in (PAPER / "models").glob("*.yaml")} == {*RANKING, *CLICKS}


@pytest.mark.parametrize(("data", "model"), CASES)
def test_the_papers_settings(data, model):
    config = Config(model, DATA[data][0], files(data, model), command_line=[])
    assert config["epochs"] >= 70
    assert config["kt_epochs"] == 0.5
    assert (config["kt_loss"], config["kt_transform"]) == ("rmse", "umap")
    assert config["valid_metric"] in ("NDCG@10", "AUC")
    if not config["benchmark_filename"]:
        args = config["eval_args"]
        assert (args["split"], args["order"]) == ({"RS": [0.7, 0.1, 0.2]}, "TO")
        assert args["group_by"] == "user"


def test_the_search_space_leaves_the_papers_choices_alone():
    for model in RANKING + CLICKS:
        config = Config(model, "ml-1m", files("ml-1m", model), command_line=[])
        spaces = search_spaces(config, PAPER / "space.yaml")
        assert list(spaces["transfer"]) == ["kt_weight"]
        assert "learning_rate" in spaces["shared"]


@pytest.fixture
def small(make_dataset):
    """Return a function that writes a small dataset in the columns and files of ``data``."""

    def make(data: str) -> TinyDataset:
        name = DATA[data][0]
        dataset = make_dataset(n_users=25, n_items=30, per_user=(20, 25), name=name)
        write_features(dataset)
        keys = {key: value for key, value in load_yaml(PAPER / "data" / f"{data}.yaml").items()}
        keys["user_inter_num_interval"] = keys["item_inter_num_interval"] = "[2,inf)"
        if "benchmark_filename" in keys:
            write_parts(dataset, with_rating="rating" in keys["load_col"]["inter"])
            keys.update(TIME_FIELD=None, RATING_FIELD=None)
        args = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}
        add_profiles(dataset, eval_args=args, **keys)
        return dataset

    return make


def write_features(dataset):
    users, items = ({row[i] for row in dataset.rows} for i in (0, 1))
    lines = ["user_id:token\tage:token\tgender:token\toccupation:token"]
    lines += [f"{user}\t{len(user)}\tF\t3" for user in sorted(users)]
    (dataset.folder / f"{dataset.name}.user").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\trelease_year:token\tgenre:token_seq"]
    lines += [f"{item}\t1995\tDrama Comedy" for item in sorted(items)]
    (dataset.folder / f"{dataset.name}.item").write_text("\n".join(lines) + "\n")


def write_parts(dataset, with_rating):
    """Write train, validation and test files: 7, 1 and 2 of every ten rows."""
    header = ["user_id:token", "item_id:token"] + ["rating:float"] * with_rating
    for part, places in (("train", range(7)), ("valid", [7]), ("test", [8, 9])):
        rows = [row for i, row in enumerate(sorted(dataset.rows)) if i % 10 in places]
        lines = ["\t".join(map(str, row[: len(header)])) for row in rows]
        path = dataset.folder / f"{dataset.name}.{part}.inter"
        path.write_text("\n".join(["\t".join(header), *lines]) + "\n")


@pytest.mark.parametrize(("data", "model"), CASES)
def test_two_epochs_on_small_data_of_the_same_format(small, data, model):
    dataset = small(data)
    keys = {
        "data_path": str(dataset.data_path),
        "profile_encoder": ENCODER,
        "profile_allow_leak": True,  # the small profiles were written for one split of them all
        "kt_transform": "random",  # UMAP needs more than 25 users for 64 coordinates
        "epochs": 2,
        "eval_step": 1,
        "eval_batch_size": 4096,
        "user_inter_num_interval": "[2,inf)",
        "item_inter_num_interval": "[2,inf)",
        "gpu_id": "",
    }
    result = train(Config(model, dataset.name, files(data, model), keys, []), verbose=False)
    expected = "auc" if model in CLICKS else "ndcg@10"
    assert 0.0 < result["test_result"][expected] <= 1.0
    assert result["transfer"]["phase_switch"] == 1
    assert len(result["transfer"]["transfer_loss"]) == 1
    assert not Path("dataset").exists()
