"""Truncation in generate(): what stays is what the threshold and the certificates let through."""

import pytest
import torch
import transformers as tr

import wideneck as wn
from tiny import LLAMA, D, V, tiny_model
from wideneck.functional.certificates import certified, span
from wideneck.heads.low_rank import low_rank_from

PROMPT = torch.tensor([[5, 9, 33, 7]])
CUTOFFS = [{"epsilon_cutoff": 0.02}, {"eta_cutoff": 0.02}, {"min_p": 0.2}]
"""Under each, this model's next token has tokens that only a certificate lets through."""


@pytest.fixture(scope="module")
def model():
    """Of scores as large as a trained model's."""
    torch.manual_seed(0)
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA)).eval()
    model.lm_head.weight.data.mul_(20)
    return model


def generated(model, processor, prompt=PROMPT, **options):
    options = {"max_new_tokens": 12, "do_sample": True, "output_scores": True, **options}
    torch.manual_seed(1)
    mask = (prompt != 2).long()
    return model.generate(
        prompt,
        attention_mask=mask,
        logits_processor=[processor],
        return_dict_in_generate=True,
        output_logits=True,
        top_k=0,
        eos_token_id=-1,
        pad_token_id=2,
        **options,
    )


@pytest.mark.parametrize("cutoff", CUTOFFS, ids=lambda cutoff: next(iter(cutoff)))
def test_the_threshold_is_that_of_transformers_and_the_basis_adds_to_it(model, cutoff):
    scores = model(PROMPT).logits[:, -1].detach()
    ((name, value),) = cutoff.items()
    made = {
        "epsilon_cutoff": tr.EpsilonLogitsWarper,
        "eta_cutoff": tr.EtaLogitsWarper,
        "min_p": tr.MinPLogitsWarper,
    }[name](value)
    by_threshold = made(PROMPT, scores)[0].isfinite()

    processor = wn.BasisAwareTruncation(model, **cutoff, directions=D)
    kept = processor(PROMPT, scores)[0]

    assert kept[by_threshold].equal(scores[0, by_threshold])
    extra = kept.isfinite() & ~by_threshold
    assert extra.any()
    prob = scores[0].double().softmax(-1)
    tau = processor.threshold(prob)
    tokens, good = certified(prob, span(model.lm_head.weight.detach(), D), tau)
    assert set(tokens[good].tolist()) == set(extra.nonzero()[:, 0].tolist())


def test_generation_with_a_cache_is_that_without_one(model):
    processor = wn.BasisAwareTruncation(model, epsilon_cutoff=0.02, directions=D)
    with_cache, without = (generated(model, processor, use_cache=use) for use in (True, False))
    assert torch.equal(with_cache.sequences, without.sequences)
    for scores, logits in zip(with_cache.scores, with_cache.logits, strict=True):
        assert torch.equal(processor(None, logits), scores)  # nothing came in front of it
        assert 0 < int(scores.isfinite().sum()) < V


def test_a_batch_with_left_padding_is_its_rows(model):
    processor = wn.BasisAwareTruncation(model, eta_cutoff=0.02, directions=D)
    rows = [PROMPT, torch.tensor([[11, 40]])]
    together = torch.cat([PROMPT, torch.tensor([[2, 2, 11, 40]])])
    options = {"do_sample": False, "max_new_tokens": 6}
    batch = generated(model, processor, together, **options)
    for k, row in enumerate(rows):
        alone = generated(model, processor, row, **options)
        assert torch.equal(batch.sequences[k, 4:], alone.sequences[0, row.shape[1] :])
        for one, other in zip(batch.scores, alone.scores, strict=True):
            assert torch.equal(one[k].isfinite(), other[0].isfinite())


