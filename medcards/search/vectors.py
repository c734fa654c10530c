"""The vectors of a deck, as the pipeline keeps them."""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json
from medcards.deck.cards import corpus


@dataclass
class Vectors:
    """Unit vectors of the searched answers and of every card's question, with their card ids.

    What :meth:`load` reads stays on disk: a part of an array comes into memory when it is used.

    Parameters
    ----------
    answer_ids, question_ids : card ids, shape (answers,) and (cards,).
    answers, questions : float32, shape (answers, dimension) and (cards, dimension), rows of length 1.
    answer_tokens, question_tokens : length of each text with its prompt in the encoder's tokens, before it is cut.
    max_tokens : the number of tokens at which the encoder cuts a text.
    """

    answer_ids: np.ndarray
    answers: np.ndarray
    answer_tokens: np.ndarray
    question_ids: np.ndarray
    questions: np.ndarray
    question_tokens: np.ndarray
    max_tokens: int

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the answers' vectors."""
        return hashlib.sha256(np.ascontiguousarray(self.answers)).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the arrays, then a manifest with their dimension and hashes."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "max_tokens"}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        manifest = {
            "dimension": self.answers.shape[1],
            "max_tokens": self.max_tokens,
            "fingerprint": self.fingerprint,
            "sha256": {name: sha256_of(folder / f"{name}.npy") for name in arrays},
        }
        write_json(folder / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: str | Path, cards: pd.DataFrame) -> "Vectors":
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError : a file is missing or is not the one that the manifest names, or the vectors belong to other cards.
        """
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json")
        for name, sha256 in manifest["sha256"].items():
            if sha256_of(folder / f"{name}.npy") != sha256:
                raise InputError(f"{folder / name}.npy is not what its manifest says: run `dvc repro -f adapt`")
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in manifest["sha256"]
        }
        loaded = cls(**arrays, max_tokens=manifest["max_tokens"])
        if "fingerprint" not in manifest:
            raise InputError(f"{folder / 'manifest.json'} lacks 'fingerprint': run `dvc repro`")
        loaded.fingerprint = manifest["fingerprint"]  # of the arrays, which are checked: they are not read again
        for ids, wanted in ((loaded.answer_ids, corpus(cards)), (loaded.question_ids, cards)):
            if not np.array_equal(ids, wanted.card_id.to_numpy(dtype=np.str_)):
                raise InputError(f"{folder} belongs to other cards: run `dvc repro adapt`")
        return loaded

    def questions_of(self, card_ids: object) -> np.ndarray:
        """The question vectors of the given cards, in the order of the ids."""
        return self.questions[self._places(card_ids)]

    def question_tokens_of(self, card_ids: object) -> np.ndarray:
        """The question lengths of the given cards, in the order of the ids."""
        return self.question_tokens[self._places(card_ids)]

    def _places(self, card_ids: object) -> np.ndarray:
        return pd.Index(self.question_ids).get_indexer_for(list(card_ids))


def search_vectors(data: Path, cards: pd.DataFrame) -> Vectors:
    """The vectors that the search uses: those of the adapted encoder, else those of the unadapted encoder.

    Parameters
    ----------
    data : the folder that the pipeline writes.

    Raises
    ------
    InputError : see :meth:`Vectors.load`; or the manifest of data/encoder is missing.
    """
    adapted = read_json(data / "encoder" / "manifest.json")["trained"]
    return Vectors.load(data / "encoder" / "vectors" if adapted else data / "vectors", cards)
