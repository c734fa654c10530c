"""Decks and models from the hub, through a loopback server that speaks its protocol: two profiles and the failures."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import ROOT, Repository
from hub_server import running_hub
from test_profiles import COMMITTED, settings

from medcards.base.files import read_json
from medcards.base.references import parse
from medcards.deck import cards
from medcards.search.encoder import encode_answers, load_encoder
from medcards.search.vectors import Vectors

pytestmark = pytest.mark.hub

FLASHCARDS, MEADOW = (settings(ROOT / f"profiles/{name}.args") for name in ("flashcards", "medical_meadow"))
DECK = parse(COMMITTED["data"]["hub"]).name
ENCODER, RERANKER = (parse(FLASHCARDS[f"{block}.model"]) for block in ("embed", "reranker"))
LLM = parse(MEADOW["llm.model"])
NOTES = b"A file so large that the client fetches it in pieces." * 600_000
NOWHERE = "http://127.0.0.1:9"
TINY_DECK = "-S prepare.near_duplicate_threshold=0.95"
"""The cards of the tiny deck are made from a few sentences."""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with the published deck and models at two commits: the pinned one, then main, which has other content."""
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
        hub.llm = tiny.make_llm(tmp_path_factory.mktemp("llm"))
        hub.push("models", LLM.name, files_of(hub.llm) | pickle, commit=LLM.revision)
        hub.push("models", "tiny/pickled", pickle | {"config.json": b"{}"})
        yield hub


def set_up(clone: Repository, hub, home: Path) -> Repository:
    """Let a clone use the hub, with ``home`` for its cache: ``on_hub(command)``, ``stage(name)``, ``fails(name)``."""
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
    environment["no_proxy"] = "127.0.0.1,localhost"
    clone.on_hub = lambda *command, ok=True, **changes: clone.run(*command, ok=ok, **(environment | changes))
    clone.stage = lambda name, ok=True, **changes: clone.on_hub("python", "-m", f"stages.{name}", ok=ok, **changes)
    clone.material = lambda: clone.figures("prepare")["material"]
    clone.pinned = lambda role="encoder": read_json(clone.folder / f"data/models/{role}.json")["model"]

    def fails(name: str, reference: str, **changes) -> str:
        """The one line that the failing stage says, which starts with the reference."""
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
    """A clone that reads the deck from the hub. The faults of the hub end with the test."""
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


def set_encoder(clone: Repository, reference: str) -> None:
    """Let params.yaml name a bi-encoder, and run the stage that pins it."""
    clone.set_params(embed__model=reference)
    clone.stage("models")


@pytest.fixture(scope="module")
def published(hub, tmp_path_factory):
    """A clone in which the profile flashcards ran up to the rankings. The profile changes nothing after them."""
    folder = tmp_path_factory.mktemp("published")
    clone = set_up(Repository.of_files(folder), hub, tmp_path_factory.mktemp("home")).with_environment()
    clone.on_hub("make", "run", "PROFILE=flashcards", "STAGE=rerank_eval", f"ARGS={TINY_DECK}")
    return clone


def snapshot_of(clone, kind: str, name: str, commit: str) -> Path:
    """The folder in which the hub's client puts the files of a commit."""
    return clone.home / "hub" / f"{kind}--{name.replace('/', '--')}" / "snapshots" / commit


def test_the_profile_flashcards_runs(hub, published):
    material = published.material()
    assert (material["reference"], material["rows"]) == (f"hub:{DECK}@{hub.new}", 80)
    for role, block in (("encoder", "embed"), ("reranker", "reranker")):
        assert published.pinned(role) == FLASHCARDS[f"{block}.model"]
    assert published.figures("embed")["model"] == FLASHCARDS["embed.model"]
    assert published.figures("rerank_eval")["validation"]["own"]["hnsw_rerank"]


@pytest.mark.parametrize("pinned", [ENCODER, RERANKER], ids=["encoder", "reranker"])
def test_only_the_pinned_weights_were_fetched(hub, published, pinned):
    """No weights of the branch, which has moved on to other weights, and no pickle."""
    snapshot = snapshot_of(published, "models", pinned.name, pinned.revision)
    assert list(snapshot.parent.iterdir()) == [snapshot] and not list(snapshot.rglob("*.bin"))
    old, new = (hub.folders[key] / "model.safetensors" for key in hub.folders if key[0] == pinned.name)
    assert (snapshot / "model.safetensors").read_bytes() == old.read_bytes() != new.read_bytes()


def test_the_vectors_are_those_of_the_pinned_encoder(hub, published):
    table = cards.load_cards(published.folder / "data/cards")
    vectors = Vectors.load(published.folder / "data/vectors", table).answers
    texts = cards.corpus(table).answer.tolist()
    old, new = (
        encode_answers(load_encoder(hub.folders[ENCODER.name, commit]), texts)
        for commit in (ENCODER.revision, hub.encoder)
    )
    assert np.allclose(vectors, old, atol=1e-4) and not np.allclose(vectors, new, atol=1e-1)


