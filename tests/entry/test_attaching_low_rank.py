"""`attach` of a low_rank: it starts where the audit's "fisher" truncation is, and says so."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
import transformers as tr

import wideneck as wn
from attached.trainer_arguments import sgd
from tiny import CASES, D, V, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.audits.estimate import Estimate
from wideneck.audits.output.rank_cost import RankLoss, fitting_half
from wideneck.config import LowRank
from wideneck.data import cut_windows, read_text
from wideneck.entry.low_rank import smallest_rank

TOKENS = 512
TOKENIZER = character_tokenizer()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "a.txt")


def large(case):
    """Logits of a size at which a rank counts."""
    model = tiny_model(case)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def cut(model, file, **options):
    given = {"text": file, "tokenizer": TOKENIZER, "num_tokens": TOKENS, **options}
    return wn.attach(model, "low_rank", **given)


def windows_of(text):
    """What an audit of those models reads: 64 positions at a time."""
    return cut_windows(read_text(text), TOKENIZER, num_tokens=TOKENS, window=64)


@torch.no_grad()
def loss_on(model, windows):
    """(W,) mean loss of each window."""
    logits = model(windows.ids).logits.double()
    return F.cross_entropy(logits.transpose(1, 2), windows.targets, reduction="none").mean(1)


@pytest.mark.parametrize("case", ["llama-tied", "granite", "phi"])
def test_the_loss_at_step_0_is_the_fisher_row_of_the_audit(case, text):
    model, windows = large(case), windows_of(text)
    found = wn.audit(model, text, "output", tokenizer=TOKENIZER, num_tokens=TOKENS).output
    rows = {p.rank: p for p in found.rank_cost.points if p.method == "fisher"}
    before, test = loss_on(model, windows), ~fitting_half(windows.document)
    for rank in (3, 6):
        row = rows.get(rank) or rows[rank + 1]
        cut_model = cut(copy.deepcopy(model), text, rank=row.rank)
        start = cut_model.get_output_embeddings().start
        gap = (loss_on(cut_model, windows) - before)[test].mean().item()
        assert gap == pytest.approx(row.measured.value, abs=1e-5)
        assert abs(gap) > 1e-3
        told = (start.measured, start.low, start.high, start.predicted)
        expected = (row.measured.value, row.measured.low, row.measured.high, row.predicted)
        assert told == pytest.approx(expected, abs=1e-5)
        assert (start.num_fit_tokens, start.num_test_tokens) == (
            found.rank_cost.num_fit_tokens,
            found.rank_cost.num_test_tokens,
        )


@torch.no_grad()
def test_it_is_the_nearest_of_its_rank_by_the_fisher_matrix_of_the_mean_prediction(text):
    """Against a dense factorization: S^(1/2) W M^(1/2) cut to rank r, S = diag(p) - p p^T."""
    model, windows = large("llama"), windows_of(text)
    fit = fitting_half(windows.document)
    hidden = model.model(windows.ids[fit]).last_hidden_state.flatten(0, 1).double()
    weight = model.lm_head.weight.double()
    p = (hidden @ weight.T).softmax(-1).mean(0)

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp_min(0).sqrt() @ vectors.T

    left, right = root(torch.diag(p) - torch.outer(p, p)), root(hidden.T @ hidden / len(hidden))
    u, s, v = torch.linalg.svd(left @ weight @ right, full_matrices=False)
    head = cut(model, text, rank=5).lm_head
    ours = left @ head.weight.double() @ head.down.weight.double() @ right
    torch.testing.assert_close(ours, u[:, :5] * s[:5] @ v[:5], rtol=1e-4, atol=1e-4)
    sizes = [m.square().mean(1).sqrt() for m in (head.weight.T, head.down.weight)]
    torch.testing.assert_close(*sizes)  # balanced


def test_a_rank_may_be_a_share_or_follow_from_nats(text):
    model = large("llama-tied")
    assert cut(copy.deepcopy(model), text, rank=0.5).lm_head.config == LowRank(rank=8)
    assert wn.attach(
        copy.deepcopy(model), LowRank(rank=3), text=text, tokenizer=TOKENIZER, num_tokens=TOKENS
    ).lm_head.config == LowRank(rank=3)
    found = wn.audit(model, text, "output", tokenizer=TOKENIZER, num_tokens=TOKENS).output
    lost = {
        p.rank: max(p.predicted, p.fisher) for p in found.rank_cost.points if p.method == "fisher"
    }
    nats = (lost[13] + lost[14]) / 2
    head = cut(model, text, nats=nats).lm_head
    assert head.config.rank == 14
    assert head.weight.shape == (V, 14)
    assert head.start.predicted <= nats


@pytest.mark.parametrize("right", [1, 2, 9, 31, 62, 63])
def test_the_search_finds_the_smallest_rank_that_meets_the_limit(right):
    asked = []

    def losses(ranks):
        asked.append(list(ranks))
        zero = {"low": None, "high": None, "over": "documents", "num_groups": 1}
        return [
            RankLoss(
                rank=rank,
                method="fisher",
                measured=Estimate(value=0.0, effective_groups=1.0, **zero),
                first_order=-100.0,  # what seems to be gained does not count
                fisher=float(rank < right),
                predicted=-100.0 + float(rank < right),
            )
            for rank in ranks
        ]

    assert smallest_rank(losses, 0.5, 64).rank == right
    assert all(ranks == sorted(set(ranks)) for ranks in asked)
    assert len(asked) <= 4


@pytest.mark.parametrize("case", [name for name in CASES if "gemma" not in name])
@torch.no_grad()
def test_the_embedding_stays_whole_and_the_model_is_saved_as_it_is(case, text, tmp_path):
    model = large(case)
    embedding = model.get_input_embeddings().weight.clone()
    cut(model, text, rank=4)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert not model.config.tie_word_embeddings
    model.save_pretrained(tmp_path)
    loaded = wn.load(tmp_path)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    start = model.get_output_embeddings().start
    assert loaded.get_output_embeddings().start == start
    prompt = windows_of(text).ids[:1, :5]
    options = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(model.generate(prompt, **options), loaded.generate(prompt, **options))
    card = (tmp_path / "README.md").read_text()
    assert f"At its start: rank 4 of {start.hidden_size}, fitted on 256 tokens of a.txt" in card


def test_a_damaged_start_is_refused(text, tmp_path):
    cut(large("llama"), text, rank=4).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    for change in ({"rank": "many"}, {"seed": 3}):
        path.write_text(json.dumps({**raw, "start": {**raw["start"], **change}}))
        with pytest.raises(wn.WideneckError, match=r"'start' in config\.json .* not as wideneck"):
            wn.load(tmp_path)


def test_the_trainer_trains_both_factors(text, tmp_path):
    model, windows = cut(large("llama-tied"), text, rank=4), windows_of(text)
    before = {name: p.clone() for name, p in model.lm_head.named_parameters()}
    loss = loss_on(model, windows).mean()
    rows = [{"input_ids": ids, "labels": ids} for ids in windows.ids]
    tr.Trainer(model, sgd(tmp_path, 4, 1, 8, learning_rate=0.3), train_dataset=rows).train()
    assert all(not torch.equal(p, before[name]) for name, p in model.lm_head.named_parameters())
    assert loss_on(model.eval(), windows).mean() < loss - 0.1


@torch.no_grad()
def test_the_vocabulary_may_grow_and_the_copy_is_one_of_its_own(text):
    model = cut(large("llama-tied"), text, rank=4)
    ids = windows_of(text).ids[:2]
    want, copied = model(ids).logits, copy.deepcopy(model)
    model.resize_token_embeddings(V + 3)
    assert model.lm_head.weight.shape == (V + 3, 4)
    assert model(ids).logits.shape[-1] == V + 3
    assert torch.equal(copied(ids).logits, want)
    assert copied.lm_head.start == model.lm_head.start


def test_it_has_the_dtype_and_the_flag_of_the_layer(text):
    model = large("llama").bfloat16()
    model.lm_head.weight.requires_grad_(False)
    head = cut(model, text, rank=8).lm_head
    factors = (head.weight, head.down.weight)
    assert {p.dtype for p in factors} == {torch.bfloat16}
    assert not any(p.requires_grad for p in factors)
    before = large("llama").bfloat16()
    windows = windows_of(text)
    test = ~fitting_half(windows.document)
    gap = (loss_on(model, windows) - loss_on(before, windows))[test].mean().item()
    assert gap == pytest.approx(head.start.measured, abs=0.02)  # roundings of the factors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rank": D + 1}, f"got rank {D + 1} for hidden_size {D}: lower the rank"),
        ({"rank": 0}, "whole number >= 1 for rank, got 0"),
        ({"rank": 1.5}, "a share of the hidden size above 0 and at most 1, got 1.5"),
        ({"rank": "8"}, "whole number >= 1 for rank, got '8'"),
        ({"rank": 3, "nats": 0.1}, "nats=0.05; both came"),
        ({}, "nats=0.05; neither came"),
        ({"nats": -1.0}, "a number above 0, got -1.0"),
        ({"nats": 1e-12}, r"hidden size 16 is predicted .* 1e-12 .*; rank 15 loses .*: allow more"),
        ({"rank": 4, "size": 2}, "No option of head 'low_rank' is called 'size'"),
        ({"rank": 4, "num_tokens": 40}, "of a.txt there are .* to fit on: give a longer text"),
        ({"rank": 4, "num_tokens": 0}, "at least one token is read; 0 were asked for"),
        ({"rank": 4, "num_tokens": 256.0}, "A whole number of .*; 256.0 were asked for"),
        ({"rank": 4, "num_tokens": "256"}, "A whole number of .*; '256' were asked for"),
        ({"rank": 4, "tokenizer": None}, "in memory brings no tokenizer: pass tokenizer"),
        ({"rank": 4, "text": "nowhere.txt"}, r"nowhere\.txt"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_the_model_alone(options, sentence, text):
    model = large("llama-tied")
    with pytest.raises(wn.WideneckError, match=sentence):
        cut(model, text, **options)
    assert type(model) is tr.LlamaForCausalLM
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_an_output_layer_that_does_more_than_its_matrix_says_is_refused(text):
    """What the factors were cut from would not be what the model predicts by."""
    model = large("llama")
    model.lm_head.register_forward_hook(lambda _, args, logits: logits.roll(1, -1))
    with pytest.raises(wn.WideneckError, match="does not give the model's own logits"):
        cut(model, text, rank=4)
