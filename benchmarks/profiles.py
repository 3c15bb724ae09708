"""Speed and memory of making profiles: the server client, the encoder, the histories.

Run ``python benchmarks/profiles.py`` on an otherwise idle machine; ``--only=server``, ``encoder``
or ``history`` runs one part, ``--out=FILE`` also writes the figures as JSON. The server's part
takes ``--concurrency=64,512``, the encoder's ``--device=cuda``, ``--batch-size=256`` and
``--model=FOLDER``. ``--backend=onnx`` or ``openvino`` compares these with PyTorch, where
sentence-transformers finds them (``pip install optimum-onnx onnxruntime`` or ``optimum-intel
openvino``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from processes import counts

from recbole_llmkt.utils.exceptions import LLMKTError

DELAY = 0.2
ROUNDS = 50  # profiles of each connection
SIZES = (100_000, 1_000_000, 10_000_000)

_TEXT = "Enjoys quiet dramas and dry comedies of the nineties. " * 12
_COMPLETION = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 900, "completion_tokens": 150, "total_tokens": 1050},
}


class _Server(asyncio.Protocol):
    """Answer every request with the same completion, DELAY seconds after its last byte."""

    body = json.dumps(_COMPLETION).encode()
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body
    )

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        header, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(header.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) >= length:
            self.received = rest[length:]
            loop = asyncio.get_running_loop()
            loop.call_later(DELAY, self.transport.write, self.answer)


def _serve(ready: Any) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Server, "127.0.0.1", 0, backlog=1024)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def _write_dataset(folder: Path, n_users: int) -> None:
    """Write atomic files in which every user has thirty interactions."""
    folder.mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(n_users):
        rows += [f"u{user}\ti{(7 * user + k) % 500}\t{k % 5 + 1}\t{k}" for k in range(30)]
    (folder / "synthetic.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")
    items = ["item_id:token\ttitle:token_seq\tyear:token\tgenre:token_seq"]
    items += [f"i{item}\tA Film of Note {item}\t{1950 + item % 70}\tDrama" for item in range(500)]
    (folder / "synthetic.item").write_text("\n".join(items) + "\n", encoding="utf-8")


def server_throughput(concurrency: int) -> dict[str, float]:
    """Write profiles against a server that answers in 200 ms, so many requests at a time."""
    from recbole_llmkt.config import Config
    from recbole_llmkt.profiles.generation.requests import RequestMaker
    from recbole_llmkt.profiles.generation.run import ProfileWriter
    from recbole_llmkt.profiles.store import ProfileStore

    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=_serve, args=(ready,), daemon=True)
    process.start()
    with tempfile.TemporaryDirectory() as scratch:
        _write_dataset(Path(scratch) / "synthetic", ROUNDS * concurrency)
        settings = {
            "data_path": scratch,
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            "profile_generator": "openai",
            "profile_model": "m",
            "profile_api_base": f"http://127.0.0.1:{ready.get()}/v1",
            "profile_concurrency": concurrency,
        }
        config = Config("BPR", "synthetic", config_dict=settings, command_line=[])
        requests = RequestMaker(config, "user")
        store = ProfileStore(Path(scratch) / "profiles", "user")
        writer = ProfileWriter(requests)  # imports the client's package, once in a run
        cpu, start = time.process_time(), time.perf_counter()
        with store.writing():
            for profile in writer(list(requests.digests)):
                store.append(profile)
        seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
        n_written = len(store.read())
    process.kill()
    ideal = concurrency / DELAY
    return {
        "concurrency": concurrency,
        "profiles": n_written,
        "seconds": seconds,
        "profiles_per_second": n_written / seconds,
        "ideal_per_second": ideal,
        "share_of_ideal": n_written / seconds / ideal,
        "cpu_ms_per_profile": 1000 * cpu / n_written,
    }


def encoder_speed(model: str, device: str, batch_size: int) -> dict[str, float]:
    """Encode bundled profiles, with this package's encoder and with the bare library.

    200 of them on a CPU, and on a GPU all, ten times over.
    """
    from recbole_llmkt.profiles.encoders.sentence_transformers import SentenceTransformerEncoder
    from recbole_llmkt.profiles.store import ProfileStore
    from recbole_llmkt.utils.resources import bundled_dir

    profiles = ProfileStore(bundled_dir("ml-100k") / "profiles", "user").read()
    texts = [profile.text for profile in profiles.values()]
    texts = texts[:200] if device == "cpu" else 10 * texts
    encoder = SentenceTransformerEncoder(model, device=device, batch_size=batch_size)
    bare = encoder.model
    encoder.encode(texts[:batch_size])
    bare.encode(texts[:batch_size])
    # Taken in turns, the best of each: other programs slow both alike.
    ours, theirs = [], []
    for _ in range(3):
        start = time.perf_counter()
        encoder.encode(texts)
        middle = time.perf_counter()
        bare.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    return {
        "profiles_per_second": len(texts) / min(ours),
        "bare_per_second": len(texts) / min(theirs),
        "share_of_bare": min(theirs) / min(ours),
    }


def backend_speed(model: str, backend: str) -> dict[str, float]:
    """Encode 128 bundled profiles with another backend and with PyTorch, in turns.

    Times are the processor's, over all threads.
    """
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from recbole_llmkt.profiles.encoders.sentence_transformers import SentenceTransformerEncoder
    from recbole_llmkt.profiles.store import ProfileStore
    from recbole_llmkt.utils.resources import bundled_dir

    profiles = ProfileStore(bundled_dir("ml-100k") / "profiles", "user").read()
    texts = [profile.text for profile in profiles.values()][:128]
    pytorch = SentenceTransformerEncoder(model, device="cpu", batch_size=32).model
    with tempfile.TemporaryDirectory() as folder:
        pytorch.save(folder)
        try:
            other = SentenceTransformer(
                folder, device="cpu", backend=backend, model_kwargs={"export": True}
            )
        except Exception as error:  # so it calls a backend that is not installed
            raise LLMKTError(f"{backend}: {error}") from error
    pairs = []
    for _ in range(4):
        seconds, vectors = [], []
        for encoder in (pytorch, other):
            start = time.process_time()
            vectors.append(encoder.encode(texts, batch_size=32, show_progress_bar=False))
            seconds.append(time.process_time() - start)
        pairs.append(seconds)
    theirs, ours = np.array(pairs[1:]).T
    return {
        "pytorch_seconds": float(np.median(theirs)),
        "seconds": float(np.median(ours)),
        "ratio": float(np.median(theirs / ours)),
        "largest_difference": float(np.abs(vectors[0] - vectors[1]).max()),
    }


def _synthetic_split(n_interactions: int) -> Any:
    """Return what :func:`training_histories` reads of a RecBole dataset, filled at random."""
    import numpy as np
    import torch
    from recbole.data.interaction import Interaction

    rng = np.random.default_rng(1)
    n_users, n_items = n_interactions // 100 + 1, 20_000
    columns = {
        "user_id": torch.from_numpy(rng.integers(1, n_users, n_interactions)),
        "item_id": torch.from_numpy(rng.integers(1, n_items, n_interactions)),
        "rating": torch.from_numpy(rng.integers(1, 6, n_interactions).astype(np.float32)),
        "timestamp": torch.from_numpy(rng.random(n_interactions)),
    }
    config = {
        "profile_rating_field": None,
        "RATING_FIELD": "rating",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "LIST_SUFFIX": "_list",
        "benchmark_filename": None,
    }
    sizes = {"user_id": n_users, "item_id": n_items}
    return SimpleNamespace(
        uid_field="user_id",
        iid_field="item_id",
        time_field="timestamp",
        dataset_name="synthetic",
        inter_feat=Interaction(columns),
        config=config,
        num=sizes.__getitem__,
        field2id_token={name: np.arange(size).astype(str) for name, size in sizes.items()},
    )


def history_cost(n_interactions: int) -> dict[str, float]:
    """Collect histories and their digests, in this process, and measure what it takes."""
    from recbole_llmkt.datasets.history import training_histories

    split = _synthetic_split(n_interactions)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    histories = training_histories(split)
    collected = time.perf_counter() - start
    histories.digests()
    return {
        "interactions": n_interactions,
        "seconds": collected,
        "seconds_with_digests": time.perf_counter() - start,
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def _history_costs() -> list[dict[str, float]]:
    """Measure each size in a process of its own: a peak of memory never goes down."""
    measured = []
    for size in SIZES:
        command = [sys.executable, __file__, f"--history={size}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured.append(json.loads(output.strip().splitlines()[-1]))
    return measured


def _table(rows: list[dict[str, float]]) -> str:
    lines = [" | ".join(rows[0])]
    lines += [" | ".join(f"{value:.4g}" for value in row.values()) for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Run the parts that are asked for, and print one table each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["server", "encoder", "history"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--concurrency", type=counts, default="64", help="requests at a time")
    parser.add_argument("--backend", choices=["onnx", "openvino"], help="compare it with PyTorch")
    parser.add_argument("--history", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.history:
        print(json.dumps(history_cost(arguments.history)))
        return
    parts = {
        "server": lambda: [server_throughput(number) for number in arguments.concurrency],
        "encoder": lambda: [encoder_speed(arguments.model, arguments.device, arguments.batch_size)],
        "history": _history_costs,
    }
    if arguments.backend:
        parts = {arguments.backend: lambda: [backend_speed(arguments.model, arguments.backend)]}
    results = {}
    for name, measure in parts.items():
        if arguments.only in (None, name):
            try:
                results[name] = measure()
            except LLMKTError as error:
                parser.exit(1, f"{error}\n")
            print(f"{name}\n{_table(results[name])}\n", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