def test_the_profile_flashcards_runs_offline_from_the_cache(published):
    """With the deck pinned to a commit: what a branch stands for cannot be asked offline."""
    stages = ("prepare", "embed", "rerank_eval")
    online = {stage: published.figures(stage) for stage in stages}
    shutil.rmtree(published.folder / "data/figures")
    published.set_params(data__hub=online["prepare"]["material"]["reference"])
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": NOWHERE}
    published.on_hub("dvc", "repro", "-s", "-f", "models", *stages, **offline)
    assert {stage: published.figures(stage) for stage in stages} == online


def test_the_fine_tuning_of_the_profile_medical_meadow_runs(published):
    """The base model of the hub in NF4, on fewer rows. DVC's run cache has the cards and the vectors."""
    published.on_hub("make", "reset")
    smaller = f"{TINY_DECK} -S rows.train_cards=16 -S rows.validation_cards=4 -S lora.r=4"
    done = published.on_hub("make", "run", "PROFILE=medical_meadow", "STAGE=finetune", f"ARGS={smaller}")
    assert published.stages_run(done) == ["models", "rows", "finetune"]
    tuned = published.figures("finetune")
    assert tuned["model"] == MEADOW["llm.model"] and tuned["quantize"] == "nf4"
    assert (tuned["train"]["rows"], tuned["validation"]["rows"]) == (16, 4)
    snapshot = snapshot_of(published, "models", LLM.name, LLM.revision)
    assert (snapshot / "model.safetensors").exists() and not list(snapshot.rglob("*.bin"))
    published.stage("finetune", HF_HUB_OFFLINE="1", HF_ENDPOINT=NOWHERE)
    assert published.figures("finetune") == tuned


def test_the_exported_adapter_names_the_pinned_base_model(published, medcards):
    exported = published.folder / "exported/tiny"
    done = medcards("export", "--adapter", "--to", exported, "--data", published.folder / "data")
    assert done.returncode == 0, done.stderr
    card = (exported / "README.md").read_text()
    assert f"base_model: {LLM.name}" in card and f"revision {LLM.revision}" in card
    assert DECK in card


@pytest.mark.parametrize("folder", ["data/adapter", "exported/tiny"])
def test_peft_alone_loads_the_adapter_and_fetches_the_pinned_base(hub, published, folder, tmp_path):
    """With an empty cache of the hub's client, and after the branch main moved on to other weights."""
    other = files_of(tiny.make_llm(tmp_path / "other", width=32))
    hub.push("models", LLM.name, other)
    code = "import sys; from peft import AutoPeftModelForCausalLM as Auto; model = Auto.from_pretrained(sys.argv[1]); "
    code += "print(model.config.hidden_size, model.peft_config['default'].r)"
    done = published.on_hub("python", "-c", code, folder, HF_HOME=str(tmp_path / "home"))
    assert done.stdout.split()[-2:] == ["64", "4"]
    snapshots = tmp_path / "home/hub" / f"models--{LLM.name.replace('/', '--')}" / "snapshots"
    assert [snapshot.name for snapshot in snapshots.iterdir()] == [LLM.revision]


def test_a_branch_of_a_model_is_pinned_until_the_stage_models_runs_again(hub, with_cards):
    """The stage models notices that the branch moved. Other stages use the pinned commit and ask for no branch."""
    name, old, new = "tiny/moving", *(hub.folders[ENCODER.name, commit] for commit in (ENCODER.revision, hub.encoder))
    first = hub.push("models", name, files_of(old))
    set_encoder(with_cards, f"hub:{name}@main")
    assert with_cards.pinned() == f"hub:{name}@{first}"
    second = hub.push("models", name, files_of(new))
    with_cards.stage("embed")
    assert with_cards.figures("embed")["model"] == f"hub:{name}@{first}"
    assert f"hub:{name}@{second}" in with_cards.stage("models").stderr
    assert with_cards.pinned() == f"hub:{name}@{second}"


def test_a_branch_of_a_deck_is_recorded_as_its_commit(hub, clone):
    done = clone.stage("prepare")
    material = clone.material()
    assert material["reference"] == f"hub:{DECK}@{hub.new}"
    assert material["rows"] == 80
    assert material["licence"] == "cc"
    assert f"pin its present commit with hub:{DECK}@{hub.new}" in done.stderr


def test_a_pinned_commit_gives_the_old_content_and_works_offline(hub, clone):
    clone.set_params(data__hub=f"hub:{DECK}@{hub.old}")
    clone.stage("prepare")
    online = clone.material()
    assert online["rows"] == 60
    clone.stage("prepare", HF_HUB_OFFLINE="1")
    assert clone.material() == online


