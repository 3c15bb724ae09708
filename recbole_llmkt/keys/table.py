"""The keys this package adds to RecBole's configuration, and what their values may be.

:data:`KEYS` is the one place that says so: ``properties/overall.yaml`` (what users read) and
``docs/keys.md`` are checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping

from recbole_llmkt.datasets.domains import DOMAINS
from recbole_llmkt.keys.key import LARGEST_INT, Key, address, shown
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.resources import properties_dir
from recbole_llmkt.utils.text import without_credentials
from recbole_llmkt.utils.types import Settings

PREFIXES = ("kt_", "profile_")
# Addresses, which may hold a user and a password.
ADDRESS_KEYS = ("profile_api_base",)
# Which of several processes this is, and where the first one listens, as RecBole's run() says.
PROCESS_KEYS = ("local_rank", "world_size", "ip", "port", "nproc", "offset")
# RecBole's caches of data, which are pickles.
CACHE_KEYS = ("dataset_save_path", "dataloaders_save_path", "save_dataset", "save_dataloaders")
# Keys that do not change the result of a run: folders, devices, logging.
IRRELEVANT_KEYS = {
    "checkpoint_dir",
    "data_path",
    "dataloaders_save_path",
    "dataset_save_path",
    "gpu_id",
    "kt_preset",  # the keys it sets count, not its name
    "kt_strict_keys",
    "kt_fast_ranking",  # the same scores
    "kt_slices",  # further measurements
    "kt_tail_share",
    "log_wandb",
    "loss_decimal_place",
    "save_dataloaders",
    "save_dataset",
    "show_progress",
    "state",
    "use_gpu",
    "wandb_project",
    "worker",
}

METHODS = ("transfer", "kar")
ROWS = ("auto", "batch", "table", "node", "lookup", "field", "field_first", "flat", "time")
POOLS = ("last", "mean", "exponential", "attention")
LOSSES = ("rmse", "mse", "cosine", "sce", "infonce", "generative", "gram", "softrank")
REGULARIZERS = ("none", "vicreg")
SCHEDULES = ("constant", "cosine", "linear")
BALANCES = ("fixed", "loss_ratio")
TRANSFORMS = ("pca", "pca_whiten", "umap", "random", "none")
PROJECTORS = ("none", "linear", "mlp", "profile_mlp")
CONTROLS = ("none", "shuffled", "random", "zero")
HYBRIDS = ("none", "linear", "neighbours")
CLOSED_FORMS = ("none", "drawn", "rows")
SLICES = ("history", "cold_users", "tail_items")
GENERATORS = ("template", "transformers", "openai", "file")
HISTORIES = ("recent", "top_rated", "mixed")
ENGINES = ("local", "ray")


def _phase_length(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (
            "a share of `epochs` (a float above 0.0, up to 1.0) or a count (an int of 1 or more)."
        )
    if isinstance(value, int):
        good = 1 <= value <= LARGEST_INT
        return None if good else "a count of 1 or more (kt_enabled: False trains without)."
    return None if 0.0 < value <= 1.0 else "a share above 0.0, up to 1.0 (a count is an int)."


def _entity(value: object) -> str | None:
    if isinstance(value, (list, tuple)) and "both" in value:
        return "user or item within a list: [user, item] means both."
    return None


# fmt: off
_TRANSFER_KEYS = (
    Key("kt_enabled", "bool", True,
        "Train with knowledge transfer; False is stock RecBole, bit for bit."),
    Key("kt_preset", "str", None,
        "A file of properties/presets (llmkt: the paper's settings) or a path to one.",
        optional=True),
    Key("kt_strict_keys", "bool", True,
        "Refuse an unknown key that looks like a misspelled one; False only warns.",
        every_arm=True),
    Key("kt_method", "str", "transfer",
        "transfer (LLM-KT), or kar: the profiles as additional input fields (KAR).",
        choices=METHODS, class_path=True),
    Key("kt_layer", "str", "auto",
        "Where the hidden state is read; `llmkt layers` prints the choices.", many="some"),
    Key("kt_user_layer", "str", None,
        "What `auto` means for users; properties/model/<Model>.yaml sets it.", optional=True),
    Key("kt_item_layer", "str", None,
        "What `auto` means for items; properties/model/<Model>.yaml sets it.", optional=True),
    Key("kt_rows", "str", "auto",
        "What the tapped rows mean: auto, batch, table, node, lookup, field, ...",
        choices=ROWS, many="some"),
    Key("kt_pool", "str", "last",
        "How a time axis is pooled: last, mean, exponential, attention.", choices=POOLS),
    Key("kt_entity", "str", "user",
        "Whose profiles are transferred: user, item, both.",
        choices=("user", "item", "both"), rule=_entity, many="some"),
    Key("kt_loss", "str", "rmse",
        "rmse (the paper's), mse, cosine, sce, infonce, generative, gram, softrank.",
        choices=LOSSES, class_path=True),
    Key("kt_temperature", "float", 0.2,
        "Temperature of infonce, generative and softrank.", low=1e-4),
    Key("kt_mask_ratio", "float", 0.1,
        "Share of a batch's users or items that generative masks, from 0 (one of them) to 1.",
        low=0.0, high=1.0),
    Key("kt_regularizer", "str", "none",
        "Penalty against collapse of the tapped states: none, vicreg (variance, covariance).",
        choices=REGULARIZERS),
    Key("kt_regularizer_weight", "float", 0.1,
        "Weight of that penalty within the transfer loss.", low=0.0),
    Key("kt_weight", "float", 0.5,
        "alpha in (1 - alpha) L_model + alpha L_transfer, from 0 to 1.",
        low=0.0, high=1.0, many="some"),
    Key("kt_schedule", "str", "constant",
        "How the weight changes within phase 1: constant, or cosine or linear down to 0.",
        choices=SCHEDULES),
    Key("kt_balance", "str", "fixed",
        "fixed, or loss_ratio: L_transfer times beta = L_model / L_transfer, detached.",
        choices=BALANCES),
    Key("kt_epochs", "float or int", 0.5,
        "Length of phase 1: a share of `epochs` up to 1.0, or a count.", rule=_phase_length),
    Key("kt_transform", "str", "pca",
        "Profile embedding -> target width: pca, pca_whiten, umap (the paper's), random, none.",
        choices=TRANSFORMS),
    Key("kt_projector", "str", "none",
        "Learned map hidden -> target width: none, linear, mlp; target -> hidden width: "
        "profile_mlp.",
        choices=PROJECTORS),
    Key("kt_projector_dim", "int", None,
        "Target width behind a projector; ~: as wide as the profile embedding, if "
        "kt_transform can.",
        low=1, optional=True),
    Key("kt_control", "str", "none",
        "Break the knowledge on purpose: none, shuffled, random, zero (kar, closed form).",
        choices=CONTROLS),
    Key("kt_init", "str", "none",
        "Start values of embedding tables: none (the model's own), targets (from the profiles).",
        choices=("none", "targets")),
    Key("kt_init_scale", "float", 1.0,
        "Their spread, in multiples of the model's own initialisation.", low=1e-6),
    Key("kt_init_tables", "str", "auto",
        "Tables of kt_init, kt_hybrid, kt_cold_start: auto, or globs of names, with user: or item: "
        "before them if unclear.",
        many="some"),
    Key("kt_hybrid", "str", "none",
        "Train each row as its own numbers plus a learned map of its profile (linear), or plus the "
        "mean row of its nearest neighbours by profile (neighbours).",
        choices=HYBRIDS),
    Key("kt_hybrid_scale", "float", 0.5,
        "How much of a row comes from profiles, relative to 1 for its own numbers: length of the "
        "profiles (linear), weight of the neighbours' mean row (neighbours).", low=0.0),
    Key("kt_hybrid_width", "int", 32,
        "linear: number of principal components of the profiles; ~ takes them whole.",
        low=1, optional=True),
    Key("kt_hybrid_rate", "float", None,
        "linear: the map's learning rate, in multiples of the rows'; ~: so that a step of an "
        "optimizer like Adam moves a row by kt_hybrid_scale times what it moves its own numbers.",
        low=1e-6, optional=True),
    Key("kt_hybrid_decay", "float", None,
        "linear: weight decay of the map; ~: the run's weight_decay.", low=0.0, optional=True),
    Key("kt_neighbours", "int", 10, "neighbours: how many.", low=1),
    Key("kt_closed_form", "str", "none",
        "EASE, SLIM and neighbourhood models with profiles: drawn (towards the solution of the "
        "profiles alone), rows (profiles as further rows of the interactions).",
        choices=CLOSED_FORMS),
    Key("kt_closed_form_weight", "float", None,
        "Weight of the profiles there; ~: 60 times the square root of the mean number of training "
        "interactions of an item. 0 is RecBole's own.", low=0.0, optional=True),
    Key("kt_cold_start", "bool", False,
        "Before the test, embeddings of cold users and items come from their profiles."),
    Key("kt_cold_threshold", "int", 5, "Cold is at most this many training interactions.", low=0),
    Key("kt_slices", "str", (),
        "Groups measured separately: history (quartiles), cold_users, tail_items.",
        choices=SLICES, many="list"),
    Key("kt_tail_share", "float", 0.8,
        "Share of all items, the least popular ones, that makes the tail.", low=0.0, high=1.0),
    Key("kt_kar_shared_experts", "int", 2,
        "KAR: experts shared by user and item profiles.", low=0),
    Key("kt_kar_own_experts", "int", 5,
        "KAR: experts for user profiles alone, and as many for item profiles.", low=1),
    Key("kt_kar_hidden", "int", 128, "KAR: width of an expert's hidden layer.", low=1),
    Key("kt_kar_dropout", "float", 0.0, "KAR: dropout within the experts.", low=0.0, high=1.0),
    Key("kt_freeze_phase1", "str", (),
        "Glob patterns of parameters that are frozen in phase 1.", many="list"),
    Key("kt_freeze_phase2", "str", (),
        "Glob patterns of parameters that are frozen in phase 2.", many="list"),
    Key("kt_seed", "int", None,
        "Seed of transform, control and projector; ~ takes the run's `seed`.",
        low=0, optional=True),
    Key("kt_valid_users", "int", None,
        "Validate on this many users, drawn once for all arms and seeds; ~ is all of them.",
        low=1, optional=True, every_arm=True),
    Key("kt_fast_ranking", "bool", None,
        "Rank all items by blocks of users x items where a model scores pairs, as NeuMF does: the "
        "same scores to 1e-6, sooner; and many users at once unless eval_batch_size is given. "
        "~: with kt_enabled, and in every arm of a comparison.",
        optional=True, every_arm=True),
)

_PROFILE_KEYS = (
    Key("profile_dir", "str", None,
        "Folder of profiles; ~ is <data_path>/<dataset>/profiles, else the bundled ones.",
        optional=True),
    Key("profile_allow_leak", "bool", False,
        "Use profiles even if they were not written from this training split; tune: in llmkt tune, "
        "too.", words=("tune",)),
    Key("profile_encoder", "str", "sentence-transformers/all-MiniLM-L6-v2",
        "Text encoder: hub name, folder, wordllama, openai:<model>, or a class path."),
    Key("profile_encoder_batch_size", "int", 32, "Profiles per call of the encoder.", low=1),
    Key("profile_generator", "str", "template",
        "Who writes new profiles: template (no language model), transformers, openai, file.",
        choices=GENERATORS, class_path=True),
    Key("profile_model", "str", None,
        "The language model: hub name or folder (transformers), model name (openai).",
        optional=True),
    Key("profile_file", "str", None,
        "Profiles made elsewhere, for the generator `file`: JSONL or an atomic file.",
        optional=True),
    Key("profile_prompt", "str", "llmkt",
        "A template of properties/prompts (llmkt, rlmrec, kar, short) or a path to one."),
    Key("profile_domain", "str", "auto",
        "What the items are, and so what `llmkt` and `kar` ask about: generic, movies, music, "
        "books, news, shop; auto guesses from the columns.", choices=("auto", *DOMAINS)),
    Key("profile_title_field", "str", None,
        "Column with an item's title; ~ guesses from the header.", optional=True),
    Key("profile_category_field", "str", None,
        "Column with an item's categories or genres; ~ guesses from the header.", optional=True),
    Key("profile_text_field", "str", None,
        "Column with an item's description; ~ guesses from the header.", optional=True),
    Key("profile_rating_field", "str", None,
        "Column with the rating; ~ is RecBole's RATING_FIELD where it is loaded.", optional=True),
    Key("profile_max_history", "int", 50,
        "Most training interactions that go into one user's prompt.", low=1),
    Key("profile_history", "str", "recent",
        "Which of them: recent, top_rated, mixed (half each).", choices=HISTORIES),
    Key("profile_batch_size", "int", 8, "Prompts per call of a local language model.", low=1),
    Key("profile_max_tokens", "int", 400,
        "Longest answer of the language model, in tokens; a profile has at most ten characters "
        "a token.", low=1),
    Key("profile_temperature", "float", 0.0,
        "Sampling temperature of the language model; 0 is greedy, ~ the server's own.",
        low=0.0, optional=True),
    Key("profile_seed", "int", 2020,
        "Sampling seed passed to the language model; ~ sends none to a server.",
        low=0, optional=True),
    Key("profile_concurrency", "int", 16,
        "Simultaneous requests to an OpenAI-compatible server.", low=1),
    Key("profile_api_base", "str", None,
        "Address of an OpenAI-compatible server, http://... or https://...; ~ is the OpenAI "
        "service.", optional=True,
        rule=address),
    Key("profile_api_key_env", "str", "OPENAI_API_KEY",
        "Environment variable that holds the key; never logged or stored."),
    Key("profile_timeout", "float", 60, "Seconds before a request counts as failed.", low=0.0),
    Key("profile_retries", "int", 5,
        "Retries of a request after 429, 5xx or a time-out.", low=0),
    Key("profile_device", "str", "auto",
        "Device of local language models and encoders: auto, cpu, cuda, cuda:1, mps."),
    Key("profile_engine", "str", "local", "Where generation runs: local, ray.", choices=ENGINES),
)
# fmt: on

KEYS: dict[str, Key] = {key.name: key for key in (*_TRANSFER_KEYS, *_PROFILE_KEYS)}


def is_knowledge_key(key: str) -> bool:
    """Tell whether a key is about knowledge transfer alone: stock RecBole trains without it."""
    return key.startswith(PREFIXES) and not (key in KEYS and KEYS[key].every_arm)


def without_secrets(values: Mapping[str, object]) -> Settings:
    """Return keys and values as they may be stored and shown: addresses without a password."""
    addresses = {
        key: without_credentials(value)
        for key in ADDRESS_KEYS
        if isinstance(value := values.get(key), str)
    }
    return {**values, **addresses}


def check_keys(values: Mapping[str, object], where: str) -> None:
    """Refuse unknown ``kt_``/``profile_`` keys and values out of range.

    Parameters
    ----------
    values : mapping
        Keys and values; keys of RecBole's own are passed over.
    where : str
        Where they come from, for the message.

    Raises
    ------
    ConfigError
        Naming the key, the nearest known key or the allowed range.
    """
    for key, value in values.items():
        if not str(key).startswith(PREFIXES):
            continue
        if key not in KEYS:
            raise ConfigError(
                f"Unknown key '{shown(key)}' in {where}.{nearest(shown(key), KEYS)} "
                f"Every key is listed in {properties_dir() / 'overall.yaml'}."
            )
        wrong = KEYS[key].refusal(value)
        if wrong:
            value = without_secrets({key: value})[key]
            raise ConfigError(f"'{key}: {shown(value)}' in {where}: the value must be {wrong}")
