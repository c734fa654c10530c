"""What every stage shares: its folders, its parameters, its figures, and how it ends.

A stage is a script, ``python -m stages.NAME``, that DVC runs from the repository's root.
"""

from pathlib import Path

from medcards.base.environment import check_environment

check_environment(Path(__file__).parent.parent / "requirements.txt")

import argparse  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402

# The libraries read these when they are imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from medcards import InputError  # noqa: E402
from medcards.base import params  # noqa: E402
from medcards.base.cost import cost  # noqa: E402
from medcards.base.errors import MACHINE_ERRORS, advice  # noqa: E402
from medcards.base.files import atomic, write_json  # noqa: E402
from medcards.base.scratch import RANK, one_writer  # noqa: E402

DATA = Path("data")
FIGURES = DATA / "figures"
"""What a stage measured, in a folder per stage. Only the stage report reads it."""
LESS_MEMORY = {
    "embed": "embed.batch_tokens",
    "adapt": "adapt.batch_size",
    "rerank_train": "reranker.batch_size",
    "rerank_eval": "rerank_eval.batch_tokens",
    "finetune": "finetune.batch_size",
    "answer": "answer.batch_tokens",
    "quantise_eval": "answer.batch_tokens",
}
"""The parameter of a stage whose smaller value takes less memory. The other stages take less with fewer cards."""


def load_params(**blocks: object) -> list:
    """The named blocks of params.yaml, see :func:`medcards.base.params.read_params`."""
    return params.read_params("params.yaml", **blocks)


@contextmanager
def figures(name: str) -> Iterator[Path]:
    """A temporary folder that becomes a stage's folder in data/figures when the block ends without an error."""
    with atomic(FIGURES / name) as folder:
        folder.mkdir()
        yield folder


def run(name: str, main: Callable[[], dict | None]) -> None:
    """Run a stage's ``main`` alone, and print one line for an error that the user can correct.

    Parameters
    ----------
    main : returns what it measured by the clock, or None. That goes to ``cost.json`` beside the stage's figures.
    """
    description = sys.modules["__main__"].__doc__
    argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("medcards").setLevel(logging.INFO if RANK == 0 else logging.WARNING)
    try:
        with one_writer(name):
            measured = main() or {}
            if RANK == 0 and (FIGURES / name).exists():
                write_json(FIGURES / name / "cost.json", cost() | measured)
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except MACHINE_ERRORS as error:
        smaller = f"a smaller {LESS_MEMORY[name]}" if name in LESS_MEMORY else "prepare.max_cards to fewer cards"
        if not (line := advice(error, f"set {smaller}")):
            raise
        sys.exit(f"{name}: {line}")
