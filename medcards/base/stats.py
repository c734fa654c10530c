"""Confidence intervals and paired differences by the percentile bootstrap over groups; the range of a few values."""

from collections.abc import Sequence

import numpy as np

from medcards import InputError

DETECTABLE = 1.960 + 0.842
"""Sum of the normal quantiles of 97.5% and 80%: a two-sided test at 5% with a power of 80%."""
RESAMPLES = 2000
"""Number of resamples of every interval."""
DRAW_BLOCKS = 20
"""Number of parts in which the resamples are drawn. It bounds the memory of the draws' integers."""


class Bootstrap:
    """Percentile bootstrap that resamples groups, with a seed.

    Rows of one group are not independent, so whole groups are drawn with replacement (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8). An object draws :data:`RESAMPLES` resamples once.
    All its intervals and paired differences use the same resamples.

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

    def difference(self, values: object) -> dict[str, float]:
        """The mean of paired differences, with its interval, p value and detectable difference.

        Parameters
        ----------
        values : one difference per row, see :meth:`interval`.

        Returns
        -------
        difference : the keys of :meth:`interval`, and two more. ``p`` is the two-sided share of resamples on the other
            side of zero, with one added to both counts (Davison and Hinkley, section 4.4). ``detectable`` is the
            smallest true difference that a test at 5% finds with a power of 80%: 2.8 standard errors.
        """
        has, values = self._checked(values)
        means = self._means(values, has)
        beyond = min((means <= 0).sum(), (means >= 0).sum())
        p = min(1.0, 2 * (beyond + 1) / (len(means) + 1))
        return self.interval(values) | {"p": float(p), "detectable": float(DETECTABLE * means.std(ddof=1))}

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
        groups = self._draws.shape[1]
        sums = np.bincount(self._group[has], weights=values[has], minlength=groups)
        counts = np.bincount(self._group[has], minlength=groups)
        drawn = self._draws @ counts
        return (self._draws @ sums)[drawn > 0] / drawn[drawn > 0]


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
