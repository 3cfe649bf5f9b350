"""What no trainer of TRL can do with a head is one sentence, when the trainer is built."""

import copy
import types
import warnings

import pytest
import torch
import transformers as tr
from datasets import Dataset

import wideneck as wn
from clients.trl_small import (
    FUSED,
    VERSION,
    arguments,
    base,
    built,
    text,
    tokenizer,
    with_head,
    with_memory,
)

ROWS = [{"prompt": text(i, 3) + " ", "completion": text(i + 9, 3)} for i in range(2)]
PAIRS = [{"prompt": text(1, 3) + " ", "chosen": text(2, 3), "rejected": text(3, 3)}] * 2


def sft(folder, model=None, **options):
    return built(
        "SFTTrainer",
        model=with_head("sigsoftmax") if model is None else model,
        args=arguments("SFTConfig", folder, **options),
        train_dataset=Dataset.from_list(ROWS),
    )


def dpo(folder, model, **options):
    data, args = Dataset.from_list(PAIRS), arguments("DPOConfig", folder)
    return built("DPOTrainer", model=model, args=args, train_dataset=data, **options)


def on_a_saved_base(folder):
    base().save_pretrained(folder)
    return with_head("sigsoftmax", model=tr.LlamaForCausalLM.from_pretrained(folder))


def test_dpo_without_a_reference_model_is_refused(shows, tmp_path):
    model = on_a_saved_base(tmp_path / "base")
    with pytest.raises(wn.WideneckError, match=r"pass ref_model=copy\.deepcopy\(model\)"):
        dpo(tmp_path, model)
    shows("DPOTrainer without ref_model, a model in memory", "refused")


def test_dpo_with_the_base_as_reference_is_refused(tmp_path):
    with pytest.raises(wn.WideneckError, match="another head, memory or normalizer"):
        dpo(tmp_path, with_head("moss"), ref_model=base())
    with pytest.raises(wn.WideneckError, match="another head, memory or normalizer"):
        dpo(tmp_path, with_head("moss"), ref_model=with_head("sigsoftmax"))


def test_dpo_on_a_saved_folder_needs_no_reference_model(shows, tmp_path):
    with_head("sigsoftmax").save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    trainer = dpo(tmp_path, str(tmp_path / "model"))
    assert trainer.ref_model is not trainer.model
    for ours, theirs in zip(
        trainer.model.parameters(), trainer.ref_model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert wn.trl.fused(trainer) is trainer
    shows("DPOTrainer without ref_model, a folder of save_pretrained", "right")


def test_a_folder_is_opened_with_its_head(shows, tmp_path):
    from trl.trainer.utils import create_model_from_path

    model = with_head("moss").eval()
    model.save_pretrained(tmp_path)
    opened = create_model_from_path(str(tmp_path)).eval()
    ids = torch.arange(3, 12)[None]
    torch.testing.assert_close(opened(ids).logits, model(ids).logits)
    shows("create_model_from_path(folder)", "right")


def test_row_weights_of_a_memory_with_a_ranking_loss_are_refused(tmp_path):
    with pytest.raises(wn.WideneckError, match="loss_type='dft'"):
        sft(tmp_path, with_memory(), loss_type="dft")
    sft(tmp_path, with_memory(alpha=0.0), loss_type="dft")


def test_a_model_that_has_lost_its_head_is_refused(tmp_path):
    trainer = sft(tmp_path, base())
    with pytest.raises(wn.WideneckError, match="has no head or memory of wideneck"):
        wn.trl.fused(trainer)
    with pytest.raises(wn.WideneckError, match="needs a trainer of TRL, got SimpleNamespace"):
        wn.trl.fused(types.SimpleNamespace())


def test_losses_of_liger_are_refused(shows, tmp_path):
    trainer = sft(tmp_path)
    trainer.args.use_liger_kernel = True  # cannot be set where Liger is not installed
    trainer.args.liger_kernel_config = None
    with pytest.raises(wn.WideneckError, match="use_liger_kernel=True"):
        wn.trl.fused(trainer)
    if FUSED:  # its trainers turn the loss off, and leave the layers
        trainer.args.liger_kernel_config = {"fused_linear_cross_entropy": False}
        wn.trl.fused(trainer)
    else:
        shows("use_liger_kernel=True", "refused")


@pytest.mark.skipif(VERSION < (1, 14), reason="TRL has a DistillationTrainer from 1.14 on")
def test_distillation_is_refused(shows, tmp_path):
    prompts = Dataset.from_list([{"prompt": text(i, 3)} for i in range(2)])

    def distilling(student, teacher):
        args = arguments("DistillationConfig", tmp_path, max_completion_length=4)
        given = {"model": student, "teacher_model": teacher, "train_dataset": prompts}
        return built("DistillationTrainer", args=args, **given)

    with pytest.raises(wn.WideneckError, match="multiplies by the weights of both"):
        distilling(with_head("sigsoftmax"), base())
    trainer = distilling(base(), with_head("sigsoftmax"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(wn.WideneckError, match="multiplies hidden states by the weight"):
            trainer.train()
    shows("DistillationTrainer", "refused")


@pytest.mark.skipif(not FUSED, reason="TRL has a fused head to refuse from 1.15 on")
def test_a_forward_that_is_not_known_is_refused(tmp_path, monkeypatch):
    trainer = sft(tmp_path)
    trainer.model.asked_by_trl = None
    with pytest.raises(wn.WideneckError, match="does not know"):
        wn.trl.fused(trainer)


def test_a_copy_of_a_model_in_training_answers_as_well(tmp_path):
    trainer = sft(tmp_path)
    model = copy.deepcopy(trainer.model)
    assert model.asked_by_trl == trainer.model.asked_by_trl
    assert "forward" not in vars(model)
