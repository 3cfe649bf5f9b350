import pytest

from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.lab.registry import Request
from wideneck.lab.sigsoftmax.recipes import MATCHED, SCALES, data_of, num_parameters, recipes
from wideneck.lab.sigsoftmax.reproduction import reproduce

VOCABULARY = 10_000


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def arms(request):
    return recipes(SCALES["small"][request.param], None, counts(60_000))


def counts(train: int, vocab_size: int = VOCABULARY) -> dict[str, int]:
    return {"train": train, "vocab_size": vocab_size}


def test_every_head_of_the_paper_and_every_control_is_run(arms):
    heads = [recipe.head for recipe in arms.values()]

    scales = [(h.scale, h.learned) for h in heads if isinstance(h, c.ScaledSoftmax)]
    assert scales == [(1.5, False), (2.0, False), (1.0, True)]
    kinds = {type(h) for h in heads}
    assert kinds >= {c.Softmax, c.Sigsoftmax, c.ReLU, c.Sigmoid, c.GSS, c.PLIF, c.MoC, c.Mixture}
    mixed = {type(h.activation) for h in heads if isinstance(h, c.Mixture)}
    assert mixed == {c.Softmax, c.Sigsoftmax}


def test_arms_differ_from_the_softmax_in_their_head_alone(arms):
    base = arms["softmax"].to_dict()
    for name, recipe in arms.items():
        other = recipe.to_dict()
        different = {key for key in base if base[key] != other[key]}
        assert different <= {"head"} if name != MATCHED else different == {"model"}


def test_every_text_is_read_until_as_many_tokens_are_seen(arms):
    small = SCALES["small"]["lstm"]
    of_wikitext2 = recipes(small, None, counts(2_088_628))["softmax"].training
    of_a_short_one = arms["softmax"].training

    assert of_wikitext2.epochs == of_wikitext2.evaluate_every == 0.16
    assert of_a_short_one.epochs * 60_000 == pytest.approx(0.16 * 2_088_628, rel=1e-4)


def test_the_control_is_the_narrowest_with_no_fewer_parameters_than_the_mixtures(arms):
    matched = arms[MATCHED]
    wanted = num_parameters(arms["MoS"], VOCABULARY)

    assert isinstance(matched.head, c.Softmax)
    assert wanted <= num_parameters(matched, VOCABULARY) < 1.02 * wanted


@pytest.mark.parametrize(
    ("data", "single", "mixture"),
    [("PTB", 24_221_600, 21_500_620), ("WikiText-2", 33_556_078, 34_909_528)],
)
def test_the_papers_scale_has_the_papers_parameters(data, single, mixture):
    vocab_size = {"PTB": 10_000, "WikiText-2": 33_278}[data]
    arms = recipes(SCALES["paper"][data], None, counts(0, vocab_size))

    assert num_parameters(arms["sigsoftmax"], vocab_size) == single
    assert num_parameters(arms["MoSS"], vocab_size) == mixture
    assert arms["PLIF"].head.num_knots == 100_000


def test_a_text_is_known_by_its_counts():
    wikitext = {"train": 2_088_628, "valid": 217_646, "test": 245_569, "vocab_size": 33_278}
    assert data_of(wikitext) == "WikiText-2"
    assert data_of(wikitext | {"vocab_size": 33_277}) is None
    assert data_of({"valid": 73_760, "test": 82_430, "vocab_size": 10_000}) == "PTB"


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(WideneckError, match="Did you mean 'transformer'"):
        reproduce(Request(paper="sigsoftmax", model="transfomer"), lambda *_: None)
