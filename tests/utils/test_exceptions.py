"""Whose exception it is: RecBole's refusals are translated, our own faults are not."""

from __future__ import annotations

import pickle
import traceback

import pytest
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_llmkt import compat, config
from recbole_llmkt.config import Config
from recbole_llmkt.datasets import loading
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.training.factory import build_model
from recbole_llmkt.utils.exceptions import (
    BadRowsError,
    ConfigError,
    DataError,
    LLMKTError,
    StorageError,
    raised_by_recbole,
    recbole_refusals,
)

FAULTS = [TypeError, AttributeError, KeyError, ValueError]


def as_code_of(package, kind):
    """Return a function that raises an exception as if it stood in a module of ``package``."""
    space = {"__name__": f"{package}.module", "kind": kind}
    exec("def fail(*arguments, **keywords):\n    raise kind('not\\nso')\n", space)
    return space["fail"]


@pytest.mark.parametrize("kind", [LLMKTError, DataError, StorageError])
def test_an_error_is_one_line_whatever_it_quotes(kind):
    error = kind("There is no column 'a\n\x1b[31mb\u202e'.")
    assert str(error) == "There is no column 'a b'."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(BadRowsError("2 rows:\nline 1: '\x9b1m'")) == "2 rows:\nline 1: ''"


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_our_own_in_reading_data_passes_through(tiny, monkeypatch, kind):
    """RecBole calls it, or does not: the code that raised is ours."""
    monkeypatch.setattr(Dataset, "_filter_by_inter_num", as_code_of("recbole_llmkt", kind))
    with pytest.raises(kind) as caught:
        load_data(tiny.config())
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"


@pytest.mark.parametrize("kind", FAULTS)
def test_what_recbole_raises_in_reading_data_is_translated(tiny, monkeypatch, kind):
    monkeypatch.setattr(Dataset, "_filter_by_inter_num", as_code_of("recbole.data", kind))
    with pytest.raises(DataError, match="RecBole cannot use the dataset 'tiny'") as caught:
        load_data(tiny.config())
    assert isinstance(caught.value.__cause__, kind) and "\n" not in str(caught.value)


def test_what_a_library_raises_for_recbole_is_translated(tiny, monkeypatch):
    monkeypatch.setattr(compat.interactions, "_read_csv", as_code_of("pandas.io", TypeError))
    with pytest.raises(DataError, match="TypeError: not so"):
        load_data(tiny.config())


def test_a_fault_of_our_own_in_a_check_passes_through(tiny, monkeypatch):
    monkeypatch.setattr(loading, "check_loaded", as_code_of("recbole_llmkt", KeyError))
    with pytest.raises(KeyError):
        load_data(tiny.config())


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_our_own_in_the_configuration_passes_through(monkeypatch, kind):
    monkeypatch.setattr(config, "check_keys", as_code_of("recbole_llmkt", kind))
    with pytest.raises(kind) as caught:
        Config("BPR", "ml-100k", config_dict={}, command_line=[])
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"


@pytest.mark.parametrize("kind", FAULTS)
def test_what_recbole_raises_for_the_configuration_is_translated(monkeypatch, kind):
    monkeypatch.setattr(Config, "_set_eval_neg_sample_args", as_code_of("recbole.config", kind))
    with pytest.raises(ConfigError, match="RecBole refuses the configuration"):
        Config("BPR", "ml-100k", config_dict={}, command_line=[])


def test_what_a_model_of_recbole_raises_when_it_is_built_is_translated(tiny):
    settings = tiny.config("NeuMF", mlp_hidden_size=[])
    training = load_data(settings)[1]._dataset
    with pytest.raises(ConfigError, match="RecBole cannot build NeuMF: IndexError"):
        build_model(settings, training)


def test_errors_of_this_package_stay_as_they_are():
    with pytest.raises(DataError, match="mine"), recbole_refusals(ConfigError):
        raise DataError("mine")


def test_who_raised():
    assert raised_by_recbole(error_of(lambda: Interaction("x")))
    assert not raised_by_recbole(error_of(lambda: compat.start_log(None)))
    assert not raised_by_recbole(error_of(lambda: int("x")))
    assert issubclass(ConfigError, LLMKTError)


def error_of(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value
