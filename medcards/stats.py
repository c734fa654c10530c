"""Intervals: the percentile bootstrap over groups."""

import numpy as np

from medcards import InputError


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
        values = np.asarray(values, dtype=np.float64)
        if values.shape != self._group.shape:
            raise ValueError(f"{len(values)} values for {len(self._group)} rows")
        has = ~np.isnan(values)
        if not has.any():
            raise InputError("nothing to average: no row has a value; take a larger sample")
        if not np.isfinite(values[has]).all():
            raise InputError("an infinite value cannot be averaged")
        groups = self._draws.shape[1]
        sums = np.bincount(self._group[has], weights=values[has], minlength=groups)
        counts = np.bincount(self._group[has], minlength=groups)
        drawn = self._draws @ counts
        means = (self._draws @ sums)[drawn > 0] / drawn[drawn > 0]
        lo, hi = np.percentile(means, [2.5, 97.5])
        return {"mean": float(values[has].mean()), "lo": float(lo), "hi": float(hi), "n": int(has.sum())}
