"""Methods: the ways to use profiles in a training run, each behind one interface."""

from __future__ import annotations

from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.methods.closed_form import ClosedForm
from recbole_llmkt.transfer.methods.cold_start import ColdStart
from recbole_llmkt.transfer.methods.hybrid import HybridTables
from recbole_llmkt.transfer.methods.initialize import Initialization
from recbole_llmkt.transfer.methods.kar import KAR
from recbole_llmkt.transfer.methods.loss import AuxiliaryLoss
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.importing import import_subclass
from recbole_llmkt.utils.types import RunConfig

# In the order in which they are called: the loss joins the optimizers while they still
# hold the model's own tables, which hybrid tables then replace.
BUILT_IN: tuple[type[Method], ...] = (
    KAR,
    Initialization,
    AuxiliaryLoss,
    HybridTables,
    ColdStart,
    ClosedForm,
)
_OF_KT_METHOD = ("transfer", "kar")


def wanted_methods(config: RunConfig) -> list[type[Method]]:
    """Return the methods that a run's keys ask for.

    Parameters
    ----------
    config : RunConfig
        The run's configuration; ``kt_method`` may be the class path of a :class:`Method`.

    Raises
    ------
    ConfigError
        Settings that cannot be used, or a class path of something else.
    """
    for method in BUILT_IN:
        method.check(config)
    if not config["kt_enabled"]:
        return []
    if config["kt_closed_form"] != "none":  # the model has nothing for the others to work on
        return [method for method in (ClosedForm,) if method.wanted(config)]
    return [method for method in (*_own(config["kt_method"]), *BUILT_IN) if method.wanted(config)]


def _own(path: str) -> list[type[Method]]:
    if path in _OF_KT_METHOD:
        return []
    method = import_subclass("kt_method", path, Method)
    if not isinstance(getattr(method, "name", None), str):
        raise ConfigError(f"kt_method: '{path}' has no name: set it in the class, name = 'mine'.")
    return [method]
