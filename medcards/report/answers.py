"""What the report says of the answering systems: tables, warnings, answers to read."""

from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.answers.comparison import (
    BASELINES,
    HEADLINE,
    LEARNED,
    OPEN,
    READING,
    SYSTEM_KINDS,
    answer_systems_of,
    best_system,
    slices,
)
from medcards.answers.records import read_answers
from medcards.base.stats import Bootstrap
from medcards.report.answer_plots import bases_of
from medcards.report.explore import short_names
from medcards.report.render import one_line
from medcards.report.results import difference_rows, query_sets_of

SCORES_TESTED = ("token_f1", "novel_f1", HEADLINE)
OPEN_BOOK_SCORES_TESTED = (HEADLINE, "cites_relevant")
SMALL_SAMPLE, LARGE_LEAK, OFTEN_CUT = 300, 0.05, 0.2
"""Bounds of three warnings: number of questions, share of near-copies in training, share of answers cut off."""
SIGNS = {
    "echoed": (0.8, "repeats the question: {:.0%} of its words, stop words left out, are the question's"),
    "length_ratio": (3.0, "is long-winded: its answers have {:.1f} times the words of the references"),
    "no_answer": (0.2, "gives no answer to {:.0%} of the questions"),
    "contradiction_side": (0.5, "swaps sides: where the reference names one, {:.0%} of its answers name the other"),
    "contradiction": (0.5, "contradicts {:.0%} of the references"),
}
"""Scores that show a system that only seems to answer: the bound of the mean, and the warning."""


