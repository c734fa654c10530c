"""Arrays in several files, read as one."""

from collections.abc import Iterator, Sequence

import numpy as np


class StackedArray:
    """Arrays that stand one below the other, as one array. They stay where they are, such as on disk.

    Rows come into memory when they are read: a slice, rows by their numbers, or all rows with :func:`numpy.asarray`.

    Parameters
    ----------
    parts : arrays of one type and one shape but for their number of rows.

    Examples
    --------
    >>> stacked = StackedArray([np.array([[1], [2]]), np.array([[3]])])
    >>> stacked.shape, stacked[2].tolist(), stacked[[2, 0]].tolist(), stacked[1:3].tolist()
    ((3, 1), [3], [[3], [1]], [[2], [3]])
    """

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self.parts])
        self.shape = (int(self._ends[-1]), *self.parts[0].shape[1:])
        self.dtype = self.parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        if copy is False and len(self.parts) > 1:
            raise ValueError("several parts cannot be one array without a copy")
        one = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        return np.array(one, dtype=dtype, copy=copy if len(self.parts) == 1 else None)

    def __getitem__(self, rows: object) -> np.ndarray:
        """The rows of a slice without step, or those of one or several numbers. Negative numbers count from the end.

        Raises
        ------
        IndexError : a number is that of no row, or the rows are given in another way.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise IndexError(f"a slice with a step of {step}")
            found = [part for _, part in self.blocks(start, stop)]
            return found[0] if len(found) == 1 else np.concatenate(found or [self.parts[0][:0]])
        if isinstance(rows, tuple) or (rows := np.asarray(rows)).dtype.kind not in "iu" and rows.size:
            raise IndexError("rows are given by a slice or by their numbers")
        rows = rows.astype(np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        if ((rows < 0) | (rows >= len(self))).any():
            raise IndexError(f"a row outside an array of {len(self)} rows")
        found = np.empty((*rows.shape, *self.shape[1:]), dtype=self.dtype)
        of_row = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(of_row):
            part = self.parts[number]
            found[of_row == number] = part[rows[of_row == number] - (self._ends[number] - len(part))]
        return found

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """The rows between two numbers, part by part: the number of a part's first row, and its rows."""
        stop = len(self) if stop is None else stop
        for end, part in zip(self._ends.tolist(), self.parts, strict=True):
            first = end - len(part)
            low, high = max(start, first), min(stop, end)
            if low < high:
                yield low, part[low - first : high - first]


Rows = np.ndarray | StackedArray
"""Rows of numbers, in memory or on disk."""
