"""Losses of documents against the model's own logits, one window at a time."""

import math

import pytest
import torch

import wideneck as wn
from attached.attachable import attached, shaken
from attached.remembering import MATTERS
from tiny import CASES, D, V, tiny_model
from tiny_text import character_tokenizer
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.errors import WideneckError
from wideneck.evaluation.documents import document_losses, own_head, windows_of

DOCUMENTS = [
    "the first text, of 33 characters\n",
    "b",
    "another one",
    "\u00e9\u00e8 and more \u00e9",
]
BOS = {False: [], True: [0]}


def slow_losses(model, documents, window, prefix):
    """Every token after the first of its document, from a forward of what stands before it."""
    tokenizer = character_tokenizer()
    losses = []
    for document in documents:
        ids = tokenizer(document).input_ids
        for place in range(1, len(ids)):
            start = (place - 1) // window * window
            with torch.no_grad():
                logits = model(torch.tensor([[*prefix, *ids[start:place]]])).logits[0, -1]
            losses.append(-logits.double().log_softmax(0)[ids[place]].item())
    return torch.tensor(losses, dtype=torch.float64)


def with_memory():
    torch.manual_seed(0)
    return shaken(wn.attach_memory(tiny_model("gpt2"), **MATTERS))


MODELS = {
    "softmax": lambda: tiny_model("gpt2"),
    "softcap": lambda: tiny_model("gemma2-low-cap"),
    "mos": lambda: shaken(attached("gpt2", "mos", num_components=3)),
    "sigsoftmax": lambda: shaken(attached("llama", "sigsoftmax", shift=0.0)),
    "memory": with_memory,
}


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_every_token_but_a_document_s_first_is_predicted_from_its_window(name, bos):
    model = MODELS[name]()
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7, prefix=BOS[bos])
    found = document_losses(model, windows)
    expected = slow_losses(model, DOCUMENTS, 7, BOS[bos])
    torch.testing.assert_close(found.nll[found.counted].double(), expected, rtol=1e-4, atol=1e-4)
    assert set(found.document.tolist()) == {0, 2, 3}


def test_bytes_are_those_of_the_predicted_text():
    found = document_losses(
        tiny_model("gpt2"), windows_of(DOCUMENTS, character_tokenizer(), window=7)
    )
    assert found.num_bytes == sum(len(d[1:].encode()) for d in DOCUMENTS)


def test_a_length_of_windows_changes_which_tokens_see_what_and_not_which_are_predicted():
    counts = {
        window: sum(
            len(w.target) for w in windows_of(DOCUMENTS, character_tokenizer(), window=window)
        )
        for window in (1, 5, 33, 50)
    }
    assert set(counts.values()) == {sum(len(d) - 1 for d in DOCUMENTS)}


def test_so_many_tokens_are_the_first_of_the_text():
    whole = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    some = windows_of(DOCUMENTS, character_tokenizer(), window=7, num_tokens=35)
    joined = [torch.cat([w.target for w in windows]) for windows in (whole, some)]
    assert len(joined[1]) == 35
    assert torch.equal(joined[1], joined[0][:35])


def test_a_long_document_is_tokenized_in_pieces_without_a_trace(monkeypatch):
    from wideneck.data import tokenizing

    document = "".join(f"line {k}\n" for k in range(40))
    before = windows_of([document], character_tokenizer(), window=9)
    monkeypatch.setattr(tokenizing.pieces, "__defaults__", (20,))
    after = windows_of([document], character_tokenizer(), window=9)
    assert [w.num_bytes for w in after] == [w.num_bytes for w in before]
    for one, other in zip(after, before, strict=True):
        assert torch.equal(one.ids, other.ids)


def test_states_are_kept_at_equal_distances_and_are_what_enters_the_head():
    model = MODELS["mos"]()
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    every = document_losses(model, windows, num_hidden=1000)
    some = document_losses(model, windows, num_hidden=5)
    total = int(every.counted.sum())
    assert every.hidden.shape == (total, D)
    places = torch.linspace(0, total - 1, 5).round().long()
    torch.testing.assert_close(some.hidden, every.hidden[places])
    target = torch.cat([window.target for window in windows])
    with torch.no_grad():
        nll = model.get_output_embeddings().nll(every.hidden, target)
    torch.testing.assert_close(nll, every.nll[every.counted])


@pytest.mark.parametrize("name", CASES)
def test_a_model_s_own_output_layer_is_a_head_with_its_predictions(name):
    model = tiny_model(name)
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    head = own_head(model, windows[0])
    found = document_losses(model, windows, num_hidden=1000)
    target = torch.cat([window.target for window in windows])
    with torch.no_grad():
        nll = head.nll(found.hidden, target)
    torch.testing.assert_close(nll, found.nll[found.counted], rtol=1e-4, atol=1e-4)
    ranks = log_prob_ranks(head, found.hidden)
    assert ranks.press <= ranks.bound
    width = model.get_output_embeddings().weight.shape[1]
    linear = CASES[name][1].cap is None
    assert ranks.bound == min(width + 1 + (name == "phi") if linear else V, ranks.num_contexts)


