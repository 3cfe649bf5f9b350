"""PEFT: what adapters and copies do to a model with a head, trained, merged, saved and loaded."""

import copy

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch.optim import SGD

import wideneck as wn
from clients.client_models import (
    batch,
    every_head,
    every_tie,
    gradients,
    loss_of_the_head,
    with_head,
    with_memory,
)

ON_LAYERS = {"target_modules": ["q_proj", "v_proj"]}
WAYS = {
    "all-linear": {"target_modules": "all-linear"},
    "modules_to_save of the head": {**ON_LAYERS, "modules_to_save": ["lm_head"]},
    "target_parameters of the head": {**ON_LAYERS, "target_parameters": ["lm_head.weight"]},
}
BATCH = batch()


def adapted(head, tied, way, folder=None):
    base = with_head(head, tied)
    if folder is not None:
        base.save_pretrained(folder)
        base = wn.load(folder)
    return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **WAYS[way])).train()


def trained(model):
    """A few steps, so that no adapter is 0 any more."""
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        loss = model(**BATCH).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@every_head
@every_tie
@pytest.mark.parametrize("way", WAYS)
def test_the_loss_is_the_head_s_and_what_is_trained_has_its_gradient(shows, head, tied, way):
    plain = with_head(head, tied).train()
    want = gradients(plain, loss_of_the_head(plain, BATCH))
    model = adapted(head, tied, way)
    loss = model(**BATCH).loss
    torch.testing.assert_close(loss, loss_of_the_head(plain, BATCH), rtol=0, atol=1e-6)
    found = gradients(model, loss)
    if way == "modules_to_save of the head":
        # Of a tied matrix the copy has the part that comes from the output.
        inside = "base_model.model.lm_head.modules_to_save.default."
        names = [name for name in found if name.startswith(inside)]
        assert {name.removeprefix(inside) for name in names} == dict(
            plain.lm_head.named_parameters()
        ).keys()
        for name in names:
            short = name.removeprefix(inside)
            if not (tied and short == "weight"):
                torch.testing.assert_close(found[name], want[f"lm_head.{short}"], atol=1e-6, rtol=0)
    if way == "target_parameters of the head":
        # W + s B A, with B = 0 at the start: dB = s dW A'.
        weight = "base_model.model.lm_head.lora_{}.default.weight"
        state = dict(model.named_parameters())
        scaling = model.base_model.model.lm_head.scaling["default"]
        if not tied:
            expected = scaling * want["lm_head.weight"] @ state[weight.format("A")].T
            torch.testing.assert_close(found[weight.format("B")], expected, atol=1e-6, rtol=0)
        else:
            assert found[weight.format("B")].abs().max() > 0
    if way == "all-linear" and head == "moss":
        assert found["base_model.model.lm_head.projections.latent.lora_B.default.weight"].any()
    shows(f"LoRA, {way}", "right")


@every_head
@pytest.mark.parametrize("way", WAYS)
def test_merged_saved_and_loaded_it_predicts_the_same(head, way, tmp_path, shows):
    # PEFT merges an adapter of a tied matrix into the embedding, too, whatever the layer is.
    tied = way != "target_parameters of the head"
    model = trained(adapted(head, tied, way, tmp_path / "base")).eval()
    want = model(**BATCH)
    model.save_pretrained(tmp_path / "adapter")
    for loaded in (
        PeftModel.from_pretrained(wn.load(tmp_path / "base"), tmp_path / "adapter"),
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"),
    ):
        torch.testing.assert_close(loaded.eval()(**BATCH).logits, want.logits)
    prompt = BATCH["input_ids"][:1, :4]
    generated = model.generate(input_ids=prompt, max_new_tokens=4, do_sample=False)
    merged = copy.deepcopy(model).merge_and_unload()
    torch.testing.assert_close(merged(**BATCH).loss, want.loss)
    torch.testing.assert_close(merged(**BATCH).logits, want.logits)
    assert torch.equal(merged.generate(prompt, max_new_tokens=4, do_sample=False), generated)
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(wn.load(tmp_path / "merged")(**BATCH).logits, want.logits)
    shows("save, load, merge, generate", "right")


