"""Models that train in stages, with two optimizers, or with a tuple of losses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from recbole_llmkt.utils.exceptions import LayerError, RowsError
from tests.helpers import method_of
from tests.parity.parity_cases import GENERAL, KD_DAGFM, KNOWLEDGE, NCL, RACT, RECVAE, S3REC, Case
from tests.parity.parity_checks import Lab, Run, build, check_equal

MakeLab = Callable[[Case], Lab]


def falls(run: Run, share: float = 0.9) -> bool:
    curve = method_of(run.trainer, "loss").transfer_losses
    return len(curve) == run.trainer.switch > 1 and curve[-1] <= share * curve[0]


def _keep(path: str, name: str) -> str:
    """Copy a checkpoint: RecBole stores every pre-training stage under the same name."""
    return str(shutil.copy(path, name))


# ---- RaCT: actor, critic, both ------------------------------------------------------------------


def test_ract_goes_through_its_three_stages(make_lab: MakeLab) -> None:
    lab = make_lab(RACT)
    actor = lab.run(kt_enabled=True, **RACT.transfer)
    assert falls(actor)
    first = {"pre_model_path": _keep(actor.trainer.saved_model_file, "actor.pth")}
    # The critic's stage trains nothing that a profile could be reconstructed in.
    critic_stage = {"train_stage": "critic_pretrain", **first}
    with pytest.raises(LayerError, match="kt_enabled: False"):
        lab.run(kt_enabled=True, **critic_stage)
    stock = lab.stock(**critic_stage)
    critic = lab.run(kt_enabled=False, **critic_stage)
    check_equal(critic, stock)
    second = {"train_stage": "finetune", "pre_model_path": critic.trainer.saved_model_file}
    check_equal(lab.run(kt_enabled=False, **second), lab.stock(**second))
    finetune = lab.run(kt_enabled=True, **{**RACT.transfer, **second, "kt_weight": 0.9})
    assert falls(finetune)


# ---- S3Rec: pre-training, fine-tuning -----------------------------------------------------------


def test_s3rec_pretrains_as_stock_and_transfers_in_finetuning(make_lab: MakeLab) -> None:
    lab = make_lab(S3REC)
    with pytest.raises(RowsError, match="Cannot tell which user"):
        lab.run(kt_enabled=True)
    stock = lab.stock()  # first: both store their stages under the same name
    pretrained = lab.run(kt_enabled=False)
    check_equal(pretrained, stock)
    stage = {"train_stage": "finetune", "pre_model_path": pretrained.trainer.saved_model_file}
    check_equal(lab.run(kt_enabled=False, **stage), lab.stock(**stage))
    finetune = lab.run(kt_enabled=True, **{**S3REC.transfer, **stage})
    assert falls(finetune)
    assert method_of(finetune.trainer, "loss").task.terms[0].rows.meaning == "time"


# ---- KD_DAGFM: teacher, distillation, fine-tuning -----------------------------------------------


def test_kd_dagfm_transfers_in_every_phase(make_lab: MakeLab) -> None:
    lab = make_lab(KD_DAGFM)
    teacher = lab.run(kt_enabled=True, **KD_DAGFM.transfer)
    assert falls(teacher)
    warm_up = teacher.trainer.saved_model_file
    for phase in ("distillation", "finetuning"):
        stage = {"phase": phase, "warm_up": warm_up}
        check_equal(lab.run(kt_enabled=False, **stage), lab.stock(**stage))
        # Starting from reconstructed profiles: the loss has less far to fall.
        student = lab.run(kt_enabled=True, **{**KD_DAGFM.transfer, **stage})
        assert falls(student, 0.97)
        warm_up = student.trainer.saved_model_file


# ---- two optimizers, tuples of losses -----------------------------------------------------------


def test_recvae_trains_the_projector_with_the_encoder(make_lab: MakeLab) -> None:
    lab = make_lab(RECVAE)
    run = lab.run(kt_enabled=True, **{**RECVAE.transfer, "kt_projector": "linear"})
    projector = next(iter(method_of(run.trainer, "loss").task.projectors().values()))
    trained = {id(parameter) for parameter in projector.parameters()}

    def holds(optimizer: torch.optim.Optimizer) -> bool:
        return trained <= {id(p) for group in optimizer.param_groups for p in group["params"]}

    assert holds(run.trainer.optimizer_encoder)
    assert not holds(run.trainer.optimizer_decoder)
    curve = method_of(run.trainer, "loss").transfer_losses
    assert curve[-1] < curve[0]


def test_ncl_drops_its_last_loss_in_the_warm_up_not_the_transfer_loss(make_lab: MakeLab) -> None:
    pytest.importorskip("faiss", reason="NCL needs faiss in stock RecBole too")
    lab = make_lab(replace(NCL, settings={**NCL.settings, "warm_up_step": 100}))
    run = lab.run(kt_enabled=True, **NCL.transfer)
    assert falls(run)
    lab = make_lab(replace(NCL, settings={**NCL.settings, "warm_up_step": 0}))
    assert falls(lab.run(kt_enabled=True, **NCL.transfer))


@pytest.mark.parametrize("name", ["CKE", "MKR"])
def test_tuple_losses_stay_tuples_with_the_transfer_loss_first(
    make_lab: MakeLab, name: str
) -> None:
    lab = make_lab(next(case for case in KNOWLEDGE if case.model == name))
    run = lab.run(kt_enabled=True, **lab.case.transfer)
    assert falls(run)
    config = lab.config(kt_enabled=True)
    task = method_of(run.trainer, "loss").task
    assert task.weight == pytest.approx(lab.case.transfer["kt_weight"])
    _, data = build(config, config.model_class)
    assert hasattr(data[0], "kg_dataloader")


# ---- freezing -----------------------------------------------------------------------------------


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


FREEZING = [
    ("BPR", "item_*", {"item_embedding.weight"}),
    ("NeuMF", "mlp_layers.*", None),
    ("LightGCN", "item_embedding.weight", {"item_embedding.weight"}),
    ("MultiVAE", "decoder.*", None),
]


@pytest.mark.parametrize(("name", "pattern", "frozen"), FREEZING)
@pytest.mark.parametrize("phase", [1, 2])
def test_frozen_parameters_stay_bit_identical_in_their_phase(
    make_lab: MakeLab, name: str, pattern: str, frozen: set[str] | None, phase: int
) -> None:
    lab = make_lab(next(case for case in GENERAL if case.model == name))
    states: dict[int, dict[str, torch.Tensor]] = {}
    config = lab.config(
        kt_enabled=True, epochs=4, kt_epochs=2, **{f"kt_freeze_phase{phase}": [pattern]}
    )
    model, data = build(config, config.model_class)
    trainer = _spying_trainer(config, model, states)
    trainer.fit(data[0], None, verbose=False, saved=False, show_progress=False)
    states[4] = _copy(model)
    borders = {1: (0, 2), 2: (2, 4)}
    prefix = pattern.rstrip("*")
    still = {key for key in states[0] if key.startswith(prefix)}
    assert still and (frozen is None or still == frozen)
    start, end = borders[phase]
    assert not changed(states[start], states[end]) & still
    start, end = borders[3 - phase]
    assert changed(states[start], states[end]) & still
    assert all(parameter.requires_grad for parameter in model.parameters())


def _spying_trainer(config: Any, model: Any, states: dict[int, Any]) -> Any:
    from recbole_llmkt.training.factory import get_trainer

    class Spying(get_trainer(config["MODEL_TYPE"], config["model"])):  # type: ignore[misc]
        def _train_epoch(self, train_data: Any, epoch_idx: int, *rest: Any, **more: Any) -> Any:
            states[epoch_idx] = _copy(self.model)
            return super()._train_epoch(train_data, epoch_idx, *rest, **more)

    return Spying(config, model)


def _copy(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


# ---- several layers, both entities --------------------------------------------------------------


def test_several_layers_reconstruct_at_once(make_lab: MakeLab) -> None:
    lab = make_lab(next(case for case in GENERAL if case.model == "NeuMF"))
    run = lab.run(
        kt_enabled=True,
        **{
            **lab.case.transfer,
            "kt_layer": ["user_mf_embedding", "user_mlp_embedding"],
            "kt_weight": [0.5, 0.3],
        },
    )
    assert falls(run)
    reached = [term.reached for term in method_of(run.trainer, "loss").task.terms]
    assert reached == [["user_mf_embedding.weight"], ["user_mlp_embedding.weight"]]
    assert method_of(run.trainer, "loss").task.weight == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "SASRec", "FM"])
def test_both_entities(make_lab: MakeLab, name: str) -> None:
    from tests.parity.parity_cases import CONTEXT, SEQUENTIAL

    lab = make_lab(next(c for c in [*GENERAL, *CONTEXT, *SEQUENTIAL] if c.model == name))
    run = lab.run(kt_enabled=True, **{**lab.case.transfer, "kt_entity": "both"})
    assert falls(run)
    terms = method_of(run.trainer, "loss").task.terms
    assert [term.profiles.entity for term in terms] == ["user", "item"]
