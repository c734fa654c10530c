"""Every way in which this project cuts a text into words.

Each function serves one purpose, so each keeps what that purpose needs. One text, cut five ways:

>>> text = "The kidneys' beta-blocker dose is > 5.0 mg."
>>> words(text)
['the', 'kidneys', 'beta-blocker', 'dose', 'is', '5', '0', 'mg']
>>> normalise(text)
'the kidneys beta blocker dose is > 5 0 mg'
>>> squad_tokens(text)
['kidneys', 'betablocker', 'dose', 'is', '50', 'mg']
>>> fact_tokens(text)
['the', "kidneys'", 'beta', '-', 'blocker', 'dose', 'is', '>', '5', 'mg', '.']
>>> stems([text])
[['kidney', 'beta', 'blocker', 'dose', 'mg']]

Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces between words. There a word is a pair of neighbouring
characters, as in Lucene's CJKAnalyzer; for the scores of an answer it is a character, as in MLQA (Lewis et al., 2020).

>>> words("COPD是肺病"), squad_tokens("肺病")
(['copd', '是肺', '肺病'], ['肺', '病'])
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

from bm25s.stopwords import STOPWORDS_EN_PLUS

STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
"""English words that carry no content, in lower case (list: bm25s ``STOPWORDS_EN_PLUS``)."""
TEMPLATE_SHARE, TEMPLATE_QUESTIONS = 0.1, 20
"""A word in more than this share of the questions, and in more than this number, belongs to their template."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED_RUN, _UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]+"), re.compile(f"([{_UNSPACED}])")
_FRACTION, _SUPERSCRIPT = re.compile("(\\d*) ?([¼-¾⅐-⅞])"), re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]+")
_FOLDED = str.maketrans(dict.fromkeys("‘’ʼ", "'") | dict.fromkeys("‐‑‒–—−", "-"))
_MINUS = r"(?:(?<![^\s(])(?<!\d\s)-)?"  # after a space, and not between two numbers
_THOUSANDS = r"\d{1,3}(?:(?:,\d{3})+|(?:[ ]\d{3})+)(?!\d)(?:\.\d+)?"
_NUMBER = rf"{_MINUS}(?:{_THOUSANDS}|\d+(?:[.,]\d+)?|(?<!\d)\.\d+)"
_FACT_TOKEN = re.compile(
    rf"""
    (?: (?P<factor>{_NUMBER})\ ?[x×*·]\ ? )? 10\^(?P<power>[-+]?\d{{1,2}})
    | (?P<number>{_NUMBER})
    | [^\W\d_] (?:[^\W_]|')*
    | [<>≤≥~%/+.;:,()-]
    """,
    re.VERBOSE,
)
FUNCTION_WORDS = frozenset(
    "a all an and any are as at be by can for from in is it its may of on or some that the their this to was".split()
) | {"with"}
"""Words that no fact is about."""


class _WithoutPunctuation(dict):
    """A table for ``str.translate`` that deletes what ASCII or Unicode calls punctuation."""

    def __missing__(self, code: int) -> int | None:
        sign = chr(code)
        self[code] = None if sign in string.punctuation or unicodedata.category(sign)[0] == "P" else code
        return self[code]


_WITHOUT_PUNCTUATION = _WithoutPunctuation()


def fold(text: str) -> str:
    """The text in lower case, with one form of each sign.

    Compatible characters become one (Unicode's NFKC), so both micro signs are equal. Apostrophes and dashes become
    those of ASCII. A fraction becomes a decimal number, and a superscript a power.

    >>> fold("It doesn’t exceed 1½ µg – or 10⁹")
    "it doesn't exceed 1.5 μg - or 10^9"
    """
    text = _FRACTION.sub(lambda found: f"{int(found[1] or 0) + unicodedata.numeric(found[2]):g}", text)
    text = _SUPERSCRIPT.sub(lambda found: f"^{found[0]}", text)
    return unicodedata.normalize("NFKC", text).lower().translate(_FOLDED)


def words(text: str) -> list[str]:
    """Words in lower case, of any script. A hyphenated word stays one word.

    Used to explore a deck: lengths, vocabulary, terms and topics.

    >>> words("Anti-HBc: β-blocker's use, 5 mg.")
    ['anti-hbc', "β-blocker's", 'use', '5', 'mg']
    """
    return re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", _spaced(text.lower()))


