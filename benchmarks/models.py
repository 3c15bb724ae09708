"""Write docs/models.md: what each of RecBole's models offers, and what transfer costs there.

    python benchmarks/models.py [--models BPR,SASRec] [--batch 512] [--out docs/models.md]

Takes about ten minutes on one core. A step is loss, gradient and optimizer; steps with and without
transfer take turns, and the overhead is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from tqdm import tqdm

from recbole_llmkt.cli.layers import build
from recbole_llmkt.config import Config
from recbole_llmkt.transfer.auxiliary.task import TransferTask
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.catalog import is_pure
from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.probe import Probe, make_batch, recommendation_loss
from recbole_llmkt.transfer.inspection.row_inference import infer_rows, probed_layers
from recbole_llmkt.transfer.inspection.rows import Entities

PAIRS = 9
# Enough pairs of a slow model: at least three.
SECONDS = 10
KINDS = {
    "General": "BPR CDAE ConvNCF DGCF DMF DiffRec ENMF FISM GCMC LDiffRec LightGCN LINE MacridVAE "
    "MultiDAE MultiVAE NAIS NCL NGCF NNCF NeuMF RaCT RecVAE SGL SimpleX SpectralCF",
    "Context-aware": "AFM AutoInt DCN DCNV2 DSSM DeepFM EulerNet FFM FM FNN FiGNN FwFM KD_DAGFM "
    "NFM PNN WideDeep xDeepFM",
    "Sequential": "SASRec BERT4Rec GRU4Rec NARM STAMP Caser NextItNet SHAN HGN CORE SINE LightSANs "
    "FEARec SRGNN GCSAN FPMC TransRec FOSSIL NPE HRM RepeatNet SASRecF GRU4RecF FDSA DIN DIEN "
    "S3Rec",
    "Knowledge-aware": "CKE CFKG KTUP MKR RippleNet KGCN KGNNLS KGIN MCCLK",
}
NO_SAMPLING = {"train_neg_sample_args": None}
ONE_NEGATIVE = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(KINDS["Sequential"].split(), NO_SAMPLING),
    "NCL": {"num_clusters": 100},
    "SimpleX": {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 10}},
    "FPMC": {**ONE_NEGATIVE, "loss_type": "BPR"},
    "TransRec": {**ONE_NEGATIVE, "loss_type": "BPR"},
    "DIN": ONE_NEGATIVE,
    "DIEN": ONE_NEGATIVE,
    "S3Rec": {**NO_SAMPLING, "train_stage": "finetune"},
}
LIBRARIES = {"NCL": "faiss", "KGIN": "torch_scatter", "MCCLK": "torch_scatter"}
LIMITS = {
    "BERT4Rec": "items: `kt_layer: item_embedding.weight` with `kt_rows: table`, as the table has "
    "one extra row for the mask",
    "DIN": "no state of the item alone, except its fields' embeddings",
    "DIEN": "no state of the item alone, except its fields' embeddings",
    "DiffRec": "this layer name is for a `dims_dnn` with one layer",
    "KD_DAGFM": "in all three phases; in `distillation` the embeddings are trained by the transfer "
    "alone",
    "LDiffRec": "with `n_cate` above 1 it needs `kmeans_pytorch`",
    "MultiDAE": "items: a table 600 wide, so set `kt_projector`",
    "MultiVAE": "items: a table 600 wide, so set `kt_projector`",
    "NCL": "needs `faiss`, and `num_clusters` below the number of users",
    "RaCT": "stages `actor_pretrain` and `finetune`; in `critic_pretrain` set `kt_enabled: False`; "
    "items as for MultiVAE",
    "RippleNet": "no state of the user alone: the default mixes in the item",
    "S3Rec": "stage `finetune`; in `pretrain` set `kt_enabled: False`, as its batches mix "
    "sequences of several users",
    "KGIN": "needs `torch_scatter`",
    "MCCLK": "needs `torch_scatter`",
}
HEAD = """# Models

