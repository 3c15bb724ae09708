"""Keys, checks and precedence."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.config import Config as StockConfig

from recbole_llmkt.compat import stock_recbole
from recbole_llmkt.config import Config
from recbole_llmkt.keys.table import KEYS
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ConfigError, LLMKTError
from recbole_llmkt.utils.parsing import load_yaml

OVERALL = resources.properties_dir() / "overall.yaml"


def config(model="BPR", dataset="ml-100k", files=None, command=(), **values) -> Config:
    return Config(model, dataset, files, values, command_line=list(command))


def yaml_file(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


# ---- properties/overall.yaml -------------------------------------------------------------------


def test_every_key_has_a_default_and_a_check():
    assert set(load_yaml(OVERALL)) == set(KEYS)


def test_every_default_passes_its_own_check():
    wrong = {key: KEYS[key].refusal(value) for key, value in load_yaml(OVERALL).items()}
    assert not {key: refusal for key, refusal in wrong.items() if refusal}


def test_every_line_has_a_type_and_a_comment():
    lines = [text for text in OVERALL.read_text().splitlines() if text and not text.startswith("#")]
    for line in lines:
        assert re.match(r"^(kt|profile)_\w+: .*\S\s+# \([a-z ]+\) \w.*[.]$", line), line


def test_some_defaults():
    made = config()
    expected = {
        "kt_enabled": True,
        "kt_layer": "auto",
        "kt_rows": "auto",
        "kt_entity": "user",
        "kt_loss": "rmse",
        "kt_weight": 0.5,
        "kt_epochs": 0.5,
        "kt_transform": "pca",
        "kt_projector": "none",
        "kt_control": "none",
    }
    assert {key: made[key] for key in expected} == expected


@pytest.mark.parametrize("folder", ["model", "dataset", "presets"])
def test_every_packaged_property_file_can_be_loaded(folder):
    names = resources.names(folder)
    assert names
    for name in names:
        content = load_yaml(resources.properties_dir() / folder / f"{name}.yaml")
        for key, value in content.items():
            assert not key.startswith(("kt_", "profile_")) or KEYS[key].refusal(value) is None


# ---- unknown keys and values out of range --------------------------------------------------------


def test_recboles_own_files_mean_what_they_mean_to_recbole():
    with stock_recbole():
        stock = StockConfig("BPR", "ml-100k", config_dict={})
    files = sorted((Path(recbole.__file__).parent / "properties").rglob("*.yaml"))
    assert len(files) > 100
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert load_yaml(path) == (yaml.load(text, Loader=stock.yaml_loader) or {}), path


def test_unknown_key_in_a_file(tmp_path):
    file = yaml_file(tmp_path / "a.yaml", "kt_wieght: 0.3\n")
    with pytest.raises(ConfigError, match=r"'kt_wieght' in '.*a.yaml'.*Did you mean 'kt_weight'"):
        config(files=[file])


def test_unknown_key_in_the_dict():
    with pytest.raises(ConfigError, match=r"'kt_wieght' in config_dict.*Did you mean 'kt_weight'"):
        config(kt_wieght=0.3)


def test_unknown_key_on_the_command_line():
    with pytest.raises(ConfigError, match=r"'profile_encodr' in the command line.*'profile_encode"):
        config(command=["--profile_encodr=wordllama"])


def test_unknown_key_on_the_programs_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["run.py", "--kt_wieght=0.3"])
    with pytest.raises(ConfigError, match=r"'kt_wieght' in the command line"):
        Config("BPR", "ml-100k")


def test_unknown_key_in_a_preset(tmp_path):
    file = yaml_file(tmp_path / "mine.yaml", "kt_wieght: 0.3\n")
    with pytest.raises(ConfigError, match=r"'kt_wieght' in '.*mine.yaml'"):
        config(kt_preset=file)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kt_weight", 1.5, "from 0.0 to 1.0"),
        ("kt_weight", -0.1, "from 0.0 to 1.0"),
        ("kt_weight", float("nan"), "from 0.0 to 1.0"),
        ("kt_weight", "much", "from 0.0 to 1.0"),
        ("kt_weight", True, "from 0.0 to 1.0"),
        ("kt_weight", None, "from 0.0 to 1.0"),
        ("kt_weight", [], "empty list"),
        ("kt_weight", [0.5, 2], "from 0.0 to 1.0"),
        ("kt_epochs", 0, "count of 1 or more"),
        ("kt_epochs", 0.0, "above 0.0"),
        ("kt_epochs", 1.5, "share above 0.0"),
        ("kt_epochs", -3, "count of 1 or more"),
        ("kt_epochs", float("nan"), "share above 0.0"),
        ("kt_epochs", "half", "share of `epochs`"),
        ("kt_epochs", True, "share of `epochs`"),
        ("kt_enabled", "maybe", "True or False"),
        ("kt_enabled", 1, "True or False"),
        ("kt_loss", "rmze", "Did you mean 'rmse'"),
        ("kt_rows", "bach", "Did you mean 'batch'"),
        ("kt_rows", ["batch", "tabel"], "Did you mean 'table'"),
        ("kt_entity", "users", "Did you mean 'user'"),
        ("kt_entity", ["both"], "[user, item] means both"),
        ("kt_transform", "tsne", "one of pca, pca_whiten, umap"),
        ("kt_projector", "conv", "one of none, linear, mlp"),
        ("kt_control", "shuffle", "Did you mean 'shuffled'"),
        ("kt_layer", 3, "non-empty string"),
        ("kt_layer", "", "non-empty string"),
        ("kt_layer", ["user_embedding", 3], "non-empty string"),
        ("kt_freeze_phase1", "user*", "list of strings"),
        ("kt_freeze_phase2", [1], "list of strings"),
        ("kt_projector_dim", 0, "an integer"),
        ("kt_projector_dim", 2.5, "an integer"),
        ("kt_seed", -1, "an integer"),
        ("profile_allow_leak", "no way", "True or False"),
        ("profile_concurrency", 0, "an integer"),
        ("profile_temperature", -1.0, "0.0 or more"),
        ("kt_preset", "llmtk", "Did you mean 'llmkt'"),
    ],
)
def test_a_value_out_of_range_names_key_place_and_what_is_allowed(key, value, words):
    with pytest.raises(ConfigError) as caught:
        config(**{key: value})
    assert words in str(caught.value)
    assert key in str(caught.value)


@pytest.mark.parametrize("text", ["kt_weight: 1.5", "kt_loss: rmze", "kt_epochs: 0"])
def test_values_in_files_are_checked_too(tmp_path, text):
    with pytest.raises(ConfigError, match=r"b\.yaml"):
        config(files=[yaml_file(tmp_path / "b.yaml", text)])


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- kt_weight\n- 0.3\n", "must hold 'key: value' lines, not a list"),
        ("just words", "must hold 'key: value' lines, not a str"),
        ("a: [1, 2", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['touch owned']", "is not valid YAML"),
        ("a: !!python/name:os.system", "is not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        config(files=[yaml_file(tmp_path / "c.yaml", text)])
    assert not Path("owned").exists()


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ConfigError, match=r"'nowhere.yaml': No such file or directory \(seen from"):
        config(files=["nowhere.yaml"])
    with pytest.raises(ConfigError, match="Cannot read the configuration file"):
        config(files=[str(tmp_path)])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="Cannot read the configuration file"):
        config(files=[str(tmp_path / "binary.yaml")])


def test_an_empty_file_says_nothing(tmp_path):
    assert config(files=[yaml_file(tmp_path / "e.yaml", "# nothing\n")])["kt_weight"] == 0.5


# ---- precedence ----------------------------------------------------------------------------------


def test_the_order_of_precedence(tmp_path):
    preset = yaml_file(
        tmp_path / "p.yaml", "kt_weight: 0.1\nkt_loss: mse\nkt_seed: 1\nkt_user_layer: p\n"
    )
    first = yaml_file(tmp_path / "1.yaml", "kt_weight: 0.2\nkt_loss: cosine\nkt_projector: mlp\n")
    second = yaml_file(tmp_path / "2.yaml", "kt_weight: 0.25\n")
    made = config(
        files=[first, second],
        command=["--kt_weight=0.4"],
        kt_preset=preset,
        kt_weight=0.3,
        kt_projector="linear",
    )
    assert made["kt_weight"] == 0.4  # the command line
    assert made["kt_projector"] == "linear"  # config_dict over the files
    assert made["kt_loss"] == "cosine"  # the file over the preset
    assert made["kt_seed"] == 1  # the preset over the defaults
    assert made["kt_user_layer"] == "p"  # the preset over properties/model
    assert config(files=[first, second])["kt_weight"] == 0.25  # the later file wins
    assert config(kt_preset=preset)["kt_weight"] == 0.1


def test_a_preset_may_be_named_anywhere(tmp_path):
    preset = yaml_file(tmp_path / "p.yaml", "kt_weight: 0.1\n")
    file = yaml_file(tmp_path / "f.yaml", f"kt_preset: {preset}\n")
    assert config(files=[file])["kt_weight"] == 0.1
    assert config(command=[f"--kt_preset={preset}"])["kt_weight"] == 0.1


def test_the_papers_preset():
    made = config("NeuMF", kt_preset="llmkt")
    assert (made["kt_loss"], made["kt_transform"], made["kt_epochs"]) == ("rmse", "umap", 0.5)
    assert made["eval_args"]["split"] == {"RS": [0.7, 0.1, 0.2]}


def test_layer_presets_are_the_models():
    assert config("MultiVAE")["kt_user_layer"] == "forward()[1]"
    assert config("BPR")["kt_user_layer"] == "user_embedding"


def test_eval_args_of_the_bundled_dataset_are_merged_with_the_models():
    split = {"RS": [0.7, 0.1, 0.2]}
    general, context = config("BPR"), config("DCN")
    assert general["eval_args"]["split"] == context["eval_args"]["split"] == split
    assert general["eval_args"]["order"] == context["eval_args"]["order"] == "TO"
    assert general["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert context["eval_args"]["mode"] == {"valid": "labeled", "test": "labeled"}


def test_a_users_eval_args_win():
    made = config(eval_args={"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO"})
    assert made["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert made["eval_args"]["order"] == "RO"


def test_files_are_merged_key_by_key_only_at_the_top(tmp_path):
    file = yaml_file(
        tmp_path / "f.yaml", "learning_rate: 1e-4\ntopk: [3]\nuser_inter_num_interval: '[20,150]'\n"
    )
    made = config(files=[file])
    assert made["learning_rate"] == 1e-4 and isinstance(made["learning_rate"], float)
    assert made["topk"] == [3] and made["user_inter_num_interval"] == "[20,150]"


# ---- model and dataset ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("NueMF", "Unknown model 'NueMF'.*Did you mean 'NeuMF'"),
        ("bpr", "Unknown model 'bpr'.*Did you mean 'BPR'"),
        ("", "No model is given"),
        ("my_package.my_module.MyModel", "Cannot import"),
        ("recbole.model.general_recommender", "is not a class"),
        ("torch.nn.Linear", "is not a RecBole model"),
        (5, "'model: 5': the value must be a model's name"),
        (["BPR"], "the value must be a model's name"),
    ],
)
def test_unknown_models(model, message):
    with pytest.raises(ConfigError, match=message):
        config(model)


@pytest.mark.parametrize("name", [1.5, True, ["ml-100k"], {"ml-100k": 1}])
def test_a_dataset_that_is_no_name(name):
    with pytest.raises(ConfigError, match="the value must be the name of a folder"):
        Config("BPR", name, command_line=[])


def test_no_model_or_no_dataset():
    with pytest.raises(ConfigError, match="No model is given"):
        Config(dataset="ml-100k", command_line=[])
    with pytest.raises(ConfigError, match="No dataset is given"):
        Config("BPR", command_line=[])


def test_model_and_dataset_from_a_file(tmp_path):
    file = yaml_file(tmp_path / "f.yaml", "model: NeuMF\ndataset: ml-100k\n")
    made = Config(config_file_list=[file], command_line=[])
    assert (made["model"], made["dataset"]) == ("NeuMF", "ml-100k")


def test_an_argument_that_is_no_key():
    for argument in ("kt_weight=0.3", "--kt_weight", "-kt_weight=1", "word"):
        with pytest.raises(ConfigError, match="write --key=value"):
            config(command=[argument])


def test_a_command_line_value_may_hold_an_equals_sign(monkeypatch):
    url = "http://host/v1?a=b"
    assert config(command=[f"--profile_api_base={url}"])["profile_api_base"] == url
    monkeypatch.setattr("sys.argv", ["run.py", f"--profile_api_base={url}"])
    assert Config("BPR", "ml-100k")["profile_api_base"] == url


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", ["Recal"]),
        ("topk", [0]),
        ("topk", "ten"),
        ("eval_args", "full"),
        ("eval_args", {"mode": "unicorn"}),
        ("train_neg_sample_args", {"distribution": "gauss"}),
        ("train_neg_sample_args", 3),
        ("valid_metric", 3),
        ("data_path", ""),
    ],
)
def test_values_that_recbole_refuses_are_config_errors(key, value):
    with pytest.raises(ConfigError):
        config(**{key: value})


def as_text(made: Config) -> dict[str, str]:
    return {key: str(value) for key, value in made.final_config_dict.items()}


# ---- plain values --------------------------------------------------------------------------------


def test_plain_makes_an_equal_configuration(tmp_path):
    file = yaml_file(tmp_path / "f.yaml", "kt_weight: [0.2, 0.3]\nkt_entity: both\nepochs: 3\n")
    for model in ("NeuMF", "DCN", "recbole.model.general_recommender.bpr.BPR"):
        made = config(model, files=[file], learning_rate=1e-4, data_path=str(tmp_path))
        again = Config(config_dict=copy.deepcopy(made.plain()), command_line=[])
        assert again.plain() == made.plain()
        assert as_text(again) == as_text(made)
        assert yaml.safe_load(yaml.safe_dump(again.plain())) == again.plain()


def test_plain_leaves_out_which_of_several_processes_it_was():
    """A checkpoint with it would make its reader wait for the others."""
    given = config(kt_weight=0.2).plain()
    place = {"local_rank": 1, "world_size": 2, "ip": "x", "port": "1", "nproc": 1, "offset": 0}
    made = config(kt_weight=0.2)
    made._given.update(place)
    assert made.plain() == given


def test_plain_keeps_strings_that_look_like_values():
    """What was parsed once must not be parsed again."""
    made = config(my_key="'0.3'", other="'[1, 2]'")
    assert made["my_key"] == "0.3" and made["other"] == "[1, 2]"
    again = Config(config_dict=made.plain(), command_line=[])
    assert again["my_key"] == "0.3" and again["other"] == "[1, 2]"


def test_the_callers_dict_stays_as_it_was():
    values = {"epochs": "3", "eval_args": {"order": "RO"}, "topk": 5}
    values["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 2}
    before = copy.deepcopy(values)
    Config("BPR", "ml-100k", config_dict=values, command_line=[])
    assert values == before


def test_a_configuration_can_be_pickled():
    made = pickle.loads(pickle.dumps(config()))
    assert made["kt_weight"] == 0.5


def test_every_error_of_this_package_has_one_base():
    assert issubclass(ConfigError, LLMKTError)
