"""Text to unit vectors, with a sentence-transformers bi-encoder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json
from medcards.base.params import Block
from medcards.base.references import ReferenceText, reading
from medcards.deck.cards import corpus


class EmbedParams(Block):
    """The bi-encoder, see params.yaml."""

    model: ReferenceText
    adapt: bool
    batch_size: PositiveInt


@dataclass
class Embeddings:
    """Unit float32 vectors of the searched answers and of every card's question, row by row with their card ids.

    ``*_tokens`` is the length of each text in the encoder's tokens, before it is cut to the encoder's limit.
    """

    answer_ids: np.ndarray
    answers: np.ndarray
    answer_tokens: np.ndarray
    question_ids: np.ndarray
    questions: np.ndarray
    question_tokens: np.ndarray
    max_tokens: int

    def save(self, folder: Path) -> None:
        """Write the arrays, then the manifest with their sizes and hashes."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: value for name, value in vars(self).items() if name != "max_tokens"}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        manifest = {
            "dimension": self.answers.shape[1],
            "max_tokens": self.max_tokens,
            "sha256": {name: sha256_of(folder / f"{name}.npy") for name in arrays},
        }
        write_json(folder / "manifest.json", manifest)

    @classmethod
    def load(cls, folder: str | Path, cards: pd.DataFrame) -> "Embeddings":
        """Read what :meth:`save` wrote; check it against its manifest, and that it belongs to ``cards``."""
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json")
        for name, sha256 in manifest["sha256"].items():
            if sha256_of(folder / f"{name}.npy") != sha256:
                raise InputError(f"{folder / name}.npy is not what its manifest says: run `dvc repro -f embed`")
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in manifest["sha256"]}
        loaded = cls(**arrays, max_tokens=manifest["max_tokens"])
        for ids, wanted in ((loaded.answer_ids, corpus(cards)), (loaded.question_ids, cards)):
            if not np.array_equal(ids, wanted.card_id.to_numpy(dtype=np.str_)):
                raise InputError(f"{folder} belongs to other cards: run `dvc repro embed`")
        return loaded

    def check_encoder(self, model, cards: pd.DataFrame) -> None:
        """Encode a question whose vector is known: another model's vectors would give rankings without a meaning.

        Raises
        ------
        InputError : the model gives another vector.
        """
        (vector,) = encode(model, cards.question.head(1).tolist(), 1)
        if vector.shape != self.questions[0].shape or not np.allclose(vector, self.questions[0], atol=1e-3):
            raise InputError("the embeddings are not those of the encoder beside them: run `dvc repro -f embed`")

    def questions_of(self, card_ids: object) -> np.ndarray:
        """The question vectors of the given cards, in their order."""
        return self.questions[self._places(card_ids)]

    def question_tokens_of(self, card_ids: object) -> np.ndarray:
        """The question lengths of the given cards, in their order."""
        return self.question_tokens[self._places(card_ids)]

    def _places(self, card_ids: object) -> np.ndarray:
        return pd.Index(self.question_ids).get_indexer_for(list(card_ids))


def embed_cards(model, cards: pd.DataFrame, batch_size: int) -> Embeddings:
    """Encode every question, and every answer that is searched (see :func:`medcards.deck.cards.corpus`)."""
    answers = corpus(cards)
    return Embeddings(
        answer_ids=answers.card_id.to_numpy(dtype=np.str_),
        answers=encode(model, answers.answer.tolist(), batch_size),
        answer_tokens=token_counts(model, answers.answer.tolist()),
        question_ids=cards.card_id.to_numpy(dtype=np.str_),
        questions=encode(model, cards.question.tolist(), batch_size),
        question_tokens=token_counts(model, cards.question.tolist()),
        max_tokens=model.max_seq_length,
    )


def before_adaptation(folder: Path) -> Path:
    """Where the vectors of the encoder as it came lie: what describes the deck must not hang on the adaptation."""
    return folder / "before" if (folder / "before").exists() else folder


def load_encoder(folder: Path, name: str = ""):
    """The sentence-transformers model in a folder, on the device that the machine has; errors call it ``name``."""
    from sentence_transformers import SentenceTransformer

    with reading(name or str(folder), "a sentence-transformers model"):
        return SentenceTransformer(str(folder), local_files_only=True)


def encode(model, texts: list[str], batch_size: int) -> np.ndarray:
    """Encode texts as unit vectors.

    Returns
    -------
    array of shape (number of texts, dimension), float32, each row of length 1.

    Raises
    ------
    InputError : the model gives vectors that are not finite or have no length.
    """
    vectors = model.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=len(texts) > 500)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise InputError("embed.model gives vectors without a direction (zero or not finite): use another model")
    return vectors


def token_counts(model, texts: list[str]) -> np.ndarray:
    """The length of each text in the model's tokens, special ones included, before it is cut."""
    found = model.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
    return np.array([len(ids) for ids in found], dtype=np.int32)
