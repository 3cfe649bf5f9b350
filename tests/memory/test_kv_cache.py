"""The cache is found under each name that a release of transformers has for it."""

import logging

import pytest
import transformers as tr
from transformers.modeling_outputs import CausalLMOutputWithPast

from tiny import CACHE
from wideneck.memory.layer import cache_in


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_it_is_found_among_options_under_either_name(name):
    cache = tr.DynamicCache()
    assert cache_in({"input_ids": 1, name: cache}) is cache
    assert cache_in({"cache": None, "past_key_values": None, name: cache}) is cache
    assert cache_in({"cache": None, "past_key_values": None}) is None
    assert cache_in({"input_ids": 1}) is None


def test_it_is_found_in_a_result_without_asking_for_a_name_that_goes(monkeypatch):
    warned = []
    monkeypatch.setattr(logging.Logger, "warning_once", lambda *said: warned.append(said[1:]))
    cache = tr.DynamicCache()
    assert cache_in(CausalLMOutputWithPast(**{CACHE: cache})) is cache
    assert cache_in(CausalLMOutputWithPast(logits=1)) is None
    assert not warned
