"""A page that asks the deck: an answer, the card that it comes from, the cards that are found, and models' words."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from medcards import InputError
from medcards.answers.asker import MODELS, NOT_ADVICE, READ, Asker
from medcards.deck import cards as card_tables
from medcards.report.hits import hits_as_html, probability_in_words, searched_as
from medcards.report.render import one_line
from medcards.report.replies import cited_answer, who_answered
from medcards.search.searcher import Found

EXAMPLE_QUESTIONS = 5
WAITING = 64
"""Number of questions that may wait for their turn. A further one is refused."""
SESSIONS = 100
"""Number of sessions that Gradio keeps in memory, about 40 kB each. Its own limit of 10,000 would take 400 MB."""
CSS = """
.card { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 8px 12px; margin: 8px 0; }
.card.cited { border-left: 5px solid var(--color-accent); }
.card .about { opacity: 0.75; font-size: 85%; }
"""
Contents = tuple[str | None, ...]
"""A note, the cards, the served answer, the tuned model's words, the base model's words; None leaves one unchanged."""


def respond(loading: Future[Asker], question: str, models: list[str], k: int, read: str) -> Iterator[Contents]:
    """Contents of the page as they grow. A question that cannot be asked changes the note only.

    Parameters
    ----------
    loading : the asker, once it is loaded.
    models : which of ``MODELS`` word an answer besides, one after the other.
    k, read : as in :meth:`Asker.find`. With ``none`` the models read no card, and the served answer has the best cards
        of the whole deck.
    """
    if not loading.done():
        yield "The deck is being loaded …", None, None, None, None
    asker = loading.result()
    try:
        found = asker.find(question, k, "all" if read == "none" else read)
    except InputError as error:
        yield str(error), None, None, None, None
        return
    sentence = probability_in_words(found.probability, found.refused)
    if found.searched:
        sentence += f" {searched_as(one_line(found.searched))}."
    cards, boxes, remarks = hits_as_html(found.hits, read=False), dict.fromkeys(("answer", *MODELS), ""), []
    yield f"{sentence} The answer is being written …", cards, *boxes.values()
    try:
        for reply in asker.replies(question, found):
            boxes["answer"] = cited_answer(reply) if reply.text else ""
            yield f"{sentence} The answer is being written …", cards, *boxes.values()
        boxes["answer"] = cited_answer(reply)
        by_model = bool(models and read != "none") or reply.answered_by in MODELS
        cards = hits_as_html(found.hits, by_model, reply.cited)
        sentence = f"Answer: {who_answered(reply)}. {sentence}" if reply.answered_by else sentence
        remarks.append(reply.remark)
    except InputError as error:
        remarks.append(str(error))
    context = replace(found, hits=[]) if read == "none" else found
    for model in (model for model in MODELS if model in models):
        yield f"{sentence} The {model} model answers …", cards, *boxes.values()
        for text, remark in _words_of(asker, question, context, model):
            boxes[model], remarks = text, [*remarks, remark]
            yield f"{sentence} The {model} model answers …", cards, *boxes.values()
    yield " ".join(filter(None, dict.fromkeys([sentence, *remarks]))), cards, *boxes.values()


def _words_of(asker: Asker, question: str, found: Found, model: str) -> Iterator[tuple[str, str]]:
    """The words of a model as they grow, and a remark for the note. Where it cannot answer, the words say why."""
    if model == "tuned" and not asker.tuned:
        yield asker.remark, ""
        return
    try:
        for reply in asker.replies(question, found, model):
            yield cited_answer(reply) if reply.text else "", reply.remark
        yield cited_answer(reply), reply.remark
    except InputError as error:
        yield str(error), ""


def load_where_ticked(loading: Future[Asker], models: list[str]) -> None:
    """Load the language model once a model is ticked, so that it is there when a question is asked."""
    try:
        if models:
            loading.result().load_model()
    except InputError:
        pass  # the answer to the question says what is missing


def build_page(loading: Future[Asker], examples: list[str]):
    """The page, a Gradio app. It answers one question at a time, because the two models share their weights."""
    import gradio as gr

    def answered(*given) -> Iterator[list]:
        for contents in respond(loading, *given):
            yield [gr.skip() if content is None else content for content in contents]

    with gr.Blocks(title="Ask the deck", analytics_enabled=False) as blocks:
        gr.Markdown(
            f"# Ask the deck\n\n**{NOT_ADVICE}** An answer names its card: [1] is the first card below. "
            "The words of a small language model are often wrong."
        )
        question = gr.Textbox(label="Question", placeholder="why are my teeth crooked", autofocus=True)
        with gr.Row():
            models = gr.CheckboxGroup(list(MODELS), label="Show a model's words")
            read = gr.Radio(list(READ), value="all", label="Cards that may be quoted and read")
            k = gr.Slider(1, 10, value=3, step=1, precision=0, label="Cards (k)")
        button = gr.Button("Ask", variant="primary")
        note = gr.Markdown(elem_id="note")
        answer = gr.Textbox(label="Answer", elem_id="answer", lines=2)
        tuned = gr.Textbox(label="The tuned model's words", elem_id="tuned", lines=2, visible=False)
        base = gr.Textbox(label="The base model's words", elem_id="base", lines=2, visible=False)
        cards = gr.HTML(elem_id="cards")
        gr.Examples(examples, question, label="Questions of the test split")
        models.change(
            lambda chosen: [gr.update(visible=name in chosen) for name in MODELS],
            models,
            [tuned, base],
            show_progress="hidden",
        )
        models.change(partial(load_where_ticked, loading), models, show_progress="hidden")
        gr.on(
            [button.click, question.submit],
            answered,
            [question, models, k, read],
            [note, cards, answer, tuned, base],
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

    blocks = build_page(loading, example_questions(data, EXAMPLE_QUESTIONS)).queue(max_size=WAITING)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # fonts of the system
    place = {"server_name": host, "server_port": port, "share": False, "footer_links": []}
    # max_file_size is in bytes: the page takes no files, and Gradio's route for them stays open.
    limits = {"max_file_size": 1, "state_session_capacity": SESSIONS}
    try:
        blocks.launch(**place, **limits, theme=theme, css=CSS, quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise InputError(f"{error}; name another --port") from None
    return blocks


def example_questions(data: Path, count: int) -> list[str]:
    """Questions of the deck's test split at equal distances, at most ``count``."""
    cards = card_tables.load_cards(data / "cards")
    questions = cards.question[(cards.split == "test") & (cards.query_set == "own")].tolist()
    return questions[:: max(len(questions) // count, 1)][:count]
