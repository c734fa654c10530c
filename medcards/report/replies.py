"""The reply to a question, as text for a terminal and as JSON."""

import re
import textwrap
from dataclasses import asdict

from medcards.answers.asker import NOT_ADVICE, Reply
from medcards.llm.citations import cite
from medcards.report.hits import as_json, hits_as_text, probability_in_words, searched_as

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that no card holds, but that a model can write. A terminal would obey some of them."""


def who_answered(reply: Reply) -> str:
    """Who answered, and from which card.

    >>> who_answered(Reply("What is gout?", "An arthritis.", "base", None, 0.5, False, []))
    'base model, which read no card'
    """
    if reply.answered_by is None:
        return "no answer; these are the nearest cards" if reply.hits else "no answer"
    if reply.answered_by == "card":
        return f"card {reply.cited.rank}, quoted"
    if not reply.hits:
        return f"{reply.answered_by} model, which read no card"
    return f"{reply.answered_by} model, citing {f'card {reply.cited.rank}' if reply.cited else 'no card'}"


def cited_answer(reply: Reply) -> str:
    """The text of a reply after the number of the card that it comes from, without control characters."""
    text = _CONTROL.sub("", reply.text) or "(the answer is empty)"
    return cite(reply.cited.rank, text) if reply.cited else text


def reply_as_text(reply: Reply, width: int) -> str:
    """The answer, a line about it, and the cards. A star marks the card that the answer comes from.

    Parameters
    ----------
    width : characters per line.

    Examples
    --------
    >>> from medcards.search.searcher import Hit
    >>> hit = Hit(1, "ab12", "What is gout?", "An arthritis.", "tiny.json", 0.5, {"hybrid": 0.5})
    >>> reply = Reply("gout?", "An arthritis.", "card", hit, 0.875, False, [hit])
    >>> print(reply_as_text(reply, 80))  # doctest: +ELLIPSIS
    [1] An arthritis.
    <BLANKLINE>
    -- card 1, quoted. The deck probably has an answer (probability 0.88). Not medical advice: ...
    <BLANKLINE>
    *1. What is gout?
        An arthritis.
        ab12  hybrid 0.500
    >>> print(reply_as_text(Reply("router?", "None.", None, None, 0.08, True, []), 80))
    The deck probably has no answer (probability of an answer: 0.08).
    <BLANKLINE>
    -- no answer. Not medical advice: no physician checked this.
    """
    sentence = probability_in_words(reply.probability, reply.refused)
    refusal = reply.refused and reply.answered_by is None
    said = sentence if refusal else cited_answer(reply)
    about = [f"{who_answered(reply)}.", "" if refusal else sentence, reply.remark, NOT_ADVICE]
    blocks = [
        textwrap.fill(said, width),
        f"-- {' '.join(filter(None, about))}",
        searched_as(reply.searched),
        hits_as_text(reply.hits, width, reply.cited),
    ]
    return "\n\n".join(filter(None, blocks))


def reply_as_json(reply: Reply, system: str) -> str:
    """A reply as a JSON object. ``cited`` is the id of the card that the answer comes from.

    Parameters
    ----------
    system : the served retrieval system.
    """
    shown = asdict(reply)
    hits = shown.pop("hits")
    shown["cited"] = reply.cited.card_id if reply.cited else None
    shown["probability_in_words"] = probability_in_words(reply.probability, reply.refused)
    return as_json(shown | {"system": system, "hits": hits}, indent=2)
