from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.cli.main import main
from recbole_llmkt.quick_start import train


def test_a_checkpoint_is_refitted(make_dataset):
    config = make_dataset().config(kt_enabled=False, epochs=2)
    checkpoint = train(config, verbose=False)["checkpoint"]
    done = CliRunner().invoke(main, ["refit", f"--from={checkpoint}"])
    assert done.exit_code == 0, done.output
    epochs = load_checkpoint(checkpoint)["epoch"] + 1
    assert f"Trained on all interactions for {epochs} epochs." in done.output
    assert "llmkt export --checkpoint=" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --from=CHECKPOINT or --tuned=STUDY"),
        (["--tuned=study", "--from=run.pth"], "either --from=CHECKPOINT or --tuned=STUDY"),
        (["--from=run.pth", "--arm=kt"], "choose within a study"),
    ],
)
def test_what_is_refitted_must_be_clear(tmp_path, arguments, message):
    runner = CliRunner()
    with runner.isolated_filesystem(tmp_path):
        Path("run.pth").touch()
        Path("study").mkdir()
        done = runner.invoke(main, ["refit", *arguments])
    assert done.exit_code == 2 and message in done.output
