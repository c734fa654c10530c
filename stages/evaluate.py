"""evaluate: let every answering system answer the same test questions, and score the answers.

reads   data/cards, data/embeddings, data/adapter
writes  data/predictions/predictions.jsonl (one row a question), metrics/qa.json, plots/qa
"""

import pandas as pd

from medcards import cards as card_tables
from medcards.answering import SYSTEMS, EvaluateParams, Exam
from medcards.encoder import Embeddings
from medcards.figures import interval_bars, save
from medcards.files import atomic, write_json
from medcards.llm import LlmParams
from medcards.params import Seed
from medcards.qa_metrics import score_answer
from medcards.stats import Bootstrap
from stages import DATA, METRICS, PLOTS, load_params, pinned, run

# The pairs whose difference is a claim: what tuning changed, and what it gives beyond knowing nothing.
PAIRS = [("lora", "base"), ("lora", "echo"), ("lora", "copy_nearest")]


def summarise(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap) -> dict:
    """Mean and interval of every score of every system, and of the paired differences in :data:`PAIRS`."""
    summary = {name: {score: bootstrap.interval(table[score]) for score in table} for name, table in scores.items()}
    summary["differences"] = {
        f"{a}-{b}": {score: bootstrap.interval(scores[a][score] - scores[b][score]) for score in scores[a]}
        for a, b in PAIRS
    }
    return summary


def main() -> None:
    seed, llm, params = load_params(seed=Seed, llm=LlmParams, evaluate=EvaluateParams)
    llm = pinned(llm, "llm")
    cards = card_tables.load(DATA / "cards")
    questions = card_tables.sample(cards, "test", params.questions, seed, "own")
    train = cards[cards.split == "train"].reset_index(drop=True)
    exam = Exam(questions, train, Embeddings.load(DATA / "embeddings", cards), DATA / "adapter", llm, params)

    answers = {name: system(exam) for name, system in SYSTEMS.items()}
    scores = {
        name: pd.DataFrame(map(score_answer, given, questions.answer, questions.question))
        for name, given in answers.items()
    }
    metrics = summarise(scores, Bootstrap(questions.group, seed))

    predictions = questions[["card_id", "question"]].assign(reference=questions.answer, **answers)
    with atomic(DATA / "predictions") as folder:
        folder.mkdir()
        predictions.to_json(folder / "predictions.jsonl", orient="records", lines=True, force_ascii=False)
    with atomic(PLOTS / "qa") as folder:
        rows = [{"system": name, "score": score} | metrics[name][score] for name in SYSTEMS for score in metrics[name]]
        data = pd.DataFrame(rows)
        figure = interval_bars(data, "score", "system", f"mean over {len(questions)} test questions, 95% interval")
        figure.axes[0].set(xlabel="score")
        save(figure, data, folder / "scores.png")
    write_json(METRICS / "qa.json", metrics)


if __name__ == "__main__":
    run("evaluate", main)
