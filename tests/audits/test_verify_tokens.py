"""Whether a model can say a token: many at once as by the obvious loop, and what is planted."""

import pytest
import torch
import transformers as tr

import wideneck as wn
from repeating import SEEN, UNSEEN, repeater
from tiny import V, tiny_model
from tiny_text import CHARACTERS, character_tokenizer
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.tokens.prompts import PROMPTS, TOKEN, encoded, filled
from wideneck.audits.tokens.saying import STEPS, probabilities
from wideneck.audits.tokens.verify import label_of, verify
from wideneck.models import load_language_model

PLANTED = [[3, TOKEN, 5, TOKEN, 7], [9, TOKEN, 4], [8, *(6 * [TOKEN])]]
TOKENS = [11, 30, 31, 77, 95]


@torch.no_grad()
def by_loop(model, tokens, prompts):
    """One token, one prompt and one whole row at a time."""
    found = torch.empty(len(tokens), len(prompts), STEPS, dtype=torch.float64)
    for t, token in enumerate(tokens):
        for p, prompt in enumerate(prompts):
            ids = [token if i is TOKEN else i for i in prompt]
            for step in range(STEPS):
                last = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()
                found[t, p, step] = last.softmax(0)[token]
                ids.append(int(last.argmax()))
    return found


def decided(name):
    """A tiny model whose greedy choices differ from row to row."""
    model = tiny_model(name)
    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        weight.mul_(40)
    return model.double()


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "gemma2-low-cap", "phi"])
@pytest.mark.parametrize("batch", [None, 2])
def test_many_tokens_at_once_give_what_one_at_a_time_gives(name, batch):
    model = decided(name)
    found = probabilities(model, TOKENS, PLANTED, batch=batch)
    torch.testing.assert_close(found, by_loop(model, TOKENS, PLANTED), rtol=1e-9, atol=1e-12)
    assert found.std() > 1e-3  # the steps and the prompts are told apart


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_logit_that_is_no_number_is_said_and_not_labelled(value):
    model = tiny_model("phi")
    model.lm_head.bias.data[50] = value  # of another token than those that are asked for
    with pytest.raises(UnmeasurableError, match="gives logits that are no numbers"):
        probabilities(model, [7], PLANTED)


def test_a_model_without_a_cache_of_keys_reads_the_row_again():
    torch.manual_seed(0)
    config = tr.MambaConfig(vocab_size=V, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = tr.MambaForCausalLM(config).eval().double()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(40)
    torch.testing.assert_close(
        probabilities(model, TOKENS, PLANTED), by_loop(model, TOKENS, PLANTED)
    )


def test_a_head_of_ours_says_what_it_predicts():
    model = wn.attach(decided("llama").float(), "sigsoftmax", shift=0.0).double()
    torch.testing.assert_close(
        probabilities(model, TOKENS, PLANTED), by_loop(model, TOKENS, PLANTED)
    )


def test_each_label_has_its_bounds():
    probs = (0.0, 0.0009, 0.0011, 0.1, 0.11, 0.9, 0.91, 1.0)
    assert [label_of(p) for p in probs] == [
        *(2 * ["strongly verified"]),
        *(2 * ["weakly verified"]),
        *(2 * ["weakly rejected"]),
        *(2 * ["strongly rejected"]),
    ]


def test_the_token_stands_by_its_id_where_the_prompt_has_its_place():
    prompts = encoded(character_tokenizer(bos=True), [0])
    for name, pieces in PROMPTS.items():
        row = filled(prompts[name], [95, 40])
        places = [i is TOKEN for i in prompts[name]]
        assert row[0, places].tolist() == pieces.count(TOKEN) * [95]
        assert row[1, places].tolist() == pieces.count(TOKEN) * [40]
        assert row[0, 0] == 0
        text = "".join(CHARACTERS[i] for i in row[1, 1:].tolist())
        assert text == "".join(CHARACTERS[40] if p is TOKEN else p for p in pieces)
    assert [pieces.count(TOKEN) for pieces in PROMPTS.values()] == [20, 1, 50]


@pytest.fixture(scope="module", name="repeater")
def trained_repeater():
    return repeater()


def test_a_token_that_was_never_seen_is_found_and_those_that_were_are_not(repeater):
    loaded = load_language_model(repeater, tokenizer=character_tokenizer())
    ids = [CHARACTERS.index(c) for c in UNSEEN + SEEN]
    found = verify(loaded, ids, CHARACTERS)
    assert [token.string for token in found.tokens] == list(UNSEEN + SEEN)
    for token in found.tokens[:2]:
        assert token.label == "strongly verified", token
    for token in found.tokens[2:]:
        assert token.label == "strongly rejected", token
        assert token.prompt == "repeats"
    assert found.num_found == 2
    assert found.by_label == {
        "strongly verified": 2,
        "weakly verified": 0,
        "weakly rejected": 0,
        "strongly rejected": 3,
    }


def test_prompts_that_are_too_long_for_the_model_are_no_measure():
    loaded = load_language_model(tiny_model("gpt2"), tokenizer=character_tokenizer())
    with pytest.raises(UnmeasurableError, match="positions for 64"):
        verify(loaded, [1], None)


def test_logits_that_are_no_numbers_are_no_measure():
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(UnmeasurableError, match="no numbers"):
        probabilities(model, TOKENS, PLANTED)
