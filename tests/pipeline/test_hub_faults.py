"""A hub that is slow, refuses or redirects: the material comes, or one line says why not. No token is written."""

import json
import time
from types import SimpleNamespace

import pytest
import tiny
from hub_server import running_hub
from huggingface_hub import constants

from medcards import InputError
from medcards.base.references import resolve

pytestmark = [pytest.mark.slow, pytest.mark.hub]
TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that this process asks, with a token and an empty cache."""
    with running_hub() as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "".join(template[1:]))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield hub
        hub.heal()


@pytest.fixture
def impatient(monkeypatch) -> list[float]:
    """The seconds that the client would wait before it tries again. It does not wait."""
    waited = []
    clock = SimpleNamespace(**vars(time) | {"sleep": waited.append})  # of the client alone
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    return waited


@pytest.fixture
def reference(hub) -> str:
    """A deck at a commit."""
    return f"hub:tiny/deck@{hub.push('datasets', 'tiny/deck', {'deck.json': json.dumps(tiny.deck(60)).encode()})}"


def refused(reference: str) -> str:
    """The one line that says why a data set cannot be fetched."""
    with pytest.raises(InputError) as error:
        resolve(reference, "dataset")
    line = str(error.value)
    assert line.startswith(f"{reference}: could not be fetched") and TOKEN not in line
    return line


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_that_ends_is_waited_for(hub, impatient, reference, status):
    hub.refusals = [(status, {})]
    assert (resolve(reference, "dataset") / "deck.json").exists() and len(impatient) == 1


def test_a_rate_limit_is_waited_for_as_long_as_the_hub_says(hub, impatient, reference):
    hub.refusals = [(429, {"Retry-After": "3"})]
    assert (resolve(reference, "dataset") / "deck.json").exists()
    assert len(impatient) == 1 and impatient[0] >= 3


def test_an_error_of_the_server_that_stays_is_one_line(hub, impatient, reference):
    hub.refusals = [(503, {})] * 1000
    assert "503" in refused(reference) and len(impatient) > 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_one_line_without_the_token(hub, reference, status):
    hub.refusals = [(status, {"X-Error-Message": "Invalid credentials"})] * 1000
    assert str(status) in refused(reference)


def test_a_slow_hub_is_waited_for(hub, reference):
    hub.seconds = 0.5
    assert (resolve(reference, "dataset") / "deck.json").exists()


def test_a_hub_that_never_answers_is_one_line(hub, impatient, reference, monkeypatch):
    hub.seconds = 1
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, 0.05)
    assert "time" in refused(reference).lower()


def test_a_redirect_to_another_host_gets_no_token(hub):
    """Weights lie behind a redirect. To the client, another name of the server is another host."""
    commit = hub.push("models", "tiny/other", {"model.safetensors": b"weights" * 100, "config.json": b"{}"})
    assert (resolve(f"hub:tiny/other@{commit}") / "model.safetensors").exists()
    assert {token for host, token in hub.tokens if host == "127.0.0.1"} == {f"Bearer {TOKEN}"}
    assert {token for host, token in hub.tokens if host == "localhost"} == {""}


def test_a_token_is_written_to_no_file(hub, repository, tmp_path):
    """The stage prepare with a deck of the hub: no log, metric, parameter, lock, output or cache has the token."""
    commit = hub.push("datasets", "tiny/deck", {"deck.json": json.dumps(tiny.deck(120)).encode()})
    repository.set_params(data__source="hub", data__hub=f"hub:tiny/deck@{commit}")
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    done = repository.run("dvc", "repro", "-v", "prepare", **environment)
    hub.refusals, environment["HF_HOME"] = [(401, {})] * 1000, str(tmp_path / "other")
    failed = repository.run("dvc", "repro", "-f", "-v", "prepare", ok=False, **environment)
    assert failed.returncode != 0 and ("127.0.0.1", f"Bearer {TOKEN}") in hub.tokens
    assert TOKEN not in done.stdout + done.stderr + failed.stdout + failed.stderr
    files = [file for folder in (repository.folder, tmp_path) for file in folder.rglob("*") if file.is_file()]
    print(f"{len(files):,} files")
    assert [file for file in files if TOKEN.encode() in file.read_bytes()] == []
