"""The cross-encoder that scores a question and an answer together."""

from typing import Annotated

from pydantic import AfterValidator, PositiveInt

from medcards.params import Block
from medcards.references import checked_reference, reading, resolve


class RerankerParams(Block):
    """The cross-encoder, see params.yaml."""

    model: Annotated[str, AfterValidator(lambda text: text if text == "none" else checked_reference(text))]
    batch_size: PositiveInt


def load_scorer(params: RerankerParams):
    """A function from (question, answer) pairs to relevance scores, higher is better."""
    from sentence_transformers import CrossEncoder

    folder = resolve(params.model)
    with reading(params.model, "a cross-encoder"):
        model = CrossEncoder(str(folder), local_files_only=True)
    return lambda pairs: model.predict(pairs, batch_size=params.batch_size, show_progress_bar=True)
