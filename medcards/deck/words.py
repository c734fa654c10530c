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
"""

import re
import string

from bm25s.stopwords import STOPWORDS_EN_PLUS

STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
"""English words that carry no content, in lower case (list: bm25s ``STOPWORDS_EN_PLUS``)."""
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_FACT_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'t)?|%|[.;:,()]")


def words(text: str) -> list[str]:
    """Words in lower case, of any script. A hyphenated word stays one word.

    Used to explore a deck: lengths, vocabulary, terms and topics.

    >>> words("Anti-HBc: β-blocker's use, 5 mg.")
    ['anti-hbc', "β-blocker's", 'use', '5', 'mg']
    """
    return re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text.lower())


def normalise(text: str) -> str:
    """The text in lower case, with its words and its signs of comparison only, joined by single spaces.

    A hyphenated word becomes several words. A text without words and signs is returned unchanged.
    Used to tell whether two questions, or two answers, are equal.

    >>> normalise("A dose > 5 mg.")
    'a dose > 5 mg'
    """
    return " ".join(re.findall(r"\w+|[<>≤≥=±%]", text.lower())) or text


def squad_tokens(text: str) -> list[str]:
    """Words after SQuAD's normalisation (Rajpurkar et al., 2016): lower case, no punctuation, no articles.

    Punctuation is deleted, so a hyphenated word becomes one word without the hyphen.
    Used to score an answer against its reference.

    >>> squad_tokens("The beta-blocker, a drug")
    ['betablocker', 'drug']
    """
    return [word for word in text.lower().translate(_PUNCTUATION).split() if word not in _ARTICLES]


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
    return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