Every model of RecBole 1.2.1 that trains by gradient descent, with the layer that `kt_layer: auto`
means. `llmkt layers --model=X --dataset=Y` lists all other layers of a model.

## How the defaults were chosen

The default is the widest state that depends on the user alone and is closest to the prediction,
at most 384 wide (the width of a small text encoder: a transform cannot widen a profile
embedding); otherwise the user's embedding; otherwise the last hidden layer.
`properties/model/<Model>.yaml` holds the choice with its reason. A model without such a file,
such as your own class, gets the same rule by experiment: the widest of the states that do not
change when the item of the batch row changes; among equals, the one that trains the most
parameters and is computed last.

## The table

*Rows* is what `kt_rows: auto` finds ([layers.md](layers.md) explains the values). *Overhead* is
the median of up to {pairs} pairs of training steps with and without transfer on {dataset}:
batches of {batch} interactions (or users, for autoencoders), one thread, default sizes. Over a
whole run it is about half of that, because phase 1 is half of the epochs. Models with steps of a
few milliseconds show the fixed cost of about half a millisecond; for slow models a few percent up
or down are noise. Written by `python benchmarks/models.py`; raw figures in
[models.json](models.json). What a step costs since is in [performance.md](performance.md).

On an NVIDIA H100 with PyTorch 2.11 (`python benchmarks/epoch.py`), an epoch of ml-100k with the
loss in every step takes .26 s for BPR (.16 without), .42 for NeuMF (.32) and .34 for SimpleX
(.27). Steps are short there, so the fixed cost per step shows, and each epoch's time includes a
third of the set-up. Measured once, alternating, possibly beside other work on the CPU, on Python
3.12 with an empty module in place of ray, which has no wheel for it.
"""
TAIL = """
## Models without transfer

| model | reason |
|---|---|
| LR | its only hidden layer is 1 wide: there is nothing to reconstruct a profile in (an error) |
| KGAT | does not run in RecBole 1.2.1 on Python 3.9 or newer: it calls dgl with `preserve_nodes`, \
which the dgl releases for those versions no longer accept |
| KSR, GRU4RecKG | need a separate file with pre-trained embeddings of a knowledge graph |
| GRU4RecCPR, SASRecCPR | variants with their own softmax, outside the tested matrix; \
`kt_layer: auto` uses the rule above |
| EASE, SLIMElastic, ADMMSLIM, ItemKNN, AsymKNN, NCEPLRec | solved in closed form: profiles are \
used by [`kt_closed_form`](closed-form.md) |
| Pop, Random | rank by popularity or at random: there is nothing that profiles could change (an \
error) |
| XGBoost, LightGBM | not trained by gradient descent: there is no loss to add the transfer loss \
to (an error) |
"""


def settings(model: str, batch: int) -> dict[str, Any]:
    """Return the configuration that a model's figures are taken with."""
    return {
        "train_batch_size": batch,
        "state": "ERROR",
        "use_gpu": False,
        "profile_allow_leak": True,
        **SETTINGS.get(model, {}),
    }


