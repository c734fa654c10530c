"""A folder that says which model is used: one that was trained and lies in it, one that a reference names, or none.

The manifest holds the hashes of the files that it speaks of, so that a model changed in place changes it.
"""

from pathlib import Path

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json
from medcards.base.references import parse, resolve


def write_manifest(folder: Path, model: str, **facts: object) -> None:
    """Write ``manifest.json``, after what was trained was saved under ``folder/model``.

    Parameters
    ----------
    model : a reference, or ``none``. Of a trained model it is the one that training started from.
    facts : what else is worth knowing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = (folder / "model").exists()
    files = folder / "model" if trained else None
    if not trained and model != "none" and parse(model).kind == "path":
        files = resolve(model)
        if not files.is_dir():
            raise InputError(f"{model}: a model is a folder, not a file")
    hashes = {} if files is None else {name: sha256_of(files / name) for name in _names(files)}
    write_json(folder / "manifest.json", {"model": model, "trained": trained, "sha256": hashes, **facts})


def read_manifest(folder: str | Path) -> dict:
    """The manifest in ``folder``."""
    return read_json(Path(folder) / "manifest.json")


def model_folder(folder: str | Path) -> Path | None:
    """Where the model lies that the manifest in ``folder`` speaks of; None if it says that there is none.

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


def _names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
