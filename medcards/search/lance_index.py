"""The index on disk (library: LanceDB)."""

import glob
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

import numpy as np
import psutil

from medcards import InputError, reason_of
from medcards.base.files import remove
from medcards.base.scratch import scratch_root
from medcards.base.stacked import Rows
from medcards.search.rankings import Ranking
from medcards.search.vector_index import ROWS_AT_A_TIME, VectorIndex

if TYPE_CHECKING:
    import pyarrow

TABLE, DISTANCE = "answers", "dot"
THREADS = "RAYON_NUM_THREADS"
GRAPH_ROWS = 150_000
"""Largest number of rows of a graph. A larger table has several graphs of equal size, and a search reads each of them.
Several small graphs need less memory than a large one while they are built, and while they are opened."""
QUERIES_AT_A_TIME = 16
"""Number of queries that are searched in one call. LanceDB needs memory for each of them."""


class LanceIndex(VectorIndex):
    """An HNSW index of LanceDB, see :class:`medcards.search.vector_index.VectorIndex`. Its vectors stay on disk.

    A graph has one byte per number of a vector, and comes into memory with the first search. The best rows of all
    graphs, as many as the search list is long, are then ordered by the vectors with four bytes per number, which are
    read from disk.

    Parameters
    ----------
    folder : holds the table, which :meth:`build` or :meth:`save` wrote.
    temporary : removes the folder when the index is no longer used.
    """

    engine = "lancedb"
    builds_at_once = False

    def __init__(self, folder: Path, settings: dict[str, int], temporary: tempfile.TemporaryDirectory | None = None):
        self._files, self._temporary = folder / f"{TABLE}.lance", temporary
        self._table = _lancedb().connect(folder).open_table(TABLE)
        super().__init__(self._table.count_rows(), self._table.schema.field("vector").type.list_size, **settings)

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self._files.rglob("*") if file.is_file())

    @classmethod
    def build(cls, vectors: Rows, m: int, ef_construction: int, seed: int) -> Self:
        """See :class:`medcards.search.vector_index.VectorIndex`. LanceDB has a fixed seed, and takes none."""
        config = _lancedb().index.HnswSq(distance_type=DISTANCE, num_partitions=1, m=m, ef_construction=ef_construction)
        temporary = _temporary_folder()
        with _one_thread():
            first, *others = _parts(vectors)
            table = _lancedb().connect(temporary.name).create_table(TABLE, first, schema=first.schema)
            table.create_index("vector", config=config)
            for part in others:
                table.add(part)
                table.optimize()  # builds a graph of the rows that have none
        settings = {"m": m, "ef_construction": ef_construction, "ef_search": ef_construction}
        return cls(Path(temporary.name), settings, temporary)

    def _nearest(self, queries: np.ndarray, k: int, ef_search: int) -> Ranking | None:
        blocks = range(0, len(queries), QUERIES_AT_A_TIME)
        found = [self._nearest_of_block(queries[start : start + QUERIES_AT_A_TIME], k, ef_search) for start in blocks]
        return None if None in found else tuple(np.concatenate(of) for of in zip(*found, strict=True))

    def _nearest_of_block(self, queries: np.ndarray, k: int, ef_search: int) -> Ranking | None:
        asked = self._table.search([*np.asarray(queries, dtype=np.float32)], vector_column_name="vector")
        asked = asked.distance_type(DISTANCE).ef(ef_search).refine_factor(1).limit(ef_search)
        try:
            found = asked.select(["row", "_distance"]).to_arrow()
        except RuntimeError as error:
            raise InputError(f"{self._files} cannot be searched: {reason_of(error)}; start again") from None
        # Several queries are told apart by their number, and come in its order. One query has no number.
        numbers = found["query_index"].to_numpy() if len(queries) > 1 else np.zeros(len(found), dtype=int)
        counts = np.bincount(numbers, minlength=len(queries))
        if counts.min() < k:
            return None
        first = (counts.cumsum() - counts)[:, None] + np.arange(k)
        return found["row"].to_numpy()[first], 1 - found["_distance"].to_numpy()[first]

    def write(self, folder: Path) -> None:
        remove(folder / self._files.name)
        shutil.copytree(self._files, folder / self._files.name)

    @classmethod
    def _open(cls, folder: Path, dimension: int, settings: dict[str, int]) -> Self:
        return cls(folder, settings)


def _temporary_folder() -> tempfile.TemporaryDirectory:
    """A folder for an index that is built. Those of killed processes of this machine are removed."""
    work, here = scratch_root() / "index", f"{platform.node()}."
    work.mkdir(parents=True, exist_ok=True)
    for left in work.glob(f"{glob.escape(here)}*-*"):
        number = left.name.removeprefix(here).partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            remove(left)
    return tempfile.TemporaryDirectory(prefix=f"{here}{os.getpid()}-", dir=work)


def _parts(vectors: Rows) -> Iterator["pyarrow.RecordBatchReader"]:
    """The rows of each graph, with :data:`ROWS_AT_A_TIME` rows in memory at a time."""
    import pyarrow

    dimension = vectors.shape[1]
    schema = pyarrow.schema([("row", pyarrow.int64()), ("vector", pyarrow.list_(pyarrow.float32(), dimension))])

    def batches(start: int, stop: int) -> Iterator[pyarrow.RecordBatch]:
        for first in range(start, stop, ROWS_AT_A_TIME):
            block = np.array(vectors[first : min(first + ROWS_AT_A_TIME, stop)], dtype=np.float32)
            columns = [np.arange(first, first + len(block)), block.ravel()]
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(columns[1]), dimension)
            yield pyarrow.RecordBatch.from_arrays([pyarrow.array(columns[0]), rows], schema=schema)

    graphs = math.ceil(len(vectors) / GRAPH_ROWS)
    for start, stop in pairwise(len(vectors) * graph // graphs for graph in range(graphs + 1)):
        yield pyarrow.RecordBatchReader.from_batches(schema, batches(start, stop))


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
    os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")  # LanceDB warns where it is not set
    try:
        import lancedb
        import lancedb.index
    except ImportError:
        raise InputError(
            "index.engine=lancedb: LanceDB is not installed; run "
            "`pip install -c constraints.txt -r requirements-scale.txt`"
        ) from None
    return lancedb
