"""The same commit, parameters and kind of machine give the same figures: in another folder and another environment."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import STAGES, Repository

pytestmark = pytest.mark.slow
FOLDER = "Ärzte's Karten"
"""A name with a space, an umlaut and an apostrophe."""
OTHER = {"PYTHONHASHSEED": "123", "LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Kiritimati", "COLUMNS": "40"}
FIRST = ("models", "prepare", "embed")
"""Stages of the quick lane."""
TOLERANCE = 1e-4


def written(repository: Repository, stages: Iterable[str]) -> dict[str, bytes]:
    """The files of some stages that do not depend on the clock, by their path in the repository."""
    files = {file: content for stage in stages for file, content in repository.files_of(stage).items()}
    return {str(file.relative_to(repository.folder)): content for file, content in files.items()}


def run_elsewhere(material: Path, folder: Path, stages: tuple[str, ...], **environment: str) -> Repository:
    """The tiny pipeline in another folder, in another environment."""
    repository = Repository(Path(shutil.copytree(material, folder)))
    repository.run("dvc", "repro", *stages, **environment)
    return repository


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def test_the_first_stages_write_the_same_bytes_in_another_environment(finished, material, tmp_path):
    """Another folder, hash seed, locale and time zone."""
    other = written(run_elsewhere(material, tmp_path / FOLDER, FIRST, **OTHER), FIRST)
    assert len(other) > 10 and differing(written(finished, FIRST), other) == []


@pytest.mark.long
def test_every_stage_writes_the_same_bytes_in_another_environment(finished, material, tmp_path):
    other = written(run_elsewhere(material, tmp_path / FOLDER, (), **OTHER), STAGES)
    print(f"{len(other)} files, {sum(map(len, other.values())):,} bytes")
    assert len(other) > 30 and differing(written(finished, STAGES), other) == []


def numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a JSON value, by their path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


@pytest.mark.long
def test_two_threads_give_the_figures_of_one(finished, material, tmp_path):
    """Vectors within 1e-6, and metrics within :data:`TOLERANCE`."""
    two = run_elsewhere(material, tmp_path / "two", (), OMP_NUM_THREADS="2")
    vectors = [np.load(folder / "data/vectors/answers-00001.npy") for folder in (finished.folder, two.folder)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6
    apart = {}
    for file in sorted((finished.folder / "metrics").glob("*.json")):
        one, other = (
            dict(numbers(json.loads((folder / "metrics" / file.name).read_text())))
            for folder in (finished.folder, two.folder)
        )
        assert set(one) == set(other)
        apart |= {f"{file.stem}{path}": abs(one[path] - other[path]) for path in one if one[path] != other[path]}
    largest = max(apart.values(), default=0.0)
    print(f"{len(apart)} numbers differ, by {largest:.1e} at most: {sorted(apart, key=apart.get)[-5:]}")
    assert math.isfinite(largest) and largest <= TOLERANCE
