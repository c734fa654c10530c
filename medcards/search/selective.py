"""How well a probability tells questions that the deck answers from others: measures of selective prediction.

A question is answered where its probability reaches a threshold, and refused elsewhere. The first card that the search
finds is the answer. Coverage is the share of the questions that are answered. Risk is the share of these whose first
card is not relevant (El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, 2010).

Every measure takes ``weights`` of shape (resamples, questions), which count how often a resample has a question, and
returns one value per resample.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from medcards.base.stats import Bootstrap
from medcards.search.answerability import OFF_TOPIC, ROUNDING, Answerability

RISK = 0.05
"""The risk at which coverage is measured."""
CALIBRATION_BINS = 10
"""Number of bins of equal width of the calibration error and of the reliability plot."""
COVERAGES = [step / 20 for step in range(1, 21)]
"""Coverages at which the curve of risk is drawn."""

Measure = Callable[[np.ndarray], np.ndarray]


def _by_threshold(probability: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Sums over the questions of equal probability, highest first: shape (resamples, thresholds) for each column."""
    order = np.argsort(-probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=np.inf))
    return [np.add.reduceat(column[:, order], starts, axis=1) for column in columns]


def auroc(probability: np.ndarray, answerable: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: how often an answerable question has the higher probability; ties count half.

    >>> auroc(np.array([0.9, 0.4, 0.4]), np.array([1, 1, 0]), np.ones((1, 3))).tolist()
    [0.75]
    """
    right, wrong = _by_threshold(probability, weights * answerable, weights * (1 - answerable))
    above = np.cumsum(right, axis=1) - right / 2
    with np.errstate(invalid="ignore"):
        return (wrong * above).sum(axis=1) / (right.sum(axis=1) * wrong.sum(axis=1))


def risks(probability: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk at every threshold, highest first, each of shape (resamples, thresholds).

    Parameters
    ----------
    correct : whether the first card is relevant, shape (questions,).
    """
    asked, errors = _by_threshold(probability, weights, weights * (1 - correct))
    answered = np.cumsum(asked, axis=1)
    return answered / answered[:, -1:], np.cumsum(errors, axis=1) / np.maximum(answered, 1)


def risk_area(probability: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the curve of risk over coverage (AURC); lower is better.

    From one threshold to the next the errors rise evenly. So the area is the same where each question counts twice, and
    a resample, which has fewer thresholds, has no larger area for it.

    >>> risk_area(np.array([0.9, 0.4]), np.array([1, 0]), np.ones((1, 2))).round(4).tolist()
    [0.1534]
    """
    asked, errors = _by_threshold(probability, weights, weights * (1 - correct))
    answered, wrong = np.cumsum(asked, axis=1), np.cumsum(errors, axis=1)
    before = answered - asked
    growth = np.log(np.maximum(answered, 1) / np.maximum(before, 1)) * (before > 0)
    # The integral of (wrong + rate * x) / (before + x), where x runs from 0 to the questions of a threshold.
    areas = errors + (wrong - errors - before * errors / np.maximum(asked, 1)) * growth
    return areas.sum(axis=1) / answered[:, -1]


def coverage_at_risk(probability: np.ndarray, correct: np.ndarray, risk: float, weights: np.ndarray) -> np.ndarray:
    """The largest coverage with at most this risk; 0 where no threshold has it.

    >>> coverage_at_risk(np.array([0.9, 0.4]), np.array([1, 0]), 0.05, np.ones((1, 2))).tolist()
    [0.5]
    """
    coverage, found = risks(probability, correct, weights)
    return np.where(found <= risk, coverage, 0).max(axis=1)


def risk_of(answered: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of the answered questions whose first card is not relevant; 0 where none is answered.

    >>> risk_of(np.array([1, 1, 0]), np.array([1, 0, 0]), np.ones((1, 3))).tolist()
    [0.5]
    """
    return weights @ (answered * (1 - correct)) / np.maximum(weights @ answered, 1)


def refused_at(probability: np.ndarray, answerable: np.ndarray, share: float, weights: np.ndarray) -> np.ndarray:
    """The share of unanswerable questions that are refused, where at most ``share`` of the answerable ones are.

    >>> refused_at(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 1, 0, 0]), 0.05, np.ones((1, 4))).tolist()
    [1.0]
    """
    right, wrong = _by_threshold(probability, weights * answerable, weights * (1 - answerable))
    with np.errstate(invalid="ignore"):
        kept = np.cumsum(right, axis=1) / right.sum(axis=1, keepdims=True)
        refused = 1 - np.cumsum(wrong, axis=1) / wrong.sum(axis=1, keepdims=True)
    return np.where(kept >= 1 - share - ROUNDING, refused, 0).max(axis=1)


def calibration_error(probability: np.ndarray, answerable: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error over :data:`CALIBRATION_BINS` bins of equal width (Naeini et al., AAAI 2015).

    >>> calibration_error(np.array([0.9, 0.1]), np.array([1, 0]), np.ones((1, 2))).round(6).tolist()
    [0.1]
    """
    member = _bins(probability)[:, None] == np.arange(CALIBRATION_BINS)
    gaps = (weights * (probability - answerable)) @ member
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


def _bins(probability: np.ndarray) -> np.ndarray:
    return np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def selective_metrics(asked: pd.DataFrame, refuse_below: float, share: float, seed: int) -> dict[str, dict]:
    """Every measure of a set of questions, each with its bootstrap interval over groups.

    Parameters
    ----------
    asked : ``probability``, ``answerable`` (whether the relevant answers are in the corpus), ``correct`` (whether the
        first card is relevant), ``group``; each question stands there twice, with its relevant answers and without. The
        deck without its topic is left out.
    refuse_below : the served threshold.
    share : share of refused answerable questions at which refusals are measured.

    Returns
    -------
    ``auroc``, ``risk_area``, ``coverage_at_risk``, ``refused_at_share``, ``calibration_error``, and for the served
    threshold ``false_refusals`` (share of the answerable questions that are refused), ``refusals`` (of the others),
    ``served_coverage`` and ``served_risk``.
    """
    bootstrap, columns = Bootstrap(asked.group, seed), asked.astype({"answerable": float, "correct": float})
    probability, answerable, correct = (columns[name].to_numpy() for name in ("probability", "answerable", "correct"))
    refused = np.where(probability < refuse_below, 1.0, 0.0)
    measures: dict[str, Measure] = {
        "auroc": partial(auroc, probability, answerable),
        "risk_area": partial(risk_area, probability, correct),
        "coverage_at_risk": partial(coverage_at_risk, probability, correct, RISK),
        "refused_at_share": partial(refused_at, probability, answerable, share),
        "calibration_error": partial(calibration_error, probability, answerable),
        "served_risk": partial(risk_of, 1 - refused, correct),
    }
    found = {name: bootstrap.statistic(measure) for name, measure in measures.items()}
    found["served_coverage"] = bootstrap.interval(1 - refused)
    found["false_refusals"] = bootstrap.interval(np.where(answerable == 1, refused, np.nan))
    found["refusals"] = bootstrap.interval(np.where(answerable == 0, refused, np.nan))
    return found


def risk_curve(asked: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Risk at the :data:`COVERAGES`, with intervals: ``coverage``, ``mean``, ``lo``, ``hi``, ``n``."""
    probability, correct = asked.probability.to_numpy(), asked.correct.to_numpy(dtype=float)
    bootstrap = Bootstrap(asked.group, seed)

    def risk_at(coverage: float, weights: np.ndarray) -> np.ndarray:
        reached, risk = risks(probability, correct, weights)
        return risk[np.arange(len(risk)), (reached >= coverage - ROUNDING).argmax(axis=1)]

    rows = [{"coverage": step} | bootstrap.statistic(partial(risk_at, step)) for step in COVERAGES]
    return pd.DataFrame(rows)


def reliability(asked: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Share of answerable questions by bin of their probability: ``probability`` (the bin's mean) and an interval."""
    rows = []
    for number, table in asked.groupby(_bins(asked.probability.to_numpy())):
        share = Bootstrap(table.group, seed).interval(table.answerable.to_numpy(dtype=float))
        rows.append({"bin": int(number), "probability": float(table.probability.mean())} | share)
    return pd.DataFrame(rows)


def answerability_metrics(asked: pd.DataFrame, model: Answerability, share: float, seed: int) -> dict[str, dict]:
    """The fitted ``model`` as numbers, and by split and query set the :func:`selective_metrics`.

    A query set that was asked of the deck without its topics also has ``off_topic_refusals``, the refused share.
    """
    found: dict[str, dict] = {"model": model.model_dump()}
    for (split, name), table in asked.groupby(["split", "query_set"], sort=True):
        off_topic = table.deck == OFF_TOPIC
        measured = selective_metrics(table[~off_topic], model.refuse_below, share, seed)
        if off_topic.any():
            refused = table[off_topic].probability < model.refuse_below
            measured["off_topic_refusals"] = Bootstrap(table[off_topic].group, seed).interval(refused.astype(float))
        found.setdefault(split, {})[name] = measured
    return found


def selective_curves(asked: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """The tables ``risk_coverage`` and ``reliability`` of the questions, by ``query_set``."""
    sets = list(asked[asked.deck != OFF_TOPIC].groupby("query_set", sort=True))
    return {
        name: pd.concat([curve(table, seed).assign(query_set=query_set) for query_set, table in sets])
        for name, curve in (("risk_coverage", risk_curve), ("reliability", reliability))
    }
