"""Text to unit vectors, with a sentence-transformers bi-encoder."""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from medcards import InputError
from medcards.base.params import Block
from medcards.base.references import ReferenceText, reading
from medcards.deck.cards import corpus
from medcards.search.vectors import Vectors

_PROGRESS_FROM = 500
"""Number of texts from which a progress bar is shown."""


class EmbedParams(Block):
    """The block ``embed`` of params.yaml: the bi-encoder, and the number of texts that it encodes at a time."""

    model: ReferenceText
    batch_size: PositiveInt


def embed_cards(model, cards: pd.DataFrame, batch_size: int) -> Vectors:
    """Encode every question and every searched answer (see :func:`medcards.deck.cards.corpus`)."""
    answers = corpus(cards)
    return Vectors(
        answer_ids=answers.card_id.to_numpy(dtype=np.str_),
        answers=encode(model, answers.answer.tolist(), batch_size),
        answer_tokens=token_counts(model, answers.answer.tolist()),
        question_ids=cards.card_id.to_numpy(dtype=np.str_),
        questions=encode(model, cards.question.tolist(), batch_size),
        question_tokens=token_counts(model, cards.question.tolist()),
        max_tokens=model.max_seq_length,
    )


def load_encoder(folder: Path, name: str = ""):
    """The sentence-transformers model in a folder, on the device that the machine has.

    Parameters
    ----------
    name : what an error calls the model; the folder unless given.
    """
    from sentence_transformers import SentenceTransformer

    with reading(name or str(folder), "a sentence-transformers model"):
        return SentenceTransformer(str(folder), local_files_only=True)


def check_encoder(vectors: Vectors, model, cards: pd.DataFrame) -> None:
    """Check that vectors are those of a model: encode one question and compare.

    A ranking by the vectors of two different models has no meaning.

    Raises
    ------
    InputError : the model gives another vector.
    """
    (vector,) = encode(model, cards.question.head(1).tolist(), 1)
    if vector.shape != vectors.questions[0].shape or not np.allclose(vector, vectors.questions[0], atol=1e-3):
        raise InputError("the vectors are not those of the encoder: run `dvc repro -f adapt`")


def encode(model, texts: list[str], batch_size: int) -> np.ndarray:
    """Encode texts as unit vectors.

    Returns
    -------
    array of shape (texts, dimension), float32, rows of length 1.

    Raises
    ------
    InputError : the model gives vectors that are zero or not finite.
    """
    vectors = model.encode(
        texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=len(texts) > _PROGRESS_FROM
    )
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise InputError("embed.model gives vectors without a direction (zero or not finite): use another model")
    return vectors


def token_counts(model, texts: list[str]) -> np.ndarray:
    """The length of each text in the model's tokens, special tokens included, before it is cut."""
    found = model.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
    return np.array([len(ids) for ids in found], dtype=np.int32)
