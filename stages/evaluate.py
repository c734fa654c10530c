"""evaluate: let every answering system answer the same test questions, and score the answers.

reads   data/cards, data/embeddings, data/adapter, and for the systems that search the deck data/index, data/encoder,
        data/reranker, data/rankings
writes  data/predictions/predictions.jsonl (a row a question) and scores.parquet (a row a question and system),
        metrics/qa.json, plots/qa

A run that was killed keeps its answers, and goes on from there when it is started again with the same inputs.
"""

import numpy as np
import pandas as pd

from medcards.answers.comparison import differences, far_from_training, pairs, summarise
from medcards.answers.scores import TermWeights, score_answers
from medcards.answers.systems import SYSTEMS, Answers, EvaluateParams, Exam
from medcards.base.files import atomic, write_json
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.llm.loading import LlmParams
from medcards.report.qa_figures import plot_by_similarity, plot_scores
from medcards.search.encoder import Embeddings, encode
from stages import DATA, METRICS, PLOTS, fingerprint_of_model, load_params, pinned, run, scratch


def score(exam: Exam, answers: Answers, weights: TermWeights) -> pd.DataFrame:
    """Every score of a system's answers, one row a question."""
    asked, references = exam.questions.question.tolist(), exam.questions.answer.tolist()
    scores = score_answers(answers.texts, references, asked, weights)
    vectors = encode(exam.encoder, answers.texts, exam.params.batch_size)
    scores["similarity"] = np.einsum("qd,qd->q", vectors, exam.references)
    if answers.nll is not None:
        scores["nll"] = answers.nll
        scores["truncated"] = np.array(answers.truncated, dtype=float)
    return scores


def predictions(exam: Exam, answers: dict[str, Answers]) -> pd.DataFrame:
    """One row a question: the reference, how near training comes to it, what was answered, and what was read before."""
    table = exam.questions[["card_id", "question"]].assign(
        reference=exam.questions.answer, similarity_to_training=exam.nearest[1].astype(float)
    )
    table["answers"] = [{name: given.texts[row] for name, given in answers.items()} for row in range(len(table))]
    table["read"] = [
        {name: given.read[row] for name, given in answers.items() if given.read} for row in range(len(table))
    ]
    return table


def main() -> None:
    seed, llm, params = load_params(seed=Seed, llm=LlmParams, evaluate=EvaluateParams)
    llm = pinned(llm, "llm")
    cards = card_tables.load(DATA / "cards")
    questions = card_tables.sample(cards, "test", params.questions, seed, "own")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    models = {"base": fingerprint_of_model(llm.model), "adapter": fingerprint_of_model(f"path:{DATA / 'adapter'}")}
    with scratch("evaluate", llm=llm.model_dump(), **models) as folder:
        exam = Exam(cards, questions, embeddings, DATA, folder, llm, params, seed)
        answers = {name: SYSTEMS[name](exam) for name in params.systems}
        weights = TermWeights(card_tables.corpus(cards).answer)
        scores = {name: score(exam, given, weights) for name, given in answers.items()}

        bootstrap = Bootstrap(questions.group, seed)
        metrics = summarise(scores, bootstrap)
        metrics["differences"] = differences(scores, bootstrap, pairs(metrics))
        metrics["far_from_training"] = far_from_training(scores, exam.nearest[1], questions.group, seed)
        with atomic(DATA / "predictions") as made:
            made.mkdir()
            table = predictions(exam, answers)
            table.to_json(made / "predictions.jsonl", orient="records", lines=True, force_ascii=False)
            rows = [
                of.assign(system=name, card_id=questions.card_id, group=questions.group) for name, of in scores.items()
            ]
            pd.concat(rows).to_parquet(made / "scores.parquet", index=False)
        with atomic(PLOTS / "qa") as plots:
            plot_scores(metrics, len(questions), plots / "scores.png")
            plot_by_similarity(scores, exam.nearest[1], questions.group, seed, plots / "by_similarity.png")
        write_json(METRICS / "qa.json", metrics)


if __name__ == "__main__":
    run("evaluate", main)
