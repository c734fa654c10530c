"""The HNSW index and the exact search that it is measured against."""

from pathlib import Path
from typing import Annotated

import hnswlib
import numpy as np
from pydantic import Field, PositiveInt

from medcards import InputError
from medcards.files import read_json, sha256_of, write_json
from medcards.params import Block


class IndexParams(Block):
    """HNSW parameters (Malkov and Yashunin, 2018), see params.yaml."""

    m: int = Field(ge=2)
    ef_construction: PositiveInt
    ef_search: int = Field(ge=50)  # as deep as rankings go, so that what is measured is what is served
    ef_search_grid: list[Annotated[int, Field(ge=10)]]  # recall is measured among the nearest 10


class HnswIndex:
    """An hnswlib index over unit vectors, by inner product. Labels are row numbers of the vectors."""

    def __init__(self, index: hnswlib.Index, settings: dict[str, int]):
        self._index, self.settings = index, settings

    def __len__(self) -> int:
        return self._index.get_current_count()

    @classmethod
    def build(cls, vectors: np.ndarray, params: IndexParams, seed: int) -> "HnswIndex":
        """Build with one thread, which makes the index the same bytes every time.

        Parameters
        ----------
        vectors : float32, shape (cards, dimension), rows of length 1.
        """
        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), M=params.m, ef_construction=params.ef_construction, random_seed=seed)
        index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        return cls(index, params.model_dump(include={"m", "ef_construction", "ef_search"}))

    def search(self, queries: np.ndarray, k: int, ef_search: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` nearest rows of each query: (row numbers, cosine similarities), shape (queries, k).

        At most as many as the index holds are returned. ``ef_search`` is the served one unless given; hnswlib cannot
        return more than its search list holds, so it is never less than ``k``.
        """
        k = min(k, len(self))
        # hnswlib keeps ef in memory only: neither a build nor a load sets it.
        self._index.set_ef(max(ef_search or self.settings["ef_search"], k))
        rows, distances = self._index.knn_query(queries, k=k, num_threads=1)
        return rows.astype(np.int64), 1 - distances

    def save(self, folder: Path) -> None:
        """Write the index, then the manifest that :meth:`load` checks."""
        folder.mkdir(parents=True, exist_ok=True)
        self._index.save_index(str(folder / "index.bin"))
        manifest = {"dimension": self._index.dim, "count": len(self), "sha256": sha256_of(folder / "index.bin")}
        write_json(folder / "manifest.json", manifest | {"settings": self.settings})

    @classmethod
    def load(cls, folder: str | Path) -> "HnswIndex":
        """Read what :meth:`save` wrote. A damaged file can crash hnswlib, so its hash is checked first."""
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json")
        if sha256_of(folder / "index.bin") != manifest["sha256"]:
            raise InputError(f"{folder / 'index.bin'} is damaged: run `dvc repro -f index`")
        index = hnswlib.Index(space="ip", dim=manifest["dimension"])
        index.load_index(str(folder / "index.bin"))
        return cls(index, manifest["settings"])


def exact_search(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest rows by inner product: (row numbers, similarities), shape (queries, k), ties by row number."""
    k = min(k, len(vectors))
    rows = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), 256):  # bounds the memory of the score matrix
        scores = queries[start : start + 256] @ vectors.T
        rows[start : start + 256] = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.einsum("qd,qkd->qk", queries, vectors[rows])


def recall_per_query(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Share of each query's exact neighbours that were found; both arrays have shape (queries, k)."""
    return np.array([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
