"""Text to unit vectors, with a sentence-transformers bi-encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from medcards import InputError
from medcards.base.batches import token_batches
from medcards.base.params import Block
from medcards.base.references import ReferenceText, reading
from medcards.base.workers import Workers, map_batches
from medcards.deck.cards import corpus
from medcards.search.vectors import Vectors

TextEncoder = Callable[[list[str]], np.ndarray]
"""From questions to unit vectors, float32, shape (questions, dimension)."""
BATCH_TOKENS = 1024
"""Largest number of tokens in a batch, padding included, where no parameter names it."""
_AS_UNIT_VECTORS = {"normalize_embeddings": True, "show_progress_bar": False}


class EmbedParams(Block):
    """The block ``embed`` of params.yaml: the bi-encoder, and the number of tokens that it reads at a time."""

    model: ReferenceText
    batch_tokens: PositiveInt


def embed_cards(
    model, cards: pd.DataFrame, batch_tokens: int = BATCH_TOKENS, workers: Workers | None = None
) -> Vectors:
    """Encode every question and every searched answer (see :func:`medcards.deck.cards.corpus`).

    Parameters
    ----------
    workers : who encodes, see :func:`medcards.base.workers.map_batches`.
    """
    searched = corpus(cards)
    answers, questions = searched.answer.tolist(), cards.question.tolist()
    return Vectors(
        answer_ids=searched.card_id.to_numpy(dtype=np.str_),
        answers=encode_answers(model, answers, batch_tokens, workers),
        answer_tokens=token_counts(model, answers, answer_prompt(model)),
        question_ids=cards.card_id.to_numpy(dtype=np.str_),
        questions=encode_questions(model, questions, batch_tokens, workers),
        question_tokens=token_counts(model, questions, question_prompt(model)),
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
        return SentenceTransformer(str(folder), local_files_only=True, model_kwargs=attention_settings())


def attention_settings() -> dict[str, str | None]:
    """The settings with which the transformer of a bi-encoder or of a cross-encoder loads."""
    import torch

    from medcards.base.matmul import fastest_attention

    return {"attn_implementation": fastest_attention("cuda" if torch.cuda.is_available() else "cpu")}


def check_encoder(vectors: Vectors, encoder: TextEncoder, cards: pd.DataFrame) -> None:
    """Check that vectors are those of an encoder: encode one question and compare.

    A ranking by the vectors of two different models has no meaning.

    Raises
    ------
    InputError : the encoder gives another vector.
    """
    (vector,) = encoder(cards.question.head(1).tolist())
    if vector.shape != vectors.questions[0].shape or not np.allclose(vector, vectors.questions[0], atol=1e-3):
        raise InputError("the vectors are not those of the encoder: run `dvc repro -f adapt`")


def question_prompt(model) -> str:
    """The text that a bi-encoder reads before a question: its prompt ``query``. Most models have none."""
    return model.prompts.get("query", "")


def answer_prompt(model) -> str:
    """The text that a bi-encoder reads before an answer. Most models have none.

    It is the first of the prompts ``document``, ``passage`` and ``corpus`` that is not empty. sentence-transformers
    gives every model an empty prompt ``document``, which its ``encode_document`` takes in place of ``passage``.
    """
    return next(filter(None, map(model.prompts.get, ("document", "passage", "corpus"))), "")


def encode_questions(
    model, questions: list[str], batch_tokens: int = BATCH_TOKENS, workers: Workers | None = None
) -> np.ndarray:
    """Encode questions as unit vectors, each after the model's prompt for queries, see :func:`encode_answers`."""
    return _encode(_encoded_questions, model, question_prompt(model), questions, batch_tokens, workers)


def encode_answers(
    model, answers: list[str], batch_tokens: int = BATCH_TOKENS, workers: Workers | None = None
) -> np.ndarray:
    """Encode answers as unit vectors, each after the model's prompt for documents.

    Parameters
    ----------
    batch_tokens, workers : see :func:`in_token_batches`.

    Returns
    -------
    array of shape (answers, dimension), float32, rows of length 1.

    Raises
    ------
    InputError : the model gives vectors that are zero or not finite.
    """
    return _encode(_encoded_answers, model, answer_prompt(model), answers, batch_tokens, workers)


def _encode(
    read: Callable, model, prompt: str, texts: list[str], batch_tokens: int, workers: Workers | None
) -> np.ndarray:
    lengths = np.minimum(token_counts(model, texts, prompt), model.max_seq_length)
    found = in_token_batches(read, model, texts, lengths, batch_tokens, workers)
    vectors = np.asarray(found, dtype=np.float32)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise InputError("embed.model gives vectors without a direction (zero or not finite): use another model")
    return vectors


def _encoded_questions(model, batch: list[str]) -> np.ndarray:
    return model.encode_query(batch, prompt=question_prompt(model), batch_size=len(batch), **_AS_UNIT_VECTORS)


def _encoded_answers(model, batch: list[str]) -> np.ndarray:
    return model.encode_document(batch, prompt=answer_prompt(model), batch_size=len(batch), **_AS_UNIT_VECTORS)


def in_token_batches(
    read: Callable[[object, list], np.ndarray],
    model: object,
    texts: list,
    lengths: Sequence[int],
    batch_tokens: int,
    workers: Workers | None = None,
) -> np.ndarray:
    """Let a model read texts, or pairs of texts, in batches of similar length.

    Parameters
    ----------
    read : from the model and the texts of a batch to an array with one row per text.
    lengths : number of tokens of each text.
    batch_tokens : largest number of tokens in a batch, padding included.
    workers : who reads the batches, see :func:`medcards.base.workers.map_batches`.

    Returns
    -------
    the rows, in the order of the texts.
    """
    batches = token_batches(lengths, batch_tokens)
    found = dict(map_batches(read, model, [[texts[place] for place in places] for places in batches], workers))
    rows = np.concatenate([found[number] for number in range(len(batches))])
    return rows[np.argsort(np.concatenate(batches))]


def unknown_share(tokenizer, texts: list[str]) -> float:
    """Share of the texts' tokens that a tokenizer does not know, so that the model cannot tell them apart.

    Parameters
    ----------
    tokenizer : a tokenizer of the library tokenizers; those of sentence-transformers hold one as ``backend_tokenizer``.
    """
    name = getattr(tokenizer.model, "unk_token", None)
    unknown = tokenizer.token_to_id(name) if name else getattr(tokenizer.model, "unk_id", None)
    ids = np.concatenate([text.ids for text in tokenizer.encode_batch(texts, add_special_tokens=False)])
    return float(np.mean(ids == unknown)) if unknown is not None and len(ids) else 0.0


def token_counts(model, texts: list[str], prompt: str = "") -> np.ndarray:
    """The length of each text in the model's tokens before it is cut. The prompt and special tokens count."""
    read = [prompt + text for text in texts]
    found = model.tokenizer(read, truncation=False, padding=False, verbose=False)["input_ids"]
    return np.array([len(ids) for ids in found], dtype=np.int32)
