"""Where work survives a kill: one folder per set of inputs, and one writer per stage.

DVC deletes a stage's outs before it runs the stage, so partial work lies outside of them.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from medcards import InputError
from medcards.base.files import sha256_of

SCRATCH = Path(".scratch")
RANK, PROCESSES = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
"""The number of this process and the number of all processes, where a launcher starts several. Process 0 writes."""
ROOT = Path(__file__).parents[2]


def scratch_root() -> Path:
    """``MEDCARDS_SCRATCH``, or ``.scratch`` in the working folder."""
    return Path(os.environ.get("MEDCARDS_SCRATCH") or SCRATCH)


@contextmanager
def scratch(name: str, **inputs: object) -> Iterator[Path]:
    """A folder for a stage's partial work. It survives a kill, and is removed when the block ends without an error.

    Parameters
    ----------
    name : the stage.
    inputs : what the work depends on. The folder's name is a fingerprint of the inputs, of the code that is loaded, of
        the packages and of the launcher, so that no work continues from other inputs.

    Raises
    ------
    InputError : another checkout works in this folder.
    """
    folder = scratch_root() / name / fingerprint("", **inputs)
    folder.mkdir(parents=True, exist_ok=True)
    if RANK != 0:
        yield folder
        return
    lock = FileLock(f"{folder}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another checkout does the same work in {folder}: run this again later") from None
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def fingerprint(code: str, **inputs: object) -> str:
    """16 hex digits that change with the inputs, the loaded code, the installed packages and the launcher.

    Parameters
    ----------
    code : a folder of this repository such as ``medcards/llm``; only the loaded files in it count. Empty for all.
    inputs : what JSON can hold.
    """
    loaded = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    rooms = [ROOT / code] if code else [ROOT / "medcards", ROOT / "stages"]
    files = sorted(file for file in loaded if any(file.is_relative_to(room) for room in rooms))
    facts = {
        "inputs": inputs,
        "code": {str(file.relative_to(ROOT)): sha256_of(file) for file in files},
        "packages": sorted(f"{package.name}=={package.version}" for package in metadata.distributions()),
        "processes": PROCESSES,
        "launcher": {name: value for name, value in os.environ.items() if name.startswith(("ACCELERATE_", "FSDP_"))},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def one_writer(name: str) -> Iterator[None]:
    """Hold the lock of a stage; process 0 alone takes it.

    A dvc that is killed leaves its stage alive. A second writer would mix its outputs with those of the first.

    Raises
    ------
    InputError : another process runs the stage; the message names it.
    """
    if RANK != 0:
        yield
        return
    SCRATCH.mkdir(exist_ok=True)
    lock, writer = FileLock(SCRATCH / f"{name}.lock", timeout=0), SCRATCH / f"{name}.pid"
    try:
        lock.acquire()
    except Timeout:
        pid = writer.read_text() if writer.exists() else "of unknown number"
        raise InputError(
            f"process {pid} still runs this stage; end it (`kill {pid}`) or wait, then run this again"
        ) from None
    try:
        writer.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()
