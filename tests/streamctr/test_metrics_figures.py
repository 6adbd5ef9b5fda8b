import math
from bisect import bisect_left, bisect_right

import numpy as np
import pytest
from river import metrics

from streamctr.metrics.figures import BINS, bin_of
from streamctr.metrics.for_river import AUC, PRAUC, NormalisedEntropy
from streamctr.metrics.running import HeadFigures

NOTHING = {"rows": 0, "base_rate": None, "auc": None, "pr_auc": None, "nll": None, "ne": None, "pcoc": None}


def sample(base_rate, n=20_000, seed=0):
    """Labels, and logits that know something of them."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < base_rate).astype(np.uint8)
    return labels, random.normal(math.log(base_rate / (1 - base_rate)) + labels, 1.0)


def exact_auc(labels, logits):
    """How often a positive stands above a negative, pair by pair, ties half."""
    negatives = sorted(x for x, y in zip(logits, labels, strict=True) if not y)
    positives = [x for x, y in zip(logits, labels, strict=True) if y]
    won = sum((bisect_left(negatives, x) + bisect_right(negatives, x)) / 2 for x in positives)
    return won / (len(negatives) * len(positives))


def exact_average_precision(labels, logits):
    """Mean of the precision at each positive, from the top (no ties)."""
    found, total = 0, 0.0
    for rank, (_, label) in enumerate(sorted(zip(logits, labels, strict=True), reverse=True), start=1):
        found += int(label)
        total += found / rank if label else 0.0
    return total / found


def of(labels, logits):
    head = HeadFigures()
    head.update_many(np.array(labels), np.array(logits, np.float64))
    return head.get()


def test_four_rows_give_the_figures_worked_out_by_hand():
    three = math.log(3)  # p = 3/4
    got = of([1, 0, 1, 0], [three, 0.0, 0.0, -three])
    assert got["rows"] == 4
    assert got["base_rate"] == 0.5
    assert got["auc"] == (1 + 1 + 0.5 + 1) / 4  # the pair at 0 is a tie
    # from the top: 1 of 1; then both at 0 together: 2 of 3, which is the precision of the second positive
    assert got["pr_auc"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    nll = (2 * math.log(4 / 3) + 2 * math.log(2)) / 4
    assert got["nll"] == pytest.approx(nll, abs=1e-15)
    assert got["ne"] == pytest.approx(nll / math.log(2), abs=1e-15)
    assert got["pcoc"] == pytest.approx((0.75 + 0.5 + 0.5 + 0.25) / 2, abs=1e-15)


def test_always_predicting_the_base_rate_has_a_normalised_entropy_and_a_pcoc_of_one():
    got = of([1, 0, 0, 0], [math.log(1 / 3)] * 4)
    assert got["ne"] == pytest.approx(1, abs=1e-12)
    assert got["pcoc"] == pytest.approx(1, abs=1e-12)
    assert got["auc"] == 0.5


def test_what_is_undefined_is_none():
    assert HeadFigures().get() == NOTHING
    only_negatives = of([0, 0], [0.0, 0.0])
    assert only_negatives == {**NOTHING, "rows": 2, "base_rate": 0.0, "nll": pytest.approx(math.log(2))}
    only_positives = of([1], [0.0])
    assert only_positives == {**NOTHING, "rows": 1, "base_rate": 1.0, "nll": pytest.approx(math.log(2)), "pcoc": 0.5}


def test_the_likelihood_stays_exact_where_a_probability_would_round_to_one():
    assert of([0], [50.0])["nll"] == 50.0  # log(1 + e^50) = 50 + 2e-22
    assert of([1], [-800.0])["nll"] == 800.0
    assert of([1], [50.0])["nll"] == pytest.approx(math.exp(-50), rel=1e-12)


def test_logits_beyond_the_bins_go_to_the_outermost():
    assert [bin_of(x) for x in (-1e9, -24.0, 0.0, 23.999, 24.0, 1e9)] == [0, 0, BINS // 2, BINS - 1, BINS - 1, BINS - 1]


@pytest.mark.parametrize("base_rate", [0.5, 0.01])
def test_binned_areas_are_the_exact_ones_within_1e_4_and_5e_4(base_rate):
    labels, logits = sample(base_rate)
    got = of(labels, logits)
    assert abs(got["auc"] - exact_auc(logits=logits.tolist(), labels=labels.tolist())) < 1e-4
    assert abs(got["pr_auc"] - exact_average_precision(labels.tolist(), logits.tolist())) < 5e-4


def test_two_accumulators_merged_are_one_that_saw_everything():
    labels, logits = sample(0.2, n=1000)
    first, second = HeadFigures(), HeadFigures()
    first.update_many(labels[:300], logits[:300])
    second.update_many(labels[300:], logits[300:])
    first += second
    whole = of(labels, logits)
    assert first.get() == pytest.approx(whole, rel=1e-12)
    assert (first.get()["auc"], first.get()["pr_auc"]) == (whole["auc"], whole["pr_auc"])


def test_one_row_at_a_time_and_all_at_once_agree_to_the_bit():
    labels, logits = sample(0.2, n=300)
    single = HeadFigures()
    for label, logit in zip(labels, logits, strict=True):
        single.update(bool(label), float(logit))
    assert single.get() == of(labels, logits)


def test_a_weight_counts_a_row_so_many_times_and_a_negative_one_takes_it_out():
    head = HeadFigures()
    head.update(True, 1.0, w=2)
    head.update(False, 0.5)
    head.update(False, 3.0)
    head.update(False, 3.0, w=-1)
    assert head.get() == pytest.approx(of([1, 1, 0], [1.0, 1.0, 0.5]), rel=1e-12)


def test_a_logit_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        HeadFigures().update(True, math.nan)


def test_the_nll_is_what_river_computes_from_the_probabilities():
    labels, logits = sample(0.3, n=500)
    theirs = metrics.LogLoss()
    for label, logit in zip(labels, logits, strict=True):
        theirs.update(bool(label), 1 / (1 + math.exp(-logit)))
    assert of(labels, logits)["nll"] == pytest.approx(theirs.get(), rel=1e-12)


def test_river_drives_the_areas_with_probabilities_as_it_does_its_own():
    labels, logits = sample(0.02, n=3000)
    both = metrics.base.Metrics([AUC(), metrics.LogLoss(), PRAUC(), NormalisedEntropy()])
    for label, logit in zip(labels, logits, strict=True):
        p = 1 / (1 + math.exp(-logit))
        both.update(bool(label), {True: p, False: 1 - p})
    whole = of(labels, logits)
    assert both.get() == pytest.approx([whole["auc"], whole["nll"], whole["pr_auc"], whole["ne"]], abs=1e-5)


def test_in_river_a_row_can_be_reverted_a_metric_cloned_and_compared():
    metric = AUC()
    for label, p in [(True, 0.9), (False, 0.1), (True, 0.2)]:
        metric.update(label, p)
    metric.update(False, 0.8)
    metric.revert(False, 0.8)
    assert metric.get() == 1.0
    fresh = metric.clone()
    assert math.isnan(fresh.get())
    assert metric.bigger_is_better
    assert not NormalisedEntropy().bigger_is_better
