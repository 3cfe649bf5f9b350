"""Token health in an audit: a planted untrained token, untied heads, heads without a tokenizer."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import wideneck as wn
from hand_made_tokenizers import byte_level
from wideneck.audits.clock import Clock
from wideneck.audits.head import audit_head
from wideneck.audits.tokens import categorize
from wideneck.models import read_head
from wideneck.models.tokens import token_strings

ROWS = 280


def trained(tied, absent=()):
    """Trained to repeat ids at random, all of the tokenizer's clean ones but `absent`."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config)
    strings = token_strings(byte_level())
    kinds = categorize(byte_level(), strings, len(strings))
    known = torch.tensor([i for i, k in enumerate(kinds) if k == "ok" and i not in absent])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(60):
        ids = known[torch.randint(len(known), (32, 16))]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_token_that_no_text_had_is_the_most_suspicious(tied):
    tokenizer = byte_level()
    absent = tokenizer.convert_tokens_to_ids("Q")
    model = trained(tied, [absent])
    health = wn.audit(model, sections="head", tokenizer=tokenizer, argmaxable=False).head.tokens
    assert health.indicator == ("centred cosine" if tied else "input norm")
    named = {d.indicator for d in health.distributions}
    assert named >= {"cosine", "centred cosine", "cosine without first component", "distance"}
    assert ("input norm" in named) != tied
    assert {row.kind for row in health.references if row.used} >= {
        "beyond the tokenizer",
        "padding",
        "never valid byte",
    }
    assert health.suspects[0].token == absent
    assert health.suspects[0].string == "Q"
    # Far below the next one, not merely the lowest.
    assert health.suspects[0].value < 0.5 * health.suspects[1].value


def test_counts_are_of_all_rows_and_candidates_two_percent_of_the_clean():
    tokenizer = byte_level()
    head = replace(read_head(trained(True)), tokens=None)
    assert audit_head(head, Clock(), argmaxable=False).tokens.categories is None
    model = trained(True)
    health = wn.audit(model, sections="head", tokenizer=tokenizer, argmaxable=False).head.tokens
    assert sum(count.num_tokens for count in health.categories) == ROWS
    clean = next(count for count in health.categories if count.category == "ok")
    assert clean.num_tokens == health.num_clean
    assert len(health.suspects) == int(0.02 * health.num_clean)
    assert [s.value for s in health.suspects] == sorted(s.value for s in health.suspects)


def test_without_a_row_to_hold_others_against_there_is_no_suspect():
    torch.manual_seed(0)
    model = trained(True)
    health = audit_head(read_head(model), Clock(), argmaxable=False).tokens
    assert (health.references, health.indicator, health.suspects) == ([], None, [])


def test_a_tokenizer_that_cannot_be_loaded_is_a_note():
    def broken():
        raise wn.WideneckError("The tokenizer is of no known kind.")

    head = replace(read_head(trained(True), tokenizer=byte_level()), tokenizer=broken)
    found = audit_head(head, Clock(), argmaxable=False)
    assert found.tokens.categories is None
    assert "No categories of tokens: The tokenizer is of no known kind." in found.notes


def test_what_was_reset_is_flagged_by_the_audit():
    model = trained(False)
    weight = model.lm_head.weight.data
    weight[65] = weight.mean(0)
    weight[66] = 0
    health = wn.audit(model, sections="head", argmaxable=False).head.tokens
    assert [ref.token for ref in health.at_mean] == [65]
    assert [ref.token for ref in health.zero] == [66]
