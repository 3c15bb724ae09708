"""What is left of a training that ends early: by Ctrl-C, SIGTERM or a full disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from recbole_llmkt.training.checkpointing import CheckpointMixin
from recbole_llmkt.utils.exceptions import StorageError
from recbole_llmkt.utils.files import is_disk_full


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM to ``llmkt``, during training or testing.

    Attributes
    ----------
    checkpoint : str
        Holds the best epoch so far: training can resume from it.
    """

    def __init__(self, checkpoint: str) -> None:
        super().__init__(checkpoint)  # an exception is pickled as its arguments
        self.checkpoint = checkpoint


@contextmanager
def stoppable(trainer: object, saved: bool) -> Iterator[None]:
    """Say what is left of a run that the user or a full disk ends within the block.

    Parameters
    ----------
    trainer : recbole.trainer.AbstractTrainer
        Of the run.
    saved : bool
        Whether it keeps the best checkpoint.

    Raises
    ------
    Interrupted
        Ctrl-C, where there is a checkpoint to resume from.
    StorageError
        The disk is full.
    """
    try:
        with patch.object(threading, "excepthook", _QuietThreads(threading.excepthook)):
            yield
    except (KeyboardInterrupt, OSError) as error:
        path = Path(getattr(trainer, "saved_model_file", ""))
        resumes = saved and isinstance(trainer, CheckpointMixin) and path.is_file()
        if isinstance(error, KeyboardInterrupt):
            if resumes:
                raise Interrupted(str(path)) from None
            raise
        if not isinstance(error, StorageError) and not is_disk_full(error):
            raise
        kept = f" {path} holds the best epoch so far: resume from it with --resume={path}."
        raise StorageError(f"{error}{kept if resumes else ''}") from error


class _QuietThreads:
    """Leaves out that a thread of TensorBoard's found a full disk: it tells the trainer, too."""

    def __init__(self, hook: Callable[[threading.ExceptHookArgs], object]) -> None:
        self._hook = hook

    def __call__(self, failure: threading.ExceptHookArgs) -> None:
        error = failure.exc_value
        if not (isinstance(error, OSError) and is_disk_full(error)):
            self._hook(failure)
