"""Repairs of RecBole and of the libraries under it: PyTorch, numpy, scipy, pandas and Ray.

Each names the place of the fault. None holds for the whole process: a repair lasts as long as the
call of RecBole's that needs it. There is a file for each repaired library.
"""

from recbole_llmkt.compat.releases import (
    active_repairs,
    check_keys_of_release,
    check_release,
    check_version,
    lacks_model,
    versions,
)

check_version()  # the rest imports what other versions lack

from recbole_llmkt.compat.arrays import numpy_names, scipy_matrices
from recbole_llmkt.compat.imports import importing_models, report_trial
from recbole_llmkt.compat.interactions import release_when_split
from recbole_llmkt.compat.metrics import MetricsCollector
from recbole_llmkt.compat.models import (
    MASK_TOKENS,
    forget_computed,
    kept_tensors,
    later_stage,
    pretrains,
    restore_kept,
    trained_parts,
    weights_loaded,
)
from recbole_llmkt.compat.pandas import pandas_data
from recbole_llmkt.compat.pickles import load_plain, pickles_refused
from recbole_llmkt.compat.processes import (
    evaluate_own_part,
    join_processes,
    joined_model,
    trains_on_processors,
)
from recbole_llmkt.compat.recbole import (
    building_model,
    create_dataset,
    data_preparation,
    dataset_class,
    environment_table,
    log_held_back,
    make_folders,
    making_trainer,
    ranks_fast,
    recbole_bars,
    start_log,
)
from recbole_llmkt.compat.solved import (
    packed_solution,
    put_solution,
    unpack_solution,
    unsolved_model,
)
from recbole_llmkt.compat.stock import stock_recbole
from recbole_llmkt.compat.torch import (
    anomaly_detection_kept,
    autocasts,
    complete_adagrad,
    torch_quiet,
)

__all__ = [
    "MASK_TOKENS",
    "MetricsCollector",
    "active_repairs",
    "anomaly_detection_kept",
    "autocasts",
    "building_model",
    "check_keys_of_release",
    "check_release",
    "complete_adagrad",
    "create_dataset",
    "data_preparation",
    "dataset_class",
    "environment_table",
    "evaluate_own_part",
    "forget_computed",
    "importing_models",
    "join_processes",
    "joined_model",
    "kept_tensors",
    "lacks_model",
    "later_stage",
    "load_plain",
    "log_held_back",
    "make_folders",
    "making_trainer",
    "numpy_names",
    "packed_solution",
    "pandas_data",
    "pickles_refused",
    "pretrains",
    "put_solution",
    "ranks_fast",
    "recbole_bars",
    "release_when_split",
    "report_trial",
    "restore_kept",
    "scipy_matrices",
    "start_log",
    "stock_recbole",
    "torch_quiet",
    "trained_parts",
    "trains_on_processors",
    "unpack_solution",
    "unsolved_model",
    "versions",
    "weights_loaded",
]
