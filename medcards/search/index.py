"""The HNSW index and the exact search that it is measured against."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hnswlib
import numpy as np

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json

K = 10
"""So many nearest rows recall and speed are measured on."""


class HnswIndex:
    """An hnswlib index over unit vectors, by inner product. Labels are row numbers of the vectors.

    Examples
    --------
    >>> vectors = np.eye(3, dtype=np.float32)
    >>> index = HnswIndex.build(vectors, m=8, ef_construction=50, seed=0)
    >>> index.add(np.array([[0.6, 0.8, 0]], dtype=np.float32))
    array([3])
    >>> index.delete([1])
    >>> index.search(vectors[1:2], k=1)[0].tolist()
    [[3]]
    """

    def __init__(self, index: hnswlib.Index, ef_search: int, vectors: np.ndarray, deleted: list[int]):
        self._index, self.ef_search, self._deleted = index, ef_search, set(deleted)
        self._hash = hashlib.sha256(np.ascontiguousarray(vectors))  # of all rows, deleted ones too

    def __len__(self) -> int:
        """Rows that can be found."""
        return self._rows - len(self._deleted)

    @property
    def _rows(self) -> int:
        return self._index.get_current_count()

    @property
    def bytes(self) -> int:
        """Size of the file that :meth:`save` writes."""
        return self._index.index_file_size()

    @property
    def settings(self) -> dict[str, int]:
        """M, ef_construction and the served ef_search."""
        return {"m": self._index.M, "ef_construction": self._index.ef_construction, "ef_search": self.ef_search}

    @classmethod
    def build(cls, vectors: np.ndarray, m: int, ef_construction: int, seed: int, ef_search: int = 100) -> "HnswIndex":
        """Build with one thread, which makes the index the same bytes every time.

        Parameters
        ----------
        vectors : float32, shape (rows, dimension), rows of length 1.
        m : links a node.
        ef_construction, ef_search : length of the search list while building, and while searching unless told.
        """
        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), M=m, ef_construction=ef_construction, random_seed=seed)
        index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        return cls(index, ef_search, vectors, deleted=[])

    def add(self, vectors: np.ndarray) -> np.ndarray:
        """Add rows without a rebuild; their row numbers, which follow those that are there."""
        self._check(vectors)
        rows = np.arange(self._rows, self._rows + len(vectors))
        self._index.resize_index(self._rows + len(vectors))
        self._index.add_items(vectors, rows, num_threads=1)
        self._hash.update(np.ascontiguousarray(vectors))
        return rows

    def delete(self, rows: list[int] | np.ndarray) -> None:
        """Make rows unfindable without a rebuild; the others keep their numbers.

        Raises
        ------
        InputError : there is no such row, or it is deleted already; nothing is deleted then.
        """
        rows = [int(row) for row in rows]
        for row in rows:
            if not 0 <= row < self._rows or row in self._deleted or rows.count(row) > 1:
                raise InputError(f"row {row} cannot be deleted: the index has no such row, or it is deleted already")
        for row in rows:
            self._index.mark_deleted(row)
        self._deleted |= set(rows)

    def search(
        self, queries: np.ndarray, k: int, ef_search: int | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` nearest rows of each query: (row numbers, cosine similarities), shape (queries, k).

        Parameters
        ----------
        queries : float32, shape (queries, dimension).
        k : fewer come back where the index, or what is allowed of it, holds fewer.
        ef_search : the served one unless given, and never less than ``k``, since hnswlib finds no more than that.
        allowed : shape (rows,), true where a row may be found; all may unless given. The search list grows until it
            holds enough of them.

        Raises
        ------
        InputError : the queries have another dimension, ``allowed`` another length, or the graph is too loose to reach
            ``k`` rows.
        """
        self._check(queries)
        if allowed is not None and np.shape(allowed) != (self._rows,):
            raise InputError(f"allowed has shape {np.shape(allowed)}, the index {self._rows} rows")
        findable = len(self)
        if allowed is not None:
            findable = int(np.sum(allowed)) - sum(bool(allowed[row]) for row in self._deleted)
        k = min(k, findable)
        if k == 0 or len(queries) == 0:
            return np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
        keep = None if allowed is None else allowed.__getitem__
        for ef in self._widening(max(ef_search or self.ef_search, k)):
            self._index.set_ef(ef)  # hnswlib keeps ef in memory only: neither a build nor a load sets it
            try:
                rows, distances = self._index.knn_query(queries, k=k, num_threads=1, filter=keep)
            except RuntimeError:  # some query reached fewer than k findable rows
                continue
            return rows.astype(np.int64), 1 - distances
        raise InputError(f"the graph does not reach {k} of {findable} rows: build it with a larger index.m")

    def _widening(self, ef: int) -> Iterator[int]:
        while ef < self._rows:
            yield ef
            ef *= 2
        yield self._rows

    def _check(self, vectors: np.ndarray) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self._index.dim:
            raise InputError(f"vectors of shape {vectors.shape} for an index of dimension {self._index.dim}")

    def save(self, folder: Path) -> None:
        """Write the index, then the manifest that :meth:`load` checks."""
        row = next((row for row in range(self._rows) if row not in self._deleted), None)
        if row is None:
            raise InputError("every row of the index is deleted: there is nothing to save")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "index.bin"
        self._index.save_index(str(file))
        manifest = {
            "dimension": self._index.dim,
            "rows": self._rows,
            "deleted": sorted(self._deleted),
            "settings": self.settings,
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
            "sha256_of_vectors": self._hash.hexdigest(),
            "known_answer": {"row": row, "nearest": self._nearest(row)},
        }
        write_json(folder / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: str | Path, vectors: np.ndarray) -> "HnswIndex":
        """Read what :meth:`save` wrote.

        A damaged file can crash hnswlib, so size and hash are checked before it is opened; then a query whose answer
        is known is asked.

        Parameters
        ----------
        vectors : the vectors that the index was built from, with those that were added since.

        Raises
        ------
        InputError : the file is missing or damaged, or belongs to other vectors.
        """
        folder = Path(folder)
        file, manifest = folder / "index.bin", read_json(folder / "manifest.json")
        try:
            if not file.exists() or file.stat().st_size != manifest["bytes"] or sha256_of(file) != manifest["sha256"]:
                raise InputError(f"{file} is damaged: run `dvc repro -f index`")
            if vectors.shape != (manifest["rows"], manifest["dimension"]):
                raise InputError(f"{folder} belongs to other embeddings: run `dvc repro index`")
            index = hnswlib.Index(space="ip", dim=manifest["dimension"])
            index.load_index(str(file))
            loaded = cls(index, manifest["settings"]["ef_search"], vectors, manifest["deleted"])
            known = manifest["known_answer"]
            if loaded._hash.hexdigest() != manifest["sha256_of_vectors"]:
                raise InputError(f"{folder} belongs to other embeddings: run `dvc repro index`")
            # Another processor may round, and so order equal neighbours, in another way: one may differ.
            if len(set(loaded._nearest(known["row"])) - set(known["nearest"])) > 1:
                raise InputError(f"{file} does not give the answer that it gave when it was written: rebuild it")
        except KeyError as missing:
            raise InputError(f"{folder / 'manifest.json'} lacks {missing}: run `dvc repro -f index`") from None
        return loaded

    def _nearest(self, row: int) -> list[int]:
        return self.search(self._index.get_items([row], return_type="numpy"), K)[0][0].tolist()


