"""Measures of a probability that a question has an answer: AUROC, risk and coverage, refusals, calibration."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medcards.base.stats import Bootstrap
from medcards.search.answerability import Answerability
from medcards.search.selective import (
    COVERAGES,
    answerability_metrics,
    auroc,
    calibration_error,
    coverage_at_risk,
    refused_at,
    reliability,
    risk_area,
    risk_curve,
    risk_of,
    risks,
    selective_curves,
    selective_metrics,
)

ONCE = np.ones((1, 4))
PROBABILITY, CORRECT = np.array([0.1, 0.8, 0.9, 0.8]), np.array([0, 1, 1, 0])
"""Two questions have the same probability. Coverage is 1/4, 3/4 and 1; risk is 0, 1/3 and 1/2."""


def test_auroc_is_that_of_scikit_learn_with_weights_and_ties():
    random = np.random.default_rng(0)
    probability, answerable = random.integers(8, size=60) / 8, random.integers(2, size=60)
    weights = Bootstrap(random.integers(20, size=60), seed=0).row_counts()[:50]
    expected = [roc_auc_score(answerable, probability, sample_weight=counts) for counts in weights]
    assert auroc(probability, answerable, weights) == pytest.approx(np.array(expected))


def test_auroc_of_an_order_its_reverse_and_one_probability():
    answerable = np.array([1, 1, 0, 0])
    for probability, expected in (([0.9, 0.8, 0.2, 0.1], 1), ([0.1, 0.2, 0.8, 0.9], 0), ([0.5] * 4, 0.5)):
        assert auroc(np.array(probability), answerable, ONCE).tolist() == [expected]
    assert np.isnan(auroc(PROBABILITY, np.ones(4), ONCE)).all()  # no question is unanswerable


def test_risks_have_one_threshold_for_equal_probabilities():
    coverage, risk = risks(PROBABILITY, CORRECT, ONCE)
    assert coverage.tolist() == [[0.25, 0.75, 1.0]]
    assert risk[0] == pytest.approx([0, 1 / 3, 1 / 2])


def test_a_question_that_a_resample_has_twice_counts_twice():
    """The questions with a probability of 0.8 are there twice and never."""
    coverage, risk = risks(PROBABILITY, CORRECT, np.array([[1, 2, 0, 0]]))
    assert coverage[0] == pytest.approx([0, 2 / 3, 1]) and risk[0] == pytest.approx([0, 0, 1 / 3])


def test_risk_area():
    """The first question is right. Of the next two one is right, and the last one is wrong."""
    halves, last = 1 - 0.5 * np.log(3), 1 + (1 - 3) * np.log(4 / 3)
    assert risk_area(PROBABILITY, CORRECT, ONCE)[0] == pytest.approx((halves + last) / 4)
    steps = (np.arange(1000) + 0.5) / 1000  # the same curve in small steps of coverage
    curve = [*0 * steps, *steps / (1 + 2 * steps), *steps / (1 + 2 * steps), *(1 + steps) / (3 + steps)]
    assert risk_area(PROBABILITY, CORRECT, ONCE)[0] == pytest.approx(np.mean(curve), abs=1e-6)
    assert risk_area(PROBABILITY, np.ones(4), ONCE)[0] == 0
    assert risk_area(PROBABILITY, np.zeros(4), ONCE)[0] == 1


def test_risk_area_does_not_depend_on_the_number_of_thresholds():
    """Each question counts twice, or stands there twice. Some weights are 0."""
    random = np.random.default_rng(0)
    probability, correct = random.random(30), random.integers(2, size=30)
    weights = random.integers(3, size=(20, 30)).astype(float)
    once = risk_area(probability, correct, weights)
    assert risk_area(probability, correct, 2 * weights) == pytest.approx(once)
    twice = risk_area(np.tile(probability, 2), np.tile(correct, 2), np.tile(weights, 2))
    assert twice == pytest.approx(once)
    kept = weights[0] > 0
    assert risk_area(probability[kept], correct[kept], weights[:1, kept]) == pytest.approx(once[:1])


def test_the_risk_area_of_perfect_probabilities_lies_in_its_interval():
    """Of few questions, each asked with its answer and without."""
    answerable, group = np.repeat([1.0, 0.0], 12), np.tile(np.arange(12), 2)
    probability = np.linspace(1, 0, 24)
    found = Bootstrap(group, seed=0).statistic(partial(risk_area, probability, answerable))
    assert found["lo"] == pytest.approx(found["mean"]) == found["hi"]
    assert found["mean"] == pytest.approx(0.5 - 0.5 * np.log(2))


@pytest.mark.parametrize(("risk", "coverage"), [(0.0, 0.25), (0.3, 0.25), (0.34, 0.75), (0.5, 1.0)])
def test_coverage_at_risk(risk, coverage):
    assert coverage_at_risk(PROBABILITY, CORRECT, risk, ONCE).tolist() == [coverage]


def test_coverage_at_risk_is_0_where_every_threshold_has_more_risk():
    assert coverage_at_risk(PROBABILITY, np.zeros(4), 0.05, ONCE).tolist() == [0]


def test_the_risk_of_the_answered_questions():
    answered, correct = np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0])
    weights = np.array([[1, 1, 1, 1], [2, 1, 0, 5], [0, 0, 0, 1]])
    assert risk_of(answered, correct, weights) == pytest.approx([2 / 3, 1 / 3, 0])


def test_measures_are_numbers_where_all_questions_are_refused():
    found = selective_metrics(asked(groups=40), refuse_below=2.0, share=0.05, seed=0)
    assert all(np.isfinite(list(measured.values())).all() for measured in found.values())
    assert found["served_coverage"]["mean"] == found["served_risk"]["mean"] == 0 and found["refusals"]["mean"] == 1


def test_refused_at_a_share_of_false_refusals():
    """Of three answerable questions, a third may be refused at a share of 0.34, and none at 0.05."""
    probability, answerable = np.array([0.9, 0.7, 0.6, 0.3, 0.2]), np.array([1, 1, 0, 1, 0])
    weights = np.ones((1, 5))
    assert refused_at(probability, answerable, 0.34, weights).tolist() == [1.0]
    assert refused_at(probability, answerable, 0.05, weights).tolist() == [0.5]
    assert refused_at(np.full(5, 0.5), answerable, 0.34, weights).tolist() == [0.0]


def test_refused_at_allows_exactly_the_share():
    """The share of 100 answerable questions that lie below the only other question is the share that is allowed."""
    for below in range(1, 50):
        answerable = np.array([1] * (100 - below) + [0] + [1] * below)
        probability = np.linspace(1, 0, 101)
        assert refused_at(probability, answerable, below / 100, np.ones((1, 101))).tolist() == [1.0], below


def test_calibration_error():
    """The gaps of three bins are 0.05, 0.85 and 0.15. In one bin, a gap above and one below cancel."""
    found = calibration_error(np.array([0.95, 0.85, 0.15]), np.array([1, 0, 0]), np.ones((1, 3)))
    assert found[0] == pytest.approx((0.05 + 0.85 + 0.15) / 3)
    assert calibration_error(np.array([0.92, 0.98]), np.array([1, 0]), np.ones((1, 2)))[0] == pytest.approx(0.45)
    assert calibration_error(np.array([1.0, 0.0]), np.array([1, 0]), np.ones((1, 2)))[0] == 0
    assert calibration_error(np.array([0.9, 0.1]), np.array([1, 1]), np.array([[3, 1]]))[0] == pytest.approx(1.2 / 4)


def asked(groups: int, seed: int = 0) -> pd.DataFrame:
    """100 questions, asked with their answer and without."""
    random = np.random.default_rng(seed)
    answerable = np.repeat([True, False], 100)
    return pd.DataFrame(
        {
            "split": "validation",
            "query_set": "own",
            "group": np.tile(random.integers(groups, size=100), 2),
            "deck": np.where(answerable, "whole", "hidden"),
            "answerable": answerable,
            "correct": answerable & (random.random(200) < 0.8),
            "probability": np.clip(0.5 + 0.2 * (2 * answerable - 1) + random.normal(scale=0.2, size=200), 0, 1),
        }
    )


MEASURES = {
    "auroc",
    "risk_area",
    "coverage_at_risk",
    "refused_at_share",
    "calibration_error",
    "false_refusals",
    "refusals",
    "served_coverage",
    "served_risk",
}


def test_selective_metrics_hold_their_values_in_their_intervals():
    table = asked(groups=40)
    found = selective_metrics(table, refuse_below=0.4, share=0.05, seed=0)
    assert set(found) == MEASURES
    for name, measured in found.items():
        assert set(measured) == {"mean", "lo", "hi", "n"}
        if name != "calibration_error":  # resamples are less well calibrated than the questions
            assert measured["lo"] <= measured["mean"] <= measured["hi"] > measured["lo"], name
        assert measured["n"] == (100 if name in ("false_refusals", "refusals") else 200)
    refused = table.probability < 0.4
    assert found["false_refusals"]["mean"] == pytest.approx(refused[table.answerable].mean())
    assert found["refusals"]["mean"] == pytest.approx(refused[~table.answerable].mean())
    assert found["served_coverage"]["mean"] == pytest.approx(1 - refused.mean())
    assert found["served_risk"]["mean"] == pytest.approx(1 - table.correct[~refused].mean())
    assert found["auroc"]["mean"] == pytest.approx(roc_auc_score(table.answerable, table.probability))


def test_questions_of_one_group_are_resampled_as_a_whole():
    """Then every resample has the same questions, and the intervals have no width."""
    for name, measured in selective_metrics(asked(groups=1), 0.4, 0.05, seed=0).items():
        assert measured["lo"] == pytest.approx(measured["mean"]) == measured["hi"], name
    curve = risk_curve(asked(groups=1), seed=0)
    assert curve.lo.to_numpy() == pytest.approx(curve["mean"].to_numpy()) == curve.hi.to_numpy()


def test_a_probability_at_the_threshold_is_not_refused():
    table = asked(groups=40).assign(probability=0.5)
    assert selective_metrics(table, 0.5, 0.05, seed=0)["refusals"]["mean"] == 0


def test_risk_curve():
    """The first threshold that covers a half of the questions covers 3/4 of them."""
    table = pd.DataFrame({"probability": PROBABILITY, "correct": CORRECT, "group": range(4)})
    curve = risk_curve(table, seed=0).set_index("coverage")
    assert list(curve.index) == COVERAGES
    assert curve["mean"][0.25] == 0 and curve["mean"][1.0] == 0.5
    assert curve["mean"][0.5] == curve["mean"][0.75] == pytest.approx(1 / 3)
    assert (curve.lo <= curve["mean"]).all() and (curve["mean"] <= curve.hi).all()


def test_reliability_has_one_row_per_bin_with_questions():
    table = pd.DataFrame(
        {"probability": [0.02, 0.04, 0.55, 1.0], "answerable": [False, True, True, True], "group": range(4)}
    )
    found = reliability(table, seed=0)
    assert found.bin.tolist() == [0, 5, 9] and found.n.tolist() == [2, 1, 1]
    assert found.probability.tolist() == pytest.approx([0.03, 0.55, 1.0])
    assert found["mean"].tolist() == [0.5, 1, 1]


MODEL = Answerability(
    features=["margin"],
    means=[0.0],
    scales=[1.0],
    weights=[1.0],
    intercept=0.0,
    usual_similarity=0.0,
    refuse_below=0.4,
)


def test_answerability_metrics_are_by_split_and_query_set():
    own = asked(groups=40)
    table = pd.concat([own, own.assign(query_set="typos"), own.assign(split="test")], ignore_index=True)
    found = answerability_metrics(table, MODEL, 0.05, seed=0)
    assert found["model"] == MODEL.model_dump()
    assert {split: set(found[split]) for split in ("validation", "test")} == {
        "validation": {"own", "typos"},
        "test": {"own"},
    }
    assert found["test"]["own"] == found["validation"]["own"] == selective_metrics(own, 0.4, 0.05, seed=0)
    curves = selective_curves(table[table.split == "validation"], seed=0)
    assert set(curves) == {"risk_coverage", "reliability"}
    for curve in curves.values():
        assert curve.query_set.unique().tolist() == ["own", "typos"]


def test_questions_off_the_topic_have_a_measure_of_their_own():
    """The threshold is 0.4. Three of four such questions are refused. They change no other measure and no curve."""
    own = asked(groups=40)
    far = own[~own.answerable][:4].assign(deck="off_topic", correct=False, probability=[0.1, 0.4, 0.39, 0.2])
    layperson = own.assign(query_set="layperson")
    table = pd.concat([own, far, layperson], ignore_index=True)
    found = answerability_metrics(table, MODEL, 0.05, seed=0)["validation"]
    assert set(found["own"]) == {*MEASURES, "off_topic_refusals"} and set(found["layperson"]) == MEASURES
    assert found["own"]["off_topic_refusals"]["mean"] == 0.75 and found["own"]["off_topic_refusals"]["n"] == 4
    assert {name: found["own"][name] for name in MEASURES} == found["layperson"]
    for name, curve in selective_curves(table, seed=0).items():
        expected = selective_curves(own, seed=0)[name]
        pd.testing.assert_frame_equal(curve[curve.query_set == "own"], expected)
