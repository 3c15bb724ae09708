"""The study behind docs/losses.md: every transfer loss on five models, tuned, with its control.

    python benchmarks/studies/losses.py --output=FOLDER [MODEL ...]

tunes every arm of each model on MovieLens-100K by validation (the same few trials for each) and
runs the winners with five seeds. Hours on two cores; started again, it goes on where it stopped.
The raw results are FOLDER/<Model>/compare/results.jsonl and FOLDER/<Model>/tune/trials.jsonl.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

STUDIES = Path(__file__).parent
LOSSES = {
    "rmse": "kt_loss=rmse",
    "mse": "kt_loss=mse",
    "cosine": "kt_loss=cosine",
    "sce": "kt_loss=sce",
    "infonce": "kt_loss=infonce kt_transform=none kt_projector=profile_mlp",
    "generative": "kt_loss=generative kt_transform=none kt_projector=mlp",
    "gram": "kt_loss=gram kt_transform=none",
    "softrank": "kt_loss=softrank kt_transform=none",
}
# Where a model's default layer cannot serve a loss. A user known by an embedding alone leaves
# nothing to reconstruct once it is masked, so `generative` reads where user and item have met;
# ranking needs users and items in one space.
OWN_LAYERS = {
    ("NeuMF", "generative"): "kt_layer=mlp_layers.mlp_layers.4 kt_entity=user",
    ("DeepFM", "generative"): "kt_layer=mlp_layers kt_entity=user",
    ("MultiVAE", "softrank"): "kt_layer=decoder.2@input",
}
# MultiVAE knows a user by the history alone: there is no row of a user to mask.
LEFT_OUT = {("MultiVAE", "generative")}
MODELS = ("MultiVAE", "NeuMF", "SimpleX", "LightGCN", "DeepFM")


@click.command()
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--trials", default=4, show_default=True, help="Trials of each arm.")
@click.option("--seeds", default="1,2,3,4,5", show_default=True, help="Seeds of the comparison.")
@click.option("--jobs", "-j", default=2, show_default=True, help="Runs at a time.")
@click.argument("models", nargs=-1, type=click.Choice(MODELS))
def main(output: Path, trials: int, seeds: str, jobs: int, models: tuple[str, ...]) -> None:
    """Run the study of losses for MODELS (all five by default)."""
    for model in models or MODELS:
        losses = [name for name in LOSSES if (model, name) not in LEFT_OUT]
        arms = ["base", *losses, *(f"{name}+shuffled" for name in losses)]
        folder = output / model
        tune = ["tune", f"--models={model}", "--dataset=ml-100k", f"--trials={trials}"]
        tune += [f"--arms={','.join(arms)}", f"--space={STUDIES / 'losses_space.yaml'}"]
        tune += [
            f"--arm={name}: {LOSSES[name]} {OWN_LAYERS.get((model, name), '')}" for name in losses
        ]
        tune += [f"--kt_preset={STUDIES / 'losses.yaml'}", f"--output={folder / 'tune'}"]
        compare = ["compare", f"--tuned={folder / 'tune'}", f"--seeds={seeds}"]
        compare += [f"--output={folder / 'compare'}"]
        for command in (tune, compare):
            start = "from recbole_llmkt.cli import main; main(prog_name='llmkt')"
            call = [sys.executable, "-c", start, *command, f"--jobs={jobs}"]
            subprocess.run(call, check=True)


if __name__ == "__main__":
    main()
