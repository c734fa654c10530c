"""Which model is used: one that a reference names, one that the pipeline trained, or none.

A manifest holds the hashes of the files that it names, so that a model changed in place changes its manifest.
"""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict

from medcards import InputError
from medcards.base.files import hashes_of, read_json, sha256_of, to_json, write_json
from medcards.base.params import Block
from medcards.base.references import checked_reference, parse, pin, resolve

NO_REFERENCE = ("none", "train")
"""Values of ``reranker.model`` that are no references."""

PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of files that can run code when they are read."""


class NamesModel(Block):
    """A block of params.yaml that names a model. Its other keys are read by the stages that use them."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, AfterValidator(lambda text: text if text in NO_REFERENCE else checked_reference(text))]


def check_place(reference: str, role: str) -> None:
    """Check that a model of the user's own lies where DVC notices when it changes.

    Raises
    ------
    InputError : a ``path:`` reference leads out of ``models/ROLE``.
    """
    parsed, folder = parse(reference), Path("models") / role
    if parsed.kind == "path" and not Path(os.path.normpath(parsed.path)).is_relative_to(folder):
        raise InputError(f"{reference}: a model of your own goes under {folder}, where DVC notices when it changes")


def pin_model(block: NamesModel, role: str) -> dict:
    """The model that a block names now: its reference with a hub branch pinned, and the hashes of own files.

    Parameters
    ----------
    role : encoder, reranker or llm.

    Raises
    ------
    InputError : a ``path:`` model is missing or lies elsewhere than in ``models/ROLE``, or the hub cannot be reached.
    """
    pinned, hashes = block.model, {}
    if pinned not in NO_REFERENCE:
        check_place(pinned, role)
        pinned = pin(pinned)
        hashes = _hashes_of_own(pinned)
    return {"model": pinned, "sha256": hashes}


def pinned_model(data: Path, role: str) -> str:
    """The reference that the stage ``models`` pinned for a role.

    Raises
    ------
    InputError : the file is missing, or a model of the user's own changed since.
    """
    file = data / "models" / f"{role}.json"
    found = read_json(file)
    if found["sha256"] and _hashes_of_own(found["model"]) != found["sha256"]:
        raise InputError(f"{found['model']} is not what {file} says: run `dvc repro`")
    return found["model"]


def model_fingerprint(data: Path, role: str) -> str:
    """A text that changes with the model of a role: its reference and the hashes of own files."""
    found = read_json(data / "models" / f"{role}.json")
    return to_json({name: found[name] for name in ("model", "sha256")})


def write_manifest(folder: Path, model: str) -> None:
    """Write ``manifest.json``, after a trained model was saved under ``folder/model``.

    Parameters
    ----------
    model : a reference, or ``none``. For a trained model it is the reference that training started from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = (folder / "model").exists()
    hashes = hashes_of(folder / "model") if trained else {} if model == "none" else _hashes_of_own(model)
    write_json(folder / "manifest.json", {"model": model, "trained": trained, "sha256": hashes})


def read_manifest(folder: str | Path) -> dict:
    """The manifest in ``folder``."""
    return read_json(Path(folder) / "manifest.json")


def model_folder(folder: str | Path) -> Path | None:
    """The folder of the model that the manifest in ``folder`` names; None if it names none.

    Raises
    ------
    InputError : the manifest is missing, or the model's files are not those that it was written for.
    """
    manifest = read_manifest(folder)
    if manifest["model"] == "none":
        return None
    files = Path(folder) / "model" if manifest["trained"] else resolve(manifest["model"])
    for name, sha256 in manifest["sha256"].items():
        if not (files / name).exists() or sha256_of(files / name) != sha256:
            raise InputError(f"{files / name} is not what {folder}/manifest.json says: run `dvc repro`")
    return files


def _hashes_of_own(reference: str) -> dict[str, str]:
    """The hashes of the files of a ``path:`` reference; none of other references, which pin their bytes."""
    if parse(reference).kind != "path":
        return {}
    folder = resolve(reference)
    if not folder.is_dir():
        raise InputError(f"{reference}: a model is a folder, not a file")
    if unsafe := next((file for file in sorted(folder.rglob("*")) if file.suffix in PICKLES), None):
        raise InputError(f"{reference}: {unsafe.name} is a pickle, which can run code; save the model as safetensors")
    return hashes_of(folder)
