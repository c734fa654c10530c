"""Cards that a search found, as text for a terminal, as JSON and as HTML for a page."""

import html
import json
import textwrap
from dataclasses import asdict

from medcards.search.searcher import Hit


def hits_as_text(hits: list[Hit], width: int) -> str:
    """Question and answer of each hit, wrapped; below them its card id and its scores.

    Parameters
    ----------
    width : characters per line.

    >>> hit = Hit(1, "ab12", "What is gout?", "An arthritis.", "tiny.json", 0.5, {"hybrid": 0.5})
    >>> print(hits_as_text([hit], 40))
     1. What is gout?
        An arthritis.
        ab12  hybrid 0.500
    """
    blocks = []
    for hit in hits:
        scores = "  ".join(f"{system} {score:.3f}" for system, score in hit.scores.items())
        lines = [line for text in (hit.question, hit.answer) for line in textwrap.wrap(text, width - 4)]
        blocks.append(f"{hit.rank:2}. " + "\n    ".join([*lines, f"{hit.card_id}  {scores}"]))
    return "\n\n".join(blocks)


def hits_as_json(question: str, system: str, hits: list[Hit], indent: int | None) -> str:
    """A question, the served system and the hits as a JSON object.

    Parameters
    ----------
    indent : spaces per level; None for one line.

    >>> hits_as_json("What is gout?", "hybrid", [], indent=None)
    '{"question": "What is gout?", "system": "hybrid", "hits": []}'
    """
    found = {"question": question, "system": system, "hits": [asdict(hit) for hit in hits]}
    return json.dumps(found, ensure_ascii=False, allow_nan=False, indent=indent)


def hits_as_html(hits: list[Hit], read: bool) -> str:
    """Hits as HTML. Markup in the text of a card is shown as text.

    Parameters
    ----------
    read : whether to mark the cards as read by the models.

    >>> hit = Hit(1, "ab12", "What is <i>gout</i>?", "A & B", "tiny.json", 1.5, {"hybrid": 0.5, "hybrid_rerank": 1.5})
    >>> print(hits_as_html([hit], read=False))  # doctest: +NORMALIZE_WHITESPACE
    <div class="card"><b>1. What is &lt;i&gt;gout&lt;/i&gt;?</b> <p>A &amp; B</p>
    <div class="about">hybrid 0.500 → re-ranked 1.500 · tiny.json · ab12</div></div>
    """
    parts = []
    for hit in hits:
        before = ", ".join(f"{system} {score:.3f}" for system, score in hit.scores.items() if system != "hybrid_rerank")
        after = f" → re-ranked {hit.scores['hybrid_rerank']:.3f}" if "hybrid_rerank" in hit.scores else ""
        about = [before + after, hit.source, hit.card_id, *(["read by the models"] if read else [])]
        parts.append(
            f'<div class="card{" read" if read else ""}"><b>{hit.rank}. {html.escape(hit.question)}</b>\n'
            f'<p>{html.escape(hit.answer)}</p>\n<div class="about">{html.escape(" · ".join(about))}</div></div>\n'
        )
    return "".join(parts) or "<p>None of the 50 best cards is such a card.</p>"
