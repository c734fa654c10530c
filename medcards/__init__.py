"""The library: search and question answering over medical flashcards.

It has no fixed path, and imports no DVC but in :mod:`medcards.commands.compare`; the scripts in ``stages/`` call it.
"""


class InputError(Exception):
    """Something the user gave us is wrong: the message is one line that names it and says what to do.

    >>> str(InputError("deck.csv: no column '\\n'"))
    "deck.csv: no column ' '"
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


def reason_of(error: BaseException, limit: int = 200) -> str:
    """The message of an error on one line, cut after ``limit`` characters."""
    return " ".join(str(error).split())[:limit]
