"""The bootstrap of a statistic that is no mean. The tests of tests/answers hold its means and differences."""

import numpy as np
import pytest

from medcards.base.stats import RESAMPLES, Bootstrap


def mean_of(values: np.ndarray):
    return lambda counts: counts @ values / counts.sum(axis=1)


def test_the_statistic_of_a_mean_is_its_interval():
    random = np.random.default_rng(0)
    values, bootstrap = random.normal(size=50), Bootstrap(random.integers(20, size=50), seed=3)
    assert bootstrap.statistic(mean_of(values)) == pytest.approx(bootstrap.interval(values), abs=1e-12)


def test_a_statistic_sees_the_counts_of_every_resample():
    seen = []

    def rows(counts: np.ndarray) -> np.ndarray:
        seen.append(counts)
        return counts.sum(axis=1)

    bootstrap = Bootstrap(["a", "a", "b"], seed=0)
    found = bootstrap.statistic(rows)
    assert [counts.shape for counts in seen] == [(1, 3), (RESAMPLES, 3)]
    assert (seen[1][:, 0] == seen[1][:, 1]).all()  # rows of one group are drawn together
    assert found == {"mean": 3, "lo": 2, "hi": 4, "n": 3}  # group b twice, or group a twice


def test_a_resample_without_a_statistic_is_left_out():
    """The mean of the rows of group a, which a quarter of the resamples lack."""
    bootstrap, of_a = Bootstrap(["a", "b"], seed=0), np.array([1.0, 0.0])

    def mean_of_a(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return counts @ (of_a * 7) / (counts @ of_a)

    assert bootstrap.statistic(mean_of_a) == {"mean": 7, "lo": 7, "hi": 7, "n": 2}
