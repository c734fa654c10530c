"""answer: every answering system answers the same questions, of the split that `answer.split` names.

reads   data/cards, data/vectors, data/rankings (open systems), data/adapter, data/models/llm.json
writes  data/answers: answers.jsonl (one row per question), open_book.parquet (the answers of the systems that read the
        whole deck, by query set); data/figures/answer

Answers and likelihoods are kept in .scratch/answer by model and prompt. A run that was killed continues from there, and
a system whose model and prompts did not change computes nothing again.
"""

from medcards.answers.exam import Exam, Models
from medcards.answers.records import AnswerParams, write_answers
from medcards.answers.systems import all_answers, chosen_systems, open_book_sets
from medcards.base.files import atomic, write_json
from medcards.base.manifests import model_fingerprint, pinned_model
from medcards.base.params import Seed
from medcards.base.workers import compute_params
from medcards.deck import cards as card_tables
from medcards.llm.params import LlmParams
from medcards.search.vectors import Vectors
from stages import DATA, figures, load_params, run


def main() -> None:
    seed, llm, params = load_params(seed=Seed, llm=LlmParams, answer=AnswerParams)
    compute = compute_params()
    systems = chosen_systems(params.systems)
    llm = llm.model_copy(update={"model": pinned_model(DATA, "llm")})
    cards = card_tables.load_cards(DATA / "cards")
    questions = params.asked(cards, seed)
    vectors = Vectors.load(DATA / "vectors", cards)
    models = Models(llm, DATA / "adapter", compute)
    exam = Exam(cards, questions, vectors, DATA, models, params, model_fingerprint(DATA, "llm"), seed)
    answers, open_book = all_answers(exam, open_book_sets(params, cards, seed), systems)
    with atomic(DATA / "answers") as folder:
        folder.mkdir()
        asked = questions[["card_id", "split", "question"]].assign(
            reference=questions.answer, similarity_to_training=exam.nearest[1].astype(float)
        )
        write_answers(asked, answers, folder / "answers.jsonl")
        open_book.to_parquet(folder / "open_book.parquet", index=False)
    with figures("answer") as folder:
        write_json(
            folder / "metrics.json",
            {"split": params.split, "questions": len(questions), "systems": list(systems)},
        )


if __name__ == "__main__":
    run("answer", main)
