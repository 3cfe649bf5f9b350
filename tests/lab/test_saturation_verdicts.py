"""Every verdict on a statement about saturation says yes, no and undecided where it should."""

from dataclasses import replace

import pytest

from wideneck.audits.estimate import Estimate
from wideneck.lab.published import published_results
from wideneck.lab.saturation import verdicts
from wideneck.lab.saturation.arms import Arm
from wideneck.lab.saturation.ngram_run import Ngrams
from wideneck.lab.saturation.ngrams import NgramDimensionality, NgramSpectrum
from wideneck.lab.saturation.widths import Width
from wideneck.lab.spread import Spread, paired
from wideneck.lab.verdict import CONSISTENT, CONTRADICTED, DESCRIBED, NOT_MEASURED, UNDECIDED

LONG = 300_000_000_000
SHORT = 327_680
UP, DOWN, FLAT, NOISE = [0.10, 0.11, 0.12], [-0.10, -0.11, -0.12], [0.0] * 3, [-0.1, 0.0, 0.2]


def word(said):
    return said[1].partition(":")[0]


def width(rise, train_fall, d=16):
    figures = {name: Spread(mean=1.0, std=None) for name in ("kl_sigma2_lowest", "kl_sigma2")}
    return Width(
        width=d,
        num_parameters=100,
        num_embedding_parameters=50,
        learning_rate=1e-3,
        figures=figures,
        rise=paired(rise),
        train_fall=paired(train_fall),
    )


@pytest.mark.parametrize(
    ("widths", "tokens", "expected"),
    [
        ([width(UP, DOWN)], SHORT, CONSISTENT),  # the training loss rises with it
        ([width(FLAT, FLAT), width(UP, DOWN)], LONG, CONSISTENT),
        ([width(UP, UP), width(UP, DOWN)], LONG, CONSISTENT),  # one is enough
        ([width(UP, UP)], LONG, UNDECIDED),  # overfitting
        ([width(UP, NOISE)], LONG, UNDECIDED),
        ([width(FLAT, FLAT)], LONG, CONTRADICTED),
        ([width([0.0, 0.0, 0.001], FLAT)], LONG, CONTRADICTED),  # a rise below the paper's least
        ([width(FLAT, FLAT)], SHORT, UNDECIDED),  # too short to deny what comes late
        ([width(FLAT, FLAT), width([0.0, 0.0, 0.2], FLAT)], LONG, UNDECIDED),
        ([width([0.1], [-0.1])], LONG, UNDECIDED),  # one seed
        # The final loss less the lowest of all is above 0 wherever there is noise.
        ([width([1e-4, 1.1e-4, 1.2e-4], DOWN)], LONG, CONTRADICTED),
        ([width([0.004, 0.005, 0.006], DOWN)], LONG, UNDECIDED),
    ],
)
def test_saturation_is_a_late_rise_without_overfitting(widths, tokens, expected):
    assert word(verdicts.saturation(widths, tokens)) == expected


def test_only_training_as_long_as_the_papers_contradicts_what_comes_late():
    published = published_results("saturation")
    steps = [row.value for row in published.find(measure="step of the best loss")]
    assert verdicts.TURNED >= max(steps) / 143_000 * LONG
    best, final = (
        {row.row: row.value for row in published.find(table="Figure 1a", measure=f"{when}, nats")}
        for when in ("best loss", "final loss")
    )
    rises = [final[name] - value for name, value in best.items()]
    assert min(rises) == pytest.approx(verdicts.LEAST_RISE)
    still = [width(FLAT, FLAT)]
    assert word(verdicts.saturation(still, int(verdicts.TURNED))) == CONTRADICTED
    assert word(verdicts.saturation(still, int(verdicts.TURNED) - 1)) == UNDECIDED


def ends(name, low, high):
    """A width whose interval of this name ends there, and whose other one is far from 0."""
    some = width(UP, DOWN)
    return replace(some, **{name: replace(getattr(some, name), low=low, high=high)})


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        # A rise counts from the least of the paper's on; one that ends there does not exclude it.
        (ends("rise", verdicts.LEAST_RISE - 1e-9, 0.1), UNDECIDED),
        (ends("rise", verdicts.LEAST_RISE, 0.1), CONSISTENT),
        (ends("rise", -0.1, verdicts.LEAST_RISE), UNDECIDED),
        (ends("rise", -0.1, verdicts.LEAST_RISE - 1e-9), CONTRADICTED),
        # A training loss whose interval reaches 0 is not told to fall, nor to rise.
        (ends("train_fall", -0.1, 0.0), UNDECIDED),
        (ends("train_fall", -0.1, -1e-9), CONSISTENT),
    ],
)
def test_an_interval_that_ends_at_a_limit_reaches_it(one, expected):
    assert word(verdicts.saturation([one], LONG)) == expected


