"""One progress bar over all runs of a comparison or a study, moved by their epochs."""

from __future__ import annotations

import sys

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.pool import Ended, Event, Validated
from recbole_llmkt.utils.progress import WIDGETS, tqdm


class Progress:
    """A bar that shows which runs are active and how far they are; use it as a context manager.

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
            mininterval=0.3 if terminal or WIDGETS else 15,
            bar_format="{desc}{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, event: Event) -> None:
        """Update the bar after an event."""
        run = event.run
        if isinstance(event, Ended):
            del self._epochs[run]
            self._finished += 1
            if event.result is None:
                self._bar.write(f"{run.name} failed: {event.error}", file=sys.stderr)
        else:
            self._epochs[run] = event.epoch + 1 if isinstance(event, Validated) else 0
        shares = sum(done / max(1, run.epochs) for run, done in self._epochs.items())
        running = ", ".join(f"{run.name} {done}/{run.epochs}" for run, done in self._epochs.items())
        self._bar.set_postfix_str(f"{self._finished}/{self._bar.total} runs  {running}", False)
        self._bar.update(self._finished + shares - self._bar.n)
