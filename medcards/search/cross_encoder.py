"""The cross-encoder that scores a question and an answer together; its training is in another module."""

from pathlib import Path

import numpy as np

from medcards.base.manifests import model_folder
from medcards.base.references import reading


def load_scorer(folder: Path, batch_size: int):
    """A function from (question, answer) pairs to relevance scores, higher is better; None if there is none.

    Parameters
    ----------
    folder : what the stage rerank_train wrote.
    batch_size : pairs at a time.
    """
    found = model_folder(folder)
    if found is None:
        return None
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    with reading(str(found), "a cross-encoder"):
        model = CrossEncoder(str(found), local_files_only=True)

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        # The logits: a sigmoid makes sure scores equal, and what is sure is what comes first.
        return model.predict(pairs, batch_size=batch_size, activation_fn=Identity(), show_progress_bar=len(pairs) > 500)

    return score
