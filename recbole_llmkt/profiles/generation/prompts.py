"""Prompts: the messages that ask a language model about a user or an item."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Template, TemplateSyntaxError, UndefinedError

from recbole_llmkt.datasets.domains import GENERIC
from recbole_llmkt.profiles.generation.sandbox import bounded, compiled, fill, for_prompts
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ConfigError, DataError, nearest
from recbole_llmkt.utils.parsing import load_yaml
from recbole_llmkt.utils.text import one_line
from recbole_llmkt.utils.types import Values

_USER_KEYS = ("system", "user", "item_line", "answer_key")
_ITEM_KEYS = ("system", "user", "answer_key")

_LONGEST_REASON = 300
# The prompts of the papers ask about films.
_OF_FILMS = "movies"


@dataclass(frozen=True)
class Prompt:
    """Templates that turn what is known about a user or an item into chat messages.

    Attributes
    ----------
    source : str
        The file, for messages.
    entity : str
        ``"user"`` or ``"item"``.
    system, user : str
        Jinja2 templates of the two messages.
    item_line : str
        Jinja2 template of one interaction of a user's history; unused for items.
    answer_key : str or None
        Key of the profile in an answer that is a JSON object; None if the whole answer is the
        profile.
    """

    source: str
    entity: str
    system: str
    user: str
    item_line: str = ""
    answer_key: str | None = None

    @classmethod
    def load(cls, name: str, entity: str = "user", domain: str | None = None) -> Prompt:
        """Read a prompt of ``properties/prompts``, or a YAML file by its path.

        Parameters
        ----------
        name : str
            ``llmkt``, ``rlmrec``, ``kar``, ``short``, or a path.
        entity : str
            ``"user"`` reads the keys ``system``, ``user``, ``item_line`` and, if given,
            ``answer_key``; ``"item"`` reads those of the section ``item``.
        domain : str, optional
            What the items are. ``llmkt`` and ``kar`` ask about films; for another domain
            ``llmkt-<domain>`` is read, or else ``llmkt-generic``. Paths ignore it.

        Raises
        ------
        ConfigError
            There is no such prompt, a key is missing or unknown, or a template is not valid Jinja2.
        """
        path = _path(name, domain)
        content = load_yaml(path)
        section = content.pop("item", {})
        content.pop("description", None)
        keys: tuple[str, ...] = _USER_KEYS
        where = f"'{path}'"
        if entity == "item":
            content, keys, where = section, _ITEM_KEYS, f"section 'item' of '{path}'"
        _check(content, keys, where)
        prompt = cls(
            str(path),
            entity,
            content["system"],
            content["user"],
            content.get("item_line", ""),
            content.get("answer_key"),
        )
        for key in ("system", "user", "item_line"):
            _compile(prompt, key)
        return prompt

    @property
    def digest(self) -> str:
        """Digest of the templates: 16 hexadecimal digits."""
        parts = (self.entity, self.system, self.user, self.item_line, self.answer_key)
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()

    def messages(self, context: Values) -> list[dict[str, str]]:
        """Fill in the templates.

        Parameters
        ----------
        context : mapping
            Variables of the templates. For users, ``items`` has a mapping for each interaction;
            ``item_line`` turns each into a line, and the templates see the lines as ``history``.

        Returns
        -------
        list of dict
            ``{"role": "system" | "user", "content": str}``, as chat models expect; an empty
            system message is left out.

        Raises
        ------
        ConfigError
            A template uses an unknown variable (the message lists the known ones), fails in
            another way, does something the sandbox forbids, or takes too much time or memory.
        """
        variables = dict(for_prompts(dict(context)))
        with bounded():
            if self.entity == "user":
                lines = (
                    self._fill("item_line", {**item, "has_ratings": context["has_ratings"]})
                    for item in variables["items"]
                )
                variables["history"] = for_prompts(list(lines))
            filled = [(role, self._fill(role, variables)) for role in ("system", "user")]
        return [{"role": role, "content": text} for role, text in filled if text]

    def _fill(self, key: str, variables: Values) -> str:
        template = _compile(self, key)
        try:
            return fill(template, variables).strip()
        except UndefinedError as error:
            raise ConfigError(
                f"The template '{key}' of '{self.source}' uses an unknown variable: "
                f"{_reason(error)}. It can use {', '.join(sorted(variables))}."
            ) from error
        except Exception as error:  # a template can make Jinja2 or Python raise anything
            raise ConfigError(
                f"The template '{key}' of '{self.source}' cannot be rendered: {_reason(error)}."
            ) from error


def _reason(error: Exception) -> str:
    text = " ".join(one_line(str(error)).split()) or type(error).__name__
    return text[:_LONGEST_REASON].rstrip(".")


def _path(name: str, domain: str | None) -> Path:
    known = resources.names("prompts")
    if name in known:
        variants = () if domain in (None, _OF_FILMS) else (f"{name}-{domain}", f"{name}-{GENERIC}")
        chosen = next((variant for variant in variants if variant in known), name)
        return resources.properties_dir() / "prompts" / f"{chosen}.yaml"
    if os.path.isfile(name):
        return Path(name)
    raise ConfigError(
        f"Unknown profile_prompt '{name}': choose one of {', '.join(known)} or give the path of "
        f"a YAML file.{nearest(name, known)}"
    )


def _check(content: object, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must hold 'key: value' lines.")
    unknown = [str(key) for key in content if key not in keys]
    if unknown:
        raise ConfigError(
            f"Unknown key '{unknown[0]}' in {where}: a prompt has {', '.join(keys)}."
            f"{nearest(unknown[0], keys)}"
        )
    for key in keys[:-1]:
        if not isinstance(content.get(key), str):
            raise ConfigError(f"{where} needs the key '{key}', and text for it.")
    if not isinstance(content.get("answer_key", ""), str):
        raise ConfigError(f"'answer_key' in {where} must be a string: a key of the JSON answer.")


def _compile(prompt: Prompt, key: str) -> Template:
    try:
        return _compiled(getattr(prompt, key))
    except TemplateSyntaxError as error:
        raise ConfigError(
            f"The template '{key}' of '{prompt.source}' is not valid Jinja2, line {error.lineno}: "
            f"{_reason(error)}"
        ) from error
    except Exception as error:  # nested too deeply for Jinja2 or for Python
        raise ConfigError(
            f"The template '{key}' of '{prompt.source}' is not valid Jinja2: {_reason(error)}"
        ) from error


# A run renders the same three templates for every user or item.
_compiled = lru_cache(maxsize=64)(compiled)


def select_history(
    n_interactions: int, ratings: npt.NDArray[np.float64] | None, limit: int, how: str
) -> npt.NDArray[np.int64]:
    """Choose which interactions of a long history are shown to the language model.

    Parameters
    ----------
    n_interactions : int
        Length of the history; the latest interaction is the last.
    ratings : ndarray of float64, shape (n_interactions,), or None
        Ratings in the same order.
    limit : int
        How many to choose at most (``profile_max_history``).
    how : str
        ``recent`` takes the latest, ``top_rated`` the best rated (of equal ratings the later one),
        ``mixed`` half of them by time and the best rated of the rest.

    Returns
    -------
    ndarray of int64, shape (min(n_interactions, limit),)
        Positions, ascending.

    Raises
    ------
    DataError
        ``top_rated`` or ``mixed`` without ratings.
    """
    positions = np.arange(n_interactions, dtype=np.int64)
    if how != "recent" and ratings is None:
        raise DataError(
            f"profile_history: {how} needs ratings, but the interactions have none: name their "
            "column in profile_rating_field (and load_col), or choose recent."
        )
    if n_interactions <= limit:
        return positions
    if ratings is None or how == "recent":
        return positions[-limit:]
    n_recent = 0 if how == "top_rated" else limit - limit // 2
    older = positions[: n_interactions - n_recent]
    best_first = np.lexsort((-older, -ratings[older]))
    chosen = np.concatenate([older[best_first][: limit - n_recent], positions[len(older) :]])
    return np.sort(chosen)
