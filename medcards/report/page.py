"""Ask the deck in a browser: the cards that are found, and what the base and the tuned model make of them.

    pip install -r requirements-extra.txt
    python -m medcards.report.page

It uses what `dvc repro` made, and listens on this machine only, unless `--host` says otherwise.
"""

import argparse
import html
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from medcards import InputError
from medcards.answers.asker import NOT_ADVICE, READ, Asker, quiet
from medcards.deck import cards as card_tables
from medcards.search.searcher import Hit

EXAMPLES = 5
MODELS = ("tuned", "base")
CSS = """
.card { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 8px 12px; margin: 8px 0; }
.card.read { border-left: 5px solid var(--color-accent); }
.card .about { opacity: 0.75; font-size: 85%; }
"""


def show_cards(hits: list[Hit], read: bool) -> str:
    """Cards as HTML, marked if the models read them; what is markup in a card is shown as text.

    >>> hit = Hit(1, "ab12", "What is <i>gout</i>?", "A & B", "tiny.json", 1.5, {"hybrid": 0.5, "hybrid_rerank": 1.5})
    >>> print(show_cards([hit], read=False))  # doctest: +NORMALIZE_WHITESPACE
    <div class="card"><b>1. What is &lt;i&gt;gout&lt;/i&gt;?</b> <p>A &amp; B</p>
    <div class="about">hybrid 0.500 → re-ranked 1.500 · tiny.json · ab12</div></div>
    """
    parts = []
    for hit in hits:
        before = ", ".join(f"{system} {score:.3f}" for system, score in hit.scores.items() if system != "hybrid_rerank")
        after = f" → re-ranked {hit.scores['hybrid_rerank']:.3f}" if "hybrid_rerank" in hit.scores else ""
        about = [before + after, hit.source, hit.card_id, *(["read by the models"] if read else [])]
        parts.append(
            f'<div class="card{" read" if read else ""}"><b>{hit.rank}. {html.escape(hit.question)}</b>\n'
            f'<p>{html.escape(hit.answer)}</p>\n<div class="about">{html.escape(" · ".join(about))}</div></div>\n'
        )
    return "".join(parts) or "<p>No such card is among the 50 best.</p>"


def respond(
    loading: Future[Asker], question: str, models: list[str], k: int, read: str
) -> Iterator[tuple[str, str, str, str]]:
    """What the page shows, as it grows: a note, the cards, the tuned model's answer, the base model's.

    Parameters
    ----------
    loading : who is asked, as soon as it is loaded.
    models : which of ``MODELS`` answer, one after the other; none: it is a search.
    k, read : as in :meth:`Asker.find`; where the models read none, the best of the whole deck are shown all the same.
    """
    if not loading.done():
        yield "The models are being loaded …", "", "", ""
    asker = loading.result()
    try:
        hits = asker.find(question, k, "all" if read == "none" else read)
    except InputError as error:
        yield str(error), "", "", ""
        return
    evidence = [] if read == "none" else hits
    cards, said = show_cards(hits, bool(evidence and models)), dict.fromkeys(MODELS, "")
    yield "Found; the models are at work …", cards, *said.values()
    for name in (name for name in MODELS if name in models):
        if name == "tuned" and not asker.tuned:
            said[name] = asker.remark
            continue
        for text in asker.answer(question, evidence, base=name == "base"):
            said[name] = text
            yield f"The {name} model answers …", cards, *said.values()
        said[name] = said[name] or "(it says nothing)"
    remark = asker.remark if asker.tuned and "tuned" in models else ""
    yield f"Done. {remark}".strip(), cards, *said.values()


def page(loading: Future[Asker], examples: list[str]):
    """The page, a Gradio app. Questions are answered one after the other, for the models share their weights."""
    import gradio as gr

    with gr.Blocks(title="Ask the deck", analytics_enabled=False) as blocks:
        gr.Markdown(f"# Ask the deck\n\n**{NOT_ADVICE}** The answers are a small language model's, and often wrong.")
        question = gr.Textbox(label="Question", placeholder="why are my teeth crooked", autofocus=True)
        with gr.Row():
            models = gr.CheckboxGroup(list(MODELS), value=list(MODELS), label="Models that answer")
            read = gr.Radio(list(READ), value="all", label="Cards that they may read first")
            k = gr.Slider(1, 10, value=3, step=1, precision=0, label="Cards (k)")
        button = gr.Button("Ask", variant="primary")
        gr.Examples(examples, question, label="Questions of the test split")
        note = gr.Markdown(elem_id="note")
        with gr.Row():
            with gr.Column():
                gr.Markdown("### Cards found")
                cards = gr.HTML(elem_id="cards")
            with gr.Column():
                gr.Markdown("### Answers")
                tuned = gr.Textbox(label="Tuned model", elem_id="tuned", lines=4)
                base = gr.Textbox(label="Base model", elem_id="base", lines=4)
        gr.on(
            [button.click, question.submit],
            lambda *given: (yield from respond(loading, *given)),
            [question, models, k, read],
            [note, cards, tuned, base],
            concurrency_limit=1,
            show_progress="hidden",
        )
    return blocks


def example_questions(data: Path, count: int) -> list[str]:
    """So many questions of the deck's test split, from its beginning to its end."""
    cards = card_tables.load(data / "cards")
    questions = cards.question[(cards.split == "test") & (cards.query_set == "own")].tolist()
    return questions[:: max(len(questions) // count, 1)][:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.report.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="(default 7860)")
    parser.add_argument("--data", default="data", help="the folder that the pipeline wrote (default data)")
    given = parser.parse_args()
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # read at import
    try:
        import gradio as gr
    except ImportError:
        sys.exit("app: Gradio is missing; run `pip install -r requirements-extra.txt`")
    loading: Future[Asker] = Future()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # nothing is fetched
    place = {"server_name": given.host, "server_port": given.port, "share": False, "footer_links": []}
    try:
        blocks = page(loading, example_questions(Path(given.data), EXAMPLES))
        try:
            blocks.launch(**place, theme=theme, css=CSS, quiet=True, prevent_thread_lock=True)
        except OSError as error:
            raise InputError(f"{error}; name another --port") from None
        print(f"app: open http://{given.host}:{given.port} in a browser; Ctrl-C ends it", flush=True)
        quiet()
        loading.set_result(Asker.load(given.data))  # now, so that the page is there at once
        print("app: the models are loaded", flush=True)
    except InputError as error:
        sys.exit(f"app: {error}")
    blocks.block_thread()


if __name__ == "__main__":
    main()