@pytest.mark.parametrize(("low", "told"), [(0.0, False), (1e-9, True)])
def test_a_training_loss_falls_where_its_interval_leaves_0_out(low, told):
    _, verdict = verdicts.saturation([ends("train_fall", low, 0.1)], LONG)
    assert ("which the paper does not mean" in verdict) is told


def test_overfitting_and_a_rise_that_is_not_told_are_named_apart():
    ours, verdict = verdicts.saturation([width(UP, UP, 32), width(FLAT, FLAT, 64)], LONG)
    assert "rises late at d = 32;" in ours
    assert "overfitting, which the paper does not mean" in verdict
    ours, verdict = verdicts.saturation([width(UP, UP, 32), width(UP, NOISE, 64)], LONG)
    assert "at d = 64 is not told" in ours


def test_the_entropy_is_described():
    assert word(verdicts.entropy([width(FLAT, FLAT)])) == DESCRIBED


def gap(low, high):
    return Estimate(
        value=(low + high) / 2,
        low=low,
        high=high,
        over="documents",
        num_groups=12,
        effective_groups=12.0,
    )


LOSES, SPARED, OPEN = gap(0.1, 0.2), gap(-0.01, 0.04), gap(0.01, 0.09)
NONE = gap(0.0, 0.0)
UNKNOWN = Estimate(
    value=1.0, low=None, high=None, over="windows", num_groups=1, effective_groups=1.0
)


def arm(rank, full_gap, *, w_error=0.5, start="whitened", d=2048):
    zero = gap(0.0, 0.0)
    return Arm(
        rank=rank,
        share=rank / d,
        start=start,
        learning_rate=1e-3,
        num_seeds=3,
        w_error=w_error,
        w_error_centred=w_error,
        first=zero,
        first_gap=zero,
        trained=zero,
        trained_gap=zero,
        full_gap=full_gap,
        over_seeds=Spread(mean=0.0, std=0.0),
        slope=0.0,
        plain=None,
        whitened=None,
    )


def with_full(arms, d=2048):
    """Beside the head of full rank, factored and not, which no statement is about."""
    return [*arms, arm(d, NONE, w_error=0.0), arm(d, NONE, w_error=0.0, start="own")]


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([LOSES, LOSES, LOSES], CONSISTENT),
        ([LOSES, LOSES, SPARED], CONTRADICTED),  # however much the smaller ones lose
        ([SPARED, LOSES, OPEN], CONTRADICTED),
        ([LOSES, LOSES, OPEN], UNDECIDED),
        ([LOSES, LOSES, UNKNOWN], UNDECIDED),
        ([gap(0.05, 0.2)], UNDECIDED),  # an interval that reaches 0.05 itself
        ([gap(0.0, 0.05)], UNDECIDED),
        ([], NOT_MEASURED),
    ],
)
def test_the_rank_claim_is_about_every_rank_below_1000(gaps, expected):
    arms = [arm(rank, one) for rank, one in zip((8, 512, 999), gaps, strict=False)]
    assert word(verdicts.rank(with_full(arms))) == expected
    # What lies at 1000 or above, or started at random, is another statement.
    for other in (arm(1000, SPARED), arm(1024, LOSES), arm(8, SPARED, start="random")):
        assert word(verdicts.rank(with_full([*arms, other]))) == expected


def test_the_rank_claim_of_a_narrow_model_says_that_d_is_below_1000_itself():
    """A head of rank 384 as good as one of 576 is no word on what rank 1000 would give."""
    arms = [arm(8, LOSES), arm(384, SPARED), arm(432, OPEN)]
    ours, verdict = verdicts.rank(with_full(arms, d=576))
    assert verdict.startswith(UNDECIDED)
    assert "1000" in verdict
    assert "against rank d = 576, more than 0.05 nats are lost at r = 8, less at r = 384" in ours
    assert "not told at r = 432" in ours
    assert ours.endswith("d itself is below 1000")
    assert word(verdicts.rank(with_full([arm(8, LOSES), arm(384, LOSES)], d=576))) == CONSISTENT
    assert word(verdicts.rank(with_full([arm(8, LOSES), arm(384, OPEN)], d=576))) == UNDECIDED
    assert word(verdicts.rank(with_full(arms, d=1000))) == CONTRADICTED
    assert "itself" not in verdicts.rank(with_full([arm(8, LOSES)]))[0]


