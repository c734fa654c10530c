"""A page that asks the deck: the cards that are found, and the answers of the base model and the tuned model."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from medcards import InputError
from medcards.answers.asker import MODELS, NOT_ADVICE, READ, Asker
from medcards.deck import cards as card_tables
from medcards.report.hits import hits_as_html

EXAMPLE_QUESTIONS = 5
CSS = """
.card { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 8px 12px; margin: 8px 0; }
.card.read { border-left: 5px solid var(--color-accent); }
.card .about { opacity: 0.75; font-size: 85%; }
"""


def respond(
    loading: Future[Asker], question: str, models: list[str], k: int, read: str
) -> Iterator[tuple[str, str, str, str]]:
    """Contents of the page as they grow: a note, the cards, the tuned model's answer, the base model's answer.

    Parameters
    ----------
    loading : the asker, once it is loaded.
    models : which of ``MODELS`` answer, one after the other. Without any, the page only searches.
    k, read : as in :meth:`Asker.find`. Where the models read no card, the best cards of the whole deck are shown.
    """
    if not loading.done():
        yield "The models are being loaded …", "", "", ""
    asker = loading.result()
    try:
        hits = asker.find(question, k, "all" if read == "none" else read)
    except InputError as error:
        yield str(error), "", "", ""
        return
    context = [] if read == "none" else hits
    cards, answers = hits_as_html(hits, bool(context and models)), dict.fromkeys(MODELS, "")
    yield "The cards are found; the models answer …", cards, *answers.values()
    for name in (name for name in MODELS if name in models):
        if name == "tuned" and not asker.tuned:
            answers[name] = asker.remark
            continue
        for text in asker.answer(question, context, base=name == "base"):
            answers[name] = text
            yield f"The {name} model answers …", cards, *answers.values()
        answers[name] = answers[name] or "(the answer is empty)"
    remark = asker.remark if asker.tuned and "tuned" in models else ""
    yield f"Done. {remark}".strip(), cards, *answers.values()


def build_page(loading: Future[Asker], examples: list[str]):
    """The page, a Gradio app. It answers one question at a time, because the two models share their weights."""
    import gradio as gr

    with gr.Blocks(title="Ask the deck", analytics_enabled=False) as blocks:
        gr.Markdown(
            f"# Ask the deck\n\n**{NOT_ADVICE}** A small language model answers, and its answers are often wrong."
        )
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


def launch(loading: Future[Asker], data: Path, host: str, port: int):
    """Open the page at an address and return it; it answers once ``loading`` has a result.

    The page fetches nothing from other addresses.

    Raises
    ------
    InputError : the deck is missing, or the address cannot be used.
    """
    import gradio as gr

    blocks = build_page(loading, example_questions(data, EXAMPLE_QUESTIONS))
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # fonts of the system
    place = {"server_name": host, "server_port": port, "share": False, "footer_links": []}
    try:
        blocks.launch(**place, theme=theme, css=CSS, quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise InputError(f"{error}; name another --port") from None
    return blocks


def example_questions(data: Path, count: int) -> list[str]:
    """Questions of the deck's test split at equal distances, at most ``count``."""
    cards = card_tables.load_cards(data / "cards")
    questions = cards.question[(cards.split == "test") & (cards.query_set == "own")].tolist()
    return questions[:: max(len(questions) // count, 1)][:count]