def normalise(text: str) -> str:
    """The text in lower case, with its words and its signs of comparison only, joined by single spaces.

    A hyphenated word becomes several words. A text without words and signs is returned unchanged.
    Used to tell whether two questions, or two answers, are equal.

    >>> normalise("A dose > 5 mg.")
    'a dose > 5 mg'
    """
    return " ".join(re.findall(r"\w+|[<>≤≥=±%]", _spaced(text.lower()))) or text


def template_words(questions: Iterable[list[str]]) -> set[str]:
    """The words of the template of a deck's questions, such as "what" and "define".

    >>> sorted(template_words([["define", str(number)] for number in range(30)]))
    ['define']
    """
    counts, asked = Counter(), 0
    for words in questions:
        counts.update(set(words))
        asked += 1
    limit = max(TEMPLATE_SHARE * asked, TEMPLATE_QUESTIONS)
    return {word for word, count in counts.items() if count > limit}


def unspaced(word: str) -> bool:
    """Whether a word is of a script without spaces, where two characters are a word.

    >>> unspaced("肺病"), unspaced("of")
    (True, False)
    """
    return bool(_UNSPACED_RUN.fullmatch(word))


def _spaced(text: str) -> str:
    """The text with its runs of a script without spaces as pairs of neighbouring characters."""

    def pairs(run: re.Match) -> str:
        signs = run[0]
        return f" {' '.join(map(''.join, zip(signs, signs[1:], strict=False))) or signs} "

    return _UNSPACED_RUN.sub(pairs, text) if _UNSPACED_CHARACTER.search(text) else text


def squad_tokens(text: str) -> list[str]:
    """Words after SQuAD's normalisation (Rajpurkar et al., 2016): lower case, no punctuation, no articles.

    On ASCII text the words are those of the SQuAD script. Other text is folded first, see :func:`fold`, and loses what
    Unicode calls punctuation. Punctuation is deleted, so a hyphenated word becomes one word without the hyphen.
    Used to score an answer against its reference.

    >>> squad_tokens("The beta-blocker, a “drug”")
    ['betablocker', 'drug']
    """
    text = fold(text).translate(_WITHOUT_PUNCTUATION)
    return _UNSPACED_CHARACTER.sub(r" \1 ", _ARTICLES.sub(" ", text)).split()


def fact_tokens(text: str) -> list[str]:
    """Words, numbers, signs of comparison and stops of the folded text; "standard deviation" becomes "sd".

    A number is written as a decimal, whatever its form in the text: "1,000" has a separator of thousands, "2,5" a
    decimal comma. A word may hold digits ("b12"). A contracted "not" stays whole.
    Used to find facts that contradict a reference.

    >>> fact_tokens("Isn't above 1,000 or .5 or 2,5×10⁹ standard deviations.")
    ["isn't", 'above', '1000', 'or', '0.5', 'or', '2500000000', 'sds', '.']
    """
    folded = fold(text).replace("standard deviation", "sd")
    return [
        _decimal(found) if found["power"] or found["number"] else found[0] for found in _FACT_TOKEN.finditer(folded)
    ]


def _decimal(found: re.Match) -> str:
    """A number of :data:`_FACT_TOKEN` as Python writes it, without separators."""
    number, power = found["number"] or found["factor"] or "1", int(found["power"] or 0)
    if re.fullmatch(r"-?(?:0,\d+|\d+,(?!\d{3}$)\d+)", number):
        number = number.replace(",", ".")
    return f"{float(re.sub('[, ]', '', number)) * 10.0**power:.15g}"


def stems(texts: list[str]) -> list[list[str]]:
    """Word stems of each text (libraries: bm25s, PyStemmer's English stemmer).

    Words of one character and bm25s's short list of English stop words are left out.
    Used by BM25, so that a question finds an answer with another form of its word.

    >>> stems(["Cysts of the kidney", "A renal cyst"])
    [['cyst', 'kidney'], ['renal', 'cyst']]
    """
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    return bm25s.tokenize(
        [_spaced(text) for text in texts], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
    )
