"""Start-up: seconds of a first search from the shell, of --help, and of `dvc repro` with nothing changed.

    python -m benchmarks.run start_up

The plain way of a search is a script that loads the encoder with sentence-transformers, reads the vectors and the
cards, and shows the five nearest answers. Help and `dvc repro` have no plain way. `dvc repro` is left out where it
would run a stage.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.material import DATA, blocks
from benchmarks.measure import Benchmark, Way
from medcards import InputError
from medcards.base.manifests import pinned_model
from medcards.base.references import resolve

CARDS = 1
QUESTION = "why are my teeth crooked"
PLAIN_SEARCH = """
import sys
import numpy, pandas
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1])
cards = pandas.read_parquet("data/cards/cards-00001.parquet")
cards = cards[cards.query_set == "own"]
scores = numpy.load("data/vectors/answers-00001.npy") @ model.encode(sys.argv[2], normalize_embeddings=True)
print(cards.iloc[numpy.argsort(-scores)[:5]].answer.to_string())
"""


def benchmarks(cards: int) -> Iterator[Benchmark]:
    blocks()  # one line if params.yaml is missing
    encoder = resolve(pinned_model(DATA, "encoder"))
    python = sys.executable
    yield Benchmark(
        "start-up",
        "first search",
        {
            "sentence-transformers and numpy": timed(python, "-c", PLAIN_SEARCH, str(encoder), QUESTION),
            "ours": timed(python, "-m", "medcards", "search", QUESTION),
        },
    )
    yield Benchmark("start-up", "`python -m medcards --help`", {"ours": timed(python, "-m", "medcards", "--help")})
    dvc = shutil.which("dvc")
    if dvc and Path("dvc.yaml").exists() and "Running stage" not in output(dvc, "repro", "--dry"):
        yield Benchmark("start-up", "`dvc repro`, nothing changed", {"ours": timed(dvc, "repro")})


def timed(*command: str) -> Way:
    """A way that runs a command."""
    return Way(lambda _: output(*command))


def output(*command: str) -> str:
    """The standard output of a command.

    Raises
    ------
    InputError : the command fails.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command[:4])} fails: {done.stderr.strip()[-300:]}")
    return done.stdout
