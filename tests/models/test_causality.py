"""Models that see the tokens which they are to predict are refused by all that run a model."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tr

import wideneck as wn
from checkpoints import saved
from tiny import CASES, LLAMA, SHORT, D, V, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.commands.evaluate import evaluate
from wideneck.errors import WideneckError
from wideneck.models import load_language_model, read_head
from wideneck.models.causality import check_left_to_right, look_ahead, probe_ids

SIZES = {key: LLAMA[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
BERT = {**SIZES, "num_attention_heads": 2, "vocab_size": V, "max_position_embeddings": 80, **SHORT}
XLNET = {"vocab_size": V, "d_model": D, "n_layer": 1, "n_head": 2, "d_inner": 32}
XLM = {"vocab_size": V, "emb_dim": D, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 80}
CPM = {
    "vocab_size": V,
    "hidden_size": D,
    "num_attention_heads": 2,
    "dim_head": 8,
    "dim_ff": 32,
    "num_hidden_layers": 1,
    "prompt_length": 4,
}
BOTH_WAYS = {
    "bert": lambda: tr.BertLMHeadModel(tr.BertConfig(**BERT)),
    "roberta": lambda: tr.RobertaForCausalLM(tr.RobertaConfig(**BERT)),
    "electra": lambda: tr.ElectraForCausalLM(tr.ElectraConfig(**BERT, embedding_size=D)),
    "xlnet": lambda: tr.XLNetLMHeadModel(tr.XLNetConfig(**XLNET)),
    "xlm": lambda: tr.XLMWithLMHeadModel(tr.XLMConfig(**XLM)),
    "cpm-ant": lambda: tr.CpmAntForCausalLM(tr.CpmAntConfig(**CPM)),  # a prefix from both sides
}
T5 = {"d_model": D, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
BART = {"d_model": D, "decoder_layers": 1, "encoder_layers": 1, "decoder_ffn_dim": 32}
BART |= {"encoder_ffn_dim": 32, "decoder_attention_heads": 2, "encoder_attention_heads": 2}
ONE_WAY = {
    "bert": lambda: tr.BertLMHeadModel(tr.BertConfig(**BERT, is_decoder=True)),
    "roberta": lambda: tr.RobertaForCausalLM(tr.RobertaConfig(**BERT, is_decoder=True)),
    "bart-decoder": lambda: tr.BartForCausalLM(tr.BartConfig(vocab_size=V, **BART, **SHORT)),
    "bart": lambda: tr.BartForConditionalGeneration(tr.BartConfig(vocab_size=V, **BART, **SHORT)),
    "t5": lambda: tr.T5ForConditionalGeneration(
        tr.T5Config(vocab_size=V, **T5, decoder_start_token_id=2)
    ),
    "mamba": lambda: tr.MambaForCausalLM(
        tr.MambaConfig(vocab_size=V, hidden_size=D, num_hidden_layers=1, state_size=4)
    ),
    "rwkv": lambda: tr.RwkvForCausalLM(
        tr.RwkvConfig(vocab_size=V, hidden_size=D, num_hidden_layers=2, context_length=64)
    ),
    "mixtral": lambda: tr.MixtralForCausalLM(tr.MixtralConfig(**LLAMA, num_local_experts=4)),
    "jamba": lambda: tr.JambaForCausalLM(
        tr.JambaConfig(**LLAMA, num_experts=2, use_mamba_kernels=False)
    ),
    "one position": lambda: tr.GPT2LMHeadModel(
        tr.GPT2Config(vocab_size=V, n_embd=D, n_layer=1, n_head=2, n_positions=1)
    ),
}


def made(kinds, name):
    torch.manual_seed(0)
    return kinds[name]().eval()


def in_half(model):
    return model.to(torch.bfloat16)


@pytest.mark.parametrize("kind", [lambda model: model, in_half])
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_a_model_that_sees_both_sides_is_refused(name, kind):
    with pytest.raises(WideneckError, match=r"sees the tokens that it is to predict \(a later"):
        check_left_to_right(kind(made(BOTH_WAYS, name)))


@pytest.mark.parametrize("kind", [lambda model: model, in_half])
@pytest.mark.parametrize("name", ONE_WAY)
def test_a_model_that_reads_from_left_to_right_passes(name, kind):
    check_left_to_right(kind(made(ONE_WAY, name)))


@pytest.mark.parametrize("name", CASES)
def test_decoders_move_nothing_before_a_change_to_the_bit(name):
    assert look(tiny_model(name)).share == 0


def look(model):
    ids = probe_ids(model)
    return look_ahead(model, lambda rows: model(rows, use_cache=False).logits, ids, V)


class Planted(torch.nn.Module):
    """Logits of the tokens so far, and of some that are still to come."""

    def __init__(self, reach=None, weight=1e-3):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(V, 5))
        self.reach, self.weight = reach, weight

    def forward(self, ids):
        each = self.table[ids]
        so_far = each.cumsum(1)
        if self.reach is None:
            return so_far
        first, last = self.reach
        later = torch.zeros_like(so_far)
        later[:, first : last - 1] = each[:, first + 1 : last]
        return so_far + self.weight * later


@pytest.mark.parametrize("reach", [(0, 2), (0, 12), (5, 7), (10, 12), (0, 4)])
def test_a_look_at_one_token_ahead_is_seen_wherever_a_change_is_made(reach):
    """The second token, a middle one, the last: where a prefix, a block or an end is open."""
    torch.manual_seed(0)
    ids = torch.randint(V, (1, 12))
    planted = Planted(reach)
    found = look_ahead(planted, planted, ids, V)
    assert found.sees_later
    assert 1e-4 < found.share < 1e-2
    assert not look_ahead(planted, Planted().requires_grad_(False), ids, V).sees_later


class Translator(Planted):
    """Its decoder sees all of the source, and its own tokens so far, or more."""

    config = tr.T5Config(vocab_size=V)

    def get_input_embeddings(self):
        return torch.nn.Embedding(V, 5)

    def forward(self, input_ids, decoder_input_ids, use_cache):
        source = self.table[input_ids].mean(1, keepdim=True)
        return SimpleNamespace(logits=super().forward(decoder_input_ids) + source)


def test_of_a_model_with_an_encoder_the_decoder_is_looked_at():
    torch.manual_seed(0)
    check_left_to_right(Translator())
    with pytest.raises(WideneckError, match="Translator sees the tokens"):
        check_left_to_right(Translator((10, 12)))


def test_rounding_by_what_else_is_in_the_batch_is_no_look_ahead():
    """As a router of experts has it, which sorts the tokens of all sequences together."""
    torch.manual_seed(0)
    planted, ids = Planted(), torch.randint(V, (1, 12))

    def rounded(rows):
        noise = torch.randn(4, 12, 5, generator=torch.Generator().manual_seed(int(rows.sum())))
        return planted(rows) + 1e-3 * noise

    found = look_ahead(planted, rounded, ids, V)
    assert found.rounding > 1e-4
    assert not found.sees_later
    open_end = Planted((10, 12), weight=0.5)
    assert look_ahead(open_end, lambda rows: rounded(rows) + open_end(rows), ids, V).sees_later


def test_rows_at_minus_infinity_and_answers_that_are_no_numbers_give_no_verdict():
    torch.manual_seed(0)
    planted, ids = Planted(), torch.randint(V, (1, 12))
    hidden = torch.tensor([0.0, -torch.inf, 0.0, -torch.inf, 0.0])
    assert look_ahead(planted, lambda rows: planted(rows) + hidden, ids, V).share == 0
    assert not look_ahead(planted, lambda rows: planted(rows) * torch.nan, ids, V).sees_later


class Drawing(Planted):
    """Dropout, and a kernel that draws in eval mode, too."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, ids):
        assert not self.training
        answers = self.dropout(super().forward(ids))
        return answers + torch.randn(answers.shape)


