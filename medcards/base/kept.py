"""Results that are kept between runs."""

import hashlib
import json
from pathlib import Path

from medcards.base.files import atomic


class KeptResults:
    """Results that are kept in a folder by their inputs, so that equal inputs are computed once.

    They are JSON without rounding, so a kept number equals the computed one.

    Parameters
    ----------
    folder : belongs to one way to compute; nothing is kept if None.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder

    def get(self, inputs: object) -> object:
        """The kept result; None where it is not computed yet, or damaged."""
        if self._folder is None:
            return None
        try:
            return json.loads(self._file(inputs).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def put(self, inputs: object, result: object) -> None:
        """Keep a result."""
        if self._folder is not None:
            with atomic(self._file(inputs)) as temporary:
                temporary.write_text(json.dumps(result), encoding="utf-8")

    def _file(self, inputs: object) -> Path:
        return self._folder / f"{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()}.json"