@pytest.mark.parametrize("sample", [False, True])
def test_beams_run_through_what_stays(model, sample):
    """Beam search hands over log-probabilities, the rest scores: the softmax of both is one."""
    processor = wn.BasisAwareTruncation(
        model, epsilon_cutoff=0.02, directions=D, min_tokens_to_keep=2
    )
    found = generated(model, processor, num_beams=3, do_sample=sample)
    assert found.sequences.shape == (1, 16)
    sequence = found.sequences[0]
    for place in range(4, 16):
        scores = model(sequence[None, :place]).logits[:, -1].detach()
        assert processor(None, scores)[0, sequence[place]].isfinite()


def test_the_temperature_comes_after_it(model):
    processor = wn.BasisAwareTruncation(model, min_p=0.2, directions=D)
    found = generated(model, processor, temperature=3.0)
    for scores, logits in zip(found.scores, found.logits, strict=True):
        torch.testing.assert_close(scores, processor(None, logits) / 3)


def test_log_probabilities_of_a_head_of_ours_and_scores_give_the_same(model):
    scores = model(PROMPT).logits[:, -1].detach()
    expected = wn.BasisAwareTruncation(model, min_p=0.2, directions=D)(PROMPT, scores)
    torch.manual_seed(0)
    other = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA)).eval()
    other.load_state_dict(model.state_dict())
    attached = wn.attach(other, "softmax")
    processor = wn.BasisAwareTruncation(attached, min_p=0.2, directions=D)
    found = processor(PROMPT, attached(PROMPT).logits[:, -1].detach())
    assert torch.equal(found.isfinite(), expected.isfinite())
    assert generated(attached, processor).sequences.shape == (1, 16)


def test_of_a_low_rank_head_the_columns_of_the_outer_factor_are_taken():
    other = tiny_model("llama")
    head = other.lm_head = low_rank_from(other.lm_head.weight.detach(), 5)
    processor = wn.BasisAwareTruncation(other, min_p=0.2)
    assert processor.directions.shape == (V, 5)
    expected = span(head.weight.detach(), 5)
    torch.testing.assert_close(processor.directions, expected)


def test_the_most_probable_tokens_stay(model):
    scores = torch.zeros(2, V)
    scores[:, 7] = 0.1
    kept = wn.BasisAwareTruncation(model, epsilon_cutoff=0.9, max_candidates=1, directions=1)(
        PROMPT, scores
    )
    assert kept[:, 7].isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs one of epsilon_cutoff, eta_cutoff, min_p, got none"),
        ({"min_p": 0.1, "eta_cutoff": 0.1}, "got eta_cutoff and min_p"),
        ({"min_p": 1.0}, "min_p is a number above 0 and below 1, got 1.0"),
        ({"epsilon_cutoff": "a"}, "got 'a'"),
        ({"min_p": 0.1, "directions": 0}, "whole number of at least 1 for directions, got 0"),
        ({"min_p": 0.1, "max_candidates": 2.5}, "for max_candidates, got 2.5"),
    ],
)
def test_options_out_of_range_are_refused(model, options, words):
    with pytest.raises(wn.WideneckError, match=words):
        wn.BasisAwareTruncation(model, **options)


def test_heads_that_are_no_single_linear_softmax_are_refused():
    for head, words in (("mos", "has a mos head"), ("sigsoftmax", "has a sigsoftmax head")):
        with pytest.raises(wn.WideneckError, match=words):
            wn.BasisAwareTruncation(wn.attach(tiny_model("llama"), head), min_p=0.1)
    with pytest.raises(wn.WideneckError, match="has a memory"):
        wn.BasisAwareTruncation(wn.attach_memory(tiny_model("llama")), min_p=0.1)
    with pytest.raises(wn.WideneckError, match="caps its scores softly"):
        wn.BasisAwareTruncation(tiny_model("gemma2"), min_p=0.1)


def test_scores_that_are_not_the_models_are_refused(model):
    processor = wn.BasisAwareTruncation(model, min_p=0.1)
    with pytest.raises(wn.WideneckError, match="pass that processor behind this one"):
        generated(model, processor, suppress_tokens=[3])
    with pytest.raises(wn.WideneckError, match="was made for 96 tokens, got scores of 97"):
        processor(PROMPT, torch.zeros(1, V + 1))
