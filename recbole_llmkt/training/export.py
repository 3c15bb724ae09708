"""Checkpoints in the form that stock RecBole reads."""

from __future__ import annotations

import sys

from recbole.config import Config as RecBoleConfig

from recbole_llmkt.checkpoints import check_ids, load_checkpoint, save_file, saved_settings
from recbole_llmkt.compat import numpy_names
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.keys.table import PREFIXES
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import parse_value


def export_stock_checkpoint(model_file: str, stock_file: str, trust: bool = False) -> None:
    """Turn a checkpoint into one that stock RecBole's ``load_data_and_model`` reads.

    Stock checkpoints hold a pickled configuration, which PyTorch 2.6 and newer refuse: load it
    within :func:`~recbole_llmkt.compat.stock_recbole`.

    Parameters
    ----------
    model_file : str
        A checkpoint of this package.
    stock_file : str
        Where to write.
    trust : bool
        See :func:`~recbole_llmkt.quick_start.load_data_and_model`.

    Raises
    ------
    ConfigError
        The model was trained with ``kt_method: kar``: stock RecBole has no such architecture.
    DataError
        The file is no checkpoint of this package, or the atomic files number users or items
        otherwise than in its run.
    """
    settings = saved_settings(load_checkpoint(model_file), model_file, {}, trust)
    trained = Config(config_dict=settings, command_line=[])
    # Stock RecBole leaves tensors on the device that they were saved from.
    checkpoint = load_checkpoint(model_file, trained["device"])
    # It numbers ids by the order of today's files, and cannot tell that a row is somebody else's.
    check_ids(checkpoint, load_data(trained)[0], model_file)
    for method in wanted_methods(trained):
        if method.changes_architecture:
            raise ConfigError(
                f"'{model_file}' holds a {trained['model']} with kt_method: {method.name}, which "
                "is not stock RecBole's architecture. Load it with "
                "recbole_llmkt.load_data_and_model, or train with kt_method: transfer."
            )
    values = trained.plain()
    plain = {
        # Stock Config hands strings to eval: as literals they are nothing but strings.
        key: repr(parse_value(value)) if isinstance(value, str) else value
        for key, value in values.items()
        if not key.startswith(PREFIXES)
    }
    model, dataset = values["model"], values["dataset"]
    arguments, sys.argv = sys.argv, sys.argv[:1]  # stock Config reads the command line
    try:
        with numpy_names():
            config = RecBoleConfig(model, dataset, config_dict=plain)
    finally:
        sys.argv = arguments
    stock = {key: value for key, value in checkpoint.items() if key not in ("config", "transfer")}
    save_file({"config": config, **stock}, stock_file)
