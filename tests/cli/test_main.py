from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from tests.helpers import in_fork

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("compare", "journal", "layers", "profile", "recommend", "report", "train", "tune"),
]


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_help_needs_neither_torch_nor_recbole():
    code = (
        "import sys\n"
        "from recbole_llmkt.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'recbole', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name):
    command = main.get_command(None, name)
    names = getattr(command, "commands", {"": None})
    for sub in names:
        done = run(name, *([sub] if sub else []), "--help")
        assert done.exit_code == 0
        assert "llmkt " + name in done.output.split("Example", 1)[-1], done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=BPR", "--dataset=ml-100k", "-o", "out", "--kt_weight=1.5"], "kt_weight: 1.5"),
        (
            ["--models=BPR", "--dataset=ml-100k", "-o", "out", "--kt_wieght=1"],
            "in the command line. Did you mean 'kt_weight'",
        ),
        (["--models=BRP", "--dataset=ml-100k", "-o", "out"], "Did you mean 'BPR'"),
        (["--models=BPR", "--dataset=ml-100k", "-o", "out", "--kt_loss"], "write --kt_loss=value"),
        (
            ["--models=BPR", "--dataset=ml-100k", "-o", "out", "--arm=x"],
            "--arms=NAME,NAME chooses arms",
        ),
        (["--models=BPR", "--dataset=ml-100k", "-o", "out", "--seeds=1,b"], "like 1,2,3"),
        (["--models=BPR", "--dataset=ml-100k", "-o", "out", "--seed=7"], "takes --seeds"),
        (
            ["--models=BPR", "--dataset=ml-100k", "-o", "out", "--arm", "umap: kt_transform=umap"],
            "'umap' is defined but not in --arms (base, kt, shuffled)",
        ),
        (["--models=BPR", "--dataset=ml-100k", "-o", "out", "--config-files=no.yaml"], "no.yaml"),
        (["--models=BPR", "--dataset=ml-100k", "-o", "out", "--seeds=-1"], "a seed is from 0"),
        (
            ["--models=BPR", "--dataset=ml-100k", "-o", "out", "--config-files=a'b.yaml"],
            "--config-files: cannot read [a'b.yaml] (No closing quotation)",
        ),
        (
            ["--models=BPR", "--dataset=ml-100k", "-o", "out", "--arm", "x: kt_loss='mse"],
            "No closing quotation",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, message):
    done = run("compare", *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert "Error: " in done.output
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["compare", "tune"])
@pytest.mark.parametrize(("given", "missing"), [("dataset=x", "models"), ("models=x", "dataset")])
def test_what_is_missing_is_named(command, given, missing):
    done = run(command, "-o", "out", f"--{given}")
    assert done.exit_code == 2
    assert f"Missing option '--{missing}'" in done.output


def test_tuning_and_comparing_the_winners(tiny, undrawn):
    flags = short(tiny)
    Path("space.yaml").write_text("transfer: {kt_loss: [rmse], kt_init: ~, kt_epochs: [0.5]}")
    done = run(
        *("tune", "--models=BPR", "--arms=base,kt", "--trials=1", "-o", "study", "-j", "2"),
        *("--space=space.yaml", *flags),
    )
    assert done.exit_code == 0, done.output
    assert "as configured" in done.output
    done = run("compare", "--tuned=study", "--seeds=1", "-o", "out", "-j", "2")
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert {(record["arm"], record["tuned"]["trials"]) for record in records} == {
        ("base", 1),
        ("kt", 1),
    }


def test_a_misspelled_command_is_refused_with_the_nearest_one():
    done = run("trian", "--model=BPR")
    assert done.exit_code == 2
    assert "No such command 'trian'. Did you mean 'train'?" in done.output
    assert "Did you mean" not in run("xyz").output


GIVEN = {
    "compare": ["--models=BPR", "--arms=base", "--dataset=d", "--output=out"],
    "layers": ["--model=BPR", "--dataset=d"],
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("compare", "Interrupted. What is finished is kept; the same command resumes.\n"),
        ("layers", "Interrupted.\n"),
    ],
)
def test_an_interrupted_command_ends_with_130(monkeypatch, number, command, said):
    def stop(context):
        signal.raise_signal(number)

    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(main.get_command(None, command), "invoke", stop)
    done = CliRunner().invoke(main, [command, *GIVEN[command]])
    signal.signal(signal.SIGINT, ignored)
    assert (done.exit_code, done.output) == (130, said)


def test_a_file_that_cannot_be_read_is_named_with_the_fix(monkeypatch):
    def refuse(context):
        raise PermissionError(13, "Permission denied", "data/user.jsonl")

    monkeypatch.setattr(main.get_command(None, "layers"), "invoke", refuse)
    done = CliRunner().invoke(main, ["layers", *GIVEN["layers"]])
    assert done.exit_code == 2
    assert done.output.startswith("Error: Cannot use 'data/user.jsonl': Permission denied. Give")


def test_debug_shows_where_an_error_came_from():
    done = run("--debug", "compare", "--models=BRP", "--dataset=ml-100k", "-o", "out")
    assert "Unknown model" in str(done.exception)


def test_a_report_without_results():
    done = run("report", ".")
    assert done.exit_code == 2
    assert "No results in" in done.output


def short(dataset):
    """Write the settings of a quick run to a file, and return the flags that use it."""
    Path("short.yaml").write_text(json.dumps(dataset.settings(epochs=2)))  # JSON is YAML, too
    return [f"--dataset={dataset.name}", "--config_files=short.yaml"]


def test_a_real_comparison_and_its_report(tiny):
    flags = short(tiny)
    before = set(Path().iterdir())
    done = run("compare", "--models=BPR", "--seeds=1", "-o", "out", "-j", "2", *flags)
    assert done.exit_code == 0, done.output
    assert "shuffled" in done.output
    records = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert {record["arm"] for record in records} == {"base", "kt", "shuffled"}
    kt = next(record for record in records if record["arm"] == "kt")
    assert kt["transfer"]["leaks"] == 0
    assert kt["transfer"]["phase_switch"] == 1
    assert Path("out/map.png").is_file()
    page = Path("out/report.html").read_bytes()
    Path("out/report.html").unlink()
    assert run("report", "out").exit_code == 0
    assert Path("out/report.html").read_bytes() == page
    assert set(Path().iterdir()) == {*before, Path("out")}  # runs keep to their folders


def run_script():
    runpy.run_path(str(ROOT / "run_recbole_llmkt.py"), run_name="__main__")


def test_the_script_takes_the_flags_of_recboles(tiny):
    flags = short(tiny)
    done = in_fork(run_script, "--model=BPR", "--nproc=1", "--kt_weight=0.3", *flags)
    assert done.returncode == 0, done.stderr
    assert "kt_weight = 0.3" in done.stderr.replace("\x1b[1;36m", "").replace("\x1b[0m", "")
    assert "test result" in done.stderr


def test_the_script_refuses_in_one_line():
    done = in_fork(run_script, "--model=BPR", "--kt_weight=7")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
