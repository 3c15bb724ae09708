"""One bar over all runs of a comparison or of a study, moved by their epochs."""

from __future__ import annotations

import sys

from tqdm import tqdm

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.pool import Event


class Progress:
    """A bar that shows what runs and how far it is; use it as a context manager.

    Parameters
    ----------
    total : int
        Number of runs.
    """

    def __init__(self, total: int) -> None:
        self._epochs: dict[Run, int] = {}
        self._finished = 0
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            disable=not total,
            dynamic_ncols=terminal,
            mininterval=0.3 if terminal else 15,
            bar_format="{desc}{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, event: Event) -> None:
        """Move the bar by the news of a run."""
        run = event.run
        if event.kind == "start":
            self._epochs[run] = 0
        elif event.kind == "epoch":
            self._epochs[run] = event.value[0] + 1
        else:
            del self._epochs[run]
            self._finished += 1
            if event.kind == "failed":
                self._bar.write(f"{run.name} failed: {event.value['result']}", file=sys.stderr)
        shares = sum(done / max(1, run.epochs) for run, done in self._epochs.items())
        running = ", ".join(f"{run.name} {done}/{run.epochs}" for run, done in self._epochs.items())
        self._bar.set_postfix_str(f"{self._finished}/{self._bar.total} runs  {running}", False)
        self._bar.update(self._finished + shares - self._bar.n)
