"""Where work on many entities is done: in this process, or on a Ray cluster."""

from __future__ import annotations

import base64
import inspect
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from recbole_llmkt.utils.exceptions import ConfigError, ProfileError

if TYPE_CHECKING:
    import pyarrow
    import ray
Item = TypeVar("Item")
Result = TypeVar("Result")
Worker = Callable[[Iterable[Item]], Iterable[Result]]
# A worker's error on its way through Ray.
_CARRIED = re.compile(r"A worker failed: <([A-Za-z0-9+/=]+)>")


def spread(
    make_worker: Callable[[], Worker[Item, Result]],
    items: Sequence[Item],
    *,
    engine: str = "local",
    block_size: int = 8,
    on_gpu: bool = False,
) -> Iterator[Result]:
    """Let workers turn items into results.

    Parameters
    ----------
    make_worker : callable
        Makes a worker: a callable that takes items and yields results. It is called once here
        (``local``), or once in each actor of the cluster (``ray``), so it can be pickled.
    items : sequence
        The items; for ``ray`` they can be pickled.
    engine : str
        ``local``: one worker gets all items, and each result comes as soon as it is there.
        ``ray``: Ray Data gives blocks of items to a pool of actors, and results come block by
        block. A running cluster is joined (``RAY_ADDRESS``), else one is started here.
    block_size : int
        Items of one block.
    on_gpu : bool
        Each actor takes a GPU, where the cluster has any, instead of a CPU core.

    Yields
    ------
    object
        The results, in any order.

    Raises
    ------
    ConfigError
        Ray Data cannot be imported.
    ProfileError
        A worker of the cluster died. What a worker raises itself is raised here as it is.
    """
    if engine == "local":
        yield from make_worker()(items)
    elif items:
        yield from _spread_over_cluster(make_worker, items, block_size, on_gpu)


def _spread_over_cluster(
    make_worker: Callable[[], Worker[Item, Result]],
    items: Sequence[Item],
    block_size: int,
    on_gpu: bool,
) -> Iterator[Result]:
    try:
        import ray
        import ray.data
        from ray.data import ActorPoolStrategy
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"profile_engine: ray cannot import Ray Data ({error}): "
            "`pip install 'recbole_llmkt[ray]'`."
        ) from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level="warning")
    blocks = _settle(ray.data)
    n_blocks = -(-len(items) // block_size)
    n_actors, share = _actors(ray.cluster_resources(), on_gpu)
    rows = ray.data.from_items(
        [{"item": pickle.dumps(item)} for item in items], **{blocks: n_blocks}
    )
    done = rows.map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=min(n_actors, n_blocks)),
        # In the object store once, however many actors there are.
        fn_constructor_args=(ray.put(make_worker),),
        **share,
    )
    try:
        for block in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for result in block["result"]:
                yield pickle.loads(result.as_py())
    except ray.exceptions.RayError as error:
        carried = _CARRIED.search(str(error))
        if carried:
            raise pickle.loads(base64.b64decode(carried[1])) from None
        # Ray's message has the actor's traceback before it.
        reason = str(error).strip().splitlines()[-1]
        raise ProfileError(f"A worker of the Ray cluster failed: {reason}") from error


def _settle(data: ModuleType) -> str:
    """Turn off Ray Data's progress bars; return the argument that says how many blocks to make.

    Ray 2.6.3 and today's name both in other ways.
    """
    if hasattr(data, "set_progress_bars"):
        data.set_progress_bars(False)
    else:
        data.DataContext.get_current().enable_progress_bars = False
    new = "override_num_blocks" in inspect.signature(data.from_items).parameters
    return "override_num_blocks" if new else "parallelism"


def _actors(resources: Mapping[str, float], on_gpu: bool) -> tuple[int, dict[str, int]]:
    """Return how many actors a cluster has room for, and what each of them takes."""
    n_gpus = int(resources.get("GPU", 0)) if on_gpu else 0
    if n_gpus:
        return n_gpus, {"num_gpus": 1}
    # Ray Data keeps one core to itself.
    n_cores = int(resources.get("CPU", 0)) - 1
    return max(1, n_cores), {"num_cpus": 1 if n_cores > 0 else 0}


class _Actor:
    """A worker in a process of the cluster."""

    def __init__(self, make_worker: ray.ObjectRef[Callable[[], Worker[object, object]]]) -> None:
        import ray

        self._work = ray.get(make_worker)()

    def __call__(self, block: pyarrow.Table) -> pyarrow.Table:
        import pyarrow

        items = [pickle.loads(item.as_py()) for item in block["item"]]
        try:
            results = [pickle.dumps(result) for result in self._work(items)]
        except Exception as error:
            # Each version of Ray wraps errors in another way; all of them keep the message.
            carried = base64.b64encode(pickle.dumps(error)).decode()
            raise RuntimeError(f"A worker failed: <{carried}>") from error
        return pyarrow.table({"result": pyarrow.array(results, type=pyarrow.binary())})
