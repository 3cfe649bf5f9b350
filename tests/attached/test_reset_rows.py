"""Rows are reset by name: to what, what that changes, what it leaves, and what is refused."""

import copy

import pytest
import torch
import transformers as tr

import wideneck as wn
from tiny import LLAMA, V, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.errors import WideneckError

IDS = [40, 7, 41]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture
def model():
    return sharpened(tiny_model("llama"))


def sharpened(model):
    """Predictions that differ from token to token, as those of a trained model do."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(30)
    return model


def reset(model, ids, text, **options):
    return wn.reset_rows(model, ids, text=text, tokenizer=character_tokenizer(), **options)


def tables(model):
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


def test_named_rows_become_the_mean_of_the_others_and_the_others_stay(model, text):
    before = [table.detach().clone() for table in tables(model)]
    parameters = tables(model)
    reset(model, IDS, text)
    others = [i for i in range(V) if i not in IDS]
    for table, old, same in zip(tables(model), before, parameters, strict=True):
        assert table is same, "an optimizer holds this parameter"
        torch.testing.assert_close(table[others], old[others], rtol=0, atol=0)
        mean = sum(old[i].double() for i in others) / len(others)
        for i in IDS:
            torch.testing.assert_close(table[i].double(), mean, rtol=1e-6, atol=1e-7)


def test_all_else_of_the_model_stays(model, text):
    before = copy.deepcopy(model.state_dict())
    reset(model, IDS, text)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}
    assert not any(parameter.grad_fn for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_reset_token_is_never_more_probable_than_chance(model, text):
    reset(model, IDS, text)
    hidden = 50 * torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    probs = (hidden @ model.lm_head.weight.T).softmax(1)
    assert probs.max() > 0.9
    assert probs[:, IDS].max() <= 1 / (V - len(IDS)) + 1e-6


def test_a_row_of_bias_is_reset_with_its_row(text):
    model = sharpened(tiny_model("phi"))
    bias = model.lm_head.bias.detach().clone()
    reset(model, IDS, text)
    others = [i for i in range(V) if i not in IDS]
    assert torch.equal(model.lm_head.bias[others], bias[others])
    expected = bias[others].mean().expand(len(IDS))
    torch.testing.assert_close(model.lm_head.bias[IDS], expected, rtol=1e-5, atol=1e-7)


@torch.no_grad()
def obvious(model, windows):
    """(N, V) log-probabilities in float64, a window at a time."""
    found = [model(window[None]).logits[0].double().log_softmax(1) for window in windows]
    return torch.cat(found)


def test_what_is_said_of_before_and_after_is_what_the_text_shows(model, text):
    from wideneck.data import cut_windows, read_text

    found = reset(twin := copy.deepcopy(model), IDS, text)
    windows = cut_windows(
        read_text(text),
        character_tokenizer(),
        num_tokens=2048,
        window=LLAMA["max_position_embeddings"],
    )
    before, after = obvious(model, windows.ids), obvious(twin, windows.ids)
    assert found.num_tokens == len(before)
    assert found.num_others == V - len(IDS)
    for row, token in zip(found.rows, IDS, strict=True):
        assert row.token == token
        old, new = before[:, token].exp(), after[:, token].exp()
        said = [row.before, row.after, row.most_before, row.most_after]
        seen = torch.stack([old.mean(), new.mean(), old.max(), new.max()])
        torch.testing.assert_close(torch.tensor(said).double(), seen, rtol=1e-4, atol=1e-9)
    kl = (before.exp() * (before - after)).sum(1).mean()
    assert found.kl == pytest.approx(kl.item(), rel=1e-4)
    assert found.kl > 1e-4


def test_what_is_printed_names_each_token(model, text):
    printed = str(reset(model, IDS, text))
    assert printed.startswith("3 rows set to the mean of 93 others")
    assert all(f"\n  {token} '" in printed for token in IDS)
    assert "KL(before || after)" in printed
    assert "text.txt" in printed


@pytest.mark.parametrize("head", ["sigsoftmax", "moss"])
def test_the_matrix_of_a_head_of_ours_is_reset(head, text):
    model = wn.attach(tiny_model("llama"), head)
    old = model.get_output_embeddings().weight.detach().clone()
    found = reset(model, IDS, text)
    others = [i for i in range(V) if i not in IDS]
    mean = old[others].double().mean(0)
    for i in IDS:
        row = model.get_output_embeddings().weight[i].double()
        torch.testing.assert_close(row, mean, rtol=1e-6, atol=1e-7)
    assert all(row.after <= 1 / len(others) + 1e-4 for row in found.rows)


def test_an_optimizer_goes_on(model, text):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    ids = torch.arange(12)[None]
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    reset(model, IDS, text)
    after = model.lm_head.weight[IDS[0]].detach().clone()
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    assert not torch.equal(model.lm_head.weight[IDS[0]], after)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_keep_their_dtype(model, text, dtype):
    old = model.to(dtype).lm_head.weight.detach().clone()
    reset(model, IDS, text)
    others = [i for i in range(V) if i not in IDS]
    assert model.lm_head.weight.dtype == dtype
    assert torch.equal(model.lm_head.weight[7], old[others].double().mean(0).to(dtype))


def test_rows_that_are_no_numbers_are_mended(model, text):
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    found = reset(model, IDS, text)
    assert model.lm_head.weight.isfinite().all()
    assert all(row.after > 0 for row in found.rows)


def test_a_run_that_fails_leaves_the_model_as_it_was(model, text):
    before = copy.deepcopy(model.state_dict())
    handle = model.model.register_forward_hook(fails_at_the_fourth_call())
    with pytest.raises(WideneckError, match="no memory"):
        reset(model, IDS, text)
    handle.remove()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def fails_at_the_fourth_call():
    calls = []

    def hook(*_):
        calls.append(1)
        if len(calls) == 4:  # two see whether it reads from left to right, one has the old rows
            raise RuntimeError("no memory")

    return hook


def test_what_other_rows_hold_must_be_finite(model, text):
    with torch.no_grad():
        model.lm_head.weight[50] = torch.inf
    with pytest.raises(WideneckError, match="name every row"):
        reset(model, IDS, text)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "takes a list"),
        ("12", "takes a list"),
        (5, "takes a list"),
        ([3.0], "from 0 to 95, got 3.0"),
        ([True], "from 0 to 95, got True"),
        ([96], "from 0 to 95, got 96"),
        ([-1], "from 0 to 95, got -1"),
        ([9, 8, 9], "The id 9 came more than once"),
        (list(range(96)), "Every row"),
    ],
)
def test_ids_that_are_none_are_refused(model, ids, said):
    before = model.lm_head.weight.detach().clone()
    with pytest.raises(WideneckError, match=said):
        reset(model, ids, None, force=True)
    assert torch.equal(model.lm_head.weight, before)


def marked():
    """A tokenizer with a chat marker."""
    tokenizer = character_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    return tokenizer


@pytest.mark.parametrize(
    ("token", "said"),
    [(0, "bos"), (1, "eos"), (2, "pad"), (96, "an added special token"), (33, "eos")],
)
def test_special_tokens_are_refused_without_force(text, token, said):
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA | {"vocab_size": 97})).eval()
    model.generation_config.eos_token_id = [1, 33]
    with pytest.raises(WideneckError, match=rf"{token} \(.*, {said}\).*force=True"):
        wn.reset_rows(model, [40, token], text=text, tokenizer=marked())
    wn.reset_rows(model, [40, token], text=text, tokenizer=marked(), force=True)
    assert torch.equal(model.lm_head.weight[token], model.lm_head.weight[40])


def test_a_marker_of_the_chat_template_is_refused_where_nobody_calls_it_special(text):
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA | {"vocab_size": 98})).eval()
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<turn>", "<other>"])
    tokenizer.chat_template = "{% for m in messages %}<turn>{{ m.content }}{% endfor %}"
    with pytest.raises(WideneckError, match=r"96 \('<turn>', in the chat template\).*force=True"):
        wn.reset_rows(model, [96, 97], text=text, tokenizer=tokenizer)
    wn.reset_rows(model, [97], text=text, tokenizer=tokenizer)


def test_a_model_that_sees_what_it_is_to_predict_is_refused(text):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = tr.BertConfig(vocab_size=V, intermediate_size=16, max_position_embeddings=64, **sizes)
    config.tie_word_embeddings = False
    with pytest.raises(WideneckError, match="sees the tokens that it is to predict"):
        reset(tr.BertForMaskedLM(config).eval(), IDS, text)


def test_without_a_tokenizer_it_is_refused(model, text):
    with pytest.raises(WideneckError, match="pass tokenizer"):
        wn.reset_rows(model, IDS, text=text)


@pytest.mark.parametrize("force", [False, True])
def test_a_tied_model_is_refused(text, force):
    with pytest.raises(WideneckError, match=r"tied, so a reset would change.*tie=False"):
        reset(tiny_model("llama-tied"), IDS, text, force=force)


def test_what_is_tied_can_be_reset_once_it_is_untied(text):
    model = wn.attach(tiny_model("llama-tied"), "softmax", tie=False)
    reset(model, IDS, text)
    embedding, output = tables(model)
    assert torch.equal(embedding[7], embedding[40])
    assert torch.equal(output[7], output[40])


def unusual(kind, model):
    if kind == "quantized":
        model.lm_head.weight = torch.nn.Parameter(
            model.lm_head.weight.detach().to(torch.int8), requires_grad=False
        )
    elif kind == "float8":
        model.lm_head.weight = torch.nn.Parameter(
            model.lm_head.weight.detach().to(torch.float8_e4m3fn), requires_grad=False
        )
    elif kind == "meta":
        model.to("meta")
    elif kind == "wrapped":
        model.lm_head = torch.nn.Sequential(model.lm_head)
    elif kind == "patched":
        model.forward = lambda **_: None
    elif kind == "encoder":
        return tr.T5ForConditionalGeneration(
            tr.T5Config(vocab_size=V, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        )
    elif kind == "plain":
        return torch.nn.Linear(2, 2)
    return model


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("quantized", "has a Parameter in the place"),
        ("float8", "has a Parameter in the place"),
        ("meta", "offloaded"),
        ("wrapped", "has a Sequential in the place"),
        ("patched", "has replaced the forward"),
        ("encoder", "encoder"),
        ("plain", "got Linear"),
    ],
)
def test_models_whose_rows_it_cannot_set_are_refused(model, text, kind, said):
    with pytest.raises(WideneckError, match=said):
        reset(unusual(kind, model), IDS, text, force=True)


def test_an_audit_lists_what_a_reset_has_made(model, text):
    reset(model, [40, 41], text)
    head = wn.audit(model, sections="head", tokenizer=character_tokenizer()).head
    assert [[row.token for row in group] for group in head.rows.duplicates] == [[40, 41]]
    assert {40, 41} <= {row.token for row in head.rows.undertrained}
    assert {40, 41} <= {row.token for row in head.tokens.at_mean}
    never = {token for tie in head.argmaxable.ties for token in tie.tokens}
    never |= {entry.token for entry in head.argmaxable.unargmaxable}
    assert {40, 41} <= never