@every_head
def test_token_outputs_go_through_the_adapters(shows, head):
    model = trained(adapted(head, False, "all-linear"))
    told = wn.token_outputs(model, **BATCH, outputs=("log_prob", "entropy", "top1"))
    log_probs = model.eval()(**BATCH).logits[:, :-1]
    target = BATCH["labels"][:, 1:]
    kept = target != -100
    want = log_probs.gather(-1, target.clamp(min=0)[..., None])[..., 0] * kept
    torch.testing.assert_close(told.log_prob, want)
    entropy = -(log_probs.exp() * log_probs).sum(-1) * kept
    torch.testing.assert_close(told.entropy, entropy)
    assert torch.equal(told.top1, (log_probs.argmax(-1) == target) & kept)
    told.log_prob.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())
    shows("wideneck.token_outputs of a LoRA model", "right")


def test_prompt_tuning_trains_under_the_head(shows):
    model = get_peft_model(
        with_head("moss"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    hidden = model.base_model.model(
        inputs_embeds=torch.cat(
            [
                model.get_prompt(2),
                model.base_model.get_input_embeddings()(BATCH["input_ids"]),
            ],
            dim=1,
        )
    ).last_hidden_state[:, 2:-1]  # the last virtual token predicts the first of the text
    want = model.base_model.lm_head.nll(hidden, BATCH["labels"], reduction="mean")
    attention = torch.ones_like(BATCH["input_ids"])
    torch.testing.assert_close(model(**BATCH, attention_mask=attention).loss, want)
    shows("prompt tuning", "right")


def test_a_memory_under_lora_keeps_its_loss(shows):
    plain = with_memory().train()
    model = get_peft_model(with_memory(), LoraConfig(task_type="CAUSAL_LM", **ON_LAYERS)).train()
    torch.testing.assert_close(model(**BATCH).loss, plain(**BATCH).loss)
    model = get_peft_model(
        with_memory(),
        LoraConfig(task_type="CAUSAL_LM", **ON_LAYERS, modules_to_save=["lm_head", "cache_memory"]),
    ).train()
    loss = model(**BATCH).loss
    torch.testing.assert_close(loss, plain(**BATCH).loss)
    found = gradients(model, loss)
    want = gradients(plain, plain(**BATCH).loss)
    for name in ("log_temperature", "bias"):
        copied = found[f"base_model.model.cache_memory.modules_to_save.default.{name}"]
        torch.testing.assert_close(copied, want[f"cache_memory.{name}"])
    prompt = BATCH["input_ids"][:1, :4]
    generated = model.eval().generate(input_ids=prompt, max_new_tokens=3, do_sample=False)
    assert torch.equal(generated, plain.eval().generate(prompt, max_new_tokens=3, do_sample=False))
    shows("LoRA of a model with a memory, modules_to_save of the memory", "right")


REFUSED = {
    "LoRA, target_modules of the head": (
        {"target_modules": ["lm_head"]},
        False,
        r"LoRA of PEFT .* target_parameters=\['lm_head.weight'\]",
    ),
    "trainable_token_indices of the head": (
        {**ON_LAYERS, "trainable_token_indices": {"lm_head": [3, 4]}},
        False,
        "trainable_token_indices of PEFT",
    ),
    "trainable_token_indices of a tied embedding": (
        {**ON_LAYERS, "trainable_token_indices": [3, 4]},
        True,
        "trainable_token_indices of PEFT .* tie=False",
    ),
    "ensure_weight_tying of a tied embedding": (
        {**ON_LAYERS, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        True,
        "ModulesToSaveWrapper of peft.* attach the head with tie=False",
    ),
}


@every_head
@pytest.mark.parametrize("what", REFUSED)
def test_what_would_pass_by_the_head_is_one_sentence(shows, head, what):
    options, tied, sentence = REFUSED[what]
    model = with_head(head, tied)
    with pytest.raises(wn.WideneckError, match=sentence) as caught:
        get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))(**BATCH)
    assert "\n" not in str(caught.value)
    shows(what, "refused")


def test_rows_of_an_untied_embedding_are_trained(shows):
    options = {**ON_LAYERS, "trainable_token_indices": [3, 4]}
    model = get_peft_model(with_head("moss"), LoraConfig(task_type="CAUSAL_LM", **options))
    torch.testing.assert_close(model(**BATCH).loss, with_head("moss")(**BATCH).loss)
    shows("trainable_token_indices of an untied embedding", "right")
