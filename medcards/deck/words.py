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
['the', 'kidneys', 'beta', 'blocker', 'dose', 'is', '5.0', 'mg', '.']
>>> stems([text])
[['kidney', 'beta', 'blocker', 'dose', 'mg']]

Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces between words. There a word is a pair of neighbouring
characters, as in Lucene's CJKAnalyzer; for the scores of an answer it is a character, as in MLQA (Lewis et al., 2020).

>>> words("COPD是肺病"), squad_tokens("肺病")
(['copd', '是肺', '肺病'], ['肺', '病'])
"""

import re
import string

from bm25s.stopwords import STOPWORDS_EN_PLUS

STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
"""English words that carry no content, in lower case (list: bm25s ``STOPWORDS_EN_PLUS``)."""
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED_RUN, _UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]+"), re.compile(f"([{_UNSPACED}])")
_FACT_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'t)?|%|[.;:,()]")


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

    Punctuation is deleted, so a hyphenated word becomes one word without the hyphen.
    Used to score an answer against its reference.

    >>> squad_tokens("The beta-blocker, a drug")
    ['betablocker', 'drug']
    """
    spaced = _UNSPACED_CHARACTER.sub(r" \1 ", text.lower().translate(_PUNCTUATION))
    return [word for word in spaced.split() if word not in _ARTICLES]


def fact_tokens(text: str) -> list[str]:
    """Words, decimal numbers, percent signs and stops, in lower case; "standard deviation" becomes "sd".

    A contracted "not" stays whole. Stops are kept because a denial ends at a stop.
    Used to find numbers, units, sides and negations that contradict a reference.

    >>> fact_tokens("Isn't above 2.5 standard deviations.")
    ["isn't", 'above', '2.5', 'sds', '.']
    """
    return _FACT_TOKEN.findall(text.lower().replace("standard deviation", "sd"))


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
