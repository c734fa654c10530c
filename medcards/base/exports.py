"""The folders that the command export writes."""

from pathlib import Path

from medcards import InputError

MARKS = (
    {"parity.json"},
    {"adapter_model.safetensors", "manifest.json", "README.md"},  # data/adapter has no README.md
    {"answers.csv", "answers.html", "answers.parquet"},
    {"train.jsonl", "validation.jsonl", "manifest.json", "README.md"},
)
"""Files that mark a folder as an earlier export: of a merged model, of an adapter, of answers, of rows."""


def check_target(to: Path, overwrite: bool) -> None:
    """InputError if ``to`` exists and must not be replaced. Only an earlier export is ever replaced."""
    if not to.exists():
        return
    if not overwrite:
        raise InputError(f"{to} exists: choose another name, or replace it with --overwrite")
    if not any(all((to / name).exists() for name in names) for names in MARKS):
        raise InputError(f"{to} is not an earlier export, so it is not replaced: choose another name")
