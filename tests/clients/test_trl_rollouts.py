"""GRPOTrainer and RLOOTrainer: log-probabilities at a temperature, references, and a whole step."""

import copy
import warnings

import pytest
import torch
from datasets import Dataset

import wideneck as wn
from clients.client_models import V
from clients.trl_small import (
    HEADS,
    arguments,
    base,
    built,
    gradients,
    log_probs,
    text,
    tokenizer,
    with_head,
    with_memory,
)

TEMPERATURE = 0.7
KEEP = 4


def reward(completions, **_):
    return [float(i % 2) for i in range(len(completions))]  # unequal within each group


def trainer_of(kind, model, folder, **options):
    options = {
        "num_generations": 2,
        "max_completion_length": 5,
        "temperature": TEMPERATURE,
        "beta": 0.0,
        "disable_dropout": False,
        **options,
    }
    args = arguments(f"{kind}Config", folder, **options)
    prompts = Dataset.from_list([{"prompt": text(i, 3)} for i in range(2)])
    return built(
        f"{kind}Trainer", model=model, reward_funcs=reward, args=args, train_dataset=prompts
    )


def batch():
    """Prompts padded on the left, completions on the right."""
    generator = torch.Generator().manual_seed(3)
    ids, mask = torch.randint(3, V, (3, 9), generator=generator), torch.ones(3, 9, dtype=torch.long)
    mask[0, :2] = mask[1, 7:] = 0
    return torch.where(mask.bool(), ids, 0), mask


def check(kind, model, tmp_path):
    trainer = trainer_of(kind, model, tmp_path)
    ids, mask = batch()
    logps, entropies, *_ = trainer._get_per_token_logps_and_entropies(
        model.train(), ids, mask, KEEP, batch_size=2, compute_entropy=True
    )
    twin = copy.deepcopy(model).double()
    dense = log_probs(twin, ids, mask, TEMPERATURE)[:, -KEEP - 1 : -1]
    wanted = dense.gather(-1, ids[:, -KEEP:, None])[..., 0]
    kept = mask[:, -KEEP:].bool()  # TRL leaves the others undefined before 1.15
    entropy = -(dense.exp() * dense).sum(-1)
    assert (logps - wanted)[kept].abs().max() < 1e-5  # nats, of sums in float32
    assert (entropies - entropy)[kept].abs().max() < 1e-5  # nats, of sums in float32
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(4))
    weights = weights * kept / kept.sum()  # a mean, as of advantages
    found = gradients(model, (logps * weights).sum())
    for name, gradient in gradients(twin, (wanted * weights).sum()).items():
        error = (found[name] - gradient).abs().max()
        assert error < 1e-6 + 1e-5 * gradient.abs().max(), name
    return found


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_log_probabilities_are_the_tempered_heads(shows, tmp_path, kind, head, tied):
    check(kind, with_head(head, tied), tmp_path)
    shows(f"{kind}Trainer, beta=0", "right")


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_log_probabilities_are_the_tempered_mixtures_with_a_memory(shows, tmp_path, kind):
    check(kind, with_memory(), tmp_path)
    shows(f"{kind}Trainer, a memory", "right")


@pytest.mark.parametrize("head", ["sigsoftmax", "moss"])
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_from_a_saved_folder_the_reference_has_the_head(shows, tmp_path, kind, head):
    with_head(head).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    model = wn.load(tmp_path / "model")
    trainer = trainer_of(kind, model, tmp_path, beta=0.5)
    assert wn.trl.fused(trainer) is trainer
    assert trainer.ref_model.get_output_embeddings().config == model.get_output_embeddings().config
    before = copy.deepcopy(dict(model.named_parameters()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    assert trainer.state.log_history[0]["kl"] == pytest.approx(0, abs=1e-6)
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert moved == list(before)
    shows(f"{kind}Trainer with beta, a model that wideneck.load has read", "right")


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_reference_without_the_head_is_refused(shows, tmp_path, kind):
    base().save_pretrained(tmp_path / "base")
    model = with_head("sigsoftmax", model=type(base()).from_pretrained(tmp_path / "base"))
    with pytest.raises(wn.WideneckError, match=f"reference model of this {kind}Trainer"):
        trainer_of(kind, model, tmp_path, beta=0.5)
    shows(f"{kind}Trainer with beta, a model in memory", "refused")


def test_a_forced_float32_layer_is_refused(shows, tmp_path):
    with pytest.raises(wn.WideneckError, match="cast_lm_head_to_fp32"):
        trainer_of("GRPO", with_head("sigsoftmax"), tmp_path, cast_lm_head_to_fp32=True)
    shows("GRPOTrainer, cast_lm_head_to_fp32=True", "refused")


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_vllm_is_refused(shows, tmp_path, kind):
    trainer = trainer_of(kind, with_head("sigsoftmax"), tmp_path)
    trainer.args.use_vllm = True  # where it is installed, the constructor refuses
    with pytest.raises(wn.WideneckError, match="vLLM"):
        wn.trl.fused(trainer)
    shows(f"{kind}Trainer, use_vllm=True", "refused")
