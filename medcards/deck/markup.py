"""Markup of flashcard programs as plain text: HTML, cloze deletions, pictures and sounds."""

import re

_TAGS = (
    *("a", "b", "big", "blockquote", "br", "center", "code", "dd", "del", "div", "dl", "dt", "em", "font", "h1", "h2"),
    *("h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "s", "small", "span"),
    *("strike", "strong", "style", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "tt", "u", "ul"),
)
# A tag has a known name, and attributes with values only: "a<b and c>d" compares.
_TAG = rf"""</?(?:{"|".join(_TAGS)})(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>|<!--.*?-->"""
_HTML = re.compile(rf"{_TAG}|&(?:[a-zA-Z]{{2,8}}|#\d{{2,5}}|#x[0-9a-fA-F]{{2,5}});", re.IGNORECASE | re.DOTALL)
_TAG_OR_SIGN = re.compile(rf"{_TAG}|<", re.IGNORECASE | re.DOTALL)
_BLOCKS = {"br", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "p", "pre", "td", "th", "tr"}
_MEDIA = re.compile(r"\[sound:[^\]]*\]|<img\b[^>]*>", re.IGNORECASE)
_CLOZE = re.compile(r"\{\{c\d+::((?:(?!\{\{c\d+::).)*?)(?:::[^{}]*?)?\}\}", re.DOTALL)
_SUPERSCRIPTS = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
_SUBSCRIPTS = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")


def without_media(text: str) -> str:
    """The text without pictures and without sounds of Anki.

    >>> without_media('a cyst <img src="cyst.jpg"> [sound:cyst.mp3]')
    'a cyst  '
    """
    return _MEDIA.sub("", text)


def is_html(text: str) -> bool:
    """Whether a text holds a tag or a character reference of HTML. A sign such as in "p < 0.05" is none."""
    return bool(_HTML.search(text))


def without_html(text: str) -> str:
    """The text that a browser shows for HTML (library: Beautiful Soup). A text without HTML is returned as it is.

    Digits that are set high or low become characters, so that powers stay powers.

    >>> without_html("<b>Gout</b><br>more than 10<sup>9</sup>/L &amp; less than H<sub>2</sub>O")
    'Gout more than 10⁹/L & less than H₂O'
    >>> without_html("<i>Na</i> if a<b and c>d")
    'Na if a<b and c>d'
    """
    if not is_html(text):
        return text
    from bs4 import BeautifulSoup

    signs = _TAG_OR_SIGN.sub(lambda found: "&lt;" if found[0] == "<" else found[0], text)
    tree = BeautifulSoup(signs, "html.parser")
    for unseen in tree(["style", "script"]):
        unseen.decompose()
    for name, characters in (("sup", _SUPERSCRIPTS), ("sub", _SUBSCRIPTS)):
        for tag in tree(name):
            tag.replace_with(tag.get_text().translate(characters))
    for tag in tree(list(_BLOCKS)):
        tag.insert_before(" ")
        tag.insert_after(" ")
    return " ".join(tree.get_text().split())


def without_clozes(text: str) -> str:
    """The text in which each cloze deletion of Anki stands filled in, without its hint.

    >>> without_clozes("The {{c1::liver::organ}} makes {{c2::bile}}.")
    'The liver makes bile.'
    """
    while (filled := _CLOZE.sub(r"\1", text)) != text:  # clozes may lie in clozes
        text = filled
    return text
