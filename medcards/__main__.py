"""Search and question answering over medical flashcards, from the command line.

    python -m medcards search "why are my teeth crooked"
    python -m medcards search --help

Run the commands in the folder of the repository, or name the folder that the pipeline wrote with --data.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from medcards import InputError

COMMANDS = ("check", "search", "ask", "app", "compare", "export", "anki")
"""Each command is a module of :mod:`medcards.commands` with ``add_arguments(parser)`` and ``run(given)``."""


class Parser(argparse.ArgumentParser):
    """A parser that shows docstrings line by line and reports a wrong argument in one line."""

    def __init__(self, **settings: object):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> None:
        """End with exit status 2, argparse's own for a wrong argument."""
        self.exit(2, f"{self.prog.split()[-1]}: {message}; see `{self.prog} --help`\n")


def build_parser() -> Parser:
    """The parser of all commands. It imports no heavy library, so that help comes at once."""
    installed = Path(sys.argv[0]).stem == "medcards"
    parser = Parser(prog="medcards" if installed else "python -m medcards", description=__doc__)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in COMMANDS:
        command = import_module(f"medcards.commands.{name}")
        summary = command.__doc__.partition("\n")[0]
        subparser = commands.add_parser(name, help=summary, description=command.__doc__)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and print its lines. An InputError, and a lack of the machine, is one line and exit status 1.

    Parameters
    ----------
    arguments : the command and its arguments; by default those of this process.
    """
    parser = build_parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return
    try:
        for line in given.run(given):
            print(line, flush=True)
    except InputError as error:
        sys.exit(f"{given.command}: {error}")
    except BrokenPipeError:  # the program that reads the lines has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes its output once more
    except Exception as error:
        from medcards.base.errors import advice  # with its libraries, which help does not need

        if not (line := advice(error, "close other programs")):
            raise
        sys.exit(f"{given.command}: {line}")


if __name__ == "__main__":
    main()
