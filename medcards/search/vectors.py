"""The vectors of a deck, as the pipeline keeps them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json
from medcards.base.stacked import Rows, StackedArray
from medcards.deck.cards import corpus


@dataclass
class Vectors:
    """Unit vectors of the searched answers and of every card's question, with their card ids.

    What :meth:`load` reads stays on disk: rows come into memory when they are used.

    Parameters
    ----------
    answer_ids, question_ids : card ids, shape (answers,) and (cards,).
    answers, questions : float32, shape (answers, dimension) and (cards, dimension), rows of length 1.
    answer_tokens, question_tokens : length of each text with its prompt in the encoder's tokens, before it is cut.
    max_tokens : the number of tokens at which the encoder cuts a text.
    """

    answer_ids: np.ndarray
    answers: Rows
    answer_tokens: np.ndarray
    question_ids: np.ndarray
    questions: Rows
    question_tokens: np.ndarray
    max_tokens: int

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the answers' vectors."""
        return hashlib.sha256(np.ascontiguousarray(self.answers)).hexdigest()

    @classmethod
    def of(cls, shards: list["Vectors"]) -> "Vectors":
        """The vectors of shards, one after the other. They stay where they are."""
        arrays = {name: StackedArray([getattr(shard, name) for shard in shards]) for name in _ARRAYS}
        arrays |= {name: np.asarray(array) for name, array in arrays.items() if name not in ("answers", "questions")}
        return cls(**arrays, max_tokens=shards[0].max_tokens)

    @classmethod
    def load(cls, folder: str | Path, cards: pd.DataFrame) -> "Vectors":
        """Read what :func:`save_vectors` wrote.

        Raises
        ------
        InputError : a file is missing or is not the one that the manifest names, or the vectors belong to other cards.
        """
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json")
        if not {"sha256", "fingerprint", "shards"} <= set(manifest):
            raise InputError(f"{folder / 'manifest.json'} is not that of this version: run `dvc repro`")
        numbers = range(1, manifest["shards"] + 1)
        for file in (file for number in numbers for file in _files(folder, number).values()):
            if not file.exists() or sha256_of(file) != manifest["sha256"].get(file.name):
                raise InputError(f"{file} is not what its manifest says: run `dvc repro -f adapt`")
        loaded = cls.of([_read(folder, number, manifest["max_tokens"]) for number in numbers])
        loaded.fingerprint = manifest["fingerprint"]  # of the arrays, which are checked: they are not read again
        for ids, wanted in ((loaded.answer_ids, corpus(cards)), (loaded.question_ids, cards)):
            if not np.array_equal(ids, wanted.card_id.to_numpy(dtype=np.str_)):
                raise InputError(f"{folder} belongs to other cards: run `dvc repro adapt`")
        return loaded

    def shards(self) -> Iterator["Vectors"]:
        """The shards that :meth:`of` got; the whole where it was made in another way."""
        if isinstance(self.answers, np.ndarray):
            yield self
            return
        answer = question = 0
        for answers, questions in zip(self.answers.parts, self.questions.parts, strict=True):
            of_answers, of_questions = slice(answer, answer + len(answers)), slice(question, question + len(questions))
            answer, question = of_answers.stop, of_questions.stop
            sides = self.answer_ids[of_answers], answers, self.answer_tokens[of_answers]
            sides += self.question_ids[of_questions], questions, self.question_tokens[of_questions]
            yield Vectors(*sides, max_tokens=self.max_tokens)

    def questions_of(self, card_ids: object) -> np.ndarray:
        """The question vectors of the given cards, in the order of the ids."""
        return self.questions[self.question_rows(card_ids)]

    def question_tokens_of(self, card_ids: object) -> np.ndarray:
        """The question lengths of the given cards, in the order of the ids."""
        return self.question_tokens[self.question_rows(card_ids)]

    def question_rows(self, card_ids: object) -> np.ndarray:
        """The row of ``questions`` of each of the given cards."""
        return self._place_of.get_indexer_for(list(card_ids))

    @cached_property
    def _place_of(self) -> pd.Index:
        return pd.Index(self.question_ids)


_ARRAYS = [field.name for field in fields(Vectors) if field.name != "max_tokens"]


def save_vectors(shards: Iterable[Vectors], folder: Path) -> None:
    """Write vectors shard by shard, then a manifest with their dimension and the hash of every file.

    Parameters
    ----------
    shards : vectors of the cards, one after the other. They are made one at a time, where this is an iterator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint, number = hashlib.sha256(), 0
    for shard in shards:
        number += 1
        for name, file in _files(folder, number).items():
            np.save(file, np.asarray(getattr(shard, name)), allow_pickle=False)
        fingerprint.update(np.ascontiguousarray(shard.answers))
        dimension, max_tokens = shard.answers.shape[1], shard.max_tokens
        del shard  # before the next one is made
    files = [file for shard in range(1, number + 1) for file in _files(folder, shard).values()]
    manifest = {
        "shards": number,
        "dimension": dimension,
        "max_tokens": max_tokens,
        "fingerprint": fingerprint.hexdigest(),
        "sha256": {file.name: sha256_of(file) for file in files},
    }
    write_json(folder / "manifest.json", manifest)


def _files(folder: Path, number: int) -> dict[str, Path]:
    """The file of every array of a shard."""
    return {name: folder / f"{name}-{number:05}.npy" for name in _ARRAYS}


def _read(folder: Path, number: int, max_tokens: int) -> Vectors:
    """A shard, whose vectors stay on disk."""
    arrays = {}
    for name, file in _files(folder, number).items():
        on_disk = "r" if name in ("answers", "questions") else None
        arrays[name] = np.asarray(np.load(file, mmap_mode=on_disk, allow_pickle=False))
    return Vectors(**arrays, max_tokens=max_tokens)


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