@pytest.mark.parametrize(
    ("control", "spared", "losing"),
    [
        (NONE, CONTRADICTED, CONSISTENT),
        (gap(-0.009, 0.049), CONTRADICTED, CONSISTENT),
        (gap(-0.096, -0.058), UNDECIDED, CONSISTENT),  # the factors gain what the rank may lose
        (gap(0.04, 0.06), CONTRADICTED, UNDECIDED),  # the factors lose it, not the rank
        (UNKNOWN, UNDECIDED, UNDECIDED),
    ],
)
def test_what_two_factors_of_full_rank_gain_is_no_doing_of_the_rank(control, spared, losing):
    """Factors and one matrix share a rate, which alone moved the ones of rank d by 0.077."""
    full = [arm(2048, control, w_error=0.0), arm(2048, NONE, w_error=0.0, start="own")]
    for gaps, expected in ((SPARED, spared), (LOSES, losing)):
        assert word(verdicts.rank([arm(8, gaps), *full])) == expected
    arms = [arm(64, NONE, w_error=0.5), arm(8, LOSES, w_error=0.7), *full]
    told = (spared, losing) == (CONTRADICTED, CONSISTENT)
    assert word(verdicts.w_error(arms)) == (CONSISTENT if told else UNDECIDED)


@pytest.mark.parametrize(
    ("within", "beyond", "expected"),
    [
        ([SPARED, SPARED], [LOSES], CONSISTENT),
        ([SPARED, LOSES], [LOSES], CONTRADICTED),  # suffers before 0.6
        ([LOSES, SPARED], [LOSES], CONTRADICTED),
        ([SPARED], [LOSES, SPARED], CONTRADICTED),  # does not suffer beyond
        ([SPARED, OPEN], [LOSES], UNDECIDED),
        ([SPARED], [OPEN], UNDECIDED),
        ([SPARED], [UNKNOWN], UNDECIDED),
        ([SPARED], [], NOT_MEASURED),
        ([], [LOSES], NOT_MEASURED),
    ],
)
def test_the_w_error_claim_is_about_both_sides_of_a_threshold(within, beyond, expected):
    arms = [arm(8, one, w_error=0.61) for one in beyond]
    arms += [arm(64, one, w_error=error) for one, error in zip(within, (0.3, 0.6), strict=False)]
    assert word(verdicts.w_error(with_full(arms))) == expected


def ngrams(half, null, *, found=5000, order=5):
    spectrum = NgramSpectrum(
        errors=[], half=half, half_null=null, off_diagonal_share=0.1, num_eigenvalues=found
    )
    one = NgramDimensionality(
        order=order,
        num_predictions=10,
        num_contexts=10,
        num_columns=10,
        seen_once_share=0.5,
        one_hot_share=0.5,
        unweighted=spectrum,
        weighted=replace(spectrum, half=1),
    )
    return Ngrams(tokens="words", vocab_size=10, num_tokens=100, orders=[one])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ngrams(1500, 1700), CONSISTENT),
        (ngrams(1000, 1700), CONSISTENT),
        (ngrams(2000, 2300), CONSISTENT),
        (ngrams(999, 1700), CONTRADICTED),
        (ngrams(2001, 2300), CONTRADICTED),
        (ngrams(1500, 1500), UNDECIDED),  # the null's own: nothing of contexts
        (ngrams(577, 577), UNDECIDED),
        (ngrams(1900, 2000), UNDECIDED),
        (ngrams(1899, 2000), CONSISTENT),
        (ngrams(None, 5000, found=1000), UNDECIDED),
        (ngrams(1500, 1700, order=4), NOT_MEASURED),
    ],
)
def test_the_dimensions_are_judged_where_the_curve_is_not_its_null(found, expected):
    assert word(verdicts.dimensions(found)) == expected


def test_every_statement_stands_beside_its_verdict():
    arms = with_full([arm(8, LOSES, w_error=0.9), arm(432, LOSES, w_error=0.3)])
    found = verdicts.claims(
        published_results("saturation"),
        [width(FLAT, FLAT)],
        arms,
        [ngrams(1, 1), ngrams(1500, 1700)],
        LONG,
    )
    assert {one.published.name: one.words.partition(":")[0] for one in found} == {
        "saturation": CONTRADICTED,
        "entropy": DESCRIBED,
        "rank": CONSISTENT,
        "w-error": CONTRADICTED,
        "dimensions": CONSISTENT,  # of the last tokenization
    }