def test_a_model_that_draws_is_judged_by_the_same_draws_and_nothing_of_its_state_moves():
    torch.manual_seed(0)
    model, ids = Drawing().train(), torch.randint(V, (1, 12))
    model.dropout.eval()  # a part that its owner froze
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(look_ahead(model, model, ids, V))
        torch.manual_seed(seed)
        expected = torch.get_rng_state()
        look_ahead(model, model, ids, V)
        assert torch.get_rng_state().equal(expected)
    assert [look.share for look in found] == [0, 0]
    assert found[0].answers.equal(found[1].answers)
    assert [model.training, model.dropout.training] == [True, False]
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()


@pytest.mark.parametrize("name", ["bert", "xlnet"])
def test_all_that_run_a_model_refuse_and_its_head_alone_is_read(name, tmp_path):
    folder, text = saved(made(BOTH_WAYS, name), tmp_path / "m"), write_text(tmp_path / "text.txt")
    tokenizer = character_tokenizer()
    tokenizer.save_pretrained(folder)
    model = made(BOTH_WAYS, name).train()
    sentence = f"{type(model).__name__} sees the tokens that it is to predict"
    for run in (
        lambda: wn.audit(folder, text, num_tokens=64),
        lambda: wn.audit(model, text, "attention", tokenizer=tokenizer),
        lambda: wn.audit(model, text, "memory", tokenizer=tokenizer),
        lambda: wn.audit(model, text, "head", tokenizer=tokenizer),
        lambda: evaluate(folder, text),
        lambda: evaluate(model, text, tokenizer=tokenizer),
        lambda: wn.attach(model, "moss"),
        lambda: wn.attach_memory(model),
        lambda: load_language_model(folder),
    ):
        with pytest.raises(WideneckError, match=sentence) as caught:
            run()
        assert "\n" not in str(caught.value)
    assert model.training
    assert wn.audit(folder, sections="head").head.vocab_size == V
    assert wn.audit(model, sections="head").head.sha256 == read_head(folder).sha256
