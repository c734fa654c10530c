"""Cards that a search found, as text for a terminal, as JSON and as HTML for a page."""

import html
import json
import textwrap
from dataclasses import asdict

from medcards.answers.asker import NO_ANSWER, NO_CARD
from medcards.search.answerability import EVEN
from medcards.search.searcher import Found, Hit
from medcards.search.systems import WITH_QUESTIONS

_LATER = {"hybrid_rerank": "re-ranked", WITH_QUESTIONS: "with the cards' questions"}
"""The systems that order the hits of the others, in their order, and what the page calls them."""


def probability_in_words(probability: float, refused: bool) -> str:
    """The sentence that says how probable it is that the deck has an answer.

    >>> probability_in_words(0.87, refused=False)
    'The deck probably has an answer (probability 0.87).'
    >>> probability_in_words(0.41, refused=False)
    'The deck may have an answer (probability 0.41).'
    >>> probability_in_words(0.0013, refused=True)
    'The deck probably has no answer (probability of an answer: below 0.01).'
    """
    number = "below 0.01" if probability < 0.01 else "above 0.99" if probability > 0.99 else f"{probability:.2f}"
    if refused:
        return f"{NO_ANSWER.rstrip('.')} (probability of an answer: {number})."
    return f"The deck {'probably has' if probability >= EVEN else 'may have'} an answer (probability {number})."


def searched_as(searched: str) -> str:
    """The line that says how a question was searched, where its spelling was corrected; else empty.

    >>> searched_as("what is gout")
    'Searched for: what is gout'
    """
    return f"Searched for: {searched}" if searched else ""


def found_as_text(found: Found, width: int) -> str:
    """What a search found: the cards, and below them the probability that the deck has an answer.

    Parameters
    ----------
    width : characters per line.
    """
    cards = hits_as_text(found.hits, width) or "nothing found"
    about = [searched_as(found.searched), probability_in_words(found.probability, found.refused)]
    return f"{cards}\n\n" + "\n".join(filter(None, about))


def hits_as_text(hits: list[Hit], width: int, cited: Hit | None = None) -> str:
    """Question and answer of each hit, wrapped; below them its card id and its scores.

    Parameters
    ----------
    width : characters per line.
    cited : the card that gets a star.

    >>> hit = Hit(1, "ab12", "What is gout?", "An arthritis.", "tiny.json", 0.5, {"hybrid": 0.5})
    >>> print(hits_as_text([hit], 40, cited=hit))
    *1. What is gout?
        An arthritis.
        ab12  hybrid 0.500
    """
    blocks = []
    for hit in hits:
        scores = "  ".join(f"{system} {score:.3f}" for system, score in hit.scores.items())
        lines = [line for text in (hit.question, hit.answer) for line in textwrap.wrap(text, width - 4)]
        number = f"{'*' if hit == cited else ''}{hit.rank}"
        blocks.append(f"{number:>2}. " + "\n    ".join([*lines, f"{hit.card_id}  {scores}"]))
    return "\n\n".join(blocks)


def found_as_json(question: str, system: str, found: Found, indent: int | None) -> str:
    """A question, the served system and what it found as a JSON object.

    Parameters
    ----------
    indent : spaces per level; None for one line.

    >>> found_as_json("Gout?", "hybrid", Found([], 0.125, refused=True), indent=None)
    '{"question": "Gout?", "searched": "", "system": "hybrid", "probability": 0.125, "refused": true, "hits": []}'
    """
    about = {"question": question, "searched": found.searched, "system": system, "probability": found.probability}
    return as_json(about | {"refused": found.refused} | {"hits": [asdict(hit) for hit in found.hits]}, indent)


def as_json(shown: dict, indent: int | None) -> str:
    """An object as JSON, with the letters of all languages as they are."""
    return json.dumps(shown, ensure_ascii=False, allow_nan=False, indent=indent)


def hits_as_html(hits: list[Hit], read: bool, cited: Hit | None = None) -> str:
    """Hits as HTML. Markup in the text of a card is shown as text.

    Parameters
    ----------
    read : whether to mark the cards as read by a model.
    cited : the card to mark as the one that the answer comes from.

    >>> hit = Hit(1, "ab12", "What is <i>gout</i>?", "A & B", "tiny.json", 1.5, {"hybrid": 0.5, "hybrid_rerank": 1.5})
    >>> print(hits_as_html([hit], read=False, cited=hit))  # doctest: +NORMALIZE_WHITESPACE
    <div class="card cited"><b>1. What is &lt;i&gt;gout&lt;/i&gt;?</b> <p>A &amp; B</p>
    <div class="about">cited by the answer · hybrid 0.500 → re-ranked 1.500 · tiny.json · ab12</div></div>
    """
    parts = []
    for hit in hits:
        before = ", ".join(f"{system} {score:.3f}" for system, score in hit.scores.items() if system not in _LATER)
        later = [f" → {said} {hit.scores[system]:.3f}" for system, said in _LATER.items() if system in hit.scores]
        marks = {"cited": "cited by the answer"} if hit == cited else {}
        marks |= {"read": "read by the model"} if read else {}
        about = [*marks.values(), before + "".join(later), hit.source, hit.card_id]
        parts.append(
            f'<div class="{" ".join(["card", *marks])}"><b>{hit.rank}. {html.escape(hit.question)}</b>\n'
            f'<p>{html.escape(hit.answer)}</p>\n<div class="about">{html.escape(" · ".join(about))}</div></div>\n'
        )
    return "".join(parts) or f"<p>{NO_CARD}</p>"
