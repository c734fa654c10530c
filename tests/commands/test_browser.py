"""What a user sees in a browser: DVC's plots, the page of the command app, and the exported answers.

Playwright drives Chromium.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from answered import IMAGE, RIGHT_TO_LEFT, SCRIPT, write_answered
from conftest import PATIENCE, needs, wait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "chromium")
VEGA = ("vega@5.20.2", "vega-lite@5.2.0", "vega-embed@6.18.2")
"""The packages that DVC's page fetches from a CDN. Here npm fetches them."""
NO_DATA = {"Quantisation_trade-off"}
"""Plots without data in a run: quantise_eval is off by default."""
QUESTION = "What should a nurse know about gout, case 12?"
QUOTED = re.compile(r"^Answer: card \d+, quoted\. The deck (probably has|may have) an answer \(probability [^)]+\)\.$")
NO_ANSWER = re.compile(r"^The deck probably has no answer \(probability of an answer: (below )?0\.\d\d\)\.$")

pytestmark = [pytest.mark.slow, pytest.mark.browser, needs("playwright", CHROMIUM)]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=shutil.which(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def vega(finished, tmp_path_factory) -> dict[str, str]:
    """The scripts, by the address that DVC's page fetches them from."""
    folder, scripts = tmp_path_factory.mktemp("vega"), {}
    for package in VEGA:
        finished.run("npm", "pack", "--silent", "--pack-destination", str(folder), package)
        shutil.unpack_archive(folder / f"{package.replace('@', '-')}.tgz", folder / package)
        name = package.partition("@")[0]
        script = folder / package / "package/build" / f"{name}.min.js"
        scripts[f"https://cdn.jsdelivr.net/npm/{package}"] = script.read_text(encoding="utf-8")
    return scripts


@pytest.fixture
def answers(browser, tmp_path):
    """The page that export --answers wrote, opened from the disk. It may fetch nothing and run no text."""
    from medcards.report.browse import export_answers

    export_answers(write_answered(tmp_path / "data"), tmp_path / "exported")
    page, seen = browser.new_page(), []
    page.on("request", lambda request: seen.append(request.url))
    page.on("pageerror", lambda error: seen.append(str(error)))
    address = (tmp_path / "exported/answers.html").as_uri()
    page.goto(address)
    yield page
    assert [what for what in seen if what != address and not what.startswith("data:")] == []
    assert page.evaluate("window.ran") is None
    page.close()


def questions_of(page) -> list[str]:
    """The questions that the page shows, in their order."""
    return page.locator("article h2").all_text_contents()


def choose(page, **choices: str) -> None:
    for label, choice in choices.items():
        page.get_by_role("combobox", name=label.replace("_", " "), exact=True).select_option(choice)


def test_hostile_answers_are_shown_as_text(answers):
    assert answers.locator("#title").inner_text() == "Answers of 2 systems to 3 questions"
    assert questions_of(answers) == ["What is gout?", SCRIPT, RIGHT_TO_LEFT]
    assert answers.locator(".text").all_text_contents() == [
        *("=1+1", "A disease of two joints."),
        *(IMAGE, "The right kidney."),
        *("(the answer is empty)", "gout"),
    ]
    assert answers.locator("article img, article script").count() == 0
    assert answers.locator("article h2").evaluate_all("all => all.map(one => getComputedStyle(one).direction)") == [
        *("ltr", "ltr", "rtl")
    ]


def test_answers_are_filtered(answers):
    status = answers.get_by_role("status")
    answers.get_by_label("Text", exact=True).fill("RIGHT kid")
    assert questions_of(answers) == [SCRIPT] and status.inner_text() == "1 of 3 questions"
    answers.get_by_label("lora_rag", exact=True).uncheck()  # the text stands in its answer only
    assert questions_of(answers) == []
    answers.get_by_role("button", name="Reset").click()
    answers.get_by_text("3 of 3 questions", exact=True).wait_for()
    assert answers.locator("section:visible").count() == 6
    answers.get_by_label("base", exact=True).uncheck()
    assert answers.locator("section:visible .score").all_text_contents() == ["0.750", "0.000", "-"]
    choose(answers, System="lora_rag")
    for contradiction, found in (("side", 1), ("number", 0), ("some", 1), ("none", 2), ("", 3)):
        choose(answers, Contradiction_of_the_system=contradiction)
        assert status.inner_text() == f"{found} of 3 questions", contradiction
    answers.get_by_label("From", exact=True).fill("0.5")
    assert questions_of(answers) == ["What is gout?"]
    choose(answers, Score="token_f1")
    assert questions_of(answers) == ["What is gout?", SCRIPT, RIGHT_TO_LEFT]
    answers.get_by_label("To", exact=True).fill("0.9")
    assert questions_of(answers) == ["What is gout?", SCRIPT]


def test_answers_are_sorted_by_a_score_and_by_a_difference(answers):
    choose(answers, System="lora_rag", Score="token_f1", Order="lowest")
    assert questions_of(answers) == [SCRIPT, "What is gout?", RIGHT_TO_LEFT]
    choose(answers, Score="sound_f1", Minus_system="base")
    assert questions_of(answers) == [SCRIPT, "What is gout?", RIGHT_TO_LEFT]
    assert answers.locator(".value").all_text_contents() == [
        "sound_f1 of lora_rag minus base: -0.125",
        "sound_f1 of lora_rag minus base: 0.750",
        "sound_f1 of lora_rag minus base: -",
    ]
    choose(answers, Order="highest")
    assert questions_of(answers) == ["What is gout?", SCRIPT, RIGHT_TO_LEFT]  # no value comes last
    answers.get_by_label("To", exact=True).fill("0")
    assert questions_of(answers) == [SCRIPT]


def test_the_context_of_an_answer_opens_by_keyboard(answers):
    answers.get_by_text("scores and context").first.focus()
    answers.keyboard.press("Enter")
    read = answers.locator("details[open] li")
    read.first.wait_for()
    assert read.all_text_contents() == ["-1 card", "Gout & <b>pain</b>"]
    assert answers.locator("details[open] dd").all_text_contents() == ["0.857", "0.750", "0.000", "-"]
    choose(answers, Order="highest")
    assert read.count() == 2  # a new order closes nothing


def test_answers_fit_a_phone(answers):
    answers.set_viewport_size({"width": 360, "height": 740})
    assert answers.evaluate("document.documentElement.scrollWidth") == 360


DRAWN = """() => {
    const coloured = pixels => pixels.some((_, i) => i % 4 == 0 && pixels[i + 3]
        && Math.max(...pixels.slice(i, i + 3)) - Math.min(...pixels.slice(i, i + 3)) > 50);
    const drew = canvas => canvas.width > 0
        && coloured(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data);
    return [...document.querySelectorAll('div[id]')].map(plot => {
        const [canvas, image] = [plot.querySelector('canvas'), plot.querySelector('img')];
        return [plot.id, image ? image.naturalWidth > 0 : Boolean(canvas) && drew(canvas)];
    });
}"""
"""The name of each plot, and whether it shows colours. Axes and titles have none."""


def drawn(browser, vega: dict[str, str], page: Path, blank: set[str]) -> set[str]:
    """Names of the plots that show data on a page of DVC, once all plots except the ``blank`` ones do."""
    tab, errors = browser.new_page(), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.route(
        re.compile("^https:"),
        lambda route: route.fulfill(body=vega[route.request.url], content_type="text/javascript; charset=utf-8"),
    )
    tab.goto(page.as_uri())
    for _ in range(PATIENCE):
        shown = dict(tab.evaluate(DRAWN))
        if {name for name, has in shown.items() if not has} == blank:
            break
        tab.wait_for_timeout(1000)
    tab.close()
    assert not errors and {name for name, has in shown.items() if not has} == blank
    return {name for name, has in shown.items() if has}


@needs("npm")
def test_every_plot_is_drawn(finished, browser, vega):
    from ruamel.yaml import YAML

    finished.run("dvc", "plots", "show")
    seen = drawn(browser, vega, finished.folder / "dvc_plots/index.html", NO_DATA)
    plots = YAML(typ="safe").load((finished.folder / "dvc.yaml").read_text())["plots"]
    titles = {next(iter(plot)) if isinstance(plot, dict) else plot for plot in plots}
    assert {"".join(c if c.isalnum() or c == "-" else "_" for c in title) for title in titles} == seen | NO_DATA


@needs("npm")
def test_two_runs_are_drawn_in_one_picture(finished, browser, vega):
    """The commit before the last one holds the plots of the default run."""
    finished.run("dvc", "plots", "diff", "HEAD~1")
    page = finished.folder / "dvc_plots/index.html"
    assert '"workspace"' in page.read_text() and '"HEAD~1"' in page.read_text()
    drawn(browser, vega, page, NO_DATA)


@contextmanager
def opened(browser, address: str) -> Iterator:
    """Open the page. It may fetch nothing from other addresses."""
    page, fetched = browser.new_page(), []
    page.on("request", lambda request: fetched.append(request.url))
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(address)
    page.get_by_label("Question", exact=True).wait_for()
    yield page
    assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


@pytest.fixture(scope="module")
def address(finished):
    with finished.serving() as (url, _):
        yield url


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        yield page


def ask(page, question: str, says: str | re.Pattern = QUOTED) -> None:
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#note").get_by_text(says, exact=True).wait_for()


def text_in(page, box: str) -> str:
    return page.locator(f"#{box} textarea").input_value()


pages = needs("gradio")


@pages
def test_a_question_of_the_deck_is_answered_by_its_card(page):
    assert "Not medical advice" in page.locator("body").inner_text()
    page.get_by_label("number input for Cards (k)").fill("10")
    ask(page, QUESTION)
    cards, cited = page.locator("#cards"), page.locator("#cards .card.cited")
    assert cards.locator(".card").count() == 10 and cited.count() == 1
    assert "1. What should" in cited.inner_text() and "cited by the answer" in cited.inner_text()
    assert text_in(page, "answer") == f"[1] {cited.locator('p').inner_text()}"
    assert "bm25" in cited.inner_text() and "tiny.json" in cited.inner_text()
    assert QUESTION in cards.inner_text() and "<b id='injected'>bold</b>" in cards.inner_text()
    assert page.locator("#injected").count() == 0  # markup is shown as text
    assert page.locator("#tuned").count() == page.locator("#base").count() == 0


@pages
def test_a_question_in_other_words_and_one_that_the_deck_cannot_answer(page):
    """The model that the tiny run fitted refuses it. An empty question after them changes the note only."""
    ask(page, "how is gout in case 12 treated")
    assert re.match(r"\[1\] In case \d+, .*gout", text_in(page, "answer"))
    ask(page, "how do I reset my router", NO_ANSWER)
    assert text_in(page, "answer") == "The deck probably has no answer."
    assert page.locator("#cards .card").count() == 3 and page.locator("#cards .card.cited").count() == 0
    shown = page.locator("#cards").inner_text()
    ask(page, "  ", "the question is empty: ask something")
    assert page.locator("#cards").inner_text() == shown
    assert text_in(page, "answer") == "The deck probably has no answer."


@pages
def test_the_words_of_the_models_stand_behind_a_switch(page):
    page.get_by_label("tuned", exact=True).check()
    page.get_by_label("base", exact=True).check()
    ask(page, QUESTION)
    assert text_in(page, "answer").startswith("[1] ") and text_in(page, "tuned") and text_in(page, "base")
    assert page.locator("#cards .card.read").count() == 3 and page.locator("#cards .card.cited.read").count() == 1
    assert "read by the model" in page.locator("#cards").inner_text()
    ask(page, "how do I reset my router", NO_ANSWER)
    assert text_in(page, "tuned") and text_in(page, "base")
    page.get_by_label("base", exact=True).uncheck()
    page.locator("#base").wait_for(state="detached")
    page.get_by_label("none", exact=True).check()
    ask(page, QUESTION)
    assert page.locator("#cards .card").count() == 3 and page.locator("#cards .card.read").count() == 0
    assert text_in(page, "tuned") and page.locator("#cards .card.cited").count() == 1


@pages
def test_quoting_training_cards_only(page, finished):
    from medcards.deck.cards import load_cards

    page.get_by_label("training", exact=True).check()
    page.get_by_label("number input for Cards (k)").fill("10")
    ask(page, QUESTION)
    cards = load_cards(finished.folder / "data/cards").set_index("card_id")
    shown = re.findall(r"[0-9a-f]{16}", page.locator("#cards").inner_text())
    assert len(shown) == 10 and set(cards.split[shown]) == {"train"}
    assert shown[0] in page.locator("#cards .card.cited").inner_text()


@pages
def test_an_example_can_be_asked(page):
    page.locator(".gallery-item").first.click()
    wait(lambda: page.get_by_label("Question", exact=True).input_value().startswith("What should a nurse know"))


@pages
def test_a_very_long_question(page):
    page.get_by_label("tuned", exact=True).check()
    ask(page, "gout " * 1_900)
    assert text_in(page, "tuned")


@pages
def test_the_page_before_there_is_an_adapter(browser, finished):
    adapter = finished.folder / "data/adapter"
    adapter.rename(finished.folder / "data/later")
    with finished.serving() as (url, _), opened(browser, url) as page:
        page.get_by_label("tuned", exact=True).check()
        page.get_by_label("base", exact=True).check()
        ask(page, QUESTION)
        assert text_in(page, "answer").startswith("[1] ")
        assert text_in(page, "tuned").startswith("There is no adapter yet: `dvc repro finetune`")
        assert text_in(page, "base")
    (finished.folder / "data/later").rename(adapter)


@pages
def test_app_reports_wrong_input_in_one_line(finished, address):
    """The deck is missing, or another program uses the port."""
    done = finished.run("python", "-m", "medcards", "app", "--data", "absent", ok=False)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        "app: absent/cards/manifest.json is missing"
    )
    done = finished.run("python", "-m", "medcards", "app", "--port", address.rpartition(":")[2], ok=False)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("app: ") and "--port" in done.stderr
