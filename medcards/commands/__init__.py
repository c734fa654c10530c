"""The commands of ``python -m medcards``.

A command is a module with a docstring (its help), ``add_arguments(parser)`` and ``run(given)``, which yields the lines
to print. A command holds no logic. It imports heavy libraries in ``run`` only, so that help comes at once.
"""

import argparse
import logging
import shutil
import warnings
from pathlib import Path


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``--data``."""
    parser.add_argument("--data", type=Path, default="data", help="folder that the pipeline wrote (default data)")


def terminal_width() -> int:
    """Characters per line of output: the terminal's width, at most 120."""
    return min(shutil.get_terminal_size().columns, 120)


def silence_loading() -> None:
    """Hide the progress bars and warnings of libraries while models are loaded."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a missing optional package
    warnings.simplefilter("ignore", FutureWarning)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
