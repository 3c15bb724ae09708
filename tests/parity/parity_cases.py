"""Every RecBole model that trains by gradient, with what it needs on the tiny dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COMMON: dict[str, Any] = {
    "epochs": 2,
    "train_batch_size": 384,
    "eval_batch_size": 20000,
    "learning_rate": 0.02,
    "seed": 11,
    "state": "ERROR",
    "show_progress": False,
    "use_gpu": False,
    "topk": 5,
    "valid_metric": "NDCG@5",
    "metrics": ["Recall", "NDCG"],
}
INTERACTIONS = ["user_id", "item_id", "rating", "timestamp"]
FEATURES = {
    "user": ["user_id", "age", "gender"],
    "item": ["item_id", "release_year", "class"],
}
KINDS: dict[str, dict[str, Any]] = {
    "general": {"load_col": {"inter": INTERACTIONS}},
    "context": {
        "load_col": {"inter": INTERACTIONS, **FEATURES},
        "threshold": {"rating": 4},
        "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "labeled"},
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
        "embedding_size": 8,
        "mlp_hidden_size": [32, 16],
    },
    "sequential": {
        "load_col": {"inter": INTERACTIONS, **FEATURES},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "train_neg_sample_args": None,
        "repeatable": True,
        "MAX_ITEM_LIST_LENGTH": 8,
        "embedding_size": 16,
        "hidden_size": 16,
        "inner_size": 32,
        "train_batch_size": 768,
        "learning_rate": 0.005,
    },
    "knowledge": {
        "load_col": {
            "inter": INTERACTIONS,
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
        },
        "embedding_size": 16,
        "kg_embedding_size": 16,
    },
}


@dataclass(frozen=True)
class Case:
    """A model and the settings that it needs beside those of its kind."""

    model: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    transfer: dict[str, Any] = field(default_factory=dict)

    def config(self, **more: Any) -> dict[str, Any]:
        return {**COMMON, **KINDS[self.kind], **self.settings, **more}

    def __str__(self) -> str:
        return self.model


USERWISE = {"train_neg_sample_args": None, "train_batch_size": 30}
PRETRAIN = {"pretrain_epochs": 2, "save_step": 2}
PAIRWISE = {
    "loss_type": "BPR",
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
}
LABELS = {
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni5"},
    "metrics": ["AUC", "LogLoss"],
    "valid_metric": "AUC",
}

FEW_PAIRS = {
    "eval_args": {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "group_by": "user",
        "order": "RO",
        "mode": "uni9",
    }
}

# One layer of attention where RecBole has two, to save time. FEARec needs two.
ONE_LAYER: dict[str, Any] = {"n_layers": 1}

SETTINGS: dict[str, dict[str, Any]] = {
    **{name: ONE_LAYER for name in ("SASRec", "BERT4Rec", "CORE", "LightSANs", "GCSAN", "SASRecF")},
    "FDSA": ONE_LAYER,
    "NextItNet": {"block_num": 1},
    "CDAE": USERWISE,
    "DiffRec": USERWISE,
    "ENMF": USERWISE,
    "LDiffRec": USERWISE,
    "MacridVAE": USERWISE,
    "MultiDAE": USERWISE,
    "MultiVAE": USERWISE,
    "RaCT": {**USERWISE, **PRETRAIN, "metrics_k": 10, "train_batch_size": 25},
    "RecVAE": {**USERWISE, "hidden_dimension": 64, "latent_dimension": 32},
    "NCL": {"num_clusters": 5, "warm_up_step": 1},
    "SimpleX": {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 3}},
    "DGCF": {"n_layers": 1, "embedding_size": 16},
    "RippleNet": {"n_memory": 8},
    "xDeepFM": {"cin_layer_size": [16, 16]},
    # Their convolutions score pair by pair.
    "ConvNCF": {
        **FEW_PAIRS,
        "train_batch_size": 128,
        "embedding_size": 16,
        "cnn_channels": [1, 16, 16],
        "cnn_kernels": [4, 4],
        "cnn_strides": [4, 4],
    },
    "NNCF": {**FEW_PAIRS, "num_conv_kernel": 32},
    "DMF": {"train_batch_size": 128},
    "FPMC": PAIRWISE,
    "TransRec": PAIRWISE,
    "DIN": {**LABELS, "mlp_hidden_size": [32]},
    "DIEN": {
        **LABELS,
        "mlp_hidden_size": [32],
        "MAX_ITEM_LIST_LENGTH": 4,
        "train_batch_size": 800,
    },
}


# With transfer: long and strong enough for the transfer loss to fall on so few users.
TRANSFER: dict[str, Any] = {"kt_weight": 0.8, "learning_rate": 0.015, "epochs": 5, "kt_epochs": 4}
# Their own losses are sums over users or items, hundreds of times the transfer loss.
SUMMED = {"kt_weight": 0.999, "learning_rate": 0.002, "epochs": 13, "kt_epochs": 12}
STRONGER: dict[str, dict[str, Any]] = {
    **{name: SUMMED for name in ["CDAE", "ENMF", "MultiDAE", "MultiVAE", "MacridVAE"]},
    "SGL": {**SUMMED, "learning_rate": 0.006},
    "DiffRec": {**SUMMED, "kt_weight": 0.9999, "epochs": 31, "kt_epochs": 30},
    "RaCT": {**SUMMED, "pretrain_epochs": 14},
    "ConvNCF": {"learning_rate": 0.05},
    "DMF": {"learning_rate": 0.005},
    "LDiffRec": {"learning_rate": 0.004, "epochs": 8, "kt_epochs": 7},
    "CORE": {"kt_weight": 0.99, "learning_rate": 0.02},
    "DCNV2": {"learning_rate": 0.02},
    "NGCF": {"kt_weight": 0.99, "learning_rate": 0.02},
    "RippleNet": {"kt_weight": 0.99, "learning_rate": 0.05},
    "SINE": {"kt_weight": 0.95, "learning_rate": 0.01},
    "NARM": {"learning_rate": 0.03},
    "SHAN": {"learning_rate": 0.02},
    "STAMP": {"learning_rate": 0.03},
}


def _cases(kind: str, names: str) -> list[Case]:
    return [
        Case(name, kind, SETTINGS.get(name, {}), {**TRANSFER, **STRONGER.get(name, {})})
        for name in names.split()
    ]


GENERAL = _cases(
    "general",
    "BPR CDAE ConvNCF DGCF DMF DiffRec ENMF FISM GCMC LDiffRec LightGCN LINE MacridVAE MultiDAE "
    "MultiVAE NAIS NCL NGCF NNCF NeuMF RaCT RecVAE SGL SimpleX SpectralCF",
)
CONTEXT = _cases(
    "context",
    "AFM AutoInt DCN DCNV2 DSSM DeepFM EulerNet FFM FM FNN FiGNN FwFM KD_DAGFM NFM PNN WideDeep "
    "xDeepFM",
)
SEQUENTIAL = _cases(
    "sequential",
    "SASRec BERT4Rec GRU4Rec NARM STAMP Caser NextItNet SHAN HGN CORE SINE LightSANs FEARec SRGNN "
    "GCSAN FPMC TransRec FOSSIL NPE HRM RepeatNet SASRecF GRU4RecF FDSA DIN DIEN",
)
KNOWLEDGE = _cases("knowledge", "CKE CFKG KTUP MKR RippleNet KGCN KGNNLS KGIN MCCLK")

# Models with several stages, each a run of its own (test_parity_stages.py).
S3REC = Case("S3Rec", "sequential", PRETRAIN, TRANSFER)
RACT = next(case for case in GENERAL if case.model == "RaCT")
KD_DAGFM = next(case for case in CONTEXT if case.model == "KD_DAGFM")
RECVAE = next(case for case in GENERAL if case.model == "RecVAE")
NCL = next(case for case in GENERAL if case.model == "NCL")

# Libraries that RecBole does not install; without them stock RecBole fails too.
LIBRARIES = {"NCL": "faiss", "KGIN": "torch_scatter", "MCCLK": "torch_scatter"}
KGAT = Case("KGAT", "knowledge")
LR = Case("LR", "context")
