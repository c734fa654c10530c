"""Batches that a model reads in this process, or in workers on a Ray cluster.

:func:`map_batches` is the only function that uses Ray. Its results are those of this process: a worker gets the same
batches, and loads the same model. A block of batches that is lost with a worker is read again by another one.
"""

import gc
import logging
import math
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import pandas as pd
from pydantic import NonNegativeFloat, PositiveInt
from tqdm import tqdm

import medcards
from medcards import InputError
from medcards.base.manifests import model_folder, read_manifest
from medcards.base.params import Block, read_params
from medcards.base.references import parse, resolve

log = logging.getLogger(__name__)

Batch, Result = TypeVar("Batch"), TypeVar("Result")

FEW = 20
"""Number of batches below which this process reads them: workers take longer to start."""
RESTARTS = 3
"""Number of times that a worker is started again, with its machine or because it was killed."""
REACHED_WITHIN = 10
"""Seconds after which a cluster that does not answer is unreachable."""
BLOCKS_PER_WORKER = 16
"""Number of blocks that a worker gets, at least. A lost worker loses one block."""


class ComputeParams(Block):
    """The block ``compute`` of params.yaml. No stage depends on it: it changes no result."""

    engine: Literal["local", "ray"]
    address: str
    workers: PositiveInt
    worker_cpus: PositiveInt
    worker_gpus: NonNegativeFloat


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster, and the model that each of them loads.

    Parameters
    ----------
    compute : the cluster, and the number and size of the workers.
    load : from the folders of ``places`` to the model; a function of a module.
    places : functions that give a folder in any process, see :func:`place_of` and :func:`model_place`.
    """

    compute: ComputeParams
    load: Callable[..., object]
    places: tuple[Callable[[], Path], ...] = ()

    @classmethod
    def on(
        cls, compute: ComputeParams | None, load: Callable[..., object], *places: Callable[[], Path]
    ) -> "Workers | None":
        """The workers on a cluster; None where this process reads."""
        return None if compute is None or compute.engine == "local" else cls(compute, load, places)


def compute_params(path: str | Path = "params.yaml") -> ComputeParams:
    """The block ``compute`` of a params file."""
    (compute,) = read_params(path, compute=ComputeParams)
    return compute


class SentFolder:
    """A folder of this machine. Where it is sent to another process, that process gets a copy of its files.

    >>> SentFolder(Path("data/adapter"))().name
    'adapter'
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self) -> Path:
        """The folder, or its copy."""
        return self._folder

    def __getstate__(self) -> dict[str, bytes]:
        files = sorted(file for file in self._folder.rglob("*") if file.is_file())
        return {str(file.relative_to(self._folder)): file.read_bytes() for file in files}

    def __setstate__(self, files: dict[str, bytes]) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="medcards-")  # removed with this object
        self._folder = Path(self._copy.name)
        for name, content in files.items():
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_bytes(content)


def place_of(reference: str) -> Callable[[], Path]:
    """A function that gives the folder of a reference in any process.

    A worker fetches a model by its reference. It is sent a model of the user's own.
    """
    return SentFolder(resolve(reference)) if parse(reference).kind == "path" else partial(resolve, reference)


def model_place(folder: Path) -> Callable[[], Path]:
    """A function that gives the folder of :func:`medcards.base.manifests.model_folder` in any process.

    A worker is sent a model that this pipeline made, see :func:`place_of` for the others.
    """
    manifest = read_manifest(folder)
    return SentFolder(model_folder(folder)) if manifest["trained"] else place_of(manifest["model"])


def map_batches(
    read: Callable[[object, Batch], Result],
    model: object,
    batches: Sequence[Batch],
    workers: Workers | None = None,
    title: str = "batches",
    bar_from: int = FEW,
) -> Iterator[tuple[int, Result]]:
    """What a model reads from each batch.

    Parameters
    ----------
    read : from the model and a batch to a result; a function of a module where there are workers.
    model : the model in this process.
    workers : who reads the batches, with models of their own; this process if None, or if there are fewer than
        :data:`FEW` batches and the workers have no GPU.
    title : what the progress bar says.
    bar_from : number of batches from which a progress bar is shown.

    Yields
    ------
    the place of a batch and its result, in the order in which they are done.

    Raises
    ------
    InputError : Ray is not installed, the cluster is unreachable or too small, the workers were killed again and
        again, or a worker raised it.

    Examples
    --------
    >>> dict(map_batches(pow, 2, [3, 4]))
    {0: 8, 1: 16}
    """
    if workers and len(batches) < FEW and not workers.compute.worker_gpus:
        log.info("%s: %d batches, fewer than %d, are read in this process", title, len(batches), FEW)
        workers = None
    if workers is None:
        done = ((place, read(model, batch)) for place, batch in enumerate(batches))
    else:
        done = _by_workers(read, batches, workers)
    yield from tqdm(done, desc=title, total=len(batches), disable=len(batches) < bar_from)


