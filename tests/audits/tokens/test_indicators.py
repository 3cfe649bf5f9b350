"""Indicators of untrained tokens against loops in numpy, and what they may not depend on."""

import numpy as np
import torch

from wideneck.audits.tokens import Category, indicators, suspects
from wideneck.audits.tokens.references import references
from wideneck.audits.tokens.repaired import rows_at_mean, zero_rows

REFERENCES = [3, 50, 51]


def head(num_rows=300, d=24):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(num_rows, d, generator=generator) @ torch.randn(d, d, generator=generator)
    return weight + 2 * torch.randn(d, generator=generator)


def by_loops(weight, ids):
    """The formulas, a row at a time."""
    rows = weight.double().numpy()
    mu, r = rows.mean(0), rows[ids].mean(0)
    first = np.linalg.svd(rows - mu)[2][0]

    def cosine(x, y):
        return 1 - x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-300)

    def off(x):
        return x - (x @ first) * first

    return {
        "cosine": [cosine(w, r) for w in rows],
        "centred cosine": [cosine(w - mu, r - mu) for w in rows],
        "cosine without first component": [cosine(off(w - mu), off(r - mu)) for w in rows],
        "distance": [np.linalg.norm(w - r) for w in rows],
    }


def test_each_is_its_formula():
    weight = head()
    found, expected = indicators(weight, REFERENCES, tied=True), by_loops(weight, REFERENCES)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-9, atol=1e-12)


def test_a_constant_in_all_scores_changes_the_uncentred_cosine_only():
    weight = head().double()
    shifted = weight - 5 * torch.randn(24, generator=torch.Generator().manual_seed(1)).double()
    before, after = (indicators(w, REFERENCES, tied=True) for w in (weight, shifted))
    for name in ("centred cosine", "cosine without first component", "distance"):
        torch.testing.assert_close(before[name], after[name], rtol=1e-9, atol=1e-9)
    assert (before["cosine"] - after["cosine"]).abs().max() > 0.1


def test_rows_of_zeros_have_a_cosine():
    weight = head()
    weight[7] = 0
    found = indicators(weight, [7], tied=True)
    assert all(values.isfinite().all() for values in found.values())
    assert found["cosine"][7] == 1  # a row without direction is near to none


def test_an_untied_model_is_judged_by_its_input_rows():
    weight, embedding = head(), head(290, 8)
    embedding[100] = 0.01
    found = indicators(weight, [], tied=False, input_weight=embedding)
    assert found.keys() == {"input norm"}
    torch.testing.assert_close(found["input norm"][:290], embedding.double().norm(dim=1))
    assert found["input norm"][290:].isinf().all()
    assert indicators(weight, [], tied=True, input_weight=embedding) == {}
    assert suspects(found["input norm"], None)[0] == 100


def test_only_clean_tokens_are_suspects():
    kinds = [Category.OK, Category.PADDING, Category.OK, Category.SPECIAL, Category.UNDECODABLE]
    assert suspects(torch.tensor([3.0, 0.0, 1.0, 0.5, 0.1]), kinds) == [2, 0]


def test_references_are_of_every_certain_kind_and_unreachable_ones_where_there_is_no_other():
    kinds = [Category.OK] * 8
    kinds[1], kinds[2] = Category.UNREACHABLE_MULTI, Category.UNREACHABLE_SPECIAL
    ids, rows = references(kinds, [])
    assert ids == [1, 2]
    assert [(row.kind, row.num_rows, row.used) for row in rows] == [
        ("unreachable special", 1, True),
        ("unreachable multi", 1, True),
    ]
    kinds[3], kinds[4] = Category.NEVER_VALID_BYTE, Category.PADDING
    kinds[7] = Category.BEYOND
    ids, rows = references(kinds, [[5, 6]])
    assert ids == [3, 4, 5, 6, 7]
    assert {row.kind for row in rows if not row.used} == {
        "unreachable special",
        "unreachable multi",
    }
    assert references(None, [], [9]) == ([9], rows[:1])
    assert references(None, []) == ([], [])


def test_what_a_repair_made_is_found():
    """A row at the mean has at most 1/V everywhere and never comes first."""
    weight = head()
    kept = torch.ones(300, dtype=torch.bool)
    kept[[20, 21, 22]] = False
    weight[20] = weight[kept].mean(0)
    weight[21] = weight[kept].mean(0).bfloat16().float()
    weight[22] = 0
    assert rows_at_mean(weight) == [20, 21]
    assert zero_rows(weight) == [22]
    weight[20] = weight.double().mean(0).float()
    hidden = 3 * torch.randn(500, 24, generator=torch.Generator().manual_seed(2))
    probs = (hidden @ weight.T).softmax(-1)
    assert probs[:, 20].max() < 1.01 / 300
    assert not (probs.argmax(-1) == 20).any()


def test_rows_that_are_all_equal_are_not_called_repaired():
    assert rows_at_mean(torch.ones(5, 3)) == []
