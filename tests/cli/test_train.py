"""The command ``llmkt train``."""

from __future__ import annotations

import functools
import json
import shlex
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt import quick_start
from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.cli.main import main
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.utils.exceptions import ConfigError


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def flags(tiny):
    """Write the settings of a quick run to a file with a blank in its name."""
    Path("my settings.yaml").write_text(json.dumps(tiny.settings(epochs=3)))  # JSON is YAML, too
    return ["--model=BPR", "--dataset=tiny", "--config-files=my settings.yaml"]


def commands(output):
    return {
        words[1]: words[1:]
        for line in output.splitlines()
        if line.startswith("  llmkt ") and (words := shlex.split(line))
    }


def test_it_ends_with_the_checkpoint_and_what_to_do_next(flags):
    done = run("train", *flags, "--kt_weight=0.3", "--seed=7")
    assert done.exit_code == 0, done.output
    (checkpoint,) = Path("saved").glob("*.pth")
    assert f"Checkpoint: {checkpoint}\n" in done.output
    following = commands(done.output)
    assert set(following) == {"recommend", "compare"}
    assert "--trust" in following["recommend"]  # the encoder is not one of the two offline ones
    assert {"--kt_weight=0.3", "--config-files=my settings.yaml"} < {*following["compare"]}
    assert not any(word.startswith("--seed=") for word in following["compare"])


def test_nproc_starts_processes_and_is_refused_elsewhere(flags, tiny, monkeypatch):
    started = []
    monkeypatch.setattr(
        quick_start, "in_processes", lambda function, count: started.append(count) or function(0)
    )
    monkeypatch.setattr(quick_start, "_train_rank", lambda group, arguments, keywords, rank: group)
    monkeypatch.setattr("recbole_llmkt.cli.train._show", lambda result, config: result)
    run("train", *flags, "--nproc=3")
    assert started == [3]
    with pytest.raises(ConfigError, match="nproc: 3 is for `llmkt train`"):
        quick_start.train(tiny.config("BPR", nproc=3))
    plan = Plan(["BPR"], ["base"], [1], "ml-100k", overrides={"nproc": 3})
    with pytest.raises(ConfigError, match="nproc: 3 is for `llmkt train`"):
        plan.runs()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"nproc": 0}, "'nproc: 0': the value must be an integer from 1 to 256"),
        ({"nproc": 999_999}, "an integer from 1 to 256"),
        ({"nproc": 2, "port": "abc"}, "'port: abc': the value must be a port's number"),
    ],
)
def test_what_is_no_number_of_processes_starts_none(wrong, words):
    with pytest.raises(ConfigError, match=words):
        quick_start.run("BPR", "ml-100k", config_dict={}, command_line=[], **wrong)


def test_the_command_for_recommendations_works(tiny, flags):
    done = run("train", *flags, "--kt_enabled=False", "--profile_encoder=wordllama")
    command = commands(done.output)["recommend"]
    assert "--trust" not in command
    (tiny.folder / "profiles").rename("elsewhere")  # reasons need a real encoder
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert "User u" in Path("recommended.txt").read_text()


def test_without_a_test_part_there_is_nothing_to_compare(flags):
    everything = "--eval_args={split: {RS: [1, 0, 0]}, order: TO, group_by: user, mode: full}"
    done = run("train", *flags, everything, "--kt_enabled=False")
    assert done.exit_code == 0, done.output
    assert "Trained on all interactions for 3 epochs" in done.output
    following = commands(done.output)
    assert set(following) == {"recommend", "export"}
    done = run(*following["export"])
    assert done.exit_code == 0, done.output
    assert Path("top10.csv").read_text().startswith("user,rank,item")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_names_the_command_that_resumes(flags, monkeypatch, number):
    before = signal.getsignal(signal.SIGTERM)

    def stop(epoch, score):
        if epoch == 1:
            signal.raise_signal(number)

    # A process that a shell started in the background ignores Ctrl-C.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(quick_start, "train", functools.partial(quick_start.train, on_epoch=stop))
        done = run("train", *flags, "--kt_enabled=False")
    signal.signal(signal.SIGINT, ignored)
    assert done.exit_code == 130, done.output
    assert signal.getsignal(signal.SIGTERM) == before
    assert "holds the best epoch so far" in done.output
    command = commands(done.output)["train"]
    (checkpoint,) = Path("saved").glob("*.pth")
    assert command[-1] == f"--resume={checkpoint}"
    done = run(*command)
    assert done.exit_code == 0, done.output
    logs = "".join(path.read_text() for path in Path("log").rglob("*.log"))
    assert "Resume training from epoch 2" in logs


def test_config_files_may_be_given_several_times_or_in_quotes(flags):
    Path("b.yaml").write_text("epochs: 1\nkt_enabled: False\n")
    Path("c.yaml").write_text("seed: 9\n")
    for more in (
        ["--config-files=b.yaml", "--config-files=c.yaml"],
        ["--config-files=b.yaml c.yaml"],
    ):
        done = run("train", *flags, *more)
        assert done.exit_code == 0, done.output
        checkpoint = done.output.split("Checkpoint: ")[1].splitlines()[0]
        config = load_checkpoint(checkpoint)["config"]
        assert (config["epochs"], config["seed"], config["embedding_size"]) == (1, 9, 8)


def test_a_checkpoint_that_is_not_there(flags):
    done = run("train", *flags, "--resume=nowhere.pth")
    assert done.exit_code == 2
    assert "nowhere.pth" in done.output
