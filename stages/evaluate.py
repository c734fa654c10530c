"""evaluate: score every answer, with intervals and paired differences.

reads   data/cards, data/answers, data/rankings (which questions the search refuses), data/quantisation,
        data/models/encoder.json (the unadapted encoder compares answers), docs/judged_answers.csv (answers that the
        authors judged)
writes  data/scores: scores.parquet (one row per question and system), open_book.parquet (one row per query set,
        question and system), served_answer.json (how a user is answered); data/figures/evaluate
"""

from pathlib import Path

import pandas as pd

from medcards.answers.agreement import reader_agreement
from medcards.answers.comparison import (
    answer_pairs,
    by_similarity,
    far_from_training,
    summarise_answers,
    summarise_bases,
)
from medcards.answers.open_book import open_book_scores, refused_questions, served_answer, summarise_open_book
from medcards.answers.records import read_answers
from medcards.answers.scores import TermWeights, answer_scores, whole_sentence_scores
from medcards.base.files import atomic, read_json, write_csv, write_json
from medcards.base.manifests import pinned_model
from medcards.base.params import Seed
from medcards.base.references import resolve
from medcards.base.stats import Bootstrap, paired_differences
from medcards.deck import cards as card_tables
from medcards.search.encoder import load_encoder
from stages import DATA, figures, load_params, run

JUDGED = Path("docs/judged_answers.csv")


def main() -> None:
    (seed,) = load_params(seed=Seed)
    cards, answers = card_tables.load_cards(DATA / "cards"), read_answers(DATA / "answers")
    sizes, reference = read_json(DATA / "quantisation" / "bases.json"), pinned_model(DATA, "encoder")
    encoder = load_encoder(resolve(reference), reference)
    weights = TermWeights(card_tables.corpus(cards).answer)
    scores = answer_scores(answers, weights, encoder)
    bases = answer_scores(read_answers(DATA / "quantisation"), weights, encoder) if sizes else {}

    groups = answers.card_id.map(cards.set_index("card_id").group)
    bootstrap, similarity = Bootstrap(groups, seed), answers.similarity_to_training.to_numpy()
    metrics = summarise_answers(scores, bootstrap)
    metrics["split"] = answers.split[0]
    metrics["differences"] = paired_differences(scores, bootstrap, answer_pairs(metrics))
    metrics["far_from_training"] = far_from_training(scores, similarity, groups, seed)
    metrics["agreement"] = reader_agreement(pd.read_csv(JUDGED), weights, encoder, seed)
    metrics["whole_sentences"] = summarise_answers(whole_sentence_scores(answers, weights), bootstrap)
    asked = pd.read_parquet(DATA / "answers" / "open_book.parquet")
    open_book = open_book_scores(asked, cards, refused_questions(DATA / "rankings"), weights) if len(asked) else asked
    with atomic(DATA / "scores") as folder:
        folder.mkdir()
        open_book.to_parquet(folder / "open_book.parquet", index=False)
        write_json(folder / "served_answer.json", served_answer(open_book, metrics["split"], seed))
        columns = {"card_id": answers.card_id, "split": answers.split, "group": groups}
        rows = [of.assign(system=name, **columns) for name, of in scores.items()]
        pd.concat(rows).to_parquet(folder / "scores.parquet", index=False)
    with figures("evaluate") as folder:
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "open_book.json", summarise_open_book(open_book, seed) if len(asked) else {})
        write_json(folder / "quantisation.json", summarise_bases(bases, sizes, bootstrap) if bases else {})
        write_csv(by_similarity(scores, similarity, groups, seed), folder / "by_similarity.csv")


if __name__ == "__main__":
    run("evaluate", main)
