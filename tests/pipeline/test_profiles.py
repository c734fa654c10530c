"""The profiles in profiles/, and the commands `make run` and `make reset`, through the real make and dvc."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tiny
from conftest import ROOT, Repository
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

PROFILES = sorted((ROOT / "profiles").glob("*.args"))
COMMITTED = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")

each_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)


def settings(profile: Path) -> dict[str, str]:
    """The key and the value of every line."""
    lines = profile.read_text().splitlines()
    assert all(line.startswith("-S ") for line in lines), profile
    return dict(line.removeprefix("-S ").split("=") for line in lines)


def params_with(profile: Path, folder: Path) -> dict:
    """The blocks of params.yaml after dvc has written the profile into a copy of it."""
    file = shutil.copy(ROOT / "params.yaml", folder)
    apply_overrides(file, [f"{key}={value}" for key, value in settings(profile).items()])
    return YAML(typ="safe", pure=True).load(Path(file))


@each_profile
def test_a_profile_is_a_difference_of_three_to_ten_lines(profile):
    lines = settings(profile)
    assert 3 <= len(lines) <= 10
    for key, value in lines.items():
        block, name = key.split(".")
        assert name in COMMITTED[block], f"{key} is not in params.yaml"
        assert COMMITTED[block][name] != YAML(typ="safe", pure=True).load(value), f"{key} is {value} in params.yaml"


@each_profile
def test_values_arrive_as_written_and_the_stages_accept_them(tmp_path, profile):
    from medcards.answers.quantisation import QuantiseEvalParams
    from medcards.answers.records import AnswerParams
    from medcards.base import params
    from medcards.deck.sources import DataParams
    from medcards.deck.splits import PrepareParams
    from medcards.explore.overview import EdaParams
    from medcards.llm.loading import LlmParams
    from medcards.llm.training import FinetuneParams
    from medcards.search.adaptation import AdaptParams
    from medcards.search.cross_encoder_training import RerankerParams
    from medcards.search.encoder import EmbedParams
    from medcards.search.evaluation import RerankEvalParams
    from medcards.search.rows import RowsParams

    blocks = params_with(profile, tmp_path)
    for key, value in settings(profile).items():
        block, name = key.split(".")
        assert blocks[block][name] == YAML(typ="safe", pure=True).load(value)
    kinds = {"data": DataParams, "prepare": PrepareParams, "embed": EmbedParams, "adapt": AdaptParams, "eda": EdaParams}
    kinds |= {"reranker": RerankerParams, "rerank_eval": RerankEvalParams, "rows": RowsParams, "llm": LlmParams}
    kinds |= {"finetune": FinetuneParams, "answer": AnswerParams, "quantise_eval": QuantiseEvalParams}
    assert {key.split(".")[0] for key in settings(profile)} <= set(kinds)
    params.read_params(tmp_path / "params.yaml", **kinds)


def test_params_are_written_as_dvc_writes_them(tmp_path):
    """After `dvc exp run -S`, `git diff params.yaml` shows the change and nothing else."""
    before = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(before)
    apply_overrides(tmp_path / "params.yaml", ["lora.r=17"])
    assert (tmp_path / "params.yaml").read_text() == before.replace("r: 16  # rank", "r: 17  # rank")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Repository:
    return Repository.of_files(tmp_path_factory.mktemp("profiles")).with_environment()


def test_dvc_accepts_every_line_of_every_profile(fresh):
    """Through make and sh, all at once."""
    first, *others = PROFILES
    lines = " ".join(line for profile in others for line in profile.read_text().splitlines())
    done = fresh.run("make", "run", f"PROFILE={first.stem}", "STAGE=prepare", f"ARGS={lines} --dry")
    assert fresh.stages_run(done) == ["prepare"]
    assert fresh.run("git", "status", "--porcelain").stdout == ""


def refusal(done) -> str:
    """The one line that a failing make target says."""
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    return line


@pytest.mark.parametrize("name", ["", "absent"])
def test_a_profile_that_does_not_exist(fresh, name):
    said = refusal(fresh.run("make", "run", f"PROFILE={name}", ok=False))
    assert f"PROFILE={name} is not a profile" in said and all(profile.stem in said for profile in PROFILES)


def test_make_lists_its_targets(fresh):
    said = fresh.run("make").stdout
    for target in ("try", "run", "reset", "repro", "test", "readme", "deps", "graph", "constraints"):
        assert f"make {target} " in said


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Repository:
    """A clone with a tiny deck, whose last commit holds a run of the stage prepare and of no other stage."""
    clone = Repository.of_files(tmp_path_factory.mktemp("prepared")).with_environment()
    tiny.write_deck(clone.folder / "decks/tiny.json", 60)
    clone.set_params(data__source="file", prepare__near_duplicate_threshold=0.95)
    (clone.folder / "dvc.lock").unlink(missing_ok=True)
    clone.run("dvc", "repro", "prepare")
    clone.commit("a run of prepare")
    return clone


def state(clone: Repository) -> tuple[int, str]:
    """The number of cards in data/, and what git says has changed."""
    file = clone.folder / "data/cards/manifest.json"
    cards = json.loads(file.read_text())["cards"] if file.exists() else 0
    return cards, clone.run("git", "status", "--porcelain").stdout


def run_profile(clone: Repository, arguments: str, ok: bool = True):
    return clone.run("make", "run", "PROFILE=tiny", "STAGE=prepare", f"ARGS={arguments}", ok=ok)


def test_make_run_refuses_to_overwrite_params(prepared):
    file = prepared.folder / "params.yaml"
    committed = file.read_text()
    file.write_text(committed.replace("r: 16", "r: 17"))
    for command in (("make", "try"), ("make", "run", "PROFILE=own_deck")):
        said = refusal(prepared.run(*command, ok=False))
        assert said.startswith("params.yaml has changes") and "`make reset`" in said and "`make repro`" in said
    assert "r: 17" in file.read_text()
    file.write_text(committed)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.question_column='Rückseite, lang'", "Rückseite, lang"),
        ('llm.system_prompt="It\'s short."', "It's short."),
        ("llm.system_prompt=''", ""),
        ("llm.system_prompt='a=b: c'", "a=b: c"),
    ],
)
def test_values_with_commas_and_apostrophes_in_quotes(tmp_path, typed, value):
    """As docs/YOUR_DECK.md writes them, after the shell has taken its own quotes."""
    file = shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(file, [typed])
    block, name = typed.split("=")[0].split(".")
    assert YAML(typ="safe", pure=True).load(Path(file))[block][name] == value


def test_make_run_refuses_while_a_run_is_on(prepared):
    """DVC's lock file names the processes that read and write. A killed run leaves its number there."""
    lock = prepared.folder / ".dvc/tmp/rwlock"
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    for pid, running in ((os.getpid(), True), (ended.pid, False)):
        lock.write_text(json.dumps({"write": {"data/x": {"pid": pid, "cmd": "dvc repro"}}, "read": {}}))
        done = run_profile(prepared, "-S prepare.max_cards=60", ok=not running)
        if running:
            assert refusal(done).startswith(f"a run is in progress (process {pid})")
    lock.unlink(missing_ok=True)


