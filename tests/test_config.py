"""Configs: what they accept, what they say, and that they survive a file."""

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import is_dataclass

import pytest
import torch

from wideneck import config as c
from wideneck import heads, sizes
from wideneck.errors import WideneckError

ODD = {
    "scaled, fixed": c.ScaledSoftmax(scale=2, learned=False),
    "shifted": c.Sigsoftmax(shift=-3.5, learned=True),
    "gss": c.GSS(bend=-1.5, slope=2.5, learned=True),
    "small plif": c.PLIF(num_knots=9, reach=4.0),
    "moc": c.MoC(num_components=1, projection="residual", dropout=0.29),
    "mixture of gss": c.Mixture(activation=c.GSS(slope=3.0), num_components=15),
    "mixture of plif": c.Mixture(activation=c.PLIF(num_knots=5), projection="residual"),
    "moss": c.Mixture(activation=c.Sigsoftmax(shift=1.0), dropout=0.5),
    "low rank": c.LowRank(rank=2),
    "narrow mos": c.Mixture(num_components=15, embedding_size=3),
    "narrow mos of one": c.Mixture(num_components=1, embedding_size=3),
    "narrow mixture of plif": c.Mixture(activation=c.PLIF(num_knots=5), embedding_size=3),
    "wide moc": c.MoC(embedding_size=80),
}
ALL = c.HEADS | ODD


def test_importing_the_configs_imports_no_torch():
    code = "import sys, wideneck.config; assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ALL)
def test_a_config_survives_json(name):
    config = ALL[name]
    text = json.dumps(c.to_dict(config))
    assert c.head_config(json.loads(text)) == config


def test_a_width_that_is_not_given_is_not_written():
    assert "embedding_size" not in c.to_dict(c.Mixture()) | c.to_dict(c.MoC())
    assert c.to_dict(c.Mixture(embedding_size=3))["embedding_size"] == 3
    assert c.head_config({"name": "mos", "context_size": 3}) == c.Mixture(embedding_size=3)


def test_a_config_is_read_from_toml():
    table = tomllib.loads(
        """
        [head]
        name = "mos"
        num_components = 8
        dropout = 0.29

        [head.activation]
        name = "gss"
        bend = -1.5
        slope = 3
        """
    )
    assert c.head_config(table["head"]) == c.Mixture(
        activation=c.GSS(bend=-1.5, slope=3), num_components=8, dropout=0.29
    )


def test_options_replace_the_fields_of_a_name_a_table_and_a_config():
    want = c.Mixture(activation=c.Sigsoftmax(), num_components=2)
    assert c.head_config("moss", num_components=2) == want
    assert c.head_config({"name": "moss", "num_components": 7}, num_components=2) == want
    assert c.head_config(c.Mixture(num_components=2), activation="sigsoftmax") == want


@pytest.mark.parametrize("name", c.HEADS)
def test_a_default_config_has_the_name_it_is_listed_under(name):
    assert c.name_of(c.HEADS[name]) == name
    assert c.head_config(name) is c.HEADS[name]


def test_every_kind_of_config_is_listed():
    kinds = [kind for kind in vars(c).values() if isinstance(kind, type) and is_dataclass(kind)]
    assert {type(config) for config in c.HEADS.values()} == set(kinds) - {c.Activation}


def test_tensors_become_numbers_in_a_file():
    k = torch.tensor([2.5], requires_grad=True)
    assert c.to_dict(c.GSS(slope=k))["slope"] == 2.5
    with pytest.raises(WideneckError, match="a head learns its own"):
        c.to_dict(c.PLIF(num_knots=3, values=torch.zeros(3)))


