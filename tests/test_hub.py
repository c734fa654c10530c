"""The hub's path, through a loopback server that speaks its protocol: the published profile, and what can go wrong."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import ROOT, Repository
from hub_server import running_hub
from test_profiles import settings

from medcards.base.references import parse
from medcards.deck import cards
from medcards.search.encoder import Embeddings, encode, load_encoder

pytestmark = pytest.mark.hub

PROFILE = ROOT / "profiles" / "medical_meadow.args"
PUBLISHED = settings(PROFILE)
DECK = parse(PUBLISHED["data.hub"]).name
ENCODER, RERANKER, LLM = (parse(PUBLISHED[f"{block}.model"]) for block in ("embed", "reranker", "llm"))
NOTES = b"So large that the client gets it in pieces." * 600_000
NOWHERE = "http://127.0.0.1:9"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with the published deck and models, each at two commits, of which main is the second.

    The first commits of the models are those that the profile pins; the second have other weights, and a large file.
    """
    pickle, notes = {"pytorch_model.bin": b"a pickle"}, {"notes.txt": NOTES}
    with running_hub() as hub:
        hub.old = hub.push("datasets", DECK, {"deck.json": json.dumps(tiny.deck(60)).encode()})
        card = b"---\nlicense: cc\n---\n# A deck\n"
        hub.new = hub.push("datasets", DECK, {"deck.json": json.dumps(tiny.deck(80)).encode(), "README.md": card})
        hub.folders = {}
        for pinned, make in ((ENCODER, tiny.make_encoder), (RERANKER, tiny.make_reranker)):
            old, new = (make(tmp_path_factory.mktemp(make.__name__), seed) for seed in (0, 1))
            hub.push("models", pinned.name, files_of(old) | pickle, commit=pinned.revision)
            main = hub.push("models", pinned.name, files_of(new) | pickle | notes)
            hub.folders |= {(pinned.name, pinned.revision): old, (pinned.name, main): new}
            if pinned is ENCODER:
                hub.encoder = main
        llm = tiny.make_llm(tmp_path_factory.mktemp("llm"))
        hub.push("models", LLM.name, files_of(llm) | pickle, commit=LLM.revision)
        hub.push("models", "tiny/pickled", pickle | {"config.json": b"{}"})
        yield hub


def set_up(clone: Repository, hub, home: Path) -> Repository:
    """Let a clone use the hub, with ``home`` for its cache: ``on_hub(command)``, ``stage(name)``, ``fails(name)``."""
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
    environment["no_proxy"] = "127.0.0.1,localhost"
    clone.on_hub = lambda *command, ok=True, **changes: clone.run(*command, ok=ok, **(environment | changes))
    clone.stage = lambda name, ok=True, **changes: clone.on_hub("python", "-m", f"stages.{name}", ok=ok, **changes)
    clone.metrics = lambda name: json.loads((clone.folder / "metrics" / f"{name}.json").read_text())

    def fails(name: str, reference: str, **changes) -> str:
        """The one line that the failing stage says, which names the reference."""
        done = clone.stage(name, ok=False, **changes)
        lines = done.stderr.strip().splitlines()
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert [line for line in lines if line.startswith(f"{name}: ")] == lines[-1:]
        assert lines[-1].startswith(f"{name}: {reference}")
        return lines[-1]

    clone.fails, clone.home = fails, home
    return clone


@pytest.fixture
def clone(hub, tmp_path):
    """A clone that reads the deck from the hub; faults that the test makes end with it."""
    clone = set_up(Repository.of_files(tmp_path), hub, tmp_path / ".hf")
    clone.set_params(data__source="hub", prepare__near_duplicate_threshold=0.95)
    yield clone
    hub.heal()


@pytest.fixture
def with_cards(clone):
    """The clone with a deck that needs no hub, prepared."""
    tiny.write_deck(clone.folder / "decks/tiny.json")
    clone.set_params(data__source="file")
    clone.stage("prepare")
    return clone


