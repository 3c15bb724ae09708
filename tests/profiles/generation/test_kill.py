from __future__ import annotations

import json
import multiprocessing
import random
import re
import time
from collections import Counter
from typing import Any

import pytest

from tests.profiles.generation import kill_child
from tests.profiles.generation.helpers import write_items
from tests.profiles.generation.openai_server import OpenAIServer, Reply

N_KILLS = 20
N_USERS = 900
CONCURRENCY = 8


@pytest.mark.slow
def test_no_answer_is_lost_or_paid_for_twice(make_dataset: Any) -> None:
    """Kill a run at random instants; what was stored is never asked for, lost or repeated."""
    data = make_dataset(n_users=N_USERS, per_user=(5, 5))
    write_items(data)
    prompt = data.folder / "who.yaml"
    users = "\n".join(f"u{n}\tu{n}" for n in range(N_USERS))
    (data.folder / "tiny.user").write_text(f"user_id:token\tname:token\n{users}\n", "utf-8")
    prompt.write_text("system: ''\nuser: 'USER={{ user.name }};'\nitem_line: x\n", "utf-8")
    answered: Counter[str] = Counter()

    def decide(_: int, payload: dict[str, Any]) -> Reply:
        token = re.search("USER=(.*);", payload["messages"][-1]["content"]).group(1)  # type: ignore[union-attr]
        answered[token] += 1
        return Reply(text=f"Profile of {token}.", delay=0.02)

    path = data.folder / "profiles" / "user.jsonl"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recbole_llmkt.profiles.generation.run", "openai"])
    with OpenAIServer(decide) as server:
        settings = data.settings(
            profile_generator="openai",
            profile_model="m",
            profile_prompt=str(prompt),
            profile_api_base=server.address,
            profile_concurrency=CONCURRENCY,
        )
        draw = random.Random(11)
        before = b""
        kills = 0
        while kills < N_KILLS:
            asked = sum(answered.values())
            process = context.Process(target=kill_child.run, args=("tiny", settings))
            process.start()
            while sum(answered.values()) == asked and process.is_alive():
                time.sleep(0.002)
            time.sleep(draw.uniform(0.0, 0.1))
            if not process.is_alive():
                break
            process.kill()
            process.join()
            kills += 1
            time.sleep(0.05)  # for the requests that were under way
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            assert whole.startswith(before), "a stored answer was lost or changed"
            stored = Counter(json.loads(line)["id"] for line in whole.splitlines())
            assert set(stored.values()) <= {1}
            repeated = sum(answered.values()) - len(answered)
            assert repeated <= kills * (CONCURRENCY + 1), "more was lost than was under way"
            before = whole
        assert kills == N_KILLS, "the run ended before it was killed often enough"
        already = {json.loads(line)["id"] for line in before.splitlines()}
        counts = dict(answered)
        process = context.Process(target=kill_child.run, args=("tiny", settings))
        process.start()
        process.join()
        assert process.exitcode == 0
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert Counter(line["id"] for line in lines) == {f"u{n}": 1 for n in range(N_USERS)}
    assert all(line["text"] == f"Profile of {line['id']}." for line in lines)
    assert all(answered[token] == counts[token] for token in already), "paid for twice"
