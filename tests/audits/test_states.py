"""The one pass over the text against a model that keeps everything."""

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tiny import GPT2
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.states import PROBE, collect_states
from wideneck.data.text import Windows
from wideneck.models.reading import decoder_layers

W, P, T = 3, 1, 7
"""Windows, not a multiple of those that go together; tokens before the text; predictions."""


def small():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**GPT2 | {"n_layer": 3})).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def windows(vocab_size=96):
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(vocab_size, (W, P + T + 1), generator=generator)
    ids, targets = text[:, :-1], text[:, 1 + P :]
    return Windows(
        ids=ids,
        targets=targets,
        document=torch.tensor([4, 2, 4]),
        num_bytes=torch.tensor([7, 8, 9]),
    )


def cosine(rows):
    """Mean over ordered pairs of different rows, one pair after another."""
    rows, cosines = rows.flatten(0, 1).double().tolist(), []
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                cosines.append(dot / math.hypot(*a) / math.hypot(*b))
    return sum(cosines) / len(cosines)


def test_states_logits_and_cosines_of_every_depth_are_the_model_s_own():
    model, given = small(), windows()
    seen, told = [], []
    found = collect_states(
        model,
        given,
        batch=2,
        observer=lambda layer, start, hidden: seen.append((layer, start, hidden.clone())),
        progress=lambda stage, done, total: told.append((done, total)),
    )
    with torch.no_grad():
        whole = model(given.ids, output_hidden_states=True)
    entering = whole.hidden_states[-1]  # after the final norm
    torch.testing.assert_close(found.hidden, entering[:, P:])
    torch.testing.assert_close(found.last_logits, whole.logits[0, -PROBE:])
    assert torch.equal(found.targets, given.targets)
    assert torch.equal(found.document, given.document)
    assert torch.equal(found.num_bytes, given.num_bytes)

    depths = {"embeddings": whole.hidden_states[0], "entering the head": entering}
    depths |= {f"layer {i}": whole.hidden_states[i] for i in (1, 2)}
    assert [one.layer for one in found.anisotropy] == [
        "embeddings",
        "layer 1",
        "layer 2",
        "layer 3",
        "entering the head",
    ]
    for one in found.anisotropy:
        if one.layer in depths:  # of the last layer's output there is no copy
            hidden = depths[one.layer]
            assert one.mean_cosine == pytest.approx(cosine(hidden), abs=1e-6), one.layer
            without = cosine(hidden[:, 1:])
            assert one.mean_cosine_without_first == pytest.approx(without, abs=1e-6), one.layer

    assert [start for layer, start, _ in seen if layer == "layer 2"] == [0, 2]
    for layer, hidden in depths.items():
        parts = torch.cat([one for name, _, one in seen if name == layer])
        torch.testing.assert_close(parts, hidden)
    assert told == [(2, W), (W, W)]
    # The hooks are gone: logits of every position again.
    assert model(given.ids).logits.shape == (W, P + T, 96)


def test_states_that_point_one_way_have_cosine_1_and_a_state_of_zeros_has_none():
    model, given = small(), windows()
    with torch.no_grad():
        for table in (model.transformer.wte, model.transformer.wpe):
            table.weight.copy_(
                torch.ones_like(table.weight) * (1 + torch.rand(len(table.weight), 1))
            )
    one_way = collect_states(model, given).anisotropy[0]
    assert one_way.mean_cosine == pytest.approx(1)
    assert one_way.mean_cosine_without_first == pytest.approx(1)
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
        model.transformer.wpe.weight[1:] = 0
    alone = collect_states(model, given).anisotropy[0]  # the first state of each window is left
    assert alone.mean_cosine == pytest.approx(1)
    assert alone.mean_cosine_without_first == 0


def test_the_layers_are_the_one_list_that_is_as_long_as_the_config_says():
    model = small()
    assert decoder_layers(model) == list(model.transformer.h)
    model.others = nn.ModuleList([nn.Linear(1, 1) for _ in range(2)])
    assert decoder_layers(model) == list(model.transformer.h)
    model.beside = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])  # not in what reads text
    assert decoder_layers(model) == list(model.transformer.h)
    model.transformer.more = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    assert decoder_layers(model) == []
    del model.transformer.more
    model.transformer.h[1] = model.transformer.h[0]
    assert decoder_layers(model) == []
    assert [one.layer for one in collect_states(model, windows()).anisotropy] == [
        "entering the head"
    ]


def test_what_enters_the_head_must_come_once_and_be_finite():
    class Twice(GPT2LMHeadModel):
        def forward(self, input_ids, **kwargs):
            self.lm_head(self.transformer(input_ids, **kwargs).last_hidden_state)
            return super().forward(input_ids, **kwargs)

    twice = Twice(GPT2Config(**GPT2)).eval()
    with pytest.raises(UnmeasurableError, match="called its output layer 2 times in one pass"):
        collect_states(twice, windows())
    broken = small()
    broken.transformer.ln_f.bias.data[3] = torch.inf
    with pytest.raises(UnmeasurableError, match="hidden states that are not finite"):
        collect_states(broken, windows())
