"""The hub's path, through a loopback server that speaks its protocol."""

import json

import pytest
import tiny
from conftest import Repository
from hub_server import running_hub

DECK, ENCODER = "medalpaca/medical_meadow_medical_flashcards", "tiny/encoder"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with a deck at two commits, of which main is the second, and a model."""
    folder = tiny.make_encoder(tmp_path_factory.mktemp("encoder"))
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with running_hub() as hub:
        hub.old = hub.push("datasets", DECK, {"deck.json": json.dumps(tiny.deck(60)).encode()})
        card = b"---\nlicense: cc\n---\n# A deck\n"
        hub.new = hub.push("datasets", DECK, {"deck.json": json.dumps(tiny.deck(80)).encode(), "README.md": card})
        hub.encoder = hub.push("models", ENCODER, files | {"pytorch_model.bin": b"a pickle"})
        hub.push("models", "tiny/pickled", {"pytorch_model.bin": b"a pickle", "config.json": b"{}"})
        yield hub


@pytest.fixture
def clone(hub, tmp_path):
    """A clone that reads the deck from the hub; ``stage(name)`` runs one there."""
    clone = Repository.of_files(tmp_path)
    clone.set_params(data__source="hub", prepare__near_duplicate_threshold=0.95)
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / ".hf")}
    clone.stage = lambda name, ok=True, **changes: clone.run(
        "python", "-m", f"stages.{name}", ok=ok, **(environment | changes)
    )
    clone.metrics = lambda name: json.loads((tmp_path / "metrics" / f"{name}.json").read_text())
    return clone


def test_a_branch_is_recorded_as_its_commit(hub, clone):
    done = clone.stage("prepare")
    material = clone.metrics("prepare")["material"]
    assert material["reference"] == f"hub:{DECK}@{hub.new}"
    assert material["rows"] == 80
    assert material["licence"] == "cc"
    assert f"pin what it stands for now with hub:{DECK}@{hub.new}" in done.stderr


def test_a_pinned_commit_gives_the_old_content_and_works_offline(hub, clone):
    clone.set_params(data__hub=f"hub:{DECK}@{hub.old}")
    clone.stage("prepare")
    online = clone.metrics("prepare")["material"]
    assert online["rows"] == 60
    clone.stage("prepare", HF_HUB_OFFLINE="1")
    assert clone.metrics("prepare")["material"] == online


def test_another_commit_is_never_taken_for_the_pinned_one(hub, clone):
    """Of two commits only the new one is cached: offline, the old one is an error, and so is one that never was."""
    clone.stage("prepare")
    for commit, offline in ((hub.old, "1"), ("0" * 40, "0")):
        clone.set_params(data__hub=f"hub:{DECK}@{commit}")
        done = clone.stage("prepare", ok=False, HF_HUB_OFFLINE=offline)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"hub:{DECK}@{commit}" in done.stderr.strip().splitlines()[-1]


def test_a_model_comes_without_its_pickles(hub, clone):
    clone.set_params(embed__model=f"hub:{ENCODER}@main", data__source="file")
    tiny.write_deck(clone.folder / "decks/tiny.json")
    clone.stage("prepare")
    clone.stage("embed")
    assert clone.metrics("embed")["model"] == f"hub:{ENCODER}@{hub.encoder}"
    assert not list((clone.folder / ".hf").rglob("*.bin"))


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("hub:tiny/absent@main", "no such repository"),
        (f"hub:{ENCODER}@absent", "not this revision"),
        ("hub:tiny/pickled@main", "pickled weights are not read"),
    ],
)
def test_what_the_hub_lacks(clone, reference, says):
    clone.set_params(embed__model=reference, data__source="file")
    tiny.write_deck(clone.folder / "decks/tiny.json")
    clone.stage("prepare")
    done = clone.stage("embed", ok=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"embed: {reference.split('@')[0]}@") and says in last