def exact_search(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest rows by inner product: (row numbers, similarities), shape (queries, k), ties by row number."""
    k = min(k, len(vectors))
    rows, similarities = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), 256):  # bounds the memory of the score matrix
        for place, scores in enumerate(queries[start : start + 256] @ vectors.T, start=start):
            rows[place] = largest(scores, k)
            similarities[place] = scores[rows[place]]
    return rows, similarities


def largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the ``k`` largest scores, best first, ties by place; sorts those alone, so it costs little.

    >>> largest(np.array([1, 3, 2, 3]), k=3)
    array([1, 3, 2])
    """
    if k < len(scores):
        candidates = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


def recall_per_query(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Share of each query's exact neighbours that were found; both arrays have shape (queries, k)."""
    return np.array([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)])


def latency(search: Callable, queries: np.ndarray | list) -> dict[str, float]:
    """What a search takes, one query at a time: queries a second, and the median and 95th percentile in milliseconds.

    ``search`` gets a slice of ``queries`` that holds one. A tenth of them is searched before, unmeasured.
    """
    for place in range(len(queries) // 10):
        search(queries[place : place + 1])
    seconds = []
    for place in range(len(queries)):
        started = time.perf_counter()
        search(queries[place : place + 1])
        seconds.append(time.perf_counter() - started)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"queries_per_second": len(seconds) / sum(seconds), "p50_ms": p50, "p95_ms": p95}
