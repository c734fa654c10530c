"""The cross-encoder, which scores a question and an answer together."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from medcards import InputError
from medcards.base.errors import reading
from medcards.base.manifests import model_folder
from medcards.base.workers import ComputeParams, Workers, model_place
from medcards.search.encoder import BATCH_TOKENS, attention_settings, in_token_batches

Scorer = Callable[[list[tuple[str, str]]], np.ndarray]
"""From (question, answer) pairs to relevance scores; higher is better."""

REMEMBERED = 200_000
"""Largest number of pairs whose scores are remembered."""


def load_scorer(folder: Path, batch_tokens: int = BATCH_TOKENS, compute: ComputeParams | None = None) -> Scorer | None:
    """Load the cross-encoder that a run uses.

    Parameters
    ----------
    folder : the folder that the stage rerank_train wrote.
    batch_tokens : largest number of tokens that are scored at a time, padding included.
    compute : the cluster that scores, see :class:`medcards.base.workers.Workers`.

    Returns
    -------
    the scorer; None if the run uses no cross-encoder.
    """
    found = model_folder(folder)
    if found is None:
        return None
    workers = Workers.on(compute, load_cross_encoder, model_place(folder))
    return partial(score, load_cross_encoder(found), batch_tokens=batch_tokens, workers=workers)


def load_cross_encoder(folder: Path):
    """The sentence-transformers cross-encoder in a folder, on the device that the machine has.

    Raises
    ------
    InputError : the folder holds no cross-encoder, or one with several outputs.
    """
    from sentence_transformers import CrossEncoder

    with reading(str(folder), "a cross-encoder"):
        model = CrossEncoder(str(folder), local_files_only=True, model_kwargs=attention_settings())
    if model.num_labels != 1:
        raise InputError(
            f"reranker.model gives {model.num_labels} scores per pair: use a cross-encoder with one output"
        )
    return model


def score(
    model, pairs: list[tuple[str, str]], batch_tokens: int = BATCH_TOKENS, workers: Workers | None = None
) -> np.ndarray:
    """Score (question, answer) pairs.

    Parameters
    ----------
    batch_tokens, workers : see :func:`medcards.search.encoder.in_token_batches`.

    Returns
    -------
    logits, shape (pairs,). A sigmoid would make the highest scores equal, and those decide what comes first.
    """
    found = model.tokenizer(*map(list, zip(*pairs, strict=True)), truncation=False, padding=False, verbose=False)
    lengths = [min(len(ids), model.max_seq_length) for ids in found["input_ids"]]
    return in_token_batches(_scored, model, pairs, lengths, batch_tokens, workers)


def _scored(model, batch: list[tuple[str, str]]) -> np.ndarray:
    from torch.nn import Identity

    return model.predict(batch, batch_size=len(batch), activation_fn=Identity(), show_progress_bar=False)


def memoised(scorer: Scorer) -> Scorer:
    """The same scorer, which remembers the scores of :data:`REMEMBERED` pairs: the systems share most candidates."""
    known: dict[tuple[str, str], float] = {}

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        scores = {pair: known.get(pair) for pair in pairs}
        new = [pair for pair, value in scores.items() if value is None]
        if new:
            scores.update(zip(new, np.asarray(scorer(new), dtype=np.float64).tolist(), strict=True))
            if len(known) + len(new) > REMEMBERED:
                known.clear()
            known.update((pair, scores[pair]) for pair in new)
        return np.array([scores[pair] for pair in pairs])

    return score
