"""What README and docs say of the default model: a real, pretrained one."""

import pytest

import wideneck as wn


@pytest.fixture(scope="module")
def report():
    return wn.audit()


def test_the_head_is_the_one_that_the_documents_describe(report):
    head = report.head
    assert (head.vocab_size, head.hidden_size, head.tied) == (49_152, 576, True)
    assert head.spectrum.raw.kl_sigma2 == pytest.approx(2.583, abs=0.003)
    assert head.spectrum.centred.kl_sigma2 == pytest.approx(0.501, abs=0.003)
    assert head.mean_row_share == pytest.approx(0.897, abs=0.002)


def test_every_token_is_decided(report):
    verdicts = report.head.argmaxable
    assert verdicts.num_distinct == 49_141
    assert verdicts.undecided == []
    assert verdicts.unargmaxable == []
    assert sum(verdicts.decided_by.values()) == 49_141
    assert [tie.tokens for tie in verdicts.ties] == [
        [ref.token for ref in group] for group in report.head.rows.duplicates
    ]


def test_the_rank_of_the_log_probabilities_meets_its_bound(report):
    assert report.output.rank.num_contexts >= 2000
    assert report.output.rank.press <= report.output.rank.bound == 577


def test_the_predicted_loss_at_rank_r_is_the_measured_one(report):
    """Whitened truncation, fitted on one half and measured on the other; docs/audit.md."""
    points = [
        point
        for point in report.output.rank_cost.points
        if point.method == "whitened" and 0.005 < point.measured.value < 0.4
    ]
    assert len(points) >= 5
    for point in points:
        assert point.predicted == pytest.approx(point.measured.value, rel=0.07), point.rank


def test_the_report_is_one_small_file(report):
    assert len(report.to_html_text().encode()) < 1_000_000