@pytest.fixture(scope="module")
def published(hub, tmp_path_factory):
    """A clone in which the profile ran up to the rankings, as the README has it."""
    clone = set_up(Repository.of_files(tmp_path_factory.mktemp("published")), hub, tmp_path_factory.mktemp("home"))
    more = "-S prepare.near_duplicate_threshold=0.95"  # the tiny deck's cards are made from a few sentences
    clone.on_hub("sh", "-c", f"xargs dvc exp run rerank_eval {more} < profiles/{PROFILE.name}")
    return clone


def snapshot_of(clone, kind: str, name: str, commit: str) -> Path:
    """Where the hub's client puts a commit's files."""
    return clone.home / "hub" / f"{kind}--{name.replace('/', '--')}" / "snapshots" / commit


def test_the_profile_runs(hub, published):
    material = published.metrics("prepare")["material"]
    assert (material["reference"], material["rows"]) == (f"hub:{DECK}@{hub.new}", 80)
    assert published.metrics("embed")["model"] == PUBLISHED["embed.model"]
    assert published.metrics("retrieval")["test"]["own"]["hnsw_rerank"]


@pytest.mark.parametrize("pinned", [ENCODER, RERANKER], ids=["encoder", "reranker"])
def test_only_the_pinned_weights_were_fetched(hub, published, pinned):
    """Though the branch has moved on to others; and no pickle."""
    snapshot = snapshot_of(published, "models", pinned.name, pinned.revision)
    assert list(snapshot.parent.iterdir()) == [snapshot] and not list(snapshot.rglob("*.bin"))
    old, new = (hub.folders[key] / "model.safetensors" for key in hub.folders if key[0] == pinned.name)
    assert (snapshot / "model.safetensors").read_bytes() == old.read_bytes() != new.read_bytes()


def test_the_profiles_fine_tuning_runs(published):
    """On the hub's base model in NF4, made small by lines that come later."""
    fewer = "-S finetune.train_cards=16 -S finetune.validation_cards=4 -S prepare.near_duplicate_threshold=0.95"
    command = f"(cat profiles/{PROFILE.name}; echo {fewer}) | xargs dvc exp run finetune"
    published.on_hub("sh", "-c", command)
    tuned = published.metrics("finetune")
    assert tuned["model"] == PUBLISHED["llm.model"] and tuned["quantize"] == "nf4"
    assert (tuned["train"]["rows"], tuned["validation_nll"]["tuned"]["n"]) == (16, 4)
    snapshot = snapshot_of(published, "models", LLM.name, LLM.revision)
    assert (snapshot / "model.safetensors").exists() and not list(snapshot.rglob("*.bin"))
    card = (published.folder / "data/adapter/README.md").read_text()
    assert f"base_model: {LLM.name}" in card and f'revision="{LLM.revision}"' in card
    assert DECK in card
    published.on_hub("dvc", "repro", "-s", "-f", "finetune", HF_HUB_OFFLINE="1", HF_ENDPOINT=NOWHERE)
    assert published.metrics("finetune") == tuned


def test_the_vectors_are_those_of_the_pinned_encoder(hub, published):
    table = cards.load(published.folder / "data/cards")
    vectors = Embeddings.load(published.folder / "data/embeddings", table).answers
    texts = cards.corpus(table).answer.tolist()
    old, new = (
        encode(load_encoder(hub.folders[ENCODER.name, commit]), texts, 16) for commit in (ENCODER.revision, hub.encoder)
    )
    assert np.allclose(vectors, old, atol=1e-4) and not np.allclose(vectors, new, atol=1e-1)


def test_the_profile_runs_offline_from_the_cache(published):
    """With the deck pinned to what its branch stood for: a branch cannot be asked for offline."""
    names = ("prepare", "embed", "retrieval")
    online = {name: published.metrics(name) for name in names}
    for name in names:
        (published.folder / f"metrics/{name}.json").unlink()
    published.set_params(data__hub=online["prepare"]["material"]["reference"])
    published.on_hub("dvc", "repro", "-f", "rerank_eval", HF_HUB_OFFLINE="1", HF_ENDPOINT=NOWHERE)
    assert {name: published.metrics(name) for name in names} == online


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
        clone.fails("prepare", f"hub:{DECK}@{commit}", HF_HUB_OFFLINE=offline)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("hub:tiny/absent@main", "no such repository"),
        (f"hub:{ENCODER.name}@absent", "not this revision"),
        ("hub:tiny/pickled@main", "pickled weights are not read"),
    ],
)
def test_no_such_model(with_cards, reference, says):
    with_cards.set_params(embed__model=reference)
    assert says in with_cards.fails("embed", reference.split("@")[0])


