"""Write the results of final/metrics/ into README.md.

python -m tools.readme    # `make readme`
"""

import sys
from pathlib import Path

from medcards import InputError
from medcards.base.files import atomic
from medcards.report.headlines import headlines
from medcards.report.render import render
from medcards.report.results import read_published

README = Path("README.md")
MARKS = "<!-- results -->\n", "<!-- /results -->"


def renewed(text: str, metrics: dict[str, dict], chosen: dict[str, dict]) -> str:
    """The text of the README with the results of these metrics between its marks.

    Parameters
    ----------
    metrics : of the test questions.
    chosen : of the validation questions, by which the systems are chosen that the README names.

    Raises
    ------
    InputError : a mark is missing.
    """
    head, begin, rest = text.partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    if not (begin and end):
        raise InputError(f"{README}: the marks <!-- results --> and <!-- /results --> are missing")
    return f"{head}{begin}{render('readme.md.jinja', **headlines(metrics, chosen))}{end}{tail}"


def main() -> None:
    try:
        text = renewed(
            README.read_text(encoding="utf-8"), read_published(Path("final/metrics")), read_published(Path("metrics"))
        )
    except InputError as error:
        sys.exit(f"readme: {error}")
    with atomic(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
