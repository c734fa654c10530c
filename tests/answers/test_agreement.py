"""Kendall's tau between scores and judgements."""

from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import kendalltau

from medcards.answers.agreement import kendall_tau, reader_agreement
from medcards.answers.scores import TermWeights
from medcards.base.stats import Bootstrap


def test_kendall_tau_of_an_order_its_reverse_and_ties():
    rows = Bootstrap(range(4), seed=0)
    assert kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4]), rows)["mean"] == 1
    assert kendall_tau(np.array([4, 3, 2, 1]), np.array([1, 2, 3, 4]), rows)["mean"] == -1
    # Of 6 pairs the first order ties one and the second two; 4 are ordered alike: 4 / sqrt(5 * 4).
    assert kendall_tau(np.array([1, 1, 2, 3]), np.array([0, 0, 1, 1]), rows)["mean"] == pytest.approx(4 / 20**0.5)


def test_kendall_tau_equals_scipy_on_each_resample():
    random = np.random.default_rng(0)
    one, other, groups = random.normal(size=30).round(1), random.integers(3, size=30), random.integers(12, size=30)
    bootstrap = Bootstrap(groups, seed=0)
    found = kendall_tau(one, other, bootstrap)
    assert found["mean"] == pytest.approx(kendalltau(one, other).statistic) and found["n"] == 30
    rows = [np.repeat(np.arange(30), counts.astype(int)) for counts in bootstrap.row_counts()]
    taus = [kendalltau(one[drawn], other[drawn]).statistic for drawn in rows]
    assert (found["lo"], found["hi"]) == pytest.approx(tuple(np.percentile(np.nan_to_num(taus), [2.5, 97.5])))


def test_kendall_tau_of_one_answer_that_differs_has_an_interval_that_holds_zero():
    """A third of the resamples lack this answer, and tell nothing."""
    one, other = np.array([1] + [0] * 99), np.array([0] * 50 + [1] * 50)
    found = kendall_tau(one, other, Bootstrap(range(100), seed=0))
    assert found["lo"] < found["mean"] < found["hi"] == 0


def test_agreement_of_the_scores_with_judged_answers(tmp_path):
    from medcards.search.encoder import load_encoder

    judged = pd.DataFrame(
        {
            "card_id": ["a", "b", "c", "d"],
            "system": ["lora", "lora", "base", "search_open"],
            "question": ["What is asthma?"] * 4,
            "reference": ["a disease of the airways"] * 4,
            "answer": ["disease of the airways", "a disease", None, "airways"],  # an empty answer is read as missing
            "judgement": ["right", "partly right", "wrong", "right"],
        }
    )
    found = reader_agreement(judged, TermWeights(judged.reference), load_encoder(tiny.make_encoder(tmp_path)), seed=0)
    closed = found["without_open_book"]
    assert closed["sound_f1"]["mean"] == closed["token_f1"]["mean"] == 1 and closed["no_answer"]["mean"] < 0
    assert closed["similarity"]["n"] == 3 and "contradiction" not in closed  # no answer contradicts
    # Token F1 is 1, 0.5, 0 and 0.5. Each order ties one of 6 pairs, and 4 are ordered alike: 4 / sqrt(5 * 5).
    assert found["all"]["token_f1"] == {"mean": pytest.approx(0.8), "lo": ANY, "hi": ANY, "n": 4}
