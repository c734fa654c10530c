"""What the engines of the index over the answers' vectors have in common."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from medcards import InputError
from medcards.base.files import hashes_of, read_json, write_json
from medcards.base.stacked import Rows
from medcards.search.rankings import Ranking
from medcards.search.vectors import Vectors

RECALL_DEPTH = 10
"""Number of nearest rows that recall and speed are measured on."""
ROWS_AT_A_TIME = 8192
"""Number of vectors that are read at a time while an index is built."""
SAME_SIMILARITY = 1e-5
"""Two similarities that differ by less are equal: an engine and a matrix product round in different ways."""


class VectorIndex(ABC):
    """An HNSW index over unit vectors, by inner product. It returns row numbers of the vectors.

    Source: Malkov and Yashunin, Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
    Small World Graphs, 2018.

    Parameters
    ----------
    rows, dimension : shape of the vectors.
    m : number of links per node.
    ef_construction : length of the search list during the build.
    ef_search : length of the search list unless a search gives another one.
    """

    engine: ClassVar[str]
    """The name in ``index.engine``."""
    builds_at_once: ClassVar[bool] = True
    """Whether several indexes can be built at a time, in threads of one process."""

    def __init__(self, rows: int, dimension: int, m: int, ef_construction: int, ef_search: int):
        self._rows, self.dimension = rows, dimension
        self.m, self.ef_construction, self.ef_search = m, ef_construction, ef_search

    def __len__(self) -> int:
        """The number of rows."""
        return self._rows

    @property
    def settings(self) -> dict[str, int]:
        """``m``, ``ef_construction`` and the default ``ef_search``."""
        return {"m": self.m, "ef_construction": self.ef_construction, "ef_search": self.ef_search}

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of the files that :meth:`save` writes, without the manifest."""

    @classmethod
    @abstractmethod
    def build(cls, vectors: Rows, m: int, ef_construction: int, seed: int) -> Self:
        """Build an index with one thread, so that it finds the same rows every time. Its ``ef_search`` is the build's.

        Parameters
        ----------
        vectors : float32, shape (rows, dimension), rows of length 1.
        """

    @abstractmethod
    def _nearest(self, queries: np.ndarray, k: int, ef_search: int) -> Ranking | None:
        """The ``k`` nearest rows of each query, by a search list of ``k`` rows at least; None where one finds fewer."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the files of the index into a folder that exists."""

    @classmethod
    @abstractmethod
    def _open(cls, folder: Path, dimension: int, settings: dict[str, int]) -> Self:
        """Open what :meth:`write` wrote."""

    def search(
        self, queries: np.ndarray, k: int, ef_search: int | None = None, hidden: list[set[int]] | None = None
    ) -> Ranking:
        """Find the ``k`` nearest rows of each query.

        Parameters
        ----------
        queries : float32, shape (queries, dimension).
        k : number of rows per query; all rows where there are fewer.
        ef_search : length of the search list; the default of the index unless given. It is never less than ``k``.
        hidden : row numbers that each query must not find. More rows are searched, until ``k`` others are found.

        Returns
        -------
        rows : row numbers, best first, shape (queries, k); -1 where too many rows are hidden, or the graph does not
            reach the others.
        similarities : cosine similarities, shape (queries, k); NaN for row -1.

        Raises
        ------
        InputError : the queries have another dimension, or the graph has too few links to reach ``k`` rows.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(f"vectors of shape {queries.shape} for an index of dimension {self.dimension}")
        k, ef_search = min(k, len(self)), ef_search or self.ef_search
        if (found := self._reached(queries, k, ef_search)) is None:
            raise InputError(f"the graph does not reach {k} of {len(self)} rows: build it with a larger index.m")
        return self._visible(found, queries, k, ef_search, hidden) if hidden else found

    def _reached(self, queries: np.ndarray, k: int, ef_search: int) -> Ranking | None:
        """:meth:`_nearest`, with a longer search list where a query finds fewer; None where no list is long enough."""
        ef_search = min(max(ef_search, k), len(self))
        while (found := self._nearest(queries, k, ef_search)) is None and ef_search < len(self):
            ef_search = min(2 * ef_search, len(self))
        return found

    def _visible(self, found: Ranking, queries: np.ndarray, k: int, ef_search: int, hidden: list[set[int]]) -> Ranking:
        """The ``k`` nearest rows that are not hidden, after those of ``found``."""
        depth, enough = k, min(k + max(map(len, hidden)), len(self))
        while True:
            rows, similarities = found
            visible = np.array([[row not in of for row in one] for one, of in zip(rows.tolist(), hidden, strict=True)])
            if depth == enough or (visible.sum(axis=1) >= k).all():
                break
            depth = min(2 * depth, enough)
            if (deeper := self._reached(queries, depth, ef_search)) is None:
                break
            found = deeper
        first = np.argsort(~visible, axis=1, kind="stable")[:, :k]
        rows, similarities, visible = (np.take_along_axis(of, first, 1) for of in (rows, similarities, visible))
        return np.where(visible, rows, -1), np.where(visible, similarities, np.nan)

    def save(self, folder: Path, vectors: Vectors) -> None:
        """Write the index, then the manifest that :meth:`load` checks.

        Parameters
        ----------
        vectors : the index was built from their answers.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder)
        manifest = {
            "engine": self.engine,
            "dimension": self.dimension,
            "rows": len(self),
            "settings": self.settings,
            "sha256": _written(folder),
            "vectors": vectors.fingerprint,
            "known_result": self._of_first_row(vectors),
        }
        write_json(folder / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: Path, vectors: Vectors) -> Self:
        """Read what :meth:`save` wrote.

        A damaged file can crash an engine, so the hash of every file is checked before it is opened. Then one query
        with a known result is searched.

        Parameters
        ----------
        vectors : the index was built from their answers.

        Raises
        ------
        InputError : a file is missing, damaged or unknown, or the index belongs to other vectors.
        """
        manifest = read_json(folder / "manifest.json")
        try:
            known, there = manifest["sha256"], _written(folder)
            for name in sorted(known | there):
                if known.get(name) != there.get(name):
                    fault = "is damaged" if name in known else "is no part of the index"
                    raise InputError(f"{folder / name} {fault}: run `dvc repro -f index`")
            if vectors.fingerprint != manifest["vectors"]:
                raise InputError(f"{folder} belongs to other vectors: run `dvc repro index`")
            index = cls._open(folder, manifest["dimension"], manifest["settings"])
            # Another processor may round in another way, and then order equal neighbours in another way.
            if len(set(index._of_first_row(vectors)) - set(manifest["known_result"])) > 1:
                raise InputError(
                    f"{folder} does not give the result that it gave when it was written: run `dvc repro -f index`"
                )
        except KeyError as missing:
            raise InputError(f"{folder / 'manifest.json'} lacks {missing}: run `dvc repro -f index`") from None
        return index

    def _of_first_row(self, vectors: Vectors) -> list[int]:
        """The nearest rows of the first vector."""
        return self.search(vectors.answers[:1], RECALL_DEPTH)[0][0].tolist()


def _written(folder: Path) -> dict[str, str]:
    """The hashes of the files that :meth:`VectorIndex.write` wrote."""
    return {name: sha256 for name, sha256 in hashes_of(folder).items() if name != "manifest.json"}


def recall_per_query(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The share of the found rows that are as near as each query's exact neighbours.

    Rows are compared by similarity, so that of several equally near rows each counts (as in Aumüller, Bernhardsson and
    Faithfull, ANN-Benchmarks, 2020).

    Parameters
    ----------
    found, exact : similarities of the found rows and of the exact neighbours, best first, shape (queries, k).
    """
    return (found >= exact[:, -1:] - SAME_SIMILARITY).mean(axis=1)
