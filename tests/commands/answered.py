"""The answers and scores of two systems to three questions, made by hand, with hostile texts."""

import json
from pathlib import Path

import pandas as pd

SCRIPT = "Name </script><script>window.ran = 1</script> it"
IMAGE = "<img src=x onerror='window.ran = 1'>"
RIGHT_TO_LEFT = "מה זה גאוט\u202e?"
ANSWERS = [
    {
        "card_id": "aaaa",
        "question": "What is gout?",
        "reference": "A disease of the joints.",
        "similarity_to_training": 0.25,
        "answers": {"base": "=1+1", "lora_rag": "A disease of two joints."},
        "read": {"lora_rag": ["-1 card", "Gout & <b>pain</b>"]},
    },
    {
        "card_id": "bbbb",
        "question": SCRIPT,
        "reference": "The left kidney.",
        "similarity_to_training": 0.5,
        "answers": {"base": IMAGE, "lora_rag": "The right kidney."},
        "read": {"lora_rag": []},
    },
    {
        "card_id": "cccc",
        "question": RIGHT_TO_LEFT,
        "reference": "Gout",
        "similarity_to_training": -0.125,
        "answers": {"base": "", "lora_rag": "gout"},
        "read": {"lora_rag": ["a"]},
    },
]
SCORES = pd.DataFrame(
    [
        ("base", "aaaa", 0.0, 0.0, 0.0, None),
        ("base", "bbbb", 0.0, 0.125, 1.0, 1.0),
        ("base", "cccc", 0.0, None, 0.0, None),
        ("lora_rag", "aaaa", 6 / 7, 0.75, 0.0, None),
        ("lora_rag", "bbbb", 0.5, 0.0, 0.0, 1.0),
        ("lora_rag", "cccc", 1.0, None, 0.0, None),
    ],
    columns=["system", "card_id", "token_f1", "sound_f1", "contradiction_number", "contradiction_side"],
).assign(group=["g1", "g2", "g1"] * 2)
"""The token F1 are those of the answers. The other scores are made up."""


def write_answered(data: Path, answers: list[dict] = ANSWERS, scores: pd.DataFrame = SCORES) -> Path:
    """Write data/answers and data/scores under the folder ``data``, which is returned."""
    for name in ("answers", "scores"):
        (data / name).mkdir(parents=True)
    (data / "answers/answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    scores.to_parquet(data / "scores/scores.parquet", index=False)
    return data