def answers_and_scores(data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answers, one row per question, and the scores, one row per question and system.

    Raises
    ------
    InputError : there are no answers or no scores, or they are of different questions.
    """
    answers, file = read_answers(data / "answers"), data / "scores" / "scores.parquet"
    if not file.exists():
        raise InputError(f"{file} is missing: run `dvc repro evaluate`")
    scores = pd.read_parquet(file)
    if set(scores.card_id) != set(answers.card_id):
        raise InputError("data/answers and data/scores are of different questions: run `dvc repro -f evaluate`")
    return answers, scores


def find_slices(figures: Path, answers: pd.DataFrame, scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Scores of parts of the questions, see :func:`medcards.answers.comparison.slices`; ``figures`` is data/figures.

    The clusters are those that the stage eda found.
    """
    clusters = pd.read_parquet(figures / "eda" / "cards.parquet").set_index("card_id").cluster
    names = short_names(figures / "eda" / "cluster_names.csv")
    return slices(answers.assign(cluster=answers.card_id.map(clusters).map(names)), scores, seed)


def closest_look(qa: dict) -> str:
    """The system that the report looks at closely: the best that learned, or the best of all where none was asked."""
    asked = answer_systems_of(qa)
    return best_system(asked, LEARNED) or best_system(asked, list(asked))


def systems_by_kind(qa: dict) -> dict[str, dict]:
    """The systems of metrics/qa.json under the headings of the report, a system of no known kind under "Others"."""
    asked = answer_systems_of(qa)
    known = [name for names in SYSTEM_KINDS.values() for name in names]
    kinds = SYSTEM_KINDS | {"others": [name for name in asked if name not in known]}
    rows = {kind: {name: asked[name] for name in names if name in asked} for kind, names in kinds.items()}
    return {kind[0].upper() + kind[1:]: systems for kind, systems in rows.items() if systems}


def worst_slices(found: pd.DataFrame, system: str, count: int = 5) -> dict[str, dict]:
    """Rows of the parts of the questions that a system answers worst, of those that :func:`find_slices` found."""
    rows = found[found.system == system].sort_values("mean", kind="stable").head(count).to_dict("records")
    return {f"{row['by']}: {one_line(row['slice'])}": {"sound F1": row, "n": str(row["n"])} for row in rows}


def base_rows(quantisation: dict) -> dict[str, dict]:
    """Rows of the bases of metrics/quantisation.json, the largest first, with their size in MB."""
    return {
        base: quantisation[base] | {"MB": f"{quantisation[base]['base_bytes'] / 1e6:,.0f}"}
        for base in bases_of(quantisation)
    }


def agreement_rows(qa: dict) -> dict[str, dict]:
    """Rows of the table of Kendall's tau between the scores and the judgements, the best score first."""
    every, closed = qa["agreement"]["all"], qa["agreement"]["without_open_book"]
    ranked = sorted(every, key=lambda score: -every[score]["mean"])
    return {score: {"all answers": every[score], "without open book": closed.get(score, "-")} for score in ranked}


def judged_hits(judged: pd.DataFrame, seed: int) -> dict[str, dict]:
    """The share of judged hits of the rules that are contradictions, for hits on a direction and for the others.

    Parameters
    ----------
    judged : docs/contradictions.csv.
    """
    directions = judged.kind.str.contains("direction")
    return {
        name: Bootstrap(rows.card_id, seed).interval(rows.contradicts)
        for name, rows in (("directions", judged[directions]), ("the other kinds", judged[~directions]))
    }


def warnings(qa: dict, leak: float) -> list[str]:
    """What a reader must know before believing the tables.

    Parameters
    ----------
    qa : metrics/qa.json.
    leak : share of all test questions with a near-copy in training.
    """
    asked, found = answer_systems_of(qa), []
    count = next(iter(asked.values()))["token_f1"]["n"]
    if count < SMALL_SAMPLE:
        seen = [block[HEADLINE]["detectable"] for block in qa["differences"].values() if HEADLINE in block]
        what = f"; differences in sound F1 below {max(seen):.3f} may go unseen" if seen else ""
        number = "answer.test_questions" if qa["split"] == "test" else "answer.questions"
        found.append(f"Small sample: {count} questions{what}. `{number}` sets their number.")
    if leak > LARGE_LEAK:
        found.append(f"Leak: {leak:.1%} of the test questions have a near-copy in training, see Leakage below.")
    for name, block in asked.items():
        if "truncated" in block and block["truncated"]["mean"] > OFTEN_CUT:
            share = block["truncated"]["mean"]
            found.append(f"`{name}`: {share:.0%} of its answers were cut off at `answer.max_new_tokens`.")
        if name in BASELINES:
            continue  # they show the same signs by design
        for score, (bound, words) in SIGNS.items():
            if score in block and block[score]["mean"] > bound:
                found.append(f"`{name}` {words.format(block[score]['mean'])}.")
    return found


def open_book_rows(open_book: dict[str, dict]) -> dict[str, dict]:
    """Rows of the table of open-book answers, one per query set and system; none where no such system was asked.

    Parameters
    ----------
    open_book : metrics/open_book.json.
    """
    return {
        f"{name}, {system}": scores | {"n": str(scores["abstains"]["n"])}
        for name in _query_sets_answered(open_book)
        for system, scores in answer_systems_of(open_book[name]).items()
    }


def open_book_differences(open_book: dict[str, dict]) -> dict[str, dict]:
    """Rows of the table of paired differences of open-book systems, one per query set and pair."""
    differences = {
        f"{name}, {pair}": difference
        for name in _query_sets_answered(open_book)
        for pair, difference in open_book[name]["differences"].items()
    }
    return difference_rows(differences, OPEN_BOOK_SCORES_TESTED)


def _query_sets_answered(open_book: dict[str, dict]) -> list[str]:
    return [name for name in query_sets_of(open_book) if name != "served_answer"]


def answers_to_read(answers: pd.DataFrame, scores: pd.DataFrame, system: str, count: int = 5) -> dict[str, list[dict]]:
    """The questions that a system answered best and worst.

    Returns
    -------
    ``{"Best": questions, "Worst": questions}``. A question is a row of ``answers`` with ``score`` (sound F1) and
    ``context`` (the cards that the first system that reads cards read).
    """
    reading = next((name for name in READING + OPEN if name in answers.read[0]), None)
    ranked = scores[scores.system == system].set_index("card_id")[HEADLINE].dropna().sort_values(kind="stable")
    rows = answers.set_index("card_id", drop=False)
    return {
        title: [
            rows.loc[card].to_dict() | {"score": ranked[card], "context": rows.read[card].get(reading, [])}
            for card in cards
        ]
        for title, cards in (("Best", ranked.index[::-1][:count]), ("Worst", ranked.index[:count]))
    }