def test_make_run_takes_a_deck(prepared):
    tiny.write_deck(prepared.folder / "decks/other.json", cards=90)
    prepared.run("make", "run", "PROFILE=own_deck", "STAGE=prepare", "DECK=decks/other.json")
    assert state(prepared)[0] == 90
    said = refusal(prepared.run("make", "run", "PROFILE=own_deck", "DECK=my deck's.csv", ok=False))
    assert said.startswith("DECK=my deck's.csv: the name of the file") and "--write" in said
    prepared.run("make", "reset")


def test_make_reset_returns_after_a_run(prepared):
    before = state(prepared)
    assert before == (60, "")
    run_profile(prepared, "-S prepare.max_cards=30")
    run_profile(prepared, "-S prepare.max_cards=20")  # starts from the committed file again
    (prepared.folder / "plots/of_this_run.png").touch()
    cards, changed = state(prepared)
    assert cards == 20 and " M params.yaml" in changed
    prepared.set_params(lora__r=17)
    assert refusal(run_profile(prepared, "", ok=False)).startswith("params.yaml has changes of your own")
    said = prepared.run("make", "reset").stdout
    assert state(prepared) == before and "lacks" not in said


def test_make_reset_returns_after_a_failed_run(prepared):
    before = state(prepared)
    done = run_profile(prepared, "-S data.question_column=absent", ok=False)
    assert "prepare: " in done.stderr and state(prepared)[0] == 0
    partial = prepared.folder / "data/cards/partial"  # as a stage that was killed leaves it
    partial.parent.mkdir(exist_ok=True)
    partial.touch()
    prepared.run("make", "reset")
    assert state(prepared) == before and not partial.exists()


def test_make_reset_returns_after_a_failed_experiment(prepared):
    """With a value as long as the committed one, which git does not see until it reads the file again."""
    before, params = state(prepared), prepared.folder / "params.yaml"
    committed = params.read_bytes()
    prepared.run("dvc", "exp", "run", "-f", "-s", "prepare", "-S", "prepare.near_duplicate_threshold=7.5", ok=False)
    assert params.read_bytes() != committed and params.stat().st_size == len(committed)
    prepared.run("make", "reset")
    assert state(prepared) == before and params.read_bytes() == committed


def test_make_reset_says_what_the_cache_lacks(prepared):
    run_profile(prepared, "-S prepare.max_cards=20")
    shutil.rmtree(prepared.folder / ".dvc/cache")
    said = prepared.run("make", "reset").stdout
    assert state(prepared) == (0, "")
    assert "The cache of this machine lacks data of the last commit's run, such as data/" in said
    assert "`make repro` makes it" in said
