"""Train, evaluate and load models in one call: RecBole's quick start, with knowledge transfer."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from logging import getLogger
from typing import Any

import torch
from recbole.data.transform import construct_transform
from recbole.utils import ModelType, get_flops, init_seed, set_color
from torch import nn

from recbole_llmkt.checkpoints import load_weights
from recbole_llmkt.compat import (
    environment_table,
    log_held_back,
    recbole_bars,
    report_trial,
    torch_quiet,
)
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import load_data, sample_users
from recbole_llmkt.evaluation.per_user import recorded, user_metrics
from recbole_llmkt.evaluation.slices import slice_metrics, wanted_tail
from recbole_llmkt.keys.combinations import check_run
from recbole_llmkt.keys.recbole_table import check_processes
from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.training.checkpointing import CheckpointMixin
from recbole_llmkt.training.continuing import Data, Start, open_checkpoint
from recbole_llmkt.training.factory import Trainer, build_model, get_trainer
from recbole_llmkt.training.launch import in_processes
from recbole_llmkt.training.refusals import model_refusals
from recbole_llmkt.training.result import ObjectiveResult, Result, Tested
from recbole_llmkt.training.resuming import resumed_data
from recbole_llmkt.training.stopping import stoppable
from recbole_llmkt.training.tracking import tracked
from recbole_llmkt.utils.text import shown_argument
from recbole_llmkt.utils.types import Dataset, Loader, Metrics


def train(
    config: Config,
    saved: bool = True,
    verbose: bool = True,
    on_epoch: Callable[[int, float], None] | None = None,
    evaluate_test: bool = True,
    resume: str | None = None,
    start_from: str | None = None,
    on_begin: Callable[[str], None] | None = None,
) -> Result:
    """Train and test one model as ``config`` says.

    Parameters
    ----------
    config : Config
        The run's configuration.
    saved : bool
        Whether to keep the best checkpoint, and to test with it; otherwise the last epoch is
        tested.
    verbose : bool
        Whether to log the configuration, the model and every epoch.
    on_epoch : callable, optional
        Called with (epoch, validation score) after every validation.
    evaluate_test : bool
        Whether to evaluate on the test part; otherwise ``test_result`` is None, as without one.
    resume : str, optional
        A checkpoint of an earlier run with the same settings and data: training continues after
        its epoch as if it had never stopped, and better epochs are saved to the same file.
    start_from : str, optional
        A checkpoint of the same model whose weights this run starts with; settings and data may
        have changed since. Known users and items keep their rows, by token; new ones start from
        their profile, where the run uses profiles, else as the model starts them.
    on_begin : callable, optional
        Called with the path of the checkpoint before the first epoch.

    Returns
    -------
    dict
        RecBole's result (``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``,
        ``test_result``), ``checkpoint`` (its path, or None) and ``transfer``: terms (layer, rows,
        coverage, ...), ``phase_switch``, both loss curves; with ``kt_method: kar`` the method, its
        profiles and their coverage; None without knowledge. After a test also ``slices`` (see
        :func:`~recbole_llmkt.evaluation.slices.slice_metrics`) and ``users`` (a
        :class:`~recbole_llmkt.evaluation.per_user.UserMetrics`, or None).

    Raises
    ------
    LLMKTError
        Settings or data that cannot be used, before anything is written.
    Interrupted
        Ctrl-C, where there is a checkpoint to resume from.
    StorageError
        The disk is full, or a folder cannot be written; it says what was kept.
    """
    check_run(config)
    with tracked(config) as log_result, torch_quiet(), recbole_bars():
        start = None if start_from is None else Start.of(start_from, config)
        result = _train(config, saved, verbose, on_epoch, evaluate_test, resume, start, on_begin)
        log_result(result)
    return result


def _train(
    config: Config,
    saved: bool,
    verbose: bool,
    on_epoch: Callable[[int, float], None] | None,
    evaluate_test: bool,
    resume: str | None,
    start: Start | None,
    on_begin: Callable[[str], None] | None,
) -> Result:
    init_seed(config["seed"], config["reproducibility"])
    logger = getLogger()
    with ExitStack() as checking:
        # Until all checks are through nothing is logged, and no folders are made for logs.
        checking.enter_context(log_held_back(config))
        if verbose:
            logger.info([shown_argument(argument) for argument in sys.argv])
            logger.info(config)
        dataset, train_data, valid_data, test_data = _data(config, resume, start)
        valid_data = sample_users(valid_data, config["kt_valid_users"])
        if verbose:
            logger.info(dataset)
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        profiles = RunProfiles(config, train_data._dataset)
        model = build_model(config, train_data._dataset, profiles=profiles)
        if start is not None:
            start.put(config, model, train_data, profiles)
        if verbose:
            _log_model(config, model, dataset)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.run_profiles, trainer.has_weights = profiles, start is not None
        if resume is not None:
            trainer.resume_checkpoint(resume)
        for key in config.unknown_keys:  # here, and not above the lines of all settings
            logger.warning("%s does not read the key '%s'.", config["model"], key)
        if config["MODEL_TYPE"] == ModelType.DECISIONTREE:
            checking.close()
        trainer.before_training = checking.close
        best_valid_score, best_valid_result = _fit(
            trainer, train_data, valid_data, verbose, saved, on_epoch, on_begin
        )
    tested = _test(config, trainer, train_data, test_data, saved) if evaluate_test else None
    test_result = tested["test_result"] if tested else None
    if verbose:
        logger.info("The running environment:\n" + environment_table(config))
    logger.info(set_color("best valid ", "yellow") + f": {best_valid_result}")
    logger.info(set_color("test result", "yellow") + f": {test_result}")
    result: Result = {
        "best_valid_score": best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_valid_result,
        "test_result": test_result,
        "transfer": getattr(trainer, "transfer_summary", lambda: None)(),
        "checkpoint": trainer.saved_model_file if saved else None,
    }
    if tested:
        result["slices"], result["users"] = tested["slices"], tested["users"]
    return result


def _log_model(config: Config, model: nn.Module, dataset: Dataset) -> None:
    logger = getLogger()
    logger.info(model)
    if len(dataset) > 1:  # RecBole counts them for the second interaction
        transform = construct_transform(config)
        with model_refusals(model):
            flops = get_flops(model, dataset, config["device"], logger, transform)
        logger.info(set_color("FLOPs", "blue") + f": {flops}")


def _data(config: Config, resume: str | None, start: Start | None) -> Data:
    if resume is not None:
        return resumed_data(config, resume)
    return load_data(config) if start is None else start.data(config)


def _fit(
    trainer: Trainer,
    train_data: Loader,
    valid_data: Loader | None,
    verbose: bool,
    saved: bool,
    on_epoch: Callable[[int, float], None] | None,
    on_begin: Callable[[str], None] | None,
) -> tuple[float, Metrics | None]:
    if on_begin is not None:
        on_begin(trainer.saved_model_file)
    # RecBole's trainer of decision trees has no epochs to report.
    by_epochs = isinstance(trainer, CheckpointMixin)
    with stoppable(trainer, saved):
        score, metrics = trainer.fit(
            train_data,
            valid_data,
            verbose=verbose,
            saved=saved,
            show_progress=trainer.config["show_progress"],
            **({"callback_fn": on_epoch} if by_epochs else {}),
        )
    return score, metrics


def _test(
    config: Config, trainer: Trainer, train_data: Loader, test_data: Loader | None, saved: bool
) -> Tested:
    """Evaluate on the test part, if any: RecBole's figures, those of the slices, and by user."""
    if not test_data:
        return {"test_result": None, "slices": [], "users": None}
    train_part = train_data._dataset
    tail = wanted_tail(config, train_part)
    with stoppable(trainer, saved), recorded(trainer, tail) as recording:
        test_result = trainer.evaluate(
            test_data, load_best_model=saved, show_progress=config["show_progress"]
        )
    return {
        "test_result": test_result,
        "slices": slice_metrics(config, recording, train_part),
        "users": user_metrics(recording, train_part),
    }


