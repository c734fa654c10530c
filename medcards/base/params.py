"""Read and check the blocks of params.yaml that a stage names.

The type of a block is a :class:`Block` in the module that uses the block. So a new parameter re-runs only the stages
that read its block.
"""

import difflib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medcards import InputError, reason_of

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The type of the seed. numpy accepts these values."""


class Block(BaseModel):
    """A typed block of params.yaml. Unknown keys and wrong types are errors; an integer is accepted as a float."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_params(path: str | Path, **blocks: object) -> list:
    """Read the named blocks of a params file.

    Parameters
    ----------
    path : the params file. It is read as YAML 1.2, where ``1e-05`` is a number; ``dvc exp run -S`` writes such numbers.
    blocks : the type of each block by its name: a :class:`Block`, or a plain type such as :data:`Seed`.

    Returns
    -------
    values : the blocks, in the order of ``blocks``.

    Raises
    ------
    InputError : the file or a block is missing, a key is unknown or missing, or a value has the wrong type.

    Examples
    --------
    >>> seed, lora = read_params("params.yaml", seed=Seed, lora=LoraParams)  # doctest: +SKIP
    """
    try:
        values = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run this in the root folder of the repository") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {reason_of(error, 400)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold blocks of parameters")
    return [_check(path, values, name, kind) for name, kind in blocks.items()]


def _check(path: str | Path, values: dict, name: str, kind: object) -> object:
    if name not in values:
        raise InputError(f"{path}: '{name}' is missing{_did_you_mean(name, values)}")
    is_block = isinstance(kind, type) and issubclass(kind, Block)  # a Block has its own settings
    try:
        return TypeAdapter(kind, config=None if is_block else ConfigDict(strict=True)).validate_python(values[name])
    except ValidationError as invalid:
        error = invalid.errors()[0]
    where = ".".join(str(part) for part in (name, *error["loc"]))
    if error["type"] == "extra_forbidden":
        known = list(kind.model_fields)
        near = _did_you_mean(str(error["loc"][-1]), known)
        raise InputError(f"{path}: {where} is not a parameter{near}; known: {', '.join(known)}")
    if error["type"] == "missing":
        raise InputError(f"{path}: {where} is missing; `git diff {path}` shows the removed lines")
    message = error["msg"].removeprefix("Value error, ")
    raise InputError(f"{path}: {where}={error['input']!r}: {message[0].lower()}{message[1:]}")


def _did_you_mean(name: str, known: object) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
