"""Run a study: tune every arm of every model alike, then run the winners with several seeds.

    python benchmarks/studies/run.py losses --output=FOLDER [MODEL ...]

reads benchmarks/studies/losses.yaml. A study takes hours; started again, it goes on where it
stopped. The raw results are FOLDER/<Model>/compare/results.jsonl and .../tune/trials.jsonl.

A study's file has: ``dataset``; ``preset`` and ``space`` (files beside it: the models' settings
and the search space); ``trials`` of each arm and its ``finalists``; ``seeds``; ``models``; ``arms``
(name: keys over those of the arm kt; each gets its control, shuffled); ``changes`` (model: arm:
more keys, or ~ for none of that arm); ``keys`` (for every run).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

STUDIES = Path(__file__).parent
# The other files hold settings of models and search spaces.
NAMES = tuple(
    sorted(path.stem for path in STUDIES.glob("*.yaml") if "\narms:" in path.read_text("utf-8"))
)


def own_arms(study: dict[str, Any], model: str) -> dict[str, str]:
    """Return a model's arms and the keys of each, as ``--arm`` takes them."""
    changes = study.get("changes", {}).get(model, {})
    return {
        name: f"{keys} {changes.get(name, '')}".strip()
        for name, keys in study["arms"].items()
        if changes.get(name, "") is not None
    }


def commands(
    study: dict[str, Any], model: str, output: Path, keys: Sequence[str] = ()
) -> list[list[str]]:
    """Return the two commands of a model: ``llmkt tune`` and ``llmkt compare``."""
    arms = own_arms(study, model)
    names = ["base", *arms, *(f"{name}+shuffled" for name in arms)]
    tune = ["tune", f"--models={model}", f"--dataset={study['dataset']}"]
    tune += [f"--trials={study['trials']}", f"--finalists={study['finalists']}"]
    tune += [f"--arms={','.join(names)}"]
    tune += [f"--arm={name}: {keys}" for name, keys in arms.items()]
    tune += [f"--space={STUDIES / study['space']}", f"--kt_preset={STUDIES / study['preset']}"]
    tune += [*study.get("keys", []), *(f"--{key}" for key in keys)]
    tune += [f"--output={output / model / 'tune'}"]
    seeds = ",".join(map(str, study["seeds"]))
    compare = ["compare", f"--tuned={output / model / 'tune'}", f"--seeds={seeds}"]
    return [tune, [*compare, f"--output={output / model / 'compare'}"]]


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.argument("models", nargs=-1)
@click.option("--dataset", help="Another data set than the study's, such as a share of it.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--jobs", "-j", default=2, show_default=True, help="Runs at a time.")
@click.option("--key", "-k", "keys", multiple=True, metavar="KEY=VALUE", help="For every run.")
def main(
    name: str,
    models: tuple[str, ...],
    dataset: str | None,
    output: Path,
    jobs: int,
    keys: tuple[str, ...],
) -> None:
    """Run the study NAME for MODELS (all of its own by default)."""
    study = yaml.safe_load((STUDIES / f"{name}.yaml").read_text(encoding="utf-8"))
    study["dataset"] = dataset or study["dataset"]
    unknown = [model for model in models if model not in study["models"]]
    if unknown:
        known = ", ".join(study["models"])
        raise click.BadParameter(f"{', '.join(unknown)}: the study has {known}.")
    start = "from recbole_llmkt.cli.main import main; main(prog_name='llmkt')"
    for model in models or study["models"]:
        for command in commands(study, model, output.resolve(), keys):
            call = [sys.executable, "-c", start, *command, f"--jobs={jobs}"]
            if subprocess.run(call, check=False).returncode:
                raise click.ClickException(f"{model}: `llmkt {command[0]}` failed, see above.")


if __name__ == "__main__":
    main()