def run_recbole_llmkt(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    saved: bool = True,
) -> Result:
    """Train and test one model: RecBole's ``run_recbole`` with knowledge transfer.

    Parameters
    ----------
    model : str or type, optional
        A RecBole model's name, a class path, or a class.
    dataset : str, optional
        The dataset's name.
    config_file_list : list of str, optional
        YAML files.
    config_dict : dict, optional
        Keys and values over those of the files.
    saved : bool
        Whether to keep the best checkpoint.

    Returns
    -------
    dict
        See :func:`train`.

    Examples
    --------
    >>> result = run_recbole_llmkt("BPR", "ml-100k", config_dict={"epochs": 4})  # doctest: +SKIP
    """
    return train(Config(model, dataset, config_file_list, config_dict), saved)


def run(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, object] | None = None,
    saved: bool = True,
    nproc: int = 1,
    world_size: int = -1,
    ip: str = "localhost",
    port: str = "5678",
    group_offset: int = 0,
    resume: str | None = None,
    start_from: str | None = None,
    command_line: Sequence[str] | None = None,
) -> Result:
    """Train in one process or in several, on one machine or on several, as RecBole's ``run`` does.

    Several processes have a GPU each; where ``gpu_id`` is empty, or there is no GPU, they train on
    CPUs. They share each batch: ``train_batch_size`` is that of all of them.

    Parameters
    ----------
    model, dataset, config_file_list, config_dict, saved
        See :func:`run_recbole_llmkt`.
    nproc : int
        Processes on this machine.
    world_size : int
        Processes on all machines; -1 is ``nproc``.
    ip, port : str
        Address of the first machine.
    group_offset : int
        Rank of this machine's first process.
    resume, start_from
        See :func:`train`.
    command_line : sequence of str, optional
        See :class:`~recbole_llmkt.config.Config`.

    Returns
    -------
    dict
        See :func:`train`; that of this machine's first process.

    Raises
    ------
    LLMKTError
        As :func:`train`, or the processes cannot meet, or there are fewer GPUs.
    """
    check_processes(nproc, port)
    arguments = (model, dataset, config_file_list, config_dict or {}, command_line)
    keywords = {"saved": saved, "resume": resume, "start_from": start_from}
    if nproc == 1 and world_size <= 0:
        return train(Config(*arguments), **keywords)  # type: ignore[arg-type]
    group = {
        "world_size": nproc if world_size == -1 else world_size,
        "ip": ip,
        "port": port,
        "nproc": nproc,
        "offset": group_offset,
    }
    return in_processes(functools.partial(_train_rank, group, arguments, keywords), nproc)


