"""Packed documents: a memory keeps to its document as attention does, or says why it cannot."""

import pytest
import torch
import transformers as tr
from attachable import attached
from remembering import DECODERS, prompts, remembering

import wideneck as wn
from tiny import SHORT, D, V
from wideneck.errors import WideneckError

F64 = torch.float64
KINDS = [
    {},
    {"window": 3},
    {"separator": 5},
    {"separator": 5, "window": 3},
    {"mixture": "linear"},
    {"scores": "logits", "bias": 0.0},
    {"values": "labels"},
    {"alpha": 0.0},
    {"reduction": "sum"},
    {"reduction": "offset_mean"},
    {"loss": "cross_entropy"},
]


def texts():
    """Three documents of few different tokens, so that they repeat, in each and across."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 8, (size,), generator=generator) for size in (9, 7, 5)]


def packed(**options):
    rows = [{"input_ids": text, "labels": text} for text in texts()]
    return tr.DataCollatorWithFlattening(return_tensors="pt", **options)(rows)


def padded(side):
    """The same documents, a row each."""
    ids = torch.nn.utils.rnn.pad_sequence(texts(), True, 2, side)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in texts()], True, 0, side)
    first = mask.cumsum(-1) <= 1  # or padding on the left would predict it
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "labels": ids.masked_fill(first | (mask == 0), -100),
    }


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


def assert_as_alone(model, **options):
    """The loss and its gradients, and the predictions of each document."""
    ours = loss_and_gradients(model, {**packed(), **options})
    for side in ("right", "left"):
        theirs = loss_and_gradients(model, padded(side))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)

    batch = packed()
    del batch["labels"]
    with torch.no_grad():
        together = model.eval()(**batch, use_cache=False).logits[0].split([9, 7, 5])
        for logits, text in zip(together, texts(), strict=True):
            torch.testing.assert_close(logits, model(text[None]).logits[0], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_packed_documents_are_the_documents_alone(options):
    assert_as_alone(remembering("llama", F64, **options).train())


@pytest.mark.parametrize("name", DECODERS)
def test_packed_documents_are_the_documents_alone_in_every_model(name):
    model = remembering(name, F64).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert_as_alone(model)


@pytest.mark.parametrize("normalizer", ["entmax15", "ssmax"])
def test_packed_documents_are_the_documents_alone_under_a_normalizer(normalizer):
    model = remembering("llama", F64)
    assert_as_alone(wn.attention.use(model, normalizer).train())


@pytest.mark.parametrize("head", ["sigsoftmax", "moss"])
def test_a_head_alone_takes_packed_documents(head):
    """It predicts from one state: attention keeps to the document, once it is told that no cache is
    wanted, and the collator's labels say that nothing is predicted across a border."""
    assert_as_alone(attached("llama", head).double().train(), use_cache=False)


def test_the_memory_of_the_next_document_would_be_another(monkeypatch):
    """So that the tests above could fail: without borders every prediction moves."""
    model, batch = remembering("llama", F64).train(), packed()
    want = model(**batch).loss
    monkeypatch.setattr("wideneck.attached.packed.Packing.documents", lambda self: None)
    assert (model(**batch).loss - want).abs() > 1e-3


def test_evaluation_makes_no_cache_where_documents_are_packed():
    """transformers' own attention reads across documents while it fills a cache."""
    model, batch = remembering("llama", F64), packed()
    result = model(**batch)
    assert result.past_key_values is None
    torch.testing.assert_close(result.loss, model(**batch, use_cache=False).loss)


def test_a_document_of_one_token_is_one():
    """Its position is that of the next document's first token: 0, and 0 again."""
    model = remembering("llama", F64)
    ids = torch.tensor([[4, 5, 3, 5, 3, 5]])
    with torch.no_grad():
        result = model(input_ids=ids, position_ids=torch.tensor([[0, 0, 1, 2, 3, 4]]))
        alone = model(ids[:, 1:]).logits
    assert result.past_key_values is None
    torch.testing.assert_close(result.logits[:, 1:], alone)


def test_documents_of_another_models_forward_are_not_ours():
    """Of a model without a memory, whose attention was told of them in this thread before."""
    model, batch = deaf(), {"input_ids": packed()["input_ids"]}
    want = model(**batch, use_cache=False).logits
    other = {**batch, "position_ids": packed()["position_ids"]}
    DECODERS["llama"]()(**other, use_cache=False)
    assert torch.equal(model(**batch, use_cache=False).logits, want)


def test_kwargs_of_flash_attention_may_come_along():
    model = remembering("llama", F64).train()
    more = packed(return_flash_attn_kwargs=True, return_seq_idx=True)
    assert torch.equal(model(**more).loss, model(**packed()).loss)


