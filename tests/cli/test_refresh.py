from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.recommend import refresh as module
from recbole_llmkt.training.stopping import Interrupted


def test_the_command(monkeypatch):
    Path("old.pth").touch()
    asked = []

    def done(wanted):
        asked.append(wanted)
        if wanted.topk == 5:
            raise Interrupted("unfinished.pth")
        files = ["served/recommendations.csv"]
        return {"skipped": ["profiles"], "profiles": 4, "checkpoint": "new.pth", "files": files}

    monkeypatch.setattr(module, "refresh", done)
    command = ["refresh", "--checkpoint=old.pth", "--output=served", "--learning_rate=0.1"]
    shown = CliRunner().invoke(main, [*command, "--retrain", "--vectors=npz", "--overwrite-others"])
    assert shown.exit_code == 0, shown.output
    for text in ("Done before: profiles", "Profiles written: 4", "new.pth", "recommendations.csv"):
        assert text in shown.output
    assert asked[0].overrides == {"learning_rate": 0.1} and asked[0].retrain
    assert asked[0].vectors == "npz" and asked[0].profiles and asked[0].overwrite_others
    stopped = CliRunner().invoke(main, [*command, "-k", "5"])
    assert stopped.exit_code == 130 and "the same command resumes." in stopped.output
