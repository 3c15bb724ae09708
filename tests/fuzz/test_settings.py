"""Settings: YAML files, values, keys, command lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.cli.main import main
from recbole_llmkt.cli.overrides import parse_overrides
from recbole_llmkt.config import Config
from recbole_llmkt.experiment.runs import compare
from recbole_llmkt.experiment.tuning import tune
from recbole_llmkt.keys.combinations import check_run
from recbole_llmkt.keys.table import KEYS
from recbole_llmkt.utils.parsing import load_yaml, parse_value
from tests.fuzz.cases import JSON_VALUES, ODD, TEXT, damaged, survives
from tests.fuzz.test_profiles import Encoder
from tests.planted import settings


def _words(text: str) -> list[str]:
    return text.split()


YAML = b"""\
kt_loss: rmse
kt_weight: 0.5  # a comment
metrics: [Recall, NDCG]
eval_args:
  split: {RS: [0.8, 0.1, 0.1]}
  mode: full
anchor: &a [1, 2]
again: *a
words: "in quotes"
long: |
  a block
  of text
"""
RECBOLE_KEYS = _words(
    """
    learning_rate epochs train_batch_size eval_batch_size topk metrics valid_metric seed
    stopping_step eval_args load_col clip_grad_norm weight_decay learner device gpu_id
    train_neg_sample_args embedding_size checkpoint_dir data_path field_separator
    benchmark_filename user_inter_num_interval val_interval threshold encoding
    numerical_features loss_decimal_place repeatable eval_step reproducibility state
    show_progress metric_decimal_place worker
    """
)
NAMES = st.sampled_from([*KEYS, *RECBOLE_KEYS])


@given(damaged(YAML))
@example(b"a: !!int x\n")
@example(b"a: " + b"[" * 5000)
@example(b"a: &a [*a]\n")
@example(b"a: !!timestamp x\n? [b]\n: c\n")
def test_a_configuration_file(tmp_path, content):
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    survives(load_yaml, path)


@given(st.one_of(TEXT, damaged(b"{RS: [0.8, 0.1], 'a': None, \"b\": 1e-3}").map(repr)))
@example("[" * 10_000)
@example("-" * 10_000 + "1")
@example("{[]: 1}")
def test_a_value(text):
    parse_value(text)


@given(st.lists(TEXT | st.tuples(NAMES, TEXT).map("--{0[0]}={0[1]}".format), max_size=3))
def test_overrides(arguments):
    survives(parse_overrides, arguments)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "planted").mkdir()
    for part in ("train", "valid", "test"):
        text = "user_id:token\titem_id:token\n" + "".join(f"u{n}\ti{n}\n" for n in range(9))
        (folder / "planted" / f"planted.{part}.inter").write_text(text)
    return settings(folder)


@given(
    st.sampled_from(["BPR", "SASRec", "DeepFM", "EASE"]),
    st.dictionaries(NAMES, ODD | JSON_VALUES, min_size=1, max_size=2),
)
@example("BPR", {"topk": [10**400]})
@example("BPR", {"learning_rate": float("nan")})
@example("BPR", {"eval_args": {"split": {"RS": "x"}}})
def test_keys(planted, model, keys):
    config = survives(Config, model, "planted", config_dict={**planted, **keys}, command_line=[])
    if isinstance(config, Config):
        survives(check_run, config)


WORDS = st.sampled_from(
    _words(
        """
        train compare tune report journal profile layers recommend show edit export import check
        merge embed write --models=BPR --model=BPR --dataset=planted --arms=base,kt
        --arms=kt+random --seeds=1,2 --seeds=1,,x --trials=0 --trials=2 --finalists=-1 --jobs=0
        --output=out --output= --shard=3/2 --shard=x --entity=user --entity=y --users=u1 --users=,
        --checkpoint=model.pth --space=space.yaml --tuned=out --arm=x --debug --help --dry-run
        --price-in=nan --resume=model.pth -o -d -- -h = --=
        """
    )
)


BASES = st.sampled_from(
    [
        [],
        ["train", "--model=BPR", "--dataset=planted"],
        ["compare", "--models=BPR", "--dataset=planted", "--output=out"],
        ["tune", "--models=BPR", "--dataset=planted", "--output=out", "--trials=2"],
        ["profile", "--dataset=planted"],
        ["profile", "show", "--dataset=planted"],
        ["layers", "--model=BPR", "--dataset=planted"],
    ]
)
NOTHING = {"checkpoint": None}


@pytest.fixture
def no_work(monkeypatch, tmp_path, planted):
    """Let commands check what they are given, and train nothing."""
    from recbole_llmkt import quick_start

    def checked(plan, *_, **__):
        for run in plan.runs():
            check_run(run.config())
        return []

    monkeypatch.setattr(quick_start, "train", lambda config, **_: check_run(config) or NOTHING)
    monkeypatch.setattr(compare, "compare", checked)
    monkeypatch.setattr(tune, "tune", lambda tuning, *_: checked(tuning.plan))
    monkeypatch.setenv("EDITOR", "true")  # what `profile edit` opens
    monkeypatch.setenv("VISUAL", "true")
    monkeypatch.setattr("recbole_llmkt.profiles.encoders.get_encoder", lambda config: Encoder())
    monkeypatch.setattr("recbole_llmkt.cli.train._show", lambda result: None)
    monkeypatch.setattr("recbole_llmkt.cli.train._next_commands", lambda *_: [])
    Path("settings.yaml").write_text(yaml.safe_dump(planted))
    Path("model.pth").write_bytes(b"PK\x03\x04 no checkpoint")
    Path("space.yaml").write_text("learning_rate: {low: x}\n")
    Path("out").mkdir()


KEYS_OF_THE_LINE = st.tuples(NAMES, ODD).map("--{0[0]}={0[1]}".format)


@given(BASES, st.lists(WORDS | TEXT | KEYS_OF_THE_LINE, max_size=4))
@example(["train", "--model=BPR", "--dataset=planted"], ["--epochs=" + "9" * 5000])
@example([], ["recommend", "--checkpoint=model.pth", "--users=u1"])
@example(["tune", "--models=BPR", "--dataset=planted", "--output=out"], ["--space=space.yaml"])
@example([], ["report", "out"])
def test_a_command_line(no_work, base, words):
    words = [word.replace("\x00", "") for word in words]
    settings_of_the_data = ["--config-files=settings.yaml"] if base else []
    done = CliRunner().invoke(main, [*base, *words, *settings_of_the_data])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
