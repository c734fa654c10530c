"""Intervals and paired differences: the percentile bootstrap over groups."""

import numpy as np

from medcards import InputError

DETECTABLE = 1.960 + 0.842
"""Normal quantiles of 97.5% and 80%: two-sided tests at 5%, found four times in five."""


class Bootstrap:
    """Percentile bootstrap that resamples groups, seeded.

    Rows of one group are not independent, so whole groups are drawn with replacement (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8). The draws are made once, so that every figure and
    every paired difference of one object is taken over the same resamples.

    Parameters
    ----------
    groups : the group of each row.
    seed : of the draws.
    resamples : number of resamples.

    Examples
    --------
    >>> Bootstrap(["a", "b"], seed=0).interval([1.0, 1.0])
    {'mean': 1.0, 'lo': 1.0, 'hi': 1.0, 'n': 2}
    """

    def __init__(self, groups: object, seed: int, resamples: int = 2000):
        names, self._group = np.unique(np.asarray(groups), return_inverse=True)
        equal = np.full(len(names), 1 / len(names))
        self._draws = np.random.default_rng(seed).multinomial(len(names), equal, size=resamples).astype(np.float64)

    def interval(self, values: object) -> dict[str, float]:
        """Mean of ``values``, one for each row, and its 95% interval. NaN marks a row that has no value.

        Returns ``{"mean", "lo", "hi", "n"}``, n being the number of rows with a value.

        Raises
        ------
        ValueError : the number of values is not the number of rows.
        InputError : no row has a value, or one is infinite.
        """
        has, values = self._checked(values)
        lo, hi = np.percentile(self._means(values, has), [2.5, 97.5])
        return {"mean": float(values[has].mean()), "lo": float(lo), "hi": float(hi), "n": int(has.sum())}

    def difference(self, values: object) -> dict[str, float]:
        """The interval of paired differences, with whether they could be chance, and what could have been seen.

        Returns what :meth:`interval` does, and ``p``, the two-sided share of resamples on the other side of zero
        (Davison and Hinkley, section 4.4, with one added to both counts), and ``detectable``, the smallest true
        difference that a test at 5% would find four times in five with so many groups: 2.8 standard errors.
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
        """The mean of every resample that has a value."""
        groups = self._draws.shape[1]
        sums = np.bincount(self._group[has], weights=values[has], minlength=groups)
        counts = np.bincount(self._group[has], minlength=groups)
        drawn = self._draws @ counts
        return (self._draws @ sums)[drawn > 0] / drawn[drawn > 0]


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """p values of several tests, adjusted so that any of them is wrongly significant as seldom as one alone was.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics, 1979.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        adjusted[name] = largest
    return adjusted
