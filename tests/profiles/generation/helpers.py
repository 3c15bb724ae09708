"""What the tests of generators and of the generation run share."""

from __future__ import annotations

from typing import Any

from recbole_llmkt.profiles.generation.generators import Request
from tests.helpers import TinyDataset

SETTINGS: dict[str, Any] = {
    "profile_generator": "template",
    "profile_model": "m",
    "profile_file": None,
    "profile_batch_size": 4,
    "profile_max_tokens": 50,
    "profile_temperature": 0.0,
    "profile_seed": 2020,
    "profile_concurrency": 4,
    "profile_api_base": None,
    "profile_api_key_env": "TEST_KEY_OF_LLMKT",
    "profile_timeout": 5,
    "profile_retries": 2,
    "profile_device": "cpu",
}


def request(token: str = "u1", **values: Any) -> Request:
    """Return a request with a short question."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Say something about {token}."},
    ]
    return Request(**{"id": token, "entity": "user", "messages": messages, **values})


def write_items(dataset: TinyDataset, without: tuple[str, ...] = ()) -> None:
    """Write the ``.item`` file of a tiny dataset."""
    genres = ("Drama", "Comedy", "Western")
    lines = ["item_id:token\ttitle:token_seq\tyear:token\tgenre:token_seq"]
    for token in sorted({row[1] for row in dataset.rows}):
        number = int(token.lstrip("i"))
        if token not in without:
            lines.append(f"{token}\tThe Story of {token}\t{1950 + number}\t{genres[number % 3]}")
    text = "\n".join(lines) + "\n"
    (dataset.folder / f"{dataset.name}.item").write_text(text, encoding="utf-8")
