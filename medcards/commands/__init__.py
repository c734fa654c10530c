"""The commands of ``python -m medcards``.

A command is a module with a docstring (its help), ``add_arguments(parser)`` and ``run(given)``, which yields the lines
to print. A command holds no logic. It imports heavy libraries in ``run`` only, so that help comes at once.
"""

import argparse
import logging
import os
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
    """Hide the progress bars and warnings of libraries while models are loaded. Call it before they are imported."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a missing optional package
    warnings.simplefilter("ignore", FutureWarning)


def show_progress() -> None:
    """Print what takes time, such as the download of a model, on the standard error."""
    log = logging.getLogger("medcards")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler())
