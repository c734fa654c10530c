"""The number of the card that an answer comes from, which stands before the answer."""

import re

_NUMBER = r"\[\s*([0-9]{1,3})(?:\s*,\s*[0-9]{1,3})*\s*\]"
_CITATION = re.compile(rf"\s*{_NUMBER}(?:\s*(?:,|;|and|&)?\s*{_NUMBER})*(?:\s*[:,;]|\s*[.\u2013\u2014-](?=\s|$))?\s*")
"""Numbers at the start of a text, and the punctuation mark after them. A dash before a word or a number is no mark."""


def cite(number: int | None, answer: str) -> str:
    """The answer after the number of the card that it comes from.

    Parameters
    ----------
    number : place of the card in the prompt, from 1; 0 or None leaves the answer as it is.

    Examples
    --------
    >>> cite(2, "Gout is an arthritis.")
    '[2] Gout is an arthritis.'
    """
    return f"[{number}] {answer}" if number else answer


def split_citation(text: str, cards: int) -> tuple[int | None, str]:
    """The card that an answer cites, and the answer without the citation.

    Only numbers at the start of the text are a citation. Of several numbers the first one counts, and none stays in the
    text. If the first number is not that of a card, the text is left as it is.

    Parameters
    ----------
    cards : number of cards in the prompt.

    Returns
    -------
    number : place of the cited card in the prompt, from 1; None without a citation.
    answer : the text after the citation.

    Examples
    --------
    >>> split_citation("[ 2 ]: Gout is an arthritis [1].", cards=3)
    (2, 'Gout is an arthritis [1].')
    >>> split_citation("[4] Gout is an arthritis.", cards=3)
    (None, '[4] Gout is an arthritis.')
    """
    found = _CITATION.match(text)
    if not found or not 1 <= int(found[1]) <= cards:
        return None, text
    return int(found[1]), text[found.end() :]
