"""The index on disk (library: LanceDB). It and its vectors may be larger than memory."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

import numpy as np

from medcards import InputError
from medcards.base.scratch import scratch_root
from medcards.search.rankings import Ranking
from medcards.search.vector_index import VectorIndex

if TYPE_CHECKING:
    import pyarrow

TABLE, DISTANCE = "answers", "dot"
PARTITION = 1 << 20
"""Largest number of rows in one HNSW graph. A larger index has several graphs, and a query searches all of them."""
THREADS = "RAYON_NUM_THREADS"
BATCH = 8192
"""Number of rows that are written at a time."""


class LanceIndex(VectorIndex):
    """An HNSW index of LanceDB, see :class:`medcards.search.vector_index.VectorIndex`. It lies on disk.

    The graph holds the vectors with one byte per number. The rows of the search list are then ordered by the vectors
    with four bytes per number, which are read from disk.

    Parameters
    ----------
    folder : the files, which :meth:`build` or :meth:`save` wrote.
    temporary : removes the folder when the index is no longer used.
    """

    engine = "lancedb"

    def __init__(self, folder: Path, settings: dict[str, int], temporary: tempfile.TemporaryDirectory | None = None):
        self._folder, self._temporary = folder, temporary
        self._table = _lancedb().connect(folder).open_table(TABLE)
        super().__init__(self._table.count_rows(), self._table.schema.field("vector").type.list_size, **settings)

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())

    @classmethod
    def build(cls, vectors: np.ndarray, m: int, ef_construction: int, seed: int) -> Self:
        """See :class:`medcards.search.vector_index.VectorIndex`. LanceDB has a fixed seed, and takes none."""
        lancedb, work = _lancedb(), scratch_root() / "index"
        work.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=work)
        config = lancedb.index.HnswSq(
            distance_type=DISTANCE,
            num_partitions=_graphs(len(vectors)),
            m=m,
            ef_construction=ef_construction,
        )
        with _one_thread():
            batches = _batches(vectors)
            table = lancedb.connect(temporary.name).create_table(TABLE, batches, schema=batches.schema)
            table.create_index("vector", config=config)
        settings = {"m": m, "ef_construction": ef_construction, "ef_search": ef_construction}
        return cls(Path(temporary.name), settings, temporary)

    def _nearest(self, queries: np.ndarray, k: int, ef_search: int) -> Ranking | None:
        asked = self._table.search([*np.asarray(queries, dtype=np.float32)], vector_column_name="vector")
        asked = asked.distance_type(DISTANCE).nprobes(_graphs(len(self))).ef(ef_search).refine_factor(ef_search // k)
        found = asked.limit(k).select(["row", "_distance"]).to_arrow()
        if len(found) < len(queries) * k:
            return None
        rows, distances = (found[name].to_numpy().reshape(len(queries), k) for name in ("row", "_distance"))
        return rows, 1 - distances

    def write(self, folder: Path) -> None:
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)

    @classmethod
    def _open(cls, folder: Path, dimension: int, settings: dict[str, int]) -> Self:
        return cls(folder, settings)


def _graphs(rows: int) -> int:
    """The number of graphs of an index."""
    return math.ceil(rows / PARTITION)


def _batches(vectors: np.ndarray) -> "pyarrow.RecordBatchReader":
    """The rows of the table, with :data:`BATCH` rows in memory at a time."""
    import pyarrow

    dimension = vectors.shape[1]
    schema = pyarrow.schema([("row", pyarrow.int64()), ("vector", pyarrow.list_(pyarrow.float32(), dimension))])

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for start in range(0, len(vectors), BATCH):
            block = np.array(vectors[start : start + BATCH], dtype=np.float32)
            columns = [np.arange(start, start + len(block)), block.ravel()]
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(columns[1]), dimension)
            yield pyarrow.RecordBatch.from_arrays([pyarrow.array(columns[0]), rows], schema=schema)

    return pyarrow.RecordBatchReader.from_batches(schema, batches())


@contextmanager
def _one_thread() -> Iterator[None]:
    """LanceDB builds with one thread, so that the graph is the same every time.

    Its thread pool (Rayon) reads the environment once in a process: before the first index is built or searched.
    """
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        os.environ.pop(THREADS)
        if before is not None:
            os.environ[THREADS] = before


def _lancedb() -> ModuleType:
    """The library.

    Raises
    ------
    InputError : it is not installed.
    """
    try:
        import lancedb
        import lancedb.index
    except ImportError:
        raise InputError(
            "index.engine=lancedb: LanceDB is not installed; run "
            "`pip install -c constraints.txt -r requirements-scale.txt`"
        ) from None
    return lancedb
