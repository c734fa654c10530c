"""The questions that a system answers better or worse in a second run."""

from collections.abc import Iterable

import pandas as pd

from medcards import InputError
from medcards.answers.comparison import HEADLINE


def system_to_list(changed: Iterable[str], shared: set[str], asked: str | None) -> str | None:
    """The system whose questions are listed: the one asked for, else the first changed one of the tuned model.

    Parameters
    ----------
    changed : the systems whose scores differ between the runs. The names of the tuned model's start with ``lora``.
        Where none of these changed, the first other one is listed; None is returned where no system changed.
    shared : the systems of both runs.

    Raises
    ------
    InputError : the system asked for is not in both runs.
    """
    if asked and asked not in shared:
        raise InputError(f"--system {asked} was not asked in both runs (asked in both: {', '.join(sorted(shared))})")
    return asked or min(changed, key=lambda name: not name.startswith("lora"), default=None)


def won_and_lost(scores: list[pd.DataFrame], answers: list[pd.DataFrame], system: str) -> dict[str, list[dict]]:
    """The questions whose headline score changed between two runs.

    Parameters
    ----------
    scores : of the first and the second run, one row per question and system.
    answers : of both runs, one row per question, see :func:`medcards.answers.records.read_answers`.

    Returns
    -------
    ``{"won": questions, "lost": questions}``, the largest change first. A question has ``question``, ``reference``,
    and ``answers`` and ``scores`` of both runs.

    Raises
    ------
    InputError : the answers of a run lack a question that its scores have.
    """
    before, after = (run[run.system == system].set_index("card_id")[HEADLINE] for run in scores)
    gains = (after - before.reindex(after.index)).dropna()
    won = gains[gains > 0].sort_values(ascending=False, kind="stable")
    lost = gains[gains < 0].sort_values(kind="stable")
    texts = [run.set_index("card_id") for run in answers]

    def described(card: str) -> dict:
        try:
            given = [run.answers[card][system] for run in texts]
        except KeyError:
            raise InputError(
                "data/answers and data/scores are of different answers: run `dvc repro evaluate`"
            ) from None
        of_card = {"question": texts[1].question[card], "reference": texts[1].reference[card]}
        return of_card | {"answers": given, "scores": [before[card], after[card]]}

    return {name: [described(card) for card in cards.index] for name, cards in (("won", won), ("lost", lost))}
