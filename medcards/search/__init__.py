"""Search: from a question to a ranking of the deck's answers.

>>> from medcards.search import Searcher
>>> Searcher.load("data").search("why are my teeth crooked", k=5)  # doctest: +SKIP
"""

__all__ = ["Searcher"]


def __getattr__(name: str) -> object:
    # Imported on first use: training imports modules of this package, and must not depend on the search systems.
    if name == "Searcher":
        from medcards.search.searcher import Searcher

        return Searcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
