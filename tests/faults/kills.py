"""Kill a command at random moments, resume it, and compare with a run that nobody disturbed.

    python -m tests.faults.kills train --kills=30 --seed=1

Commands: train, compare, tune, profile, refresh. Every third kill is SIGTERM, the others SIGKILL.
It ends with 1 where a result differs, something paid for is lost, something unfinished stays, or a
command ends otherwise than by its kill.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.planted import World, settings, write_planted
from tests.profiles.generation.openai_server import OpenAIServer, Reply

WORLD = World(n_users=120, n_items=60)
Command = list[str]


@dataclass
class Fault:
    """How a command is started, resumed and compared.

    Attributes
    ----------
    arguments : list of str
        The command, without ``llmkt``.
    resumed : callable
        From the folder it works in to what is added when it is started again.
    result : callable
        From the folder and the last output to what must be equal.
    made : str
        What is removed when the command has ended before its kill, to begin again; "": the next
        kill finds everything done.
    """

    arguments: Command
    resumed: Callable[[Path], Command]
    result: Callable[[Path, str], Any]
    made: str = ""


def nothing(folder: Path) -> Command:
    return []


def newest_checkpoint(folder: Path) -> Command:
    files = sorted(folder.glob("saved/*.pth"), key=lambda path: path.stat().st_mtime)
    return [f"--resume={files[-1].relative_to(folder)}"] if files else []


def trained(folder: Path, output: str) -> Any:
    """Return the figures that the command printed, and the weights of its checkpoint."""
    (argument,) = newest_checkpoint(folder)
    state = torch.load(folder / argument.partition("=")[2], weights_only=True)["state_dict"]
    figures = re.findall(r"^(\w+@\d+): (\S+)$", output, re.MULTILINE)
    return figures, {name: tensor.tolist() for name, tensor in state.items()}


def lines_of(name: str, *fields: str) -> Callable[[Path, str], Any]:
    """Return a function that reads fields of a file of JSON lines, the last line of each key."""

    def read(folder: Path, output: str) -> Any:
        rows = map(json.loads, (folder / name).read_text().splitlines())
        keys = ("model", "arm", "seed", "trial", "id", "keys")
        by_key = {json.dumps([row.get(key) for key in keys]): row for row in rows}
        return {key: [row[field] for field in fields] for key, row in sorted(by_key.items())}

    return read


# SIGKILL; SIGTERM as Ctrl-C, or before Python has set it up.
ENDS = (-signal.SIGKILL, -signal.SIGTERM, 130)
LLMKT = "from recbole_llmkt.cli.main import main; main()"
PROFILES = "data/planted/profiles/user.jsonl"
COMMON = ["--dataset=planted", "--config-files=settings.yaml"]
FAULTS = {
    "train": Fault(["train", "--model=NeuMF", *COMMON], newest_checkpoint, trained, "saved/*.pth"),
    "compare": Fault(
        ["compare", "--models=BPR", "--arms=base,kt", "--seeds=1,2", "--output=out", *COMMON],
        nothing,
        lines_of("out/results.jsonl", "status", "test", "valid"),
    ),
    "tune": Fault(
        ["tune", "--models=BPR", "--arms=base,kt", "--trials=3", "--output=out", *COMMON],
        nothing,
        lines_of("out/trials.jsonl", "status", "score", "valid"),
    ),
    "profile": Fault(
        ["profile", "--entity=user", "--profile_dir=made", *COMMON],
        nothing,
        lines_of("made/user.jsonl", "text", "error"),
    ),
    "refresh": Fault(
        ["refresh", "--checkpoint=old.pth", "--output=served", "--topk=5", "--trust"],
        nothing,
        lambda folder, output: [
            (folder / "served" / "recommendations.csv").read_text(),
            lines_of(PROFILES, "text", "error")(folder, output),
        ],
        "served/*",
    ),
}


def start(folder: Path, arguments: Command) -> subprocess.Popen[bytes]:
    with (folder / "output.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", LLMKT, *arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(folder: Path, fault: Fault) -> Any:
    """Run the command to its end, and return its result."""
    process = start(folder, [*fault.arguments, *fault.resumed(folder)])
    output = folder / "output.txt"
    assert process.wait() == 0, output.read_text()
    return fault.result(folder, output.read_text())


def disturb(folder: Path, fault: Fault, kills: int, longest: float, draw: random.Random) -> int:
    """Kill the command up to ``kills`` times; return how often it was still running."""
    n_killed = 0
    for number in range(kills):
        process = start(folder, [*fault.arguments, *fault.resumed(folder)])
        time.sleep(draw.uniform(0, longest))
        if process.poll() is None:
            n_killed += 1
            process.send_signal(signal.SIGTERM if number % 3 == 2 else signal.SIGKILL)
        process.wait()
        if process.returncode == 0:  # it was quicker
            for path in folder.glob(fault.made) if fault.made else ():
                path.unlink()
        elif process.returncode not in ENDS:
            raise SystemExit(f"exit {process.returncode}: {(folder / 'output.txt').read_text()}")
    return n_killed


def train_and_grow(folder: Path) -> None:
    """Train what ``refresh`` starts from with paid profiles, and change all histories."""
    for command in (
        ["profile", "--entity=user"],
        ["train", "--model=BPR", "--kt_entity=user", "--profile_encoder=wordllama"],
    ):
        process = start(folder, [*command, *COMMON])
        assert process.wait() == 0, (folder / "output.txt").read_text()
    (checkpoint,) = folder.glob("saved/*.pth")
    checkpoint.rename(folder / "old.pth")
    users = [*(f"u1-{number}" for number in range(WORLD.n_users)), "newcomer"]
    with (folder / "data" / "planted" / "planted.train.inter").open("a") as file:
        file.writelines(f"{user}\ti{n}\n" for user in users for n in range(3))


def prepare(folder: Path, server: OpenAIServer) -> None:
    write_planted(folder / "data", 1, True, WORLD)
    item = "".join(f"i{number}\tFilm {number}\n" for number in range(WORLD.n_items))
    titles = f"item_id:token\ttitle:token_seq\n{item}"
    (folder / "data" / "planted" / "planted.item").write_text(titles)
    keys = settings(folder / "data", epochs=12, eval_step=1, stopping_step=50, state="INFO")
    service = {"profile_generator": "openai", "profile_model": "m", "profile_concurrency": 4}
    service["profile_api_base"] = server.address
    (folder / "settings.yaml").write_text(yaml.safe_dump({**keys, **service}))


def reply(number: int, payload: dict[str, Any]) -> Reply:
    digits = re.findall(r"\d+", payload["messages"][-1]["content"])
    return Reply(text=f"Likes {' and '.join(digits)}.", delay=0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=FAULTS)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    fault, draw = FAULTS[given.command], random.Random(given.seed)
    with OpenAIServer(reply) as server, tempfile.TemporaryDirectory() as name:
        calm, rough = Path(name, "calm"), Path(name, "rough")
        for folder in (calm, rough):
            folder.mkdir()
            prepare(folder, server)
            if given.command == "refresh":
                shutil.rmtree(folder / Path(PROFILES).parent)
                train_and_grow(folder)
        began, asked_before = time.monotonic(), len(server.payloads)
        expected = finish(calm, fault)
        longest, asked = time.monotonic() - began, len(server.payloads) - asked_before
        n_killed = disturb(rough, fault, given.kills, longest, draw)
        same = finish(rough, fault) == expected
        leftovers = [str(path) for path in rough.rglob("*.partial")]
        repeated = len(server.payloads) - asked_before - 2 * asked
    print(  # noqa: T201 - what this script is for
        f"{given.command}: killed {n_killed} times of {given.kills}; "
        f"{'the same result' if same else 'ANOTHER RESULT'}; {len(leftovers)} unfinished files "
        f"left; {repeated} requests repeated"
    )
    return 0 if same and not leftovers and repeated <= 4 * n_killed else 1


if __name__ == "__main__":
    sys.exit(main())