def test_another_commit_is_never_taken_for_the_pinned_one(hub, clone):
    """Only the new one of two commits is cached. Offline the old one is an error; so is one that does not exist."""
    clone.stage("prepare")
    for commit, offline in ((hub.old, "1"), ("0" * 40, "0")):
        clone.set_params(data__hub=f"hub:{DECK}@{commit}")
        clone.fails("prepare", f"hub:{DECK}@{commit}", HF_HUB_OFFLINE=offline)


@pytest.mark.parametrize(
    ("stage", "key", "name"), [("models", "embed__model", ENCODER.name), ("prepare", "data__hub", DECK)]
)
def test_no_such_repository_or_revision(clone, stage, key, name):
    for reference, says in (
        ("hub:tiny/absent@main", "no such repository"),
        (f"hub:{name}@absent", "not this revision"),
    ):
        clone.set_params(**{key: reference})
        assert says in clone.fails(stage, reference)


def test_pickled_weights_are_not_read(with_cards):
    set_encoder(with_cards, "hub:tiny/pickled@main")
    assert "holds no safetensors weights" in with_cards.fails("embed", "hub:tiny/pickled@")


def test_a_listed_file_that_is_not_there(hub, clone):
    hub.lost.add(f"{DECK}/deck.json")
    assert "could not be fetched" in clone.fails("prepare", f"hub:{DECK}@{hub.new}")


def test_a_cut_connection_leaves_no_deck(hub, clone):
    """The part that arrived is not used, not even offline. Once the fault is gone, the next run fetches the file."""
    reference = f"hub:{DECK}@{hub.new}"
    clone.set_params(data__hub=reference)
    hub.cut.add(f"{DECK}/deck.json")
    assert "could not be fetched" in clone.fails("prepare", reference)
    assert "could not be fetched" in clone.fails("prepare", reference, HF_HUB_OFFLINE="1")
    hub.heal()
    clone.stage("prepare")
    assert clone.material()["rows"] == 80


def test_a_cut_connection_leaves_no_model(hub, with_cards):
    """The client comes back for the rest of a large file, and the connection is cut again."""
    pinned, large = f"hub:{ENCODER.name}@{hub.encoder}", f"{ENCODER.name}/notes.txt"
    set_encoder(with_cards, f"hub:{ENCODER.name}@main")
    hub.cut |= {large, f"{ENCODER.name}/model.safetensors"}
    assert "could not be fetched" in with_cards.fails("embed", pinned)
    assert large in hub.resumed
    snapshot = snapshot_of(with_cards, "models", ENCODER.name, hub.encoder)
    assert list(snapshot.rglob("*.json")) and not list(snapshot.rglob("notes.txt"))
    assert not list(with_cards.home.rglob("*.incomplete"))
    hub.heal()
    with_cards.stage("embed")
    assert with_cards.figures("embed")["model"] == pinned
    assert (snapshot / "notes.txt").read_bytes() == NOTES


def refused(hub, clone, stage: str, reference: str, file: str) -> Path:
    """The file that the one line tells to delete. Until it is deleted, it is refused, though the hub has healed."""
    line = clone.fails(stage, f"{reference}: {file} is not what the hub promises (its hash differs); delete ")
    hub.heal()
    assert clone.fails(stage, reference, HF_HUB_OFFLINE="1") == line
    return Path(re.search(r"; delete (\S+) and run again$", line)[1])


def test_an_altered_deck_is_not_used(hub, clone):
    """The deck is a file in git, and its hash is git's."""
    reference, right = f"hub:{DECK}@{hub.new}", json.dumps(tiny.deck(80)).encode()
    clone.set_params(data__hub=reference)
    hub.altered[f"{DECK}/deck.json"] = right.replace(b"old age", b"odd age")
    refused(hub, clone, "prepare", reference, "deck.json").unlink()
    clone.stage("prepare")
    snapshot = snapshot_of(clone, "datasets", DECK, hub.new)
    assert (snapshot / "deck.json").read_bytes() == right


def test_altered_weights_are_not_used(hub, with_cards):
    """The weights are a file in LFS, and its hash is a sha256."""
    reference = FLASHCARDS["embed.model"]
    right = (hub.folders[ENCODER.name, ENCODER.revision] / "model.safetensors").read_bytes()
    set_encoder(with_cards, reference)
    hub.altered[f"{ENCODER.name}/model.safetensors"] = right[:-1] + bytes([right[-1] ^ 1])
    refused(hub, with_cards, "embed", reference, "model.safetensors").unlink()
    with_cards.on_hub("python", "-c", f"from medcards.base.references import resolve; resolve('{reference}')")
    snapshot = snapshot_of(with_cards, "models", ENCODER.name, ENCODER.revision)
    assert (snapshot / "model.safetensors").read_bytes() == right
