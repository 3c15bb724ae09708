"""Settings that are valid alone and not together, checked before anything is written."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence

from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_llmkt.datasets.checks import check_candidates, check_files
from recbole_llmkt.keys.key import Key
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.types import RunConfig, Settings, SettingsLike

Check = Callable[[Settings, type], "str | None"]
_NO_CUTOFF = ("gauc",)  # a ranking metric that knows no @k
# Models that read whole users, so they need no sampled negatives though RecBole says pairwise.
_WHOLE_USERS = (
    *("MultiDAE", "MultiVAE", "MacridVAE", "CDAE", "ENMF", "RaCT", "RecVAE", "DiffRec"),
    "LDiffRec",
)
# Models that kt_closed_form solves with profiles, and in which ways.
CLOSED_FORM = {
    "EASE": ("drawn", "rows"),
    "SLIMElastic": ("drawn", "rows"),
    "ADMMSLIM": ("drawn", "rows"),
    "ItemKNN": ("drawn", "rows"),
    "AsymKNN": ("drawn", "rows"),
    "NCEPLRec": ("rows",),
}
_NOT_IN_CLOSED_FORM = {
    "kt_method": "transfer",
    "kt_init": "none",
    "kt_hybrid": "none",
    "kt_cold_start": False,
}
# What a change of RecBole's to item sequences (`transform`) reads besides.
_SHARES_OF_SEQUENCES = {
    "mask_itemseq": "mask_ratio",
    "crop_itemseq": "eta",
    "reorder_itemseq": "beta",
}
# What RecBole imports in the middle of a run, and where PyPI has it.
_LIBRARIES: dict[str, tuple[str, str, Callable[[Settings], bool]]] = {
    "KGAT": ("dgl", "dgl", lambda settings: True),
    "NCL": ("faiss", "faiss-cpu", lambda settings: True),
    "KGIN": ("torch_scatter", "torch-scatter", lambda settings: True),
    "MCCLK": ("torch_scatter", "torch-scatter", lambda settings: True),
    "LDiffRec": ("kmeans_pytorch", "kmeans-pytorch", lambda settings: settings["n_cate"] > 1),
    "NNCF": (
        "community",
        "python-louvain",
        lambda settings: settings["neigh_info_method"] == "louvain",
    ),
}


def _metric_names(settings: Settings) -> list[str]:
    metrics = settings["metrics"]
    return [metrics] if isinstance(metrics, str) else list(metrics)


def _ranks(settings: Settings) -> bool:
    return bool(metric_types[_metric_names(settings)[0].lower()] == EvaluatorType.RANKING)


def _modes(settings: Settings) -> dict[str, str]:
    mode = settings["eval_args"].get("mode", "full")
    if isinstance(mode, str):
        return {"valid": mode, "test": mode}
    other = mode.get("valid", mode.get("test", "full"))
    return {phase: mode.get(phase, other) for phase in ("valid", "test")}


def samples_negatives(settings: Settings) -> bool:
    """Tell whether training samples negatives."""
    sampling = settings["train_neg_sample_args"]
    return bool(sampling) and sampling["distribution"] not in ("none", "None", None)


def parts_of(settings: SettingsLike) -> dict[str, bool]:
    """Tell which of the validation and the test part a split has."""
    if settings["benchmark_filename"]:
        return {"validation": True, "test": True}
    way, shares = next(iter(settings["eval_args"].get("split", {"RS": [8, 1, 1]}).items()))
    if way == "LS":
        return {"validation": shares != "test_only", "test": shares != "valid_only"}
    return {"validation": shares[1] > 0, "test": shares[2] > 0}


# ---- what does not go together -------------------------------------------------------------------


def _mixed_metrics(settings: Settings, model: type) -> str | None:
    kinds: dict[EvaluatorType, str] = {}
    for name in _metric_names(settings):
        kinds.setdefault(metric_types[name.lower()], name)
    if len(kinds) < 2:
        return None
    names = " and ".join(kinds.values())
    return (
        f"metrics: {names} cannot be combined in one run: choose ranking metrics or value metrics."
    )


def _metrics_and_mode(settings: Settings, model: type) -> str | None:
    ranks, first = _ranks(settings), _metric_names(settings)[0]
    for phase, mode in _modes(settings).items():
        if ranks and mode == "labeled":
            return (
                f"metrics: {first} ranks items, and eval_args has mode: labeled ({phase}): set "
                "mode: full or uni100, or metrics: [AUC, LogLoss] with valid_metric: AUC."
            )
        if not ranks and mode == "full":
            return (
                f"metrics: {first} needs labels, and eval_args has mode: full ({phase}): set mode: "
                "labeled or uni100, or metrics: [Recall, NDCG] with valid_metric: NDCG@10."
            )
    return None


def _valid_metric(settings: Settings, model: type) -> str | None:
    topk = settings["topk"]
    sizes = topk if isinstance(topk, list) else [topk]
    known = []
    for name in _metric_names(settings):
        plain = not _ranks(settings) or name.lower() in _NO_CUTOFF
        known += [name] if plain else [f"{name}@{size}" for size in sizes]
    given = settings["valid_metric"]
    if given.lower() in [name.lower() for name in known]:
        return None
    return (
        f"valid_metric: {given} is not among metrics and topk: choose one of "
        f"{', '.join(known)}.{nearest(given, known)}"
    )


def _loss_type(settings: Settings, model: type) -> str | None:
    if hasattr(model, "input_type"):
        return None
    loss = settings.get("loss_type")
    if loss not in ("CE", "BPR"):
        return f"loss_type: {loss}: {model.__name__} needs CE or BPR."
    if loss == "CE" and samples_negatives(settings) and _is_sequential(model):
        return (
            "loss_type: CE scores every item, so it takes no sampled negatives: set "
            "train_neg_sample_args: ~, or loss_type: BPR."
        )
    return None


def _negatives(settings: Settings, model: type) -> str | None:
    loss = str(settings.get("loss_type"))
    if loss == "CE" and _is_sequential(model):  # SINE says that it is pairwise, whatever its loss
        return None
    by_loss = {"BPR": InputType.PAIRWISE}.get(loss)
    pairwise = getattr(model, "input_type", by_loss) == InputType.PAIRWISE
    if not pairwise or model.__name__ in _WHOLE_USERS or samples_negatives(settings):
        return None
    return (
        f"{model.__name__} learns from pairs, so it needs sampled negatives: set "
        "train_neg_sample_args: {distribution: uniform, sample_num: 1}."
    )


def _repeatable(settings: Settings, model: type) -> str | None:
    if not _is_sequential(model) or settings["repeatable"]:
        return None
    return f"repeatable: False: {model.__name__} is a sequential model and needs repeatable: True."


def _sparse_learner(settings: Settings, model: type) -> str | None:
    own = not model.__module__.startswith("recbole.")  # which may have sparse tables
    if settings["learner"].lower() != "sparse_adam" or own:
        return None
    return f"learner: sparse_adam: the gradients of {model.__name__} are dense: use learner: adam."


def _library(settings: Settings, model: type) -> str | None:
    module, package, needed = _LIBRARIES.get(model.__name__, ("", "", lambda settings: False))
    if not needed(settings) or importlib.util.find_spec(module) is not None:
        return None
    return f"{model.__name__} needs {module}, which is not installed: pip install {package}."


def _both_columns(settings: Settings, model: type) -> str | None:
    load, unload = settings["load_col"] or {}, settings["unload_col"] or {}
    twice = [suffix for suffix in unload if load.get(suffix, "*") != "*"]
    if not twice:
        return None
    return f"load_col and unload_col both apply to {twice[0]}: leave one of them out."


def _both_normalizations(settings: Settings, model: type) -> str | None:
    if not (settings["normalize_all"] and settings["normalize_field"] is not None):
        return None
    return "normalize_all and normalize_field are both set: leave one of them out."


def _ids(settings: Settings, model: type) -> str | None:
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        if settings[key] is None:
            return f"{key} is empty: name the column of the .inter file."
    ids = [settings["USER_ID_FIELD"], settings["ITEM_ID_FIELD"]]
    if ids[0] == ids[1]:
        return "USER_ID_FIELD and ITEM_ID_FIELD name the same column: correct one of them."
    if settings["LABEL_FIELD"] in ids:
        return f"LABEL_FIELD: {settings['LABEL_FIELD']} names a column of ids: correct it."
    unused = {*(settings["unused_col"] or {}).get("inter", [])}.intersection(ids)
    return f"unused_col drops '{unused.pop()}', which every run needs: keep it." if unused else None


def _sequential_benchmark(settings: Settings, model: type) -> str | None:
    if not settings["benchmark_filename"] or not _is_sequential(model):
        return None
    if settings["ITEM_ID_FIELD"] == "item_id":
        return None
    return (
        f"ITEM_ID_FIELD: {settings['ITEM_ID_FIELD']}: RecBole's sequential models read benchmark "
        "files only where it is item_id: rename the column."
    )


def _benchmark_train(settings: Settings, model: type) -> str | None:
    train, *others = settings["benchmark_filename"] or (None,)
    if train not in others:
        return None
    return (
        f"benchmark_filename: '{train}' is trained on and evaluated on: name another part after "
        "the first."
    )


def _masks(settings: Settings, model: type) -> str | None:
    if model.__name__ != "BERT4Rec":
        return None
    ratio, length = settings["mask_ratio"], settings["MAX_ITEM_LIST_LENGTH"]
    if int(ratio * length) > 0:
        return None
    return (
        f"mask_ratio: {ratio} of MAX_ITEM_LIST_LENGTH: {length} masks no item: raise one of them "
        "until their product is 1 or more."
    )


def _places(settings: Settings, model: type) -> str | None:
    folder = settings["checkpoint_dir"]
    if not os.path.exists(folder) or os.path.isdir(folder):
        return None
    return f"checkpoint_dir: '{folder}' is a file: name a folder."


def _no_layers(settings: Settings, model: type) -> str | None:
    if settings.get("n_layers") != 0 or not _is_sequential(model):
        return None  # graph models without layers are matrix factorisation
    return f"n_layers: 0: {model.__name__} reads its last layer: set n_layers: 1 or more."


def _transform(settings: Settings, model: type) -> str | None:
    transform = settings["transform"]
    if transform is None:
        return None
    if not _is_sequential(model):
        return (
            f"transform: {transform} changes sequences of items, and {model.__name__} reads none: "
            "leave it out."
        )
    key = _SHARES_OF_SEQUENCES.get(transform)
    wrong = key and Key(key, "float", low=0.0, high=1.0).refusal(settings.get(key))
    return f"transform: {transform} needs {key}: set it to {wrong}" if wrong else None


def _closed_form(settings: Settings, model: type) -> str | None:
    kind = settings["kt_closed_form"]
    if kind == "none" or not settings["kt_enabled"]:
        return None
    if model.__name__ not in CLOSED_FORM:
        return (
            f"kt_closed_form: {kind}: {model.__name__} is not solved in closed form, as "
            f"{', '.join(CLOSED_FORM)} are: set kt_closed_form: none."
        )
    kinds = CLOSED_FORM[model.__name__]
    if kind not in kinds:
        return (
            f"kt_closed_form: {kind}: {model.__name__} has no matrix of items x items to draw: set "
            f"kt_closed_form: {kinds[0]}."
        )
    for key, off in _NOT_IN_CLOSED_FORM.items():
        if settings[key] != off:
            return (
                f"{key}: {settings[key]}: {model.__name__} is solved in closed form, without "
                f"layers or tables: set {key}: {off}."
            )
    return None


def _is_sequential(model: type) -> bool:
    return bool(getattr(model, "type", None) == ModelType.SEQUENTIAL)


# Those that RecBole's Config refuses as well, without the fix; those that only a run needs.
CONFIG_CHECKS = (_mixed_metrics, _metrics_and_mode, _loss_type, _repeatable, _closed_form)
RUN_CHECKS = (
    _places,
    _valid_metric,
    _negatives,
    _sparse_learner,
    _library,
    _both_columns,
    _both_normalizations,
    _ids,
    _sequential_benchmark,
    _benchmark_train,
    _masks,
    _transform,
    _no_layers,
)


def check_together(settings: Settings, model: type, checks: Sequence[Check]) -> None:
    """Refuse settings that do not go together.

    Parameters
    ----------
    settings : mapping
        The whole configuration; each value alone is good.
    model : type
        The run's model class.
    checks : sequence of callable
        :data:`CONFIG_CHECKS` or :data:`RUN_CHECKS`.

    Raises
    ------
    ConfigError
        One line: the key, why, and the fix.
    """
    for check in checks:
        wrong = check(settings, model)
        if wrong:
            raise ConfigError(wrong)


def check_one_process(config: RunConfig) -> None:
    """Refuse ``nproc`` where a run trains in one process.

    Raises
    ------
    ConfigError
        It is more than 1.
    """
    if config["single_spec"] and (config["nproc"] or 1) > 1:
        raise ConfigError(
            f"nproc: {config['nproc']} is for `llmkt train` and recbole_llmkt.quick_start.run: all "
            "else trains in one process. Leave it out."
        )


def check_run(config: RunConfig, parts: Sequence[str] = ()) -> None:
    """Refuse what would make a run fail, before anything is read or written.

    Parameters
    ----------
    config : Config
        The run's configuration.
    parts : sequence of str
        The parts of the data that must be there: ``"validation"``, ``"test"``.

    Raises
    ------
    ConfigError, DataError
        One line: what, where, and the fix.
    """
    check_one_process(config)
    present = parts_of(config.final_config_dict)
    if "validation" in parts and config["eval_step"] == 0:
        raise ConfigError(
            "eval_step: 0 trains without validation, which this command needs: set eval_step: 1."
        )
    for part in parts:
        if not present[part]:
            raise ConfigError(
                f"eval_args: {config['eval_args']['split']} leaves no {part} part, which this "
                "command needs: set split: {RS: [0.8, 0.1, 0.1]} or {LS: valid_and_test}."
            )
    check_files(config)
    check_candidates(config)
    check_together(config.final_config_dict, config.model_class, RUN_CHECKS)