def without(batch, *names):
    return {key: value for key, value in batch.items() if key not in names}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"attention_mask": torch.ones(1, 21)}, "only without an attention_mask: leave it out"),
        ({"use_cache": True}, "only without a cache: pass use_cache=False"),
        ({"past_key_values": tr.DynamicCache()}, "only without a cache: pass use_cache=False"),
        ({"seq_idx": torch.zeros(1, 21)}, "seq_idx given to LlamaForCausalLM is not where"),
        ({"cu_seq_lens_q": torch.tensor([0, 9, 21])}, "cu_seq_lens_q given to .* is not where"),
        ({"attention_mask": torch.ones(1, 1, 21, 21)}, "packed documents by position_ids alone"),
    ],
)
def test_documents_that_attention_would_not_keep_apart_are_refused(options, sentence):
    with pytest.raises(WideneckError, match=sentence):
        remembering("llama")(**{**packed(), **options})


@pytest.mark.parametrize("kind", [{"return_seq_idx": True}, {"return_flash_attn_kwargs": True}])
def test_borders_that_attention_does_not_read_are_refused(kind):
    batch = packed(return_position_ids=False, **kind)
    with pytest.raises(WideneckError, match=r"give position_ids that count each document from 0"):
        remembering("llama")(**batch)


def deaf():
    """A model whose attention does not look for documents."""
    config = tr.OPTConfig(
        vocab_size=V,
        hidden_size=D,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        word_embed_proj_dim=D,
        max_position_embeddings=64,
        **SHORT,
    )
    return wn.attach_memory(tr.OPTForCausalLM(config), temperature=0.5, bias=-1.0).eval()


def test_a_model_whose_attention_does_not_look_is_refused():
    with pytest.raises(WideneckError, match="OPTForCausalLM does not look for documents"):
        deaf()(**packed())


def test_flash_attention_keeps_documents_apart_in_one_row_only(monkeypatch):
    model, batch = remembering("llama"), packed()
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    two = {key: value.repeat(2, 1) for key, value in batch.items()}
    with pytest.raises(WideneckError, match=r"with flash attention .* in one row, counted from 0"):
        model(**two)


def test_flash_attention_begins_a_document_at_a_position_of_0_only(monkeypatch):
    model, ids = remembering("llama"), packed()["input_ids"]
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    back_to_3 = torch.cat([torch.arange(9), torch.arange(3, 15)])[None]
    with pytest.raises(WideneckError, match=r"with flash attention .* in one row, counted from 0"):
        model(ids, position_ids=back_to_3)


@pytest.mark.parametrize("numbers", [[0, 1, 2], [7, 5, 3], [1, 0, 1]])
def test_a_document_may_have_any_number_in_seq_idx(numbers):
    model, batch = remembering("llama", F64).train(), packed()
    index = torch.tensor(numbers).repeat_interleave(torch.tensor([9, 7, 5]))[None]
    assert torch.equal(model(**batch, seq_idx=index).loss, model(**batch).loss)


def test_ranks_over_all_columns_do_not_go_with_packed_documents():
    with pytest.raises(WideneckError, match="rank_over='all' ranks the memories of all documents"):
        remembering("llama", rank_over="all")(**packed())


def test_a_packed_source_is_refused():
    batch = prompts()
    with pytest.raises(WideneckError, match="holds the whole source of a row and knows no seq_idx"):
        remembering("bart")(**batch, labels=batch["input_ids"], seq_idx=torch.zeros(3, 8))


def test_a_packed_prompt_is_not_continued():
    batch = without(packed(), "labels")
    with pytest.raises(WideneckError, match="begin anew inside a row"):
        remembering("llama").generate(**batch, max_new_tokens=2)


@pytest.mark.parametrize("size", [1, 3])
def test_positions_of_new_tokens_are_no_new_document(size):
    model, text = remembering("llama", F64), texts()[0][None]
    at = torch.arange(9)[None]
    cache = model(text[:, :-size], use_cache=True).past_key_values
    new = model(text[:, -size:], position_ids=at[:, -size:], past_key_values=cache)
    torch.testing.assert_close(new.logits, model(text).logits[:, -size:])


def test_positions_that_jump_are_taken_as_attention_takes_them():
    """transformers begins a document wherever a position does not follow the one before."""
    model, (a, b, _) = remembering("llama", F64).train(), texts()
    ids = torch.cat([a, b])[None]
    at = torch.cat([torch.arange(9), torch.arange(20, 27)])[None]
    logits = model(ids, position_ids=at, use_cache=False).logits[:, 9:]
    alone = model(b[None], position_ids=at[:, 9:], use_cache=False).logits
    torch.testing.assert_close(logits, alone)