def _by_workers(read: Callable, batches: Sequence, workers: Workers) -> Iterator[tuple[int, object]]:
    """The place and the result of each batch, as the workers finish them (library: Ray Data)."""
    compute = workers.compute
    ray = _connected(compute)
    log.info("%d batches are read by %d workers", len(batches), compute.workers)
    size = math.ceil(len(batches) / (compute.workers * BLOCKS_PER_WORKER))
    table = pd.DataFrame({"place": range(len(batches)), "batch": [ray.cloudpickle.dumps(batch) for batch in batches]})
    data = ray.data.from_pandas([table[start : start + size] for start in range(0, len(table), size)])
    done = data.map_batches(
        _Worker,
        fn_constructor_args=(read, workers),
        batch_size=size,  # a block; Ray asks for a number where there are GPUs
        batch_format="pandas",
        compute=ray.data.ActorPoolStrategy(size=compute.workers),
        num_cpus=compute.worker_cpus,
        num_gpus=compute.worker_gpus or None,
        max_restarts=RESTARTS,
        max_task_retries=-1,  # each connection that a lost machine refuses is a try
    )
    try:
        for block in done.iter_batches(batch_size=None, batch_format="pandas"):
            for row in block.itertuples():
                if row.error:
                    raise InputError(row.error)
                yield row.place, ray.cloudpickle.loads(row.result)
    except ray.exceptions.RayActorError as error:
        raise InputError(
            f"a worker was killed more than {RESTARTS} times ({medcards.reason_of(error)}); free memory there, or "
            "start fewer workers"
        ) from None
    finally:
        del data, done
        gc.collect()  # Ray stops the workers when nothing refers to them


class _Worker:
    """An actor of Ray Data. It returns an :class:`InputError` as text, because Ray would try again."""

    def __init__(self, read: Callable, workers: Workers):
        if not workers.compute.worker_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # otherwise all workers of a machine would share its first GPU
        self._read, self._model, self._error = read, None, ""
        try:
            self._model = workers.load(*(place() for place in workers.places))
        except InputError as error:
            self._error = f"a worker cannot load its model: {error}"

    def __call__(self, block: pd.DataFrame) -> pd.DataFrame:
        results = [self._result(batch) for batch in block.batch]
        return pd.DataFrame({"place": block.place.to_numpy(), "result": results, "error": self._error})

    def _result(self, batch: bytes) -> bytes:
        from ray import cloudpickle

        if self._error:
            return b""
        try:
            return cloudpickle.dumps(self._read(self._model, cloudpickle.loads(batch)))
        except InputError as error:
            self._error = str(error)
            return b""


def _check_reachable(address: str) -> None:
    """Check that something listens at ``HOST:PORT``. Ray itself would try for minutes."""
    if address.startswith("ray://"):
        raise InputError(f"compute.address={address}: Ray Client is not used; name the cluster as HOST:PORT")
    host, separator, port = address.rpartition(":")
    if separator:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN).close()
        except (OSError, ValueError) as error:
            raise InputError(
                f"compute.address={address}: no cluster answers ({medcards.reason_of(error)}); `ray start --head` "
                "starts one and prints its address"
            ) from None


def _connected(compute: ComputeParams):
    """Ray, connected to the cluster of ``compute.address``, or to one that is started on this machine.

    A cluster on this machine ends with this process.

    Raises
    ------
    InputError : Ray is not installed, or the cluster is unreachable or has no room for the workers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it logs of lost workers is no error here
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError(
            "compute.engine=ray: Ray is not installed; run `pip install -c constraints.txt -r requirements-scale.txt`"
        ) from None
    if not ray.is_initialized():
        _check_reachable(compute.address)
        cluster = {"address": compute.address}
        if not compute.address:
            cpus = compute.workers * compute.worker_cpus
            cluster = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        package = {"py_modules": [str(Path(medcards.__file__).parent)], "excludes": ["__pycache__"]}
        try:
            ray.init(**cluster, runtime_env=package, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise InputError(f"compute.address={compute.address}: {medcards.reason_of(error)}") from None
        ray.data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        _check_room(compute, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    return ray


def _check_room(compute: ComputeParams, machines: list[dict[str, float]]) -> None:
    """Check that the machines of a cluster hold all workers. Ray itself would wait for more machines for ever.

    A machine that is lost later leaves room for fewer workers, which then read everything.

    >>> compute = ComputeParams(engine="ray", address="", workers=3, worker_cpus=4, worker_gpus=0)
    >>> _check_room(compute, [{"CPU": 8.0}, {"CPU": 4.0}])
    """
    each = {"CPU": compute.worker_cpus, "GPU": compute.worker_gpus}
    room = sum(min(int(has.get(name, 0) / of) for name, of in each.items() if of) for has in machines)
    if room < compute.workers:
        raise InputError(
            f"compute.workers={compute.workers}: the cluster has room for {room} workers of compute.worker_cpus="
            f"{compute.worker_cpus} and compute.worker_gpus={compute.worker_gpus:g}"
        )
