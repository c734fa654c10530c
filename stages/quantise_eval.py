"""quantise_eval: the tuned model on a full, an int8 and an NF4 base, side by side on the same questions.

Off by default; `-S quantise_eval.bases=[none,int8,nf4]` asks for it. The adapter is the one that finetune trained, on
whatever base; how many questions are answered, and how, is evaluate's.

reads   data/cards, data/adapter
writes  metrics/quantisation.json, plots/quantisation (a table without rows where no base is asked for)
"""

import gc
import time
from typing import Literal

import pandas as pd
from matplotlib import pyplot as plt
from peft import PeftModel

from medcards.answers.comparison import differences, summarise
from medcards.answers.scores import TermWeights, score_answers
from medcards.answers.systems import EvaluateParams
from medcards.base.files import atomic, write_json
from medcards.base.params import Block, Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.llm.generation import answer_nll, generate
from medcards.llm.loading import LlmParams, load_llm
from medcards.report.style import save, write_csv
from stages import DATA, METRICS, PLOTS, load_params, pinned, run

SCORES = ["token_f1", "novel_f1", "sound_f1", "nll"]
COLUMNS = ["base", "megabytes", *SCORES]


class QuantiseEvalParams(Block):
    """Which bases are compared, see params.yaml."""

    bases: list[Literal["none", "int8", "nf4"]]


def examine(
    questions: pd.DataFrame, llm: LlmParams, params: EvaluateParams, weights: TermWeights
) -> tuple[pd.DataFrame, int, float]:
    """Scores of the tuned model on one base, one row a question; the base's bytes; generated tokens a second."""
    base, tokenizer = load_llm(llm)
    size = base.get_memory_footprint()
    model = PeftModel.from_pretrained(base, DATA / "adapter")
    asked, references = questions.question.tolist(), questions.answer.tolist()
    started = time.perf_counter()
    sizes = params.max_new_tokens, params.batch_size
    made = generate(model, tokenizer, asked, llm.system_prompt, *sizes, f"{llm.quantize}: answers")
    speed = sum(answer.tokens for answer in made) / (time.perf_counter() - started)
    scores = score_answers([answer.text for answer in made], references, asked, weights)[SCORES[:-1]]
    label = f"{llm.quantize}: likelihood"
    nll = answer_nll(model, tokenizer, asked, references, llm.system_prompt, params.batch_size, label)
    del base, model
    gc.collect()  # the next base needs the room
    return scores.assign(nll=nll), size, speed


def plot(rows: pd.DataFrame, path) -> None:
    """Quality against memory."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, score, label in zip(axes, ("nll", "sound_f1"), ("NLL (nats per token)", "sound F1"), strict=True):
        axis.scatter(rows.megabytes, rows[score])
        for row in rows.itertuples():
            axis.annotate(row.base, (row.megabytes, getattr(row, score)), xytext=(5, 5), textcoords="offset points")
        axis.set(xlabel="weights of the base (MB)", ylabel=label)
    figure.tight_layout()
    save(figure, rows, path)


def main() -> dict | None:
    seed, llm, params, asked = load_params(
        seed=Seed, llm=LlmParams, evaluate=EvaluateParams, quantise_eval=QuantiseEvalParams
    )
    if not asked.bases:
        with atomic(PLOTS / "quantisation") as folder:
            write_csv(pd.DataFrame(columns=COLUMNS), folder / "trade_off.csv")
        return write_json(METRICS / "quantisation.json", {})
    llm = pinned(llm, "llm")
    cards = card_tables.load(DATA / "cards")
    questions = card_tables.sample(cards, "test", params.questions, seed, "own")
    weights = TermWeights(card_tables.corpus(cards).answer)
    scores, sizes, speed = {}, {}, {}
    for base in dict.fromkeys(asked.bases):
        changed = llm.model_copy(update={"quantize": base})
        scores[base], sizes[base], speed[base] = examine(questions, changed, params, weights)

    bootstrap = Bootstrap(questions.group, seed)
    metrics = summarise(scores, bootstrap)
    first = next(iter(scores))
    metrics["differences"] = differences(scores, bootstrap, [(base, first) for base in list(scores)[1:]])
    rows = [
        {"base": base, "megabytes": sizes[base] / 1e6} | {score: metrics[base][score]["mean"] for score in SCORES}
        for base in scores
    ]
    for base, size in sizes.items():
        metrics[base]["base_bytes"] = size
    with atomic(PLOTS / "quantisation") as folder:
        plot(pd.DataFrame(rows, columns=COLUMNS), folder / "trade_off.png")
    write_json(METRICS / "quantisation.json", metrics)
    return {"tokens_per_second": speed}


if __name__ == "__main__":
    run("quantise_eval", main)
