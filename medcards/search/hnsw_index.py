"""The index in memory (library: hnswlib)."""

import errno
import os
from pathlib import Path
from typing import Self

import hnswlib
import numpy as np

from medcards.base.stacked import Rows
from medcards.search.rankings import Ranking
from medcards.search.vector_index import ROWS_AT_A_TIME, VectorIndex

FILE = "index.bin"


class HnswIndex(VectorIndex):
    """An HNSW index of hnswlib, see :class:`medcards.search.vector_index.VectorIndex`. It is kept in memory.

    Examples
    --------
    >>> vectors = np.eye(3, dtype=np.float32)
    >>> index = HnswIndex.build(vectors, m=8, ef_construction=50, seed=0)
    >>> index.search(vectors[1:2], k=1)[0].tolist()
    [[1]]
    """

    engine = "hnswlib"

    def __init__(self, index: hnswlib.Index, ef_search: int):
        super().__init__(index.get_current_count(), index.dim, index.M, index.ef_construction, ef_search)
        self._index = index

    @property
    def bytes(self) -> int:
        return self._index.index_file_size()

    @classmethod
    def build(cls, vectors: Rows, m: int, ef_construction: int, seed: int) -> Self:
        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), M=m, ef_construction=ef_construction, random_seed=seed)
        for start in range(0, len(vectors), ROWS_AT_A_TIME):
            block = vectors[start : start + ROWS_AT_A_TIME]
            index.add_items(block, np.arange(start, start + len(block)), num_threads=1)
        return cls(index, ef_search=ef_construction)

    def _nearest(self, queries: np.ndarray, k: int, ef_search: int) -> Ranking | None:
        self._index.set_ef(ef_search)  # neither a build nor a load sets it
        try:
            rows, distances = self._index.knn_query(queries, k=k, num_threads=1)
        except RuntimeError:  # a query reached fewer than k rows
            return None
        return rows.astype(np.int64), 1 - distances

    def write(self, folder: Path) -> None:
        self._index.save_index(str(folder / FILE))
        if (folder / FILE).stat().st_size != self.bytes:  # hnswlib does not report a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / FILE))

    @classmethod
    def _open(cls, folder: Path, dimension: int, settings: dict[str, int]) -> Self:
        index = hnswlib.Index(space="ip", dim=dimension)
        index.load_index(str(folder / FILE))
        return cls(index, settings["ef_search"])
