"""Ask the deck in a browser.

    pip install -r requirements-extra.txt
    python -m medcards app
    python -m medcards app --port 8000

The page shows an answer with the card that it comes from, how probable it is that the deck has an answer, and the
cards that are found. The tuned model and the base model answer too where a switch asks for their words. The language
model is loaded at the first tick of this switch, or with the page where it words the served answer. The page uses what
`dvc repro` made. It listens on this machine only, unless `--host` names another address.
"""

import argparse
import ctypes
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future

from medcards import InputError
from medcards.commands import add_data, silence_loading

M_ARENA_MAX = -8
"""The number of this option of the GNU C library, from its malloc.h."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    add_data(parser)


def run(given: argparse.Namespace) -> Iterator[str]:
    silence_loading()
    # Read while imported. Gradio keeps a record of each event in memory, 10,000 by default.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_ANALYTICS_MAX_EVENTS": "100"}
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Otherwise freed memory stays with each thread that answers, and memory grows for thousands of questions.
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 2)
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise InputError("Gradio is missing; run `pip install -r requirements-extra.txt`") from None
    from medcards.answers.asker import Asker
    from medcards.report.page import launch

    loading: Future[Asker] = Future()
    page = launch(loading, given.data, given.host, given.port)
    yield f"app: open http://{given.host}:{given.port} in a browser; Ctrl-C ends it"
    asker = Asker.load(given.data)  # after the launch, so that the page opens at once
    loading.set_result(asker)
    yield "app: the deck is loaded"
    if not asker.quotes:  # otherwise the first tick of the page's switch loads the model
        try:
            asker.load_model()
            yield "app: the language model is loaded"
        except InputError as error:  # the page quotes cards all the same
            yield f"app: no model can word answers: {error}"
    page.block_thread()