def test_a_head_that_does_not_explain_the_logits_is_refused():
    model = tiny_model("gpt2")
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    layer = model.get_output_embeddings()
    handle = layer.register_forward_hook(lambda _module, _args, scores: scores.flip(-1))
    with pytest.raises(WideneckError, match="does not give its own logits"):
        own_head(model, windows[0])
    handle.remove()


def test_the_ranks_of_a_model_with_a_memory_are_refused():
    model = with_memory()
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    with pytest.raises(WideneckError, match="memory besides its head"):
        own_head(model, windows[0])


def test_modes_come_back_and_hooks_go():
    model = MODELS["mos"]().train()
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    with pytest.raises(ZeroDivisionError):
        document_losses(model, windows, progress=lambda *_: 1 / 0)
    assert all(module.training for module in model.modules())
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_a_mistake_is_one_sentence():
    with pytest.raises(WideneckError, match="No document of the text has two tokens"):
        windows_of(["a", "b"], character_tokenizer(), window=7)
    model = tiny_model("gpt2")
    model.resize_token_embeddings(20)
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    with pytest.raises(WideneckError, match="has 20 rows: they do not belong together"):
        document_losses(model, windows)
    model = tiny_model("gpt2")
    model.transformer.ln_f.weight.data[0] = math.nan
    with pytest.raises(WideneckError, match="a loss that is not finite"):
        document_losses(model, windows)


@pytest.mark.parametrize("num_tokens", range(1, 41, 3))
def test_so_many_tokens_are_predicted_wherever_a_piece_of_the_text_ends(monkeypatch, num_tokens):
    from wideneck.data import tokenizing

    real = tokenizing.pieces
    monkeypatch.setattr(tokenizing, "pieces", lambda text: real(text, 4))
    windows = windows_of(
        ["a b c d e f g h i j k l m n o p q r s t u"], character_tokenizer(), window=7,
        num_tokens=num_tokens,
    )  # fmt: skip
    assert sum(len(window.target) for window in windows) == min(num_tokens, 40)


def test_a_text_needs_a_row_for_its_largest_id_in_both_layers():
    """The last row is as good as any; one below it, of either layer alone, is refused."""
    model = tiny_model("gpt2")
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    largest = max(int(window.target.max()) for window in windows)
    for rows, refused in ((largest + 1, False), (largest, True)):
        model.resize_token_embeddings(rows)
        if refused:
            with pytest.raises(WideneckError, match=f"id {largest}, the model has {rows} rows"):
                document_losses(model, windows)
        else:
            document_losses(model, windows)
    # What is only read counts as well: the first of a text, or what stands in front of it.
    first = windows_of(["~abc"], character_tokenizer(), window=7)
    before = windows_of(["abc"], character_tokenizer(), window=7, prefix=[int(first[0].ids[0])])
    for windows_of_one in (first, before):
        read = int(windows_of_one[0].ids.max())
        assert read > max(int(window.target.max()) for window in windows_of_one)
        model.resize_token_embeddings(read)
        with pytest.raises(WideneckError, match=f"id {read}, the model has {read} rows"):
            document_losses(model, windows_of_one)
    untied = tiny_model("llama")
    assert len(untied.get_input_embeddings().weight) > largest
    layer = untied.get_output_embeddings()
    assert layer.weight is not untied.get_input_embeddings().weight
    layer.weight.data = layer.weight.data[:largest]
    with pytest.raises(WideneckError, match=f"the model has {largest} rows"):
        document_losses(untied, windows)


def test_a_head_a_little_beside_the_logits_is_refused_too():
    model = tiny_model("gpt2")
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)

    def shifted(_module, _args, scores):
        off = torch.zeros_like(scores)
        off[..., 3] = 0.05
        return scores + off

    handle = model.get_output_embeddings().register_forward_hook(shifted)
    with pytest.raises(WideneckError, match="does not give its own logits"):
        own_head(model, windows[0])
    handle.remove()


def test_losses_of_bfloat16_logits_are_summed_in_float32():
    from wideneck.evaluation.documents import _nll

    torch.manual_seed(0)
    logits = (4 * torch.randn(9, 500)).bfloat16()
    target = torch.randint(500, (9,))
    found = _nll(logits, target)
    assert found.dtype == torch.float32
    slow = -logits.double().log_softmax(1)[torch.arange(9), target]
    torch.testing.assert_close(found.double(), slow, rtol=1e-5, atol=1e-5)


def test_dropout_is_off_while_losses_are_measured():
    model = MODELS["mos"]()
    windows = windows_of(DOCUMENTS, character_tokenizer(), window=7)
    expected = document_losses(model, windows).nll
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert torch.equal(document_losses(model.train(), windows).nll, expected)
