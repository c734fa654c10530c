"""report: gather the headline figures, and write the report that a person reads.

reads   the metrics of every stage, data/predictions, data/eda, params.yaml, docs/contradictions.csv
writes  metrics/summary.json (flat, for `dvc metrics diff` and `dvc exp show`), plots/slices, REPORT.md,
        docs/DATASET_CARD.md

The README's tables come from the same metrics; a stage must not write a file of git that is not its own, so they
are renewed by hand: `python -m stages.report --readme`.
"""

import json
import re
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.answers.comparison import slices
from medcards.base.files import atomic, read_json, write_json
from medcards.base.params import Seed
from medcards.report.answers import (
    answers_to_read,
    best_learned,
    closer_table,
    far_table,
    precision_of_contradictions,
    quantisation,
    warnings,
    worst_slices,
)
from medcards.report.dataset_card import dataset_card
from medcards.report.qa_figures import plot_slices
from medcards.report.results import costs, leaked, made_with, models, results, summarise
from stages import DATA, METRICS, PLOTS, load_params, run

NAMES = ("prepare", "embed", "audit", "eda", "index", "cost/index", "rerank_train", "retrieval", "finetune", "qa")
STAGES = ("prepare", "embed", "audit", "eda", "index", "rerank_train", "rerank_eval", "finetune", "evaluate")
PICTURES = ("plots/qa/scores.png", "plots/qa/by_similarity.png", "plots/slices/slices.png", "plots/finetune/losses.png")
README, JUDGED = Path("README.md"), Path("docs/contradictions.csv")
NEW_LINE = "\n"


def read_metrics() -> dict[str, dict]:
    """The metrics of every stage, by file name."""
    return {name: read_json(METRICS / f"{name}.json") for name in NAMES}


def find_slices(predictions: pd.DataFrame, scores: pd.DataFrame, system: str, seed: int) -> pd.DataFrame:
    """Scores of parts of the questions, drawn into plots/slices for one system."""
    clusters = pd.read_parquet(DATA / "eda" / "cards.parquet").set_index("card_id").cluster
    terms = pd.read_csv(PLOTS / "eda" / "cluster_names.csv").terms.str.split().str[:3].str.join(" ")
    asked = predictions.assign(cluster=predictions.card_id.map(clusters).map(terms))
    found = slices(asked, scores, seed)
    with atomic(PLOTS / "slices") as folder:
        plot_slices(found, system, folder / "slices.png")
    return found


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
    (seed,) = load_params(seed=Seed)
    metrics = read_metrics()
    predictions = pd.read_json(DATA / "predictions" / "predictions.jsonl", lines=True, dtype=False)
    scores = pd.read_parquet(DATA / "predictions" / "scores.parquet")
    if not set(scores.card_id) == set(predictions.card_id):
        raise InputError("data/predictions: answers and scores are of different questions: run `dvc repro -f evaluate`")
    system = best_learned(metrics["qa"])
    share = leaked(metrics["audit"], "group", "questions", "bi-encoder")["leaked@0.9"]["mean"]
    material = json.dumps(metrics["prepare"]["material"], indent=2)
    parts = find_slices(predictions, scores, system, seed)
    report = f"""# Report

Written by the report stage from metrics/; do not edit.

## Before you believe it

{NEW_LINE.join(f"- {warning}" for warning in warnings(metrics["qa"], share)) or "Nothing to warn of."}

## Results

{results(metrics)}

## A closer look at the answers

{closer_table(metrics["qa"])}

{precision_of_contradictions(pd.read_csv(JUDGED), seed)}

{far_table(metrics["qa"])}

The parts of the test questions that `{system}` answers worst (all parts and systems in plots/slices):

{worst_slices(parts, system)}

{quantisation(read_json(METRICS / "quantisation.json"), metrics["finetune"]["model"])}

{NEW_LINE.join(f"![{Path(file).stem}]({file}){NEW_LINE}" for file in PICTURES)}
## Answers to read

{answers_to_read(predictions, scores, system)}

## What was run

{models(metrics)} {made_with(metrics["finetune"]["device"])} Deck:

```json
{material}
```

<details><summary>params.yaml</summary>

```yaml
{Path("params.yaml").read_text(encoding="utf-8").rstrip()}
```

</details>

## Cost

{costs({name: read_json(METRICS / "cost" / f"{name}.json") for name in STAGES})}
"""
    with atomic("REPORT.md") as temporary:
        temporary.write_text(report, encoding="utf-8")
    with atomic("docs/DATASET_CARD.md") as temporary:
        temporary.write_text(dataset_card(metrics), encoding="utf-8")
    write_json(METRICS / "summary.json", summarise(metrics))


if __name__ == "__main__":
    run("report", main, readme=renew_readme)
