"""The hyperparameters of RecBole's models and what their values may be."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Literal

import recbole

from recbole_llmkt.keys.key import Key
from recbole_llmkt.utils.parsing import load_yaml
from recbole_llmkt.utils.types import Settings

# Read by models of RecBole, and named in none of its files.
UNLISTED = (
    "cin",
    "contrast",
    "eta",
    "has_residual",
    "norm",
    "sim",
    "use_filter",
    "xgb_early_stopping_rounds",
    "token_num_threshold",
    "vae_anneal_cap",
    "vae_anneal_steps",
)
# Those that name a file which the model is made from.
FILES = ("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path", "warm_up")

_SIZES = re.compile(
    r"(size|sizes|size_list|dimension|dim|dims|dims_dnn|channels|kernels|strides|cin)$|"
    r"^(n|num)_(heads|factors|iterations|memory|cate|clusters|layers_)|^(num_layers|kfac|rank)$|"
    r"^(k|steps|history_len|neigh_num|metrics_k|expert_num|class_num|low_rank|order_len)$"
)
_COUNTS = re.compile(r"^n_(layers|iter|hop|hops)$|_layer_num$|_layers_num$|^block_num$")
_SHARES = re.compile(r"dropout|^drop_(ratio|ex|im)$|^(mask|corruption|ft)_ratio$")
_WEIGHTS = re.compile(r"reg_weights?(_\d)?$|^layer_norm_eps$|^initializer_range$")
_TEMPERATURES = re.compile(r"^(temperature|tau|ssl_tau|ssl_temp)$")


@functools.lru_cache(maxsize=2)
def properties(folder: str) -> dict[str, Settings]:
    """Return the content of a folder of RecBole's properties, by file."""
    paths = (Path(recbole.__file__).parent / "properties" / folder).glob("*.yaml")
    return {path.stem: load_yaml(path) for path in paths if path.stem != "url"}


def hyperparameter(name: str, default: object) -> Key | None:
    """Return what a model's hyperparameter may be, from its name and its default in RecBole.

    Parameters
    ----------
    name : str
        The key.
    default : object
        Its value in ``properties/model/<Model>.yaml`` of RecBole.

    Returns
    -------
    Key or None
        None where neither says enough; a default that breaks the rule of its name says so, too.
    """
    first = default[0] if isinstance(default, list) and default else default
    if isinstance(default, bool):
        return Key(name, "bool")
    if isinstance(first, bool) or not isinstance(first, (int, float)):
        return None
    many: Literal["", "list"] = "list" if isinstance(default, list) else ""
    key = Key(name, "float", many=many)
    if _SIZES.search(name):
        key = Key(name, "int", low=1, many=many)
    elif _COUNTS.search(name):
        key = Key(name, "int", low=0, many=many)
    elif _SHARES.search(name):
        key = Key(name, "float", low=0.0, high=1.0, many=many)
    elif _WEIGHTS.search(name):
        key = Key(name, "float", low=0.0, many=many)
    elif _TEMPERATURES.search(name):
        key = Key(name, "float", low=0.0, above=True, many=many)
    return None if key.refusal(default) else key
