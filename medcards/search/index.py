"""The index over the answers' vectors, by the engine that ``index.engine`` names."""

from pathlib import Path

from medcards import InputError
from medcards.base.files import read_json
from medcards.search.hnsw_index import HnswIndex
from medcards.search.lance_index import LanceIndex
from medcards.search.vector_index import VectorIndex
from medcards.search.vectors import Vectors

ENGINES: dict[str, type[VectorIndex]] = {one.engine: one for one in (HnswIndex, LanceIndex)}


def load_index(folder: Path, vectors: Vectors) -> VectorIndex:
    """Open an index with the engine that its manifest names, see :meth:`VectorIndex.load`."""
    manifest = read_json(folder / "manifest.json")
    if manifest.get("engine") not in ENGINES:
        raise InputError(f"{folder / 'manifest.json'} names no known engine: run `dvc repro -f index`")
    return ENGINES[manifest["engine"]].load(folder, vectors)
