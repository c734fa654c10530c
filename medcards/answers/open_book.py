"""Scores of the systems that answer from the deck: right words, right citation, and no answer where the deck has none.

The search decides whether a question is answered. So a question is refused or not, whoever answers it.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from medcards.answers.comparison import HEADLINE
from medcards.answers.scores import TermWeights, score_answer, scored_words
from medcards.base.stats import Bootstrap, paired_differences
from medcards.deck.cards import card_text, corpus
from medcards.deck.relevance import relevant_answers
from medcards.search.answerability import HIDDEN, OFF_TOPIC, WHOLE_DECK, Answerability
from medcards.search.perturbations import PERTURBATIONS

QUOTED, WORDED = "search_open", "lora_rag_open"
"""The two ways to answer a user: the first card's answer, quoted, or the tuned model's words."""
OPEN_BOOK_SCORES = (
    HEADLINE,
    "served_f1",
    "cites_relevant",
    "citation_precision",
    "grounding",
    "abstains",
    "abstains_hidden",
)
OPEN_BOOK_PAIRS = ((WORDED, QUOTED), (WORDED, "base_rag_open"))
"""The pairs of systems that are compared."""


def refused_questions(rankings: Path) -> pd.Series:
    """Whether the search says that the deck probably has no answer.

    Parameters
    ----------
    rankings : the folder that the stage rerank_eval wrote.

    Returns
    -------
    by ``query_set``, ``deck`` (``whole``, or ``hidden`` without the relevant cards) and ``card_id``.
    """
    asked = pd.read_parquet(rankings / "answerability.parquet", filters=[("deck", "!=", OFF_TOPIC)])
    keys = [asked.query_set, asked.deck, asked["query"]]
    names = ["query_set", "deck", "card_id"]
    below = (asked.probability < Answerability.load(rankings).refuse_below).to_numpy()
    return pd.Series(below, pd.MultiIndex.from_arrays(keys, names=names))


def open_book_scores(rows: pd.DataFrame, cards: pd.DataFrame, refused: pd.Series, weights: TermWeights) -> pd.DataFrame:
    """The scores of open-book answers.

    ==================  ==========================================================================================
    sound_f1            see :mod:`medcards.answers.scores`; the question is that of the card, however it is asked
    served_f1           the same, and 0 where the search refuses the question
    cites_relevant      1 where the cited card is relevant; 0 for another card and for none
    citation_precision  the same over the answers with a citation
    grounding           share of the answer's words without stop words that the cited card holds
    abstains            1 where the search refuses the question
    abstains_hidden     1 where the search refuses the question if its relevant cards are hidden
    ==================  ==========================================================================================

    Parameters
    ----------
    rows : see :func:`medcards.answers.systems.all_answers`.
    cards : the whole deck.
    refused : see :func:`refused_questions`.

    Returns
    -------
    ``query_set``, ``card_id``, ``group``, ``system`` and the scores, one row per row of ``rows``.
    """
    deck, searched = cards.set_index("card_id", drop=False), corpus(cards)
    asked = list(dict.fromkeys(rows.card_id))
    relevant = dict(zip(asked, relevant_answers(deck.loc[asked], searched), strict=True))
    texts = {card.card_id: card_text(card.question, card.answer) for card in searched.itertuples()}
    scores = []
    for row in rows.itertuples():
        right, content = row.cited in relevant[row.card_id], scored_words(row.answer)
        held = set(scored_words(texts.get(row.cited, "")))
        abstains, hidden = (refused[row.query_set, deck, row.card_id] for deck in (WHOLE_DECK, HIDDEN))
        f1 = score_answer(row.answer, row.reference, deck.question[row.card_id], weights)[HEADLINE]
        scores.append(
            {
                HEADLINE: f1,
                "served_f1": f1 * (not abstains),
                "cites_relevant": float(right),
                "citation_precision": float(right) if row.cited else math.nan,
                "grounding": float(np.mean([word in held for word in content])) if row.cited and content else math.nan,
                "abstains": float(abstains),
                "abstains_hidden": float(hidden),
            }
        )
    about = rows[["query_set", "card_id", "system"]].assign(group=deck.group[rows.card_id].to_numpy())
    return about.join(pd.DataFrame(scores, index=rows.index))


def summarise_open_book(scores: pd.DataFrame, seed: int) -> dict[str, dict]:
    """Means and intervals of open-book scores, and the paired differences of :data:`OPEN_BOOK_PAIRS`.

    Returns
    -------
    ``{query_set: {system: {score: interval}, "differences": {"a-b": {score: difference}}}}``. A score that no answer
    has is left out.
    """
    found = {}
    for query_set, table in scores.groupby("query_set", sort=True):
        systems = {name: of.set_index("card_id") for name, of in table.groupby("system", sort=True)}
        bootstrap = Bootstrap(next(iter(systems.values())).group, seed)
        found[query_set] = {
            name: {score: bootstrap.interval(of[score]) for score in OPEN_BOOK_SCORES if of[score].notna().any()}
            for name, of in systems.items()
        }
        tables = {name: of[[HEADLINE, "cites_relevant"]] for name, of in systems.items()}
        pairs = [pair for pair in OPEN_BOOK_PAIRS if set(pair) <= set(systems)]
        found[query_set]["differences"] = paired_differences(tables, bootstrap, pairs)
    return found


def served_answer(scores: pd.DataFrame, split: str, seed: int) -> dict:
    """Which of :data:`QUOTED` and :data:`WORDED` a user is answered with.

    The model's words are served if the interval of their gain in the headline score lies above zero. The validation
    questions that were asked choose, those of all query sets together. Perturbed questions and test questions choose
    nothing. Where no others were asked, the card is quoted.

    Returns
    -------
    ``system``, and the ``difference`` between the two with its interval; None where they were not compared.
    """
    chosen = scores if scores.empty else scores[~scores.query_set.isin(list(PERTURBATIONS))]
    if split == "test" or chosen.empty or not {QUOTED, WORDED} <= set(chosen.system):
        return {"system": QUOTED, "difference": None}
    whole = chosen.pivot(index=["query_set", "card_id", "group"], columns="system", values=HEADLINE)
    gain = (whole[WORDED] - whole[QUOTED]).reset_index(name="gain")
    if gain.gain.isna().all():  # no reference has a word that its question lacks
        return {"system": QUOTED, "difference": None}
    difference = Bootstrap(gain.group, seed).interval(gain.gain)
    return {"system": WORDED if difference["lo"] > 0 else QUOTED, "difference": difference}
