"""Confidence intervals and paired differences by the percentile bootstrap over groups; the range of a few values."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from medcards import InputError

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
"""Number of resamples of the interval of a mean."""
DRAW_BLOCKS = 20
"""Number of parts in which these resamples are drawn. It bounds the memory of the draws' integers."""
DIFFERENCE_RESAMPLES = 20_000
"""Number of resamples of a paired difference, which has a p value."""
SMALLEST_P = 2 / (DIFFERENCE_RESAMPLES + 1)
"""The smallest p value that the resamples of a difference can give, before correction."""
DIFFERENCE_BLOCKS = 100
"""Number of parts in which these resamples are drawn. It bounds the memory."""
DECIMALS = 12
"""Digits to which means and values are rounded before they are compared, so that rounding errors make no difference."""
LEVEL, POWER = 0.05, 0.8
"""Level of the tests, and the power at which a difference counts as detectable."""


class Bootstrap:
    """Percentile bootstrap that resamples groups, with a seed.

    Rows of one group are not independent, so whole groups are drawn with replacement (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8). An object draws :data:`RESAMPLES` resamples once, which
    all its intervals use. Paired differences use :data:`DIFFERENCE_RESAMPLES` others.

    Parameters
    ----------
    groups : the group of each row.
    seed : seed of the draws.

    Examples
    --------
    >>> Bootstrap(["a", "b"], seed=0).interval([1.0, 1.0])
    {'mean': 1.0, 'lo': 1.0, 'hi': 1.0, 'n': 2}
    """

    def __init__(self, groups: object, seed: int):
        self._seed = seed
        names, self._group = np.unique(np.asarray(groups), return_inverse=True)
        equal = np.full(len(names), 1 / len(names))
        rng, self._draws = np.random.default_rng(seed), np.empty((RESAMPLES, len(names)))
        for block in np.array_split(self._draws, DRAW_BLOCKS):
            block[:] = rng.multinomial(len(names), equal, size=len(block))

    def interval(self, values: object) -> dict[str, float]:
        """The mean of the values, with its 95% interval.

        Parameters
        ----------
        values : one value per row. NaN marks a row without a value.

        Returns
        -------
        interval : ``mean``, ``lo``, ``hi``, and ``n``, the number of rows with a value.

        Raises
        ------
        ValueError : the number of values differs from the number of rows.
        InputError : no row has a value, or a value is infinite.
        """
        has, values = self._checked(values)
        lo, hi = np.percentile(self._means(values, has), [2.5, 97.5])
        return {"mean": float(values[has].mean()), "lo": float(lo), "hi": float(hi), "n": int(has.sum())}

    def differences(self, values: dict[str, "pd.DataFrame"]) -> dict[str, dict[str, dict[str, float]]]:
        """The means of paired differences, with their intervals and tests.

        The p values of one score are corrected for all pairs of ``values``, so give every pair that was looked at.

        Parameters
        ----------
        values : one table per pair, with one difference per row and one column per score. NaN marks a row without a
            value. A column without any value is left out.

        Returns
        -------
        ``{pair: {score: difference}}``. A difference has the keys of :meth:`interval`, and three more. ``p`` is the
        two-sided share of resamples on the other side of zero, with one added to both counts (Davison and Hinkley,
        section 4.4). ``p_holm`` is corrected, see :func:`holm`. ``detectable`` is the smallest true difference that the
        first step of the corrected test, at :data:`LEVEL` over the number of pairs, finds with :data:`POWER`.
        """
        columns = {
            (pair, score): self._checked(table[score])
            for pair, table in values.items()
            for score in table
            if table[score].notna().any()
        }
        tests = Counter(score for _, score in columns)
        found: dict[str, dict] = {pair: {} for pair in values}
        for ((pair, score), (has, of)), means in zip(columns.items(), self._resampled(columns.values()).T, strict=True):
            found[pair][score] = _difference(of[has], means[~np.isnan(means)], tests[score])
        add_holm(found)
        return found

    def statistic(self, measure: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """A statistic that is no mean, with its 95% interval.

        Parameters
        ----------
        measure : from counts of shape (resamples, rows) to one value per resample; NaN where it has none.

        Returns
        -------
        ``mean`` (the statistic of all rows), ``lo``, ``hi``, and ``n``, the number of rows.
        """
        counts = self.row_counts()
        (value,), resampled = measure(np.ones((1, counts.shape[1]))), measure(counts)
        lo, hi = np.nanpercentile(resampled, [2.5, 97.5])
        return {"mean": float(value), "lo": float(lo), "hi": float(hi), "n": counts.shape[1]}

    def row_counts(self) -> np.ndarray:
        """How often each row is in each resample, shape (:data:`RESAMPLES`, rows), for statistics other than means."""
        return self._draws[:, self._group]

    def _resampled(self, columns: Collection[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """The means of the resamples of differences, shape (:data:`DIFFERENCE_RESAMPLES`, columns).

        A resample without a value has the mean NaN.
        """
        from threadpoolctl import threadpool_limits

        groups, rng = self._draws.shape[1], np.random.default_rng(self._seed)
        sums, counts = np.array([self._totals(*column) for column in columns]).reshape(-1, 2, groups).swapaxes(0, 1)
        distinct, which = np.unique(counts, axis=0, return_inverse=True)  # most columns have the same rows
        means = np.empty((DIFFERENCE_RESAMPLES, len(columns)))
        with threadpool_limits(1), np.errstate(invalid="ignore"):
            for block in np.array_split(means, DIFFERENCE_BLOCKS):
                places = rng.integers(groups, size=(len(block), groups)) + groups * np.arange(len(block))[:, None]
                drawn = np.bincount(places.ravel(), minlength=places.size).reshape(-1, groups).astype(float)
                block[:] = (drawn @ sums.T) / (drawn @ distinct.T)[:, which]
        return means.round(DECIMALS)

    def _totals(self, has: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sum and the number of the values of each group."""
        groups = self._draws.shape[1]
        sums = np.bincount(self._group[has], weights=values[has], minlength=groups)
        return sums, np.bincount(self._group[has], minlength=groups)

    def _checked(self, values: object) -> tuple[np.ndarray, np.ndarray]:
        values = np.asarray(values, dtype=np.float64)
        if values.shape != self._group.shape:
            raise ValueError(f"{len(values)} values for {len(self._group)} rows")
        has = ~np.isnan(values)
        if not has.any():
            raise InputError("nothing to average: no row has a value; take a larger sample")
        if not np.isfinite(values[has]).all():
            raise InputError("an infinite value cannot be averaged")
        return has, values

    def _means(self, values: np.ndarray, has: np.ndarray) -> np.ndarray:
        """The mean of every resample that holds a value."""
        sums, counts = self._totals(has, values)
        drawn = self._draws @ counts
        return (self._draws @ sums)[drawn > 0] / drawn[drawn > 0]


def _difference(values: np.ndarray, means: np.ndarray, tests: int) -> dict[str, float]:
    """One paired difference as :meth:`Bootstrap.differences` describes it, without ``p_holm``.

    Parameters
    ----------
    values : the differences.
    means : the mean of every resample.
    tests : number of tests that the p value is corrected for.
    """
    lo, hi = np.percentile(means, [2.5, 97.5])
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    quantiles = NormalDist().inv_cdf(1 - LEVEL / tests / 2) + NormalDist().inv_cdf(POWER)
    return {
        "mean": float(values.mean()),
        "lo": float(lo),
        "hi": float(hi),
        "n": len(values),
        "p": float(min(1.0, 2 * (beyond + 1) / (len(means) + 1))),
        "detectable": float(quantiles * means.std(ddof=1)),
    }


def paired_differences(
    scores: dict[str, "pd.DataFrame"], bootstrap: Bootstrap, pairs: Iterable[tuple[str, str]]
) -> dict[str, dict]:
    """The paired differences of pairs of systems, ``{"a-b": {score: difference}}``, see :meth:`Bootstrap.differences`.

    Parameters
    ----------
    scores : by system, one row per question and one column per score.
    pairs : every pair that is looked at. The p values of a score are corrected for all of them.
    """
    return bootstrap.differences({f"{a}-{b}": scores[a] - scores[b] for a, b in pairs})


def spread(values: Sequence[float]) -> dict[str, float]:
    """The mean of a few values with their range, for values that are no sample of groups: fits, topics, halves.

    >>> spread([0.5, 0.7])
    {'mean': 0.6, 'smallest': 0.5, 'largest': 0.7, 'n': 2}
    """
    found = np.asarray(values, dtype=np.float64)
    return {"mean": float(found.mean()), "smallest": float(found.min()), "largest": float(found.max()), "n": len(found)}


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Adjust the p values of several tests by Holm's method.

    The probability of any false rejection among all tests then stays at the level of a single test.
    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics, 1979.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        adjusted[name] = largest
    return adjusted


def add_holm(differences: dict[str, dict[str, dict]]) -> None:
    """Add ``p_holm`` to every difference of ``{pair: {score: difference}}``, corrected for all pairs of a score."""
    for score in {score for block in differences.values() for score in block}:
        tested = {pair: block[score]["p"] for pair, block in differences.items() if score in block}
        for pair, p in holm(tested).items():
            differences[pair][score]["p_holm"] = p


def t_interval(values: Sequence[float], others: Sequence[float] | None = None) -> dict[str, float]:
    """The mean of a few independent values, or the difference of two means, with its 95% t interval (library: scipy).

    Parameters
    ----------
    values : the values, such as one difference per seed.
    others : values of another sample, whose mean is subtracted. The test is then Welch's (Biometrika, 1947).

    Returns
    -------
    ``mean``, ``lo``, ``hi``, ``n`` (number of ``values``) and ``p``, two-sided. Values without any spread have no
    interval, and p is 1: nothing is shown.

    Examples
    --------
    >>> {key: round(value, 3) for key, value in t_interval([1.0, 2.0, 3.0]).items()}
    {'mean': 2.0, 'lo': -0.484, 'hi': 4.484, 'n': 3, 'p': 0.074}
    """
    from scipy.stats import ttest_1samp, ttest_ind

    one, other = np.round(values, DECIMALS), np.round(0.0 if others is None else others, DECIMALS)
    mean = float(one.mean() - other.mean())
    if np.ptp(one) == np.ptp(other) == 0:  # a t test divides by the spread
        return {"mean": mean, "n": len(one), "p": 1.0}
    test = ttest_1samp(one, 0.0) if others is None else ttest_ind(one, other, equal_var=False)
    lo, hi = test.confidence_interval(1 - LEVEL)
    return {"mean": mean, "lo": float(lo), "hi": float(hi), "n": len(one), "p": float(test.pvalue)}
