"""Questions that a system won and lost between two runs, as text for a terminal."""

import textwrap

from medcards.answers.comparison import HEADLINE

LISTED = 5
"""Number of questions that are listed as won, and as lost."""
SHOWN_SIGNS = 200
"""Length at which a text is cut."""


def changes_as_text(system: str, changes: dict[str, list[dict]], runs: list[str], width: int) -> str:
    """The first :data:`LISTED` questions of each kind: question, reference, and the scores and answers of both runs.

    Parameters
    ----------
    changes : the questions of each kind, see :func:`medcards.answers.won_lost.won_and_lost`.
    runs : the names of both runs.
    width : characters per line.

    >>> gout = {"question": "What is gout?", "reference": "An arthritis.", "answers": ["Pain.", ""], "scores": [0.5, 0]}
    >>> print(changes_as_text("lora", {"won": [], "lost": [gout]}, ["HEAD", "r32"], 60))
    lora won no question by sound_f1.
    <BLANKLINE>
    lora lost 1 question by sound_f1. The largest change comes first:
    <BLANKLINE>
     1. What is gout?
        reference: An arthritis.
        HEAD 0.500: Pain.
        r32 0.000: (the answer is empty)
    """
    blocks = []
    for kind, questions in changes.items():
        count = f"{len(questions)} question{'s' * (len(questions) > 1)}" if questions else "no question"
        listed = f" The {LISTED} largest changes:" if len(questions) > LISTED else " The largest change comes first:"
        blocks.append(f"{system} {kind} {count} by {HEADLINE}.{listed if questions else ''}")
        blocks += [_as_text(place, question, runs, width) for place, question in enumerate(questions[:LISTED], start=1)]
    return "\n\n".join(blocks)


def terminal_line(text: str) -> str:
    """A text of the deck or of a model on one line, cut, without characters that steer a terminal.

    >>> terminal_line("a\\x1b[31m\\nb" + 200 * "c")[:10]
    'a [31m bcc'
    """
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= SHOWN_SIGNS else f"{text[:SHOWN_SIGNS]} ..."


def _as_text(number: int, question: dict, runs: list[str], width: int) -> str:
    lines = [terminal_line(question["question"]), f"reference: {terminal_line(question['reference'])}"]
    for run, score, answer in zip(runs, question["scores"], question["answers"], strict=True):
        lines.append(f"{run} {score:.3f}: {terminal_line(answer) or '(the answer is empty)'}")
    indents = {"initial_indent": " " * 4, "subsequent_indent": " " * 6}
    return f"{number:2}. " + "\n".join(textwrap.fill(line, width, **indents) for line in lines)[4:]