@pytest.mark.parametrize(
    ("reference", "says"),
    [("hub:tiny/absent@main", "no such repository"), (f"hub:{DECK}@absent", "not this revision")],
)
def test_no_such_deck(clone, reference, says):
    clone.set_params(data__hub=reference)
    assert says in clone.fails("prepare", reference)


def test_a_listed_file_that_is_not_there(hub, clone):
    hub.lost.add(f"{DECK}/deck.json")
    assert "could not be fetched" in clone.fails("prepare", f"hub:{DECK}@{hub.new}")


def test_a_cut_connection_leaves_no_deck(hub, clone):
    """What came is not taken for the file, not even offline; once the fault is gone, the next run gets it all."""
    reference = f"hub:{DECK}@{hub.new}"
    clone.set_params(data__hub=reference)
    hub.cut.add(f"{DECK}/deck.json")
    assert "could not be fetched" in clone.fails("prepare", reference)
    assert "could not be fetched" in clone.fails("prepare", reference, HF_HUB_OFFLINE="1")
    hub.heal()
    clone.stage("prepare")
    assert clone.metrics("prepare")["material"]["rows"] == 80


def test_a_cut_connection_leaves_no_model(hub, with_cards):
    """Here the client comes back for the rest of a large file, which is cut again."""
    pinned, large = f"hub:{ENCODER.name}@{hub.encoder}", f"{ENCODER.name}/notes.txt"
    with_cards.set_params(embed__model=f"hub:{ENCODER.name}@main")
    hub.cut |= {large, f"{ENCODER.name}/model.safetensors"}
    assert "could not be fetched" in with_cards.fails("embed", pinned)
    assert large in hub.resumed
    snapshot = snapshot_of(with_cards, "models", ENCODER.name, hub.encoder)
    assert list(snapshot.rglob("*.json")) and not list(snapshot.rglob("notes.txt"))
    assert not list(with_cards.home.rglob("*.incomplete"))
    hub.heal()
    with_cards.stage("embed")
    assert with_cards.metrics("embed")["model"] == pinned
    assert (snapshot / "notes.txt").read_bytes() == NOTES


def refused(hub, clone, stage: str, reference: str, file: str) -> Path:
    """The file that the one line tells to delete; without that, it is refused again, though the hub has healed."""
    line = clone.fails(stage, f"{reference}: {file} is not what the hub promises (its hash differs); delete ")
    hub.heal()
    assert clone.fails(stage, reference, HF_HUB_OFFLINE="1") == line
    return Path(re.search(r"; delete (\S+) and run again$", line)[1])


def test_an_altered_deck_is_not_used(hub, clone):
    """A file in git, whose hash is git's."""
    reference, right = f"hub:{DECK}@{hub.new}", json.dumps(tiny.deck(80)).encode()
    clone.set_params(data__hub=reference)
    hub.altered[f"{DECK}/deck.json"] = right.replace(b"old age", b"odd age")
    refused(hub, clone, "prepare", reference, "deck.json").unlink()
    clone.stage("prepare")
    snapshot = snapshot_of(clone, "datasets", DECK, hub.new)
    assert (snapshot / "deck.json").read_bytes() == right


def test_altered_weights_are_not_used(hub, with_cards):
    """A file in LFS, whose hash is sha256."""
    reference = PUBLISHED["embed.model"]
    right = (hub.folders[ENCODER.name, ENCODER.revision] / "model.safetensors").read_bytes()
    with_cards.set_params(embed__model=reference)
    hub.altered[f"{ENCODER.name}/model.safetensors"] = right[:-1] + bytes([right[-1] ^ 1])
    refused(hub, with_cards, "embed", reference, "model.safetensors").unlink()
    with_cards.on_hub("python", "-c", f"from medcards.base.references import resolve; resolve('{reference}')")
    snapshot = snapshot_of(with_cards, "models", ENCODER.name, ENCODER.revision)
    assert (snapshot / "model.safetensors").read_bytes() == right
