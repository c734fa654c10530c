"""What every stage shares: the check of the environment, the lock, the one-line error and the cost file.

A stage is a script, ``python -m stages.NAME``, that DVC runs from the repository's root.
"""

import sys
import time
from importlib import metadata
from pathlib import Path

STARTED = time.perf_counter()


def _missing_packages():
    lines = (Path(__file__).parent.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for name in (line.split("==")[0].strip() for line in lines if "==" in line and not line.startswith("#")):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name


if missing := list(_missing_packages()):
    # DVC starts stages with the first python on PATH, which need not be the one that DVC itself runs on.
    sys.exit(
        f"{sys.executable} lacks {', '.join(missing[:3])}{', ...' if missing[3:] else ''}: "
        "run `source .venv/bin/activate`, then the same command again"
    )

import argparse  # noqa: E402
import errno  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402

# The libraries read these when they are imported, so they are set before.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hashlib  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import ExitStack, contextmanager, nullcontext  # noqa: E402

from filelock import FileLock, Timeout  # noqa: E402

from medcards import (
    InputError,
    params,
)
from medcards.base.files import sha256_of, to_json, write_json  # noqa: E402
from medcards.base.references import parse, pin  # noqa: E402

DATA, METRICS, PLOTS, SCRATCH = Path("data"), Path("metrics"), Path("plots"), Path(".scratch")
RANK, PROCESSES = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
"""Which process of a stage this is, where a launcher starts several; the first alone writes."""

NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


def load_params(**blocks: object) -> list:
    """The named blocks of params.yaml, see :func:`medcards.base.params.load`."""
    return params.load("params.yaml", **blocks)


def pinned(block: params.Block, role: str) -> params.Block:
    """The block with its ``model`` at the commit that it names now; a ``path:`` must lie under ``models/ROLE``.

    That folder is what DVC watches for the stage.
    """
    parsed = parse(block.model)
    folder = Path("models") / role
    if parsed.kind == "path" and not Path(os.path.normpath(parsed.path)).is_relative_to(folder):
        raise InputError(f"{block.model}: a model of your own goes under {folder}, where DVC notices when it changes")
    return block.model_copy(update={"model": pin(block.model)})


def fingerprint_of_model(reference: str) -> str:
    """What changes with a model: its reference, and of files of the user's own their bytes."""
    parsed = parse(reference)
    if parsed.kind != "path":
        return reference
    files = sorted(file for file in Path(parsed.path).rglob("*") if file.is_file())
    return to_json({str(file): sha256_of(file) for file in files})


@contextmanager
def scratch(name: str, **inputs: object) -> Iterator[Path]:
    """A folder for a stage's partial work: it survives a kill, and is removed when the block ends without an error.

    Its name is a fingerprint of the inputs given, of the code that is loaded, of the packages and of how the processes
    were launched, so that no work is continued from other inputs. ``MEDCARDS_SCRATCH`` sets another place for all of
    them, such as one that several checkouts share.
    """
    here = Path(__file__).parent.parent
    files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    code = {
        str(file.relative_to(here)): sha256_of(file)
        for file in files
        if file.parent in (here / "medcards", here / "stages")
    }
    packages = sorted(f"{package.name}=={package.version}" for package in metadata.distributions())
    launcher = {name: value for name, value in os.environ.items() if name.startswith(("ACCELERATE_", "FSDP_"))}
    facts = inputs | {"code": code, "packages": packages, "processes": PROCESSES, "launcher": launcher}
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("MEDCARDS_SCRATCH") or SCRATCH) / name / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        if RANK == 0:
            try:
                held.enter_context(FileLock(f"{folder}.lock", timeout=0))
            except Timeout:
                raise InputError(f"another checkout is at the same work in {folder}: run this again later") from None
        yield folder
        if RANK == 0:
            shutil.rmtree(folder, ignore_errors=True)


def run(name: str, main: Callable[[], dict | None], **instead: Callable[[], None]) -> None:
    """Run a stage's ``main`` alone, say what the user did wrong in one line, and write what it cost.

    What ``main`` returns it measured by the clock; that goes to the cost file as well.
    The lock is for the stage of a dvc that was killed, which lives on: two writers would mix their outputs.
    ``instead`` names what else the script can do, each by a flag of that name; that costs nothing worth a file.
    """
    raw = argparse.RawDescriptionHelpFormatter
    description = sys.modules["__main__"].__doc__
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=description, formatter_class=raw)
    for flag, other in instead.items():
        parser.add_argument(f"--{flag}", action="store_true", help=other.__doc__)
    given = vars(parser.parse_args())
    other = next((instead[flag] for flag in given if given[flag]), None)

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("medcards").setLevel(logging.INFO if RANK == 0 else logging.WARNING)
    SCRATCH.mkdir(exist_ok=True)
    writer = SCRATCH / f"{name}.pid"
    try:
        with FileLock(SCRATCH / f"{name}.lock", timeout=0) if RANK == 0 else nullcontext():
            if RANK == 0:
                writer.write_text(str(os.getpid()))
            if other:
                return other()
            measured = main() or {}
            if RANK == 0:
                write_json(METRICS / "cost" / f"{name}.json", _cost() | measured)
    except Timeout:
        pid = writer.read_text()
        sys.exit(f"{name}: process {pid} still runs this stage; end it (`kill {pid}`) or wait, then run this again")
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        sys.exit(f"{name}: {error}; what was whole before still is: free space, then run this again")


def _cost() -> dict[str, float]:
    """Seconds since the process started to import, and its peak memory."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": round(time.perf_counter() - STARTED, 1), "peak_memory_mb": round(peak / 1e6)}