BAD = {
    "unknown name": (lambda: c.head_config("mosss"), "No head is called 'mosss'. Did you mean"),
    "a mixture as activation": (
        lambda: c.head_config("mos", activation=c.Mixture()),
        "Expected the name or config of one activation, got Mixture",
    ),
    "unknown activation": (lambda: c.activation_config("mos"), "No activation is called 'mos'"),
    "unknown option": (
        lambda: c.head_config("moss", num_component=3),
        "No option of head 'moss' is called 'num_component'. Did you mean 'num_components'?",
    ),
    "an option of none": (lambda: c.head_config("softmax", scale=2), "Known: none."),
    "no name": (lambda: c.head_config({"scale": 2}), "A table without a name is no head"),
    "a number for a head": (lambda: c.head_config(3), "Expected the name or config of one head"),
    "K = 0": (lambda: c.Mixture(num_components=0), "mos needs a whole number >= 1 for num_comp"),
    "K < 0": (lambda: c.MoC(num_components=-1), "got -1"),
    "K = 2.5": (lambda: c.Mixture(num_components=2.5), "got 2.5"),
    "K = True": (lambda: c.Mixture(num_components=True), "got True"),
    "K = '4'": (lambda: c.Mixture(num_components="4"), "got '4'"),
    "E = 0": (lambda: c.MoC(embedding_size=0), "moc needs a whole number >= 1 for embedding_size"),
    "E = 2.5": (
        lambda: c.Mixture(embedding_size=2.5),
        "mos needs a whole number >= 1 for embedding",
    ),
    "a residual of another width": (
        lambda: c.Mixture(activation=c.Sigsoftmax(), embedding_size=3, projection="residual"),
        "moss takes an embedding_size with projection 'tanh' alone",
    ),
    "rank 0": (lambda: c.LowRank(rank=0), "low_rank needs a whole number >= 1 for rank, got 0"),
    "one knot": (lambda: c.PLIF(num_knots=1), "plif needs a whole number >= 2 for num_knots"),
    "values of text": (lambda: c.PLIF(values="0"), "plif needs a tensor for values, got '0'"),
    "a list as shift": (lambda: c.Sigmoid(shift=[1.0]), "sigmoid needs a finite number for shift"),
    "an activation of a class": (lambda: c.Mixture(activation="gss"), "got 'gss'"),
    "projection": (lambda: c.MoC(projection="relu"), "'tanh' or 'residual', got 'relu'"),
    "dropout of 1": (lambda: c.Mixture(dropout=1), "0 <= dropout < 1, got 1"),
    "dropout below 0": (lambda: c.Mixture(dropout=-0.1), "0 <= dropout < 1, got -0.1"),
    "dropout of text": (lambda: c.Mixture(dropout="0.1"), "a finite number for dropout"),
    "learned as text": (lambda: c.GSS(learned="no"), "gss needs true or false for learned"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_config_is_one_sentence(case):
    make, message = BAD[case]
    with pytest.raises(WideneckError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


NUMBERS = [
    (c.ScaledSoftmax, "scale", True),
    (c.Sigsoftmax, "shift", False),
    (c.Sigmoid, "shift", False),
    (c.GSS, "bend", False),
    (c.GSS, "slope", True),
    (c.ReLU, "epsilon", True),
    (c.SoftCap, "cap", True),
    (c.PLIF, "reach", True),
    (c.Mixture, "dropout", False),
]


@pytest.mark.parametrize(("kind", "name", "positive"), NUMBERS)
def test_a_number_is_finite_and_no_text(kind, name, positive):
    bad = [float("nan"), float("inf"), -float("inf"), True, "1", None, [1.0]]
    for value in bad + ([0, -1.0] if positive else []):
        with pytest.raises(WideneckError, match="number"):
            kind(**{name: value})


def test_constants_of_a_form_are_no_tensors():
    for kind, name in ((c.SoftCap, "cap"), (c.ReLU, "epsilon"), (c.PLIF, "reach")):
        with pytest.raises(WideneckError, match="a finite number > 0"):
            kind(**{name: torch.tensor(1.0)})


def build(config, hidden_size, vocab_size=7, **options):
    return heads.build(config, hidden_size=hidden_size, vocab_size=vocab_size, **options)


@pytest.mark.parametrize("name", ALL)
def test_the_number_of_parameters_is_that_of_the_module(name):
    d, V = 70, 7
    head = build(ALL[name], d, V, device="meta")
    num = sum(p.numel() for p in head.parameters())
    assert num - d * V == sizes.num_parameters(ALL[name], d, V)


@pytest.mark.parametrize("name", ALL)
def test_the_formula_of_the_parameters_gives_their_number(name):
    config = ALL[name]
    names = {
        "d": 70,
        "V": 7,
        "E": getattr(config, "embedding_size", None),
        "r": getattr(config, "rank", 0),
        "K": getattr(config, "num_components", 0),
        "knots": getattr(getattr(config, "activation", config), "num_knots", 0),
    }
    formula = re.sub(r"(?<=\w) (?=[\w(])", " * ", sizes.parameters_formula(config)).replace(
        "^", "**"
    )
    assert eval(formula, names) == sizes.num_parameters(config, 70, 7)


@pytest.mark.parametrize("name", ALL)
def test_the_rank_bound_in_words_is_the_number_and_that_of_the_module(name):
    for bias in (False, True):
        head = build(ALL[name], 70, 100, bias=bias)
        words = sizes.rank_bound_formula(ALL[name])
        widths = {"d": 70, "r": getattr(ALL[name], "rank", 0)}
        widths["E"] = getattr(ALL[name], "embedding_size", None)
        assert words == "V" or words[1:] == " + 1 (+1 with bias)"
        assert head.rank_bound == (100 if words == "V" else widths[words[0]] + 1 + bias)


def test_what_is_linear_in_disguise_has_the_bound_of_the_softmax():
    assert c.GSS(slope=1).linear
    assert c.Mixture(num_components=1).linear
    assert not c.GSS(slope=1, learned=True).linear
    assert not c.Mixture(activation=c.Sigsoftmax(), num_components=1).linear


def test_no_rank_bound_exceeds_the_vocabulary():
    assert sizes.rank_bound(c.Softmax(), 64, 10, bias=True) == 10
    assert sizes.rank_bound(c.LowRank(), 64, 10, bias=True) == 10
    assert sizes.rank_bound(c.MoC(embedding_size=64), 5, 10) == 10


def test_a_mos_over_a_tied_embedding_has_the_parameters_of_the_paper_s():
    """Yang et al. 2018 on PTB: a last layer of 620 units, embeddings of 280, K = 15, a bias."""
    config = c.Mixture(num_components=15, embedding_size=280)
    head = build(config, 620, 10_000, bias=True, device="meta")
    want = 280 * 10_000 + 10_000 + 620 * 15 + 620 * 4200 + 4200
    assert sum(p.numel() for p in head.parameters()) == want
    assert sizes.num_parameters(config, 620, 10_000) == want - 620 * 10_000 - 10_000
