"""What is asked about each entity: its training history, its metadata, the prompt."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import numpy as np

from recbole_llmkt.datasets.domains import domain_of
from recbole_llmkt.datasets.history import Histories, training_histories
from recbole_llmkt.datasets.metadata import ItemMetadata, read_item_metadata, read_user_metadata
from recbole_llmkt.datasets.splits import training_split
from recbole_llmkt.keys.table import KEYS
from recbole_llmkt.profiles.generation.generators import Request, get_generator_class
from recbole_llmkt.profiles.generation.prompts import Prompt, select_history
from recbole_llmkt.profiles.generation.sandbox import for_prompts
from recbole_llmkt.utils.types import RunConfig, Values

logger = logging.getLogger(__name__)

_YEAR_IN_TITLE = re.compile(r"\((\d{4})\)\s*$")


class RequestMaker:
    """Make the requests of one kind of entity; small enough to be sent to every worker.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.
    entity : str
        ``"user"`` or ``"item"``.

    Raises
    ------
    ConfigError, DataError
        The prompt, the interactions or the metadata cannot be used.
    """

    def __init__(self, config: RunConfig, entity: str) -> None:
        self.entity = entity
        self.settings = {key: config[key] for key in KEYS if key.startswith("profile_")}
        generator = get_generator_class(self.settings["profile_generator"])
        histories = training_histories(training_split(config))  # downloads what is not there
        self.domain = domain_of(config) if generator.uses_prompt else None
        self.prompt = (
            Prompt.load(self.settings["profile_prompt"], entity, self.domain)
            if generator.uses_prompt
            else None
        )
        self._items = {
            token: _item_context(item)
            for token, item in read_item_metadata(config).items()
            if item.title.strip()
        }
        _warn_of_unknown(histories, self._items)
        if entity == "item":
            self.digests: dict[str, str | None] = {
                str(token): None for token in histories.item_tokens[1:] if token in self._items
            }
            return
        self._histories = histories
        self._users = read_user_metadata(config)
        self._ids = {str(token): number for number, token in enumerate(histories.user_tokens)}
        self._scale = _scale(histories)
        digests = histories.digests()
        self._titled = np.array([str(token) in self._items for token in histories.item_tokens])
        self.digests = {
            token: digests[token]
            for token, user_id in self._ids.items()
            if user_id and self._titled[histories.items(user_id)].any()
        }

    def __call__(self, token: str) -> Request:
        """Make the request of one entity, by its token."""
        context = self._items[token] if self.entity == "item" else self._user_context(token)
        return Request(
            id=token,
            entity=self.entity,
            messages=self.prompt.messages(context) if self.prompt else [],
            context=context,
            history=self.digests[token],
            answer_key=self.prompt.answer_key if self.prompt else None,
        )

    def _user_context(self, token: str) -> Values:
        user_id = self._ids[token]
        all_ids, ratings = self._histories.items(user_id), self._histories.ratings(user_id)
        titled = self._titled[all_ids]
        item_ids, ratings = all_ids[titled], None if ratings is None else ratings[titled]
        chosen = select_history(
            len(item_ids),
            ratings,
            self.settings["profile_max_history"],
            self.settings["profile_history"],
        )
        further = self._histories.further_columns(user_id)
        further = {name: values[titled] for name, values in further.items()}
        items: list[Values] = []
        for position in chosen:
            item = self._items[str(self._histories.item_tokens[item_ids[position]])]
            rating = "" if ratings is None else f"{ratings[position]:g}"
            interaction = {name: _shown(values[position]) for name, values in further.items()}
            items.append(
                {
                    **item,
                    "number": len(items) + 1,
                    "rating": rating,
                    "interaction": for_prompts(interaction),
                }
            )
        return {
            "items": items,
            "n_interactions": len(all_ids),
            "has_ratings": ratings is not None,
            "rating_low": self._scale[0],
            "rating_high": self._scale[1],
            "user": self._users.get(token, {}),
        }


def _shown(value: object) -> str:
    """Return a number without the noise of single precision; a token as it is."""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _item_context(item: ItemMetadata) -> Values:
    year = next(
        (value for name, value in item.other.items() if "year" in name.lower() and value.isdigit()),
        None,
    )
    if year is None:
        in_title = _YEAR_IN_TITLE.search(item.title)
        year = in_title.group(1) if in_title else ""
    return {
        "title": item.title,
        "year": year,
        "categories": for_prompts(item.categories),  # once, and not again in every history
        "text": item.text,
        "other": for_prompts(item.other),
    }


def _scale(histories: Histories) -> tuple[str, str]:
    values = histories.rating_values
    if values is None or not len(values):
        return "", ""
    return f"{np.min(values):g}", f"{np.max(values):g}"


def _warn_of_unknown(histories: Histories, items: Mapping[str, Values]) -> None:
    unknown = [str(token) for token in histories.item_tokens[1:] if token not in items]
    if unknown:
        logger.warning(
            "%d of %d items, such as '%s', have no title in the .item file: they are left out of "
            "the prompts and get no profile, and neither do users who have only such items.",
            len(unknown),
            len(histories.item_tokens) - 1,
            unknown[0],
        )
