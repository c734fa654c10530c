"""A question that the tiny deck cannot answer, and a threshold at which every tiny run refuses it."""

import json
from pathlib import Path

ROUTER = "how do I reset my router"
"""The deck holds no word of it."""
REFUSE_BELOW = 0.8
"""The tiny models differ from run to run. Fitted on them, the model gave this question a probability of 0.13 to 0.61,
and questions of the deck 0.94 or more (nine runs)."""


def refuse_more(data: Path) -> None:
    """Write :data:`REFUSE_BELOW` into the model that rerank_eval fitted. Its probabilities stay as they are."""
    file = data / "rankings/answerability.json"
    model = json.loads(file.read_text()) | {"refuse_below": REFUSE_BELOW}
    file.unlink()  # dvc's cache may be linked to it
    file.write_text(json.dumps(model))
