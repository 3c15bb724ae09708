"""Import RecBole's models and its quick start, even without their optional libraries."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

from recbole_llmkt.compat.replacing import replaced
from recbole_llmkt.compat.torch import anomaly_detection_kept


@contextmanager
def importing_models() -> Iterator[None]:
    """Let the block import RecBole's models, without what that does to the process.

    ``recbole/model/sequential_recommender/sine.py`` turns on torch's anomaly detection. In
    RecBole 1.2.0, ``recbole/model/general_recommender/ldiffrec.py`` imports ``kmeans_pytorch``,
    which it does not require, and without it no model of that folder can be imported.
    """
    modules = {}
    if "kmeans_pytorch" not in sys.modules and importlib.util.find_spec("kmeans_pytorch") is None:
        modules["kmeans_pytorch"] = _module("kmeans_pytorch", kmeans=_kmeans)
    with anomaly_detection_kept(), _modules(modules):
        yield


def _kmeans(*arguments: object, **keywords: object) -> None:
    raise ImportError("LDiffRec with n_cate > 1 needs kmeans_pytorch: `pip install kmeans-pytorch`")


@contextmanager
def quick_start_imported() -> Iterator[None]:
    """Let the block import and use ``recbole.quick_start``, with Ray or without it.

    ``recbole/quick_start/quick_start.py`` imports Ray for one line, with which its objective
    function reports to Ray Tune. Ray may be absent (RecBole allows none that runs on Python 3.12),
    and the newest that RecBole allows, 2.6.3, needs numpy below 2 and setuptools below 82. So the
    file gets a ``tune`` that reports to any Ray, or to nobody outside of a trial.
    """
    tune = _module("ray.tune", report=_report)
    if "recbole.quick_start" not in sys.modules:
        ray = {"ray": _module("ray", tune=tune), "ray.tune": tune}
        with importing_models(), _modules(ray):
            importlib.import_module("recbole.quick_start")
    with replaced(sys.modules["recbole.quick_start.quick_start"], "tune", tune):
        yield


def _module(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


@contextmanager
def _modules(modules: dict[str, ModuleType]) -> Iterator[None]:
    """Let imports within the block find these modules."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


def _report(**metrics: float) -> None:
    report_trial(metrics)


def report_trial(metrics: Mapping[str, float]) -> None:
    """Report to Ray Tune, old or new, if this process runs one of its trials.

    Parameters
    ----------
    metrics : mapping
        Names and values.
    """
    tune = sys.modules.get("ray.tune")
    if tune is None:
        return
    if not hasattr(tune, "is_session_enabled"):
        if tune.get_context().get_trial_id() is not None:
            tune.report(dict(metrics))
    elif tune.is_session_enabled():  # up to Ray 2.6.3 or so
        tune.report(**metrics)
