"""The cross-encoder, which scores a question and an answer together."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from medcards.base.manifests import model_folder
from medcards.base.references import reading

Scorer = Callable[[list[tuple[str, str]]], np.ndarray]
"""From (question, answer) pairs to relevance scores; higher is better."""
_PROGRESS_FROM = 500
"""Number of pairs from which a progress bar is shown."""


def load_scorer(folder: Path, batch_size: int) -> Scorer | None:
    """Load the cross-encoder that a run uses.

    Parameters
    ----------
    folder : the folder that the stage rerank_train wrote.
    batch_size : number of pairs that are scored at a time.

    Returns
    -------
    the scorer; None if the run uses no cross-encoder.
    """
    found = model_folder(folder)
    if found is None:
        return None
    from sentence_transformers import CrossEncoder

    with reading(str(found), "a cross-encoder"):
        model = CrossEncoder(str(found), local_files_only=True)
    return partial(_score, model, batch_size)


def _score(model, batch_size: int, pairs: list[tuple[str, str]]) -> np.ndarray:
    from torch.nn import Identity

    # Logits, because a sigmoid makes the highest scores equal, and those decide what comes first.
    progress = len(pairs) > _PROGRESS_FROM
    return model.predict(pairs, batch_size=batch_size, activation_fn=Identity(), show_progress_bar=progress)


def memoised(scorer: Scorer) -> Scorer:
    """The same scorer, which scores no pair twice: the systems share most of their candidates."""
    known: dict[tuple[str, str], float] = {}

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in known]
        if new:
            known.update(zip(new, np.asarray(scorer(new), dtype=np.float64).tolist(), strict=True))
        return np.array([known[pair] for pair in pairs])

    return score
