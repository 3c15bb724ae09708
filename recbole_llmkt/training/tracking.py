"""Weights & Biases (``log_wandb: True``): one run of its own for each training run.

RecBole logs every epoch and every validation, and leaves a run open whose summary shows the last
validation. Here the run has the plain configuration, its summary shows the best validation
(``valid/``), the test (``eval/``) and the slices, each once, and it is closed at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recbole_llmkt.training.result import Result
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.types import RunConfig

Log = Callable[[Result], None]


@contextmanager
def tracked(config: RunConfig) -> Iterator[Log]:
    """Open a Weights & Biases run if ``log_wandb`` asks for it, and close it.

    A run that is open already is used and left open.

    Parameters
    ----------
    config : Config
        The run's configuration.

    Yields
    ------
    callable
        To be called with the result of :func:`recbole_llmkt.quick_start.train`.

    Raises
    ------
    ConfigError
        ``log_wandb`` is on and wandb is not installed.
    """
    if not config["log_wandb"] or config["local_rank"] != 0:
        yield lambda result: None
        return
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            "log_wandb: True needs the package wandb: pip install wandb, or set log_wandb: False."
        ) from error
    own = wandb.run is None
    if own:
        name = f"{config['model']}-{config['dataset']}-{config['seed']}"
        wandb.init(project=config["wandb_project"], name=name, config=config.plain())
    try:
        yield lambda result: wandb.run.summary.update(summary(result))
    finally:
        if own:
            wandb.finish()


def summary(result: Result) -> dict[str, float]:
    """Return what a W&B run's summary shows of a result of training.

    RecBole's names: ``valid/`` of the best validation, ``eval/`` of the test.
    """
    metrics = {
        f"valid/{name}": value for name, value in (result["best_valid_result"] or {}).items()
    }
    metrics.update({f"eval/{name}": value for name, value in (result["test_result"] or {}).items()})
    for part in result.get("slices", ()):
        place = f"slices/{part['part'].replace(' ', '_')}"
        metrics.update({f"{place}/{name}": value for name, value in part["metrics"].items()})
    return {name: float(value) for name, value in metrics.items()}
