"""Text to unit vectors, with a sentence-transformers bi-encoder."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from medcards import InputError
from medcards.base.batches import token_batches
from medcards.base.errors import reading
from medcards.base.params import Block
from medcards.base.references import ReferenceText
from medcards.base.workers import Workers, map_batches
from medcards.deck.cards import corpus
from medcards.search.vectors import Vectors

TextEncoder = Callable[[list[str]], np.ndarray]
"""From questions to unit vectors, float32, shape (questions, dimension)."""
BATCH_TOKENS = 1024
"""Largest number of tokens in a batch, padding included, where no parameter names it."""
TOKENISED_TEXTS = 10_000
"""Number of texts that are cut into tokens at a time. It bounds the memory."""
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
    workers : who encodes, see :func:`medcards.base.workers.map_batches`. Each of them loads the model once.
    """
    searched = corpus(cards)
    answers, questions = searched.answer.tolist(), cards.question.tolist()
    encoded, tokens = _encode(model, _asked(questions) + _told(answers), batch_tokens, workers)
    return Vectors(
        answer_ids=searched.card_id.to_numpy(dtype=np.str_),
        answers=encoded[len(questions) :],
        answer_tokens=tokens[len(questions) :],
        question_ids=cards.card_id.to_numpy(dtype=np.str_),
        questions=encoded[: len(questions)],
        question_tokens=tokens[: len(questions)],
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
    return _encode(model, _asked(questions), batch_tokens, workers)[0]


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
    return _encode(model, _told(answers), batch_tokens, workers)[0]


_Text = tuple[str, str]
"""A side of a card, and its text."""


def _asked(questions: list[str]) -> list[_Text]:
    return [("question", text) for text in questions]


def _told(answers: list[str]) -> list[_Text]:
    return [("answer", text) for text in answers]


def _encode(model, texts: list[_Text], batch_tokens: int, workers: Workers | None) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of texts, and the lengths of the texts with their prompts in tokens."""
    tokens = token_counts(model, [_prompt(model, side) + text for side, text in texts])
    lengths, sides = np.minimum(tokens, model.max_seq_length), [side for side, _ in texts]
    vectors = in_token_batches(_encoded, model, texts, lengths, batch_tokens, workers, sides)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise InputError("embed.model gives vectors without a direction (zero or not finite): use another model")
    return vectors, tokens


def _prompt(model, side: str) -> str:
    return question_prompt(model) if side == "question" else answer_prompt(model)


def _encoded(model, batch: list[_Text]) -> np.ndarray:
    """The vectors of texts of one side."""
    side, texts = batch[0][0], [text for _, text in batch]
    encode = model.encode_query if side == "question" else model.encode_document
    return encode(texts, prompt=_prompt(model, side), batch_size=len(texts), **_AS_UNIT_VECTORS)


def in_token_batches(
    read: Callable[[object, list], np.ndarray],
    model: object,
    texts: list,
    lengths: Sequence[int],
    batch_tokens: int,
    workers: Workers | None = None,
    kinds: Sequence[str] | None = None,
) -> np.ndarray:
    """Let a model read texts, or pairs of texts, in batches of similar length.

    Parameters
    ----------
    read : from the model and the texts of a batch to an array with one row per text.
    lengths : number of tokens of each text.
    batch_tokens : largest number of tokens in a batch, padding included.
    workers : who reads the batches, see :func:`medcards.base.workers.map_batches`.
    kinds : a batch has texts of one kind. All are of one kind unless given.

    Returns
    -------
    the rows, in the order of the texts, float32.
    """
    kinds = np.array(kinds if kinds is not None else [""] * len(texts))
    places = [np.flatnonzero(kinds == kind) for kind in dict.fromkeys(kinds.tolist())]
    batches = [of[batch] for of in places for batch in token_batches(np.asarray(lengths)[of], batch_tokens)]
    rows = None
    for number, found in map_batches(read, model, [[texts[place] for place in of] for of in batches], workers):
        if rows is None:
            rows = np.empty((len(texts), *found.shape[1:]), dtype=np.float32)
        rows[batches[number]] = found
    return rows


def save_encoder(model, folder: Path) -> None:
    """Save an encoder. Its files do not depend on the texts that it read before."""
    _forget_last_texts(model.tokenizer.backend_tokenizer)
    model.save(str(folder), create_model_card=False)


def _forget_last_texts(tokenizer) -> None:
    """Reset how a tokenizer cuts and pads, which it keeps from the last texts."""
    tokenizer.no_truncation()
    tokenizer.no_padding()


def unknown_share(tokenizer, texts: Iterable[str]) -> float:
    """Share of the texts' tokens that a tokenizer does not know, so that the model cannot tell them apart.

    Whole texts are read, whatever the tokenizer cut and padded before.

    Parameters
    ----------
    tokenizer : a tokenizer of the library tokenizers; those of sentence-transformers hold one as ``backend_tokenizer``.
    """
    _forget_last_texts(tokenizer)
    name = getattr(tokenizer.model, "unk_token", None)
    unknown = tokenizer.token_to_id(name) if name else getattr(tokenizer.model, "unk_id", None)
    unknowns = tokens = 0
    left = iter(texts)
    while block := list(islice(left, TOKENISED_TEXTS)):
        found = tokenizer.encode_batch(block, add_special_tokens=False)
        unknowns += sum(text.ids.count(unknown) for text in found)
        tokens += sum(map(len, found))
    return unknowns / tokens if tokens else 0.0


def token_counts(model, texts: list[str]) -> np.ndarray:
    """The length of each text in the model's tokens before it is cut. Special tokens count."""
    counts = np.empty(len(texts), dtype=np.int32)
    for start in range(0, len(texts), TOKENISED_TEXTS):
        block = slice(start, start + TOKENISED_TEXTS)
        found = model.tokenizer(texts[block], truncation=False, padding=False, verbose=False)["input_ids"]
        counts[block] = [len(ids) for ids in found]
    return counts
