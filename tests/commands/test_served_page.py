"""The page of the search: the files that it shows, its limits, and several users at once."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import tiny
from conftest import PATIENCE, needs

from medcards.report.page import WAITING
from medcards.search.searcher import LONGEST_QUESTION

pytestmark = [pytest.mark.slow, needs("gradio", "gradio_client")]
CLIENTS, SEARCHES, ANSWERS = 8, 10_000, 200


@pytest.fixture(scope="module")
def page(finished):
    """The address of the page of the tiny deck, and the process that serves it."""
    with finished.serving() as (address, process):
        yield address, psutil.Process(process.pid)


def ask(address: str, question: str, models: tuple[str, ...] = (), k: int = 3) -> tuple[str, ...]:
    """Note, cards, answer, and the words of both models."""
    return client(address).predict(question, [*models], k, "all", api_name="/answered")


def client(address: str):
    """A new user of the page."""
    from gradio_client import Client

    return Client(address, verbose=False, httpx_kwargs={"timeout": 120})


def test_the_page_listens_on_this_machine_alone(page):
    _, process = page
    heard = [place for one in [process, *process.children(recursive=True)] for place in one.net_connections()]
    assert {place.laddr.ip for place in heard if place.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/gradio_api/proxy="]
)
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "{root}/params.yaml",
        "params.yaml",
        ".dvc/config",
    ],
)
def test_no_file_can_be_read_through_the_page(page, finished, route, path):
    path = path.format(root=finished.folder)
    try:
        with urllib.request.urlopen(f"{page[0]}{route}{path}", timeout=10) as answer:
            content = answer.read()
    except urllib.error.HTTPError:
        return
    assert b"root:" not in content and b"seed:" not in content and b"[core]" not in content


def events(address: str, *given) -> bytes:
    """What the page sends to a new session that asks by Gradio's routes, without its client."""
    asked = json.dumps({"data": given}).encode()
    started = urllib.request.Request(f"{address}/gradio_api/call/answered", asked, {"Content-Type": "application/json"})
    with urllib.request.urlopen(started, timeout=PATIENCE) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/answered/{event}", timeout=PATIENCE) as answer:
        return answer.read()


def test_no_file_can_be_read_through_a_question(page):
    """A question that claims to be a file on the server, as Gradio's file components send one."""
    try:
        content = events(page[0], {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, [], 3, "all")
    except urllib.error.HTTPError as error:
        content = error.read()
    assert b"root:" not in content


def upload(address: str, content: bytes) -> str:
    """Upload a file as Gradio's file components do, and return its path on the server."""
    body = (
        b'--part\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        + content
        + b"\r\n--part--\r\n"
    )
    head = {"Content-Type": "multipart/form-data; boundary=part"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/upload", body, head)) as answer:
        return json.load(answer)[0]


def test_files_are_not_taken(page):
    """A file of one byte is, and the route for files shows it: so that route works, and refuses the files above."""
    with urllib.request.urlopen(f"{page[0]}/gradio_api/file={upload(page[0], b'x')}", timeout=10) as answer:
        assert answer.read() == b"x"
    with pytest.raises(urllib.error.HTTPError, match="413|400|422"):
        upload(page[0], b"xy")


def test_a_question_that_is_too_long_is_refused(page):
    note, *_ = ask(page[0], "x" * (LONGEST_QUESTION + 1))
    assert note == f"the question has {LONGEST_QUESTION + 1:,} characters: ask in {LONGEST_QUESTION:,} or fewer"


def test_questions_at_once_get_their_own_answers(page):
    """Those of several users who ask at the same time are those of one user who asks after another."""
    questions = [f"What should a nurse know about {topic}, case {case}?" for case, topic in enumerate(tiny.TOPICS)]
    alone = [ask(page[0], question) for question in questions]
    assert len({cards for _, cards, *_ in alone}) == len(questions)
    with ThreadPoolExecutor(CLIENTS) as users:
        assert list(users.map(lambda question: ask(page[0], question), questions)) == alone


@pytest.mark.long
def test_more_questions_than_can_wait_are_refused(page):
    """The page stays up, and each of the others is answered."""

    users = [client(page[0]) for _ in range(WAITING + 40)]
    all_at_once = threading.Barrier(len(users))

    def asked(number: int) -> bool:
        all_at_once.wait()
        try:
            return bool(users[number].predict(f"case {number}", ["tuned"], 3, "all", api_name="/answered")[1])
        except Exception as error:  # what the client raises for the page's message
            assert "full" in str(error).lower(), error
            return False

    with ThreadPoolExecutor(len(users)) as threads:
        answered = list(threads.map(asked, range(len(users))))
    assert WAITING <= sum(answered) < len(answered)
    assert ask(page[0], "gout")[1]


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_ten_thousand_searches_and_two_hundred_answers(page):
    """By several users at once, each question in a session of its own: no error, and memory that does not grow."""
    address, process = page
    seconds, memory = [], []

    def answers(question: str, models: tuple[str, ...]) -> list:
        """The last event: note, cards, answer, and the words of both models."""
        *_, name, data = events(address, question, [*models], 3, "all").decode().split("\n")[:-2]
        assert name == "event: complete"
        return json.loads(data.removeprefix("data: "))

    questions = [f"What should a nurse know about {topic}, case {case}?" for case, topic in enumerate(tiny.TOPICS)]
    expected = {models: [answers(question, models) for question in questions] for models in ((), ("tuned",))}
    assert all(len({shown[1] for shown in of}) == len(questions) for of in expected.values())

    def use(user: int) -> None:
        for number in range((SEARCHES + ANSWERS) // CLIENTS):
            models = ("tuned",) if number % (SEARCHES // ANSWERS + 1) == 0 else ()
            started, place = time.monotonic(), (user + number) % len(questions)
            seen = answers(questions[place], models)
            seconds.append(time.monotonic() - started)
            assert seen == expected[models][place]
            if user == 0:
                memory.append(process.memory_info().rss / 1e6)

    with ThreadPoolExecutor(CLIENTS) as users:
        list(users.map(use, range(CLIENTS)))
    growth = slopes_of(np.array(memory[len(memory) // 5 :]))
    low, high = np.percentile(growth, [2.5, 97.5])
    slope = f"memory {np.mean(growth):+.1f} MB per 1,000 questions [{low:+.1f}, {high:+.1f}]"
    print(f"n {len(seconds)}, p95 {np.percentile(seconds, 95):.3f} s, {slope}")
    assert high < 1  # 100,000 questions take less than 100 MB


def slopes_of(memory: np.ndarray) -> list[float]:
    """Slopes in MB per 1,000 questions, of bootstrap samples of 20 successive parts of the readings.

    A reading is taken after each question of one of the users, so it stands for as many questions as there are users.
    """
    parts = np.array_split(np.arange(len(memory)), 20)
    random = np.random.default_rng(0)
    drawn = [np.concatenate([parts[part] for part in random.integers(len(parts), size=len(parts))]) for _ in range(500)]
    return [np.polyfit(rows * CLIENTS / 1000, memory[rows], 1)[0] for rows in drawn]