def _train_rank(
    group: Mapping[str, object], arguments: Sequence[Any], keywords: Mapping[str, Any], rank: int
) -> Result:
    model, dataset, files, values, command_line = arguments
    values = {**values, **group, "local_rank": rank}
    try:
        return train(Config(model, dataset, files, values, command_line), **keywords)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def objective_function(
    config_dict: Mapping[str, object] | None = None,
    config_file_list: Sequence[str] | None = None,
    saved: bool = True,
) -> ObjectiveResult:
    """Objective for RecBole's ``HyperTuning``; inside Ray Tune it also reports the test result.

    Parameters
    ----------
    config_dict : dict, optional
        Keys and values, ``model`` and ``dataset`` among them.
    config_file_list : list of str, optional
        YAML files.
    saved : bool
        Whether to keep the best checkpoint.
    """
    config = Config(config_dict=config_dict, config_file_list=config_file_list)
    root = getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    logging.basicConfig(level=logging.ERROR)
    result = train(config, saved, verbose=False)
    report_trial(result["test_result"] or result["best_valid_result"] or {})
    return {"model": config["model"], **result}


def load_data_and_model(
    model_file: str, config_dict: Mapping[str, object] | None = None, trust: bool = False
) -> tuple[Config, nn.Module, Dataset, Loader, Loader | None, Loader | None]:
    """Load a checkpoint with the data it was trained on.

    Parameters
    ----------
    model_file : str
        A checkpoint of this package.
    config_dict : dict, optional
        Keys and values of today, over those of the checkpoint: ``data_path``, ``profile_dir``, ...
    trust : bool
        Whether the file is one's own: then a class path in it is imported, and addresses and
        folders of profiles that it names are used.

    Returns
    -------
    tuple
        config, model, dataset, train_data, valid_data, test_data: as RecBole's function of the
        same name. The model is the stock class, or with ``kt_method: kar`` its augmented one.

    Raises
    ------
    ConfigError
        The checkpoint names a class path and is not trusted.
    DataError
        The file is no checkpoint of this package.
    """
    checkpoint, config, vocabulary = open_checkpoint(model_file, config_dict, trust)
    dataset, train_data, valid_data, test_data = load_data(config, vocabulary)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, train_data._dataset, checkpoint["state_dict"])
    load_weights(model, checkpoint, model_file)
    return config, model, dataset, train_data, valid_data, test_data
