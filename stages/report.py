"""report: gather the headline figures, and write the report that a person reads.

reads   the metrics of every stage, data/predictions
writes  metrics/summary.json (flat, for `dvc metrics diff` and `dvc exp show`), REPORT.md, docs/DATASET_CARD.md

The README's tables come from the same metrics; a stage must not write a file of git that is not its own, so they
are renewed by hand: `python -m stages.report --readme`.
"""

import json
import re
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.dataset_card import dataset_card
from medcards.files import atomic, read_json, write_json
from medcards.reporting import results, summarise
from stages import DATA, METRICS, run

NAMES = ("prepare", "embed", "audit", "eda", "index", "cost/index", "rerank_train", "retrieval", "finetune", "qa")
STAGES = ("prepare", "embed", "audit", "eda", "index", "rerank_train", "rerank_eval", "finetune", "evaluate")
README = Path("README.md")
EXAMPLES = 5


def read_metrics() -> dict[str, dict]:
    """The metrics of every stage, by file name."""
    return {name: read_json(METRICS / f"{name}.json") for name in NAMES}


def examples(predictions: pd.DataFrame) -> str:
    """The first answered questions, so that a reader sees what the scores are about."""
    parts = []
    for _, row in predictions.head(EXAMPLES).iterrows():
        parts.append(f"**{row['question']}**")
        parts.append("\n".join(f"- {name}: {' '.join(str(row[name]).split())}" for name in row.index[2:]))
    return "\n\n".join(parts)


def models(metrics: dict[str, dict]) -> str:
    """The models that were used, and which of them were trained here."""
    encoder, reranker = metrics["embed"], metrics["rerank_train"]
    adapted = f" (adapted on {encoder['adapted']['questions']:,} training questions)" if encoder["adapted"] else ""
    trained = f" (trained here, {reranker['steps']} steps)" if reranker["trained"] else ""
    return (
        f"Bi-encoder `{encoder['model']}`{adapted}, cross-encoder `{reranker['model']}`{trained}, language model "
        f"`{metrics['finetune']['model']}`."
    )


def costs() -> str:
    """What each stage took, on the machine that ran it."""
    rows = {name: read_json(METRICS / "cost" / f"{name}.json") for name in STAGES}
    lines = [f"| {name} | {row['seconds']:.0f} | {row['peak_memory_mb']:,} |" for name, row in rows.items()]
    return "\n".join(["| stage | seconds | peak memory (MB) |", "|---|---:|---:|", *lines])


def renew_readme() -> None:
    """Only renew the README's tables, from metrics/."""
    text = README.read_text(encoding="utf-8")
    marks = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)
    if not marks.search(text):
        raise InputError(f"{README}: the marks <!-- results --> and <!-- /results --> are missing")
    block = results(read_metrics())
    with atomic(README) as temporary:
        temporary.write_text(marks.sub(lambda match: f"{match[1]}{block}\n{match[2]}", text), encoding="utf-8")


def main() -> None:
    metrics = read_metrics()
    predictions = pd.read_json(DATA / "predictions" / "predictions.jsonl", lines=True, dtype=False)
    material = json.dumps(metrics["prepare"]["material"], indent=2)
    report = f"""# Report

Written by the report stage from metrics/; do not edit.

{results(metrics)}

## Answers to read

{examples(predictions)}

## Material

{models(metrics)} Deck:

```json
{material}
```

## Cost

{costs()}
"""
    with atomic("REPORT.md") as temporary:
        temporary.write_text(report, encoding="utf-8")
    with atomic("docs/DATASET_CARD.md") as temporary:
        temporary.write_text(dataset_card(metrics), encoding="utf-8")
    write_json(METRICS / "summary.json", summarise(metrics))


if __name__ == "__main__":
    run("report", main, readme=renew_readme)
