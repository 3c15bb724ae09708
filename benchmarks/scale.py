"""Tokens, hours, cost, disk and memory for a number of users, from what a few users need.

    python benchmarks/scale.py [--users 1000000,10000000,100000000] [--price-in 0.15 ...]

Tokens and the length of a profile are measured on MovieLens-100K; the other constants are options
whose defaults are measured figures (docs/scale.md says where). Everything grows with the number of
users, so a line is its number times the constants.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from processes import counts
from tabulate import tabulate

from recbole_llmkt.config import Config
from recbole_llmkt.profiles.generation.run import estimate
from recbole_llmkt.utils.exceptions import LLMKTError

NOWHERE = "http://localhost"  # nothing is sent
HEADERS = (
    *("users", "tokens in (10^9)", "tokens out (10^9)", "cost", "writing (h)", "encoding (h)"),
    *("texts (GB)", "vectors (GB)", "RecBole (GB)", "with profiles (GB)"),
)


@dataclass(frozen=True)
class Constants:
    """What one user needs.

    Attributes
    ----------
    tokens_in, tokens_out : float
        Of the request for a profile.
    line : float
        Bytes of a profile on the disk.
    """

    tokens_in: float
    tokens_out: float
    line: float


def measure() -> Constants:
    """Measure the requests and profiles of MovieLens-100K's users."""
    keys = {"profile_generator": "openai", "profile_model": "any", "profile_api_base": NOWHERE}
    with tempfile.TemporaryDirectory() as empty:
        given = {**keys, "profile_dir": empty, "show_progress": False}
        needed = estimate(Config("BPR", "ml-100k", config_dict=given, command_line=[]), "user")
    path = Path(__file__).parent.parent / "dataset" / "ml-100k" / "profiles" / "user.jsonl"
    lines = path.read_bytes().splitlines()
    answers = [len(json.loads(line)["text"]) / 4 for line in lines]  # four characters a token
    return Constants(
        needed.tokens_in / needed.count,
        statistics.mean(answers),
        statistics.mean(map(len, lines)),
    )


def line_of(users: int, constants: Constants, options: argparse.Namespace) -> list[float]:
    """Return a line of the table."""
    tokens_in, tokens_out = users * constants.tokens_in, users * constants.tokens_out
    cost = (tokens_in * options.price_in + tokens_out * options.price_out) / 1e6
    writing = users * options.latency / options.concurrency / 3600
    plain = users * options.recbole_bytes
    return [
        users,
        tokens_in / 1e9,
        tokens_out / 1e9,
        cost,
        writing,
        users / options.encoded_per_second / 3600,
        users * constants.line / 1e9,
        users * 2 * options.vector_width / 1e9,
        plain / 1e9,
        (plain + users * options.profile_bytes) / 1e9,
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=counts, default="1000000,10000000,100000000")
    parser.add_argument("--price-in", type=float, default=0.15, help="of a million tokens")
    parser.add_argument("--price-out", type=float, default=0.6, help="of a million tokens")
    parser.add_argument("--latency", type=float, default=3.0, help="seconds of a request")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at a time")
    parser.add_argument("--encoded-per-second", type=float, default=16.0, help="profiles")
    parser.add_argument("--vector-width", type=int, default=384, help="of the encoder, in float16")
    parser.add_argument("--recbole-bytes", type=float, default=2800, help="of a user")
    parser.add_argument("--profile-bytes", type=float, default=380, help="of a user")
    options = parser.parse_args()
    for name in ("latency", "concurrency", "encoded_per_second", "vector_width"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name.replace('_', '-')}: above 0")
    logging.disable(logging.WARNING)
    constants = measure()
    print(f"A user: {constants.tokens_in:.0f} tokens in, {constants.tokens_out:.0f} out.")
    lines = [line_of(users, constants, options) for users in options.users]
    print(tabulate(lines, HEADERS, tablefmt="github", floatfmt=",.1f"))


if __name__ == "__main__":
    try:
        main()
    except LLMKTError as error:
        sys.exit(f"Error: {error}")