def median_ratio(plain: Callable[[], None], transfer: Callable[[], None]) -> tuple[float, float]:
    """Return the median of transfer over plain, and the median milliseconds of a plain step."""
    ratios, plain_times = [], []
    start = time.perf_counter()
    for number in range(PAIRS + 1):
        if number > 3 and time.perf_counter() - start > SECONDS:
            break
        first, second = _seconds(plain), _seconds(transfer)
        if number:  # the first pair warms up
            ratios.append(second / first)
            plain_times.append(first)
    return statistics.median(ratios), 1000 * statistics.median(plain_times)


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(model: str, dataset: str, batch_size: int) -> dict[str, Any]:
    """Return a row of the table: layer, rows, width and overhead of one model."""
    values = settings(model, batch_size)
    if model == "S3Rec":
        values["pre_model_path"] = _pretrained_s3rec(dataset, values)
    config = Config(model, dataset, config_dict=values, command_line=[])
    network, train_data = build(config)
    layer = Layer.parse(str(config["kt_user_layer"]))
    probe = Probe(network, train_data, probed_layers(network, [layer]))
    rows = infer_rows(probe, layer, Entities.of(train_data._dataset, "user", probe.batches[0]))
    pure = is_pure(probe, layer, rows)
    if hasattr(network, "e_step"):
        network.e_step()
    task = TransferTask(RunContext(config, network, train_data))
    loader = getattr(train_data, "general_dataloader", train_data)
    batch = make_batch(train_data, min(batch_size, loader.sample_size))
    optimizer = torch.optim.Adam(
        [parameter for parameter in network.parameters() if parameter.requires_grad]
    )

    def step() -> None:
        optimizer.zero_grad()
        loss = recommendation_loss(network)(batch)
        (sum(part.sum() for part in loss) if isinstance(loss, tuple) else loss.sum()).backward()
        optimizer.step()

    def with_transfer() -> None:
        with task.attached():
            step()

    network.train()
    ratio, milliseconds = median_ratio(step, with_transfer)
    return {
        "model": model,
        "layer": str(layer),
        "rows": str(rows),
        "width": task.terms[0].width,
        "pure": pure,
        "item_layer": config["kt_item_layer"],
        "step_ms": round(milliseconds, 2),
        "overhead": round(ratio - 1, 4),
    }


def _pretrained_s3rec(dataset: str, values: dict[str, Any]) -> str:
    """Store an untrained S3Rec: the stage `finetune` starts from a file."""
    stage = {**values, "train_stage": "pretrain", "kt_enabled": False}
    network, _ = build(Config("S3Rec", dataset, config_dict=stage, command_line=[]))
    path = Path(tempfile.mkdtemp()) / "S3Rec.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return str(path)


def row(result: dict[str, Any]) -> str:
    """Set one model's figures as a row of the table."""
    rows = result["rows"] + ("" if result["pure"] else ", mixed")
    item = f"`{result['item_layer']}`" if result["item_layer"] else ""
    limit = LIMITS.get(result["model"], "")
    cells = (
        f"{result['model']}",
        f"`{result['layer']}`",
        rows,
        str(result["width"]),
        item,
        f"{result['step_ms']:.1f} ms",
        f"{100 * result['overhead']:+.1f}%",
        limit,
    )
    return "| " + " | ".join(cells) + " |"


def page(results: dict[str, Any]) -> str:
    """Write the page from the raw figures."""
    text = [HEAD.format(**results["setup"])]
    for kind, names in KINDS.items():
        text.append(
            f"\n### {kind}\n\n| model | user layer | rows | width | item layer | plain step | "
            "overhead | limits |\n|---|---|---|---|---|---|---|---|"
        )
        known = {entry["model"]: entry for entry in results["models"]}
        for name in names.split():
            if name in known:
                text.append(row(known[name]))
            else:
                text.append(f"| {name} | | | | | | | {LIMITS.get(name, '')} |")
    return "\n".join(text) + "\n" + TAIL


def main() -> None:
    """Measure the models and write page and raw figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="", help="only these, separated by commas")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("docs/models.md"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    raw = options.out.with_suffix(".json")
    old = json.loads(raw.read_text()) if raw.is_file() else {"models": []}
    known = {entry["model"]: entry for entry in old["models"]}
    names = options.models.split(",") if options.models else " ".join(KINDS.values()).split()
    setup = {"dataset": options.dataset, "batch": options.batch, "pairs": PAIRS}
    if old.get("setup", setup) != setup:
        raise SystemExit(f"{raw} was measured with {old['setup']}: choose another --out.")
    results: dict[str, Any] = {"setup": setup, "models": list(known.values())}
    for name in tqdm(names):
        library = LIBRARIES.get(name)
        if library is None or importlib.util.find_spec(library):
            known[name] = measure(name, options.dataset, options.batch)
            results["models"] = list(known.values())
            raw.write_text(json.dumps(results, indent=1) + "\n")
    options.out.write_text(page(results))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
