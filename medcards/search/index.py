"""The HNSW index over the answers' vectors."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import hnswlib
import numpy as np

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json

RECALL_DEPTH = 10
"""Number of nearest rows that recall and speed are measured on."""
SAME_SIMILARITY = 1e-5
"""Two similarities that differ by less are equal: hnswlib and a matrix product round in different ways."""


class HnswIndex:
    """An HNSW index over unit vectors, by inner product. It returns row numbers of the vectors.

    Source: Malkov and Yashunin, Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
    Small World Graphs, 2018 (library: hnswlib).

    Examples
    --------
    >>> vectors = np.eye(3, dtype=np.float32)
    >>> index = HnswIndex.build(vectors, m=8, ef_construction=50, seed=0)
    >>> index.search(vectors[1:2], k=1)[0].tolist()
    [[1]]
    """

    def __init__(self, index: hnswlib.Index, ef_search: int):
        self._index, self.ef_search = index, ef_search

    def __len__(self) -> int:
        """The number of rows."""
        return self._index.get_current_count()

    @property
    def bytes(self) -> int:
        """Size of the file that :meth:`save` writes, in bytes."""
        return self._index.index_file_size()

    @property
    def settings(self) -> dict[str, int]:
        """``m``, ``ef_construction`` and the default ``ef_search``."""
        return {"m": self._index.M, "ef_construction": self._index.ef_construction, "ef_search": self.ef_search}

    @classmethod
    def build(cls, vectors: np.ndarray, m: int, ef_construction: int, seed: int) -> "HnswIndex":
        """Build an index with one thread, so that it has the same bytes every time. Its ``ef_search`` is the build's.

        Parameters
        ----------
        vectors : float32, shape (rows, dimension), rows of length 1.
        m : number of links per node.
        ef_construction : length of the search list during the build.
        """
        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), M=m, ef_construction=ef_construction, random_seed=seed)
        index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        return cls(index, ef_search=ef_construction)

    def search(self, queries: np.ndarray, k: int, ef_search: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the ``k`` nearest rows of each query.

        Parameters
        ----------
        queries : float32, shape (queries, dimension).
        k : number of rows per query; all rows where there are fewer.
        ef_search : length of the search list; the default of the index unless given. It is never less than ``k``,
            because hnswlib finds no more rows than the list holds.

        Returns
        -------
        rows : row numbers, best first, shape (queries, k).
        similarities : cosine similarities, shape (queries, k).

        Raises
        ------
        InputError : the queries have another dimension, or the graph has too few links to reach ``k`` rows.
        """
        if queries.ndim != 2 or queries.shape[1] != self._index.dim:
            raise InputError(f"vectors of shape {queries.shape} for an index of dimension {self._index.dim}")
        k = min(k, len(self))
        for ef in self._widening(max(ef_search or self.ef_search, k)):
            self._index.set_ef(ef)  # neither a build nor a load sets it
            try:
                rows, distances = self._index.knn_query(queries, k=k, num_threads=1)
            except RuntimeError:  # a query reached fewer than k rows
                continue
            return rows.astype(np.int64), 1 - distances
        raise InputError(f"the graph does not reach {k} of {len(self)} rows: build it with a larger index.m")

    def _widening(self, ef: int) -> Iterator[int]:
        while ef < len(self):
            yield ef
            ef *= 2
        yield len(self)

    def save(self, folder: Path, vectors: np.ndarray) -> None:
        """Write the index, then the manifest that :meth:`load` checks.

        Parameters
        ----------
        vectors : the vectors that the index was built from.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "index.bin"
        self._index.save_index(str(file))
        manifest = {
            "dimension": self._index.dim,
            "rows": len(self),
            "settings": self.settings,
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
            "sha256_of_vectors": _hash(vectors),
            "known_result": {"row": 0, "nearest": self._nearest(0)},
        }
        write_json(folder / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: str | Path, vectors: np.ndarray) -> "HnswIndex":
        """Read what :meth:`save` wrote.

        A damaged file can crash hnswlib, so its size and hash are checked before it is opened. Then one query with a
        known result is searched.

        Parameters
        ----------
        vectors : the vectors that the index was built from.

        Raises
        ------
        InputError : the file is missing or damaged, or belongs to other vectors.
        """
        folder = Path(folder)
        file, manifest = folder / "index.bin", read_json(folder / "manifest.json")
        try:
            if not file.exists() or file.stat().st_size != manifest["bytes"] or sha256_of(file) != manifest["sha256"]:
                raise InputError(f"{file} is damaged: run `dvc repro -f index`")
            shape = (manifest["rows"], manifest["dimension"])
            if vectors.shape != shape or _hash(vectors) != manifest["sha256_of_vectors"]:
                raise InputError(f"{folder} belongs to other vectors: run `dvc repro index`")
            index = hnswlib.Index(space="ip", dim=manifest["dimension"])
            index.load_index(str(file))
            loaded, known = cls(index, manifest["settings"]["ef_search"]), manifest["known_result"]
            # Another processor may round in another way, and then order equal neighbours in another way.
            if len(set(loaded._nearest(known["row"])) - set(known["nearest"])) > 1:
                raise InputError(
                    f"{file} does not give the result that it gave when it was written: run `dvc repro -f index`"
                )
        except KeyError as missing:
            raise InputError(f"{folder / 'manifest.json'} lacks {missing}: run `dvc repro -f index`") from None
        return loaded

    def _nearest(self, row: int) -> list[int]:
        return self.search(self._index.get_items([row], return_type="numpy"), RECALL_DEPTH)[0][0].tolist()


def _hash(vectors: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors)).hexdigest()


def recall_per_query(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The share of the found rows that are as near as each query's exact neighbours.

    Rows are compared by similarity, so that of several equally near rows each counts (as in Aumüller, Bernhardsson and
    Faithfull, ANN-Benchmarks, 2020).

    Parameters
    ----------
    found, exact : similarities of the found rows and of the exact neighbours, best first, shape (queries, k).
    """
    return (found >= exact[:, -1:] - SAME_SIMILARITY).mean(axis=1)
