"""What several tests need: clones of this repository with tiny material, and ways to run stages and commands."""

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import tiny
from filelock import FileLock
from ruamel.yaml import YAML

import stages
from medcards.base.references import cache_folder

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker and what it starts: their threads would wait for cores

ROOT = Path(__file__).parent.parent
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "HF_HUB_OFFLINE": "1",
    "PYTHONFAULTHANDLER": "1",
}
HANGS = 600
"""Seconds; less than a test's own timeout, which would not say where it hung."""
PATIENCE = 120
"""Seconds to wait for what another process does."""
CLOCKED = {"cost", "cost.json", "timed.csv", "frontier.csv", "tokens_per_second.tsv", "REPORT.md"}
CLOCKED |= {"data/curves/metrics.json"}
"""Files and folders that hold seconds, by name or path. REPORT.md has a table of them."""

PROGRAMS = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip visibly where a program or a Python package is missing; not where CI is set, as .ci/run does."""
    missing = [name for name in names if not (shutil.which(name, path=PROGRAMS) or find_spec(name))]
    return pytest.mark.skipif(bool(missing) and "CI" not in os.environ, reason=f"lacks {', '.join(missing)}")


def wait(until: Callable[[], bool]) -> None:
    """Return when it is so."""
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.01)


LONGEST = (
    "test_pipeline.py",
    "test_hub.py",
    "test_asking.py",
    "test_kill.py",
    "test_experiments.py",
    "test_browser.py",
)
"""The files that take longest, in the order in which the two workers take them.

The first one makes the finished pipeline. The second one does not need it, so no worker waits for the other.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that neither worker is left with one of them in the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


class Repository:
    """A clone of this repository in another folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def of_head(cls, folder: Path) -> "Repository":
        """The last commit, as a stranger gets it: no data, no cache."""
        clone = cls(folder)
        clone.run("git", "clone", "-q", str(ROOT), ".")
        return clone

    @classmethod
    def of_files(cls, folder: Path) -> "Repository":
        """The files as they are, uncommitted changes included, in a git history of their own."""
        clone = cls(folder)
        listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        clone.run("git", "init", "-q")
        clone.commit("start")
        return clone

    def with_environment(self) -> "Repository":
        """Link this environment into the clone as .venv, so that make installs nothing."""
        (self.folder / ".venv").mkdir()
        for entry in Path(sys.prefix).iterdir():
            (self.folder / ".venv" / entry.name).symlink_to(entry)
        (self.folder / ".venv/installed").unlink(missing_ok=True)
        (self.folder / ".venv/installed").touch()
        return self

    def run(self, *command: str, ok: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Run a command there, as a user with the environment activated would; by default it must succeed.

        One that hangs fails with where each of its Python processes stood.
        """
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | ENVIRONMENT | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.send_signal(signal.SIGABRT)  # on which PYTHONFAULTHANDLER says it
            out, err = process.communicate()
            raise AssertionError(f"{command} hung for {HANGS} s:\n{out}\n{err}") from None
        assert not ok or process.returncode == 0, f"{command}:\n{out}\n{err}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run_here(self, stage: str) -> None:
        """Run a stage there in this process, which has imported the libraries. A refusal is a SystemExit.

        The stage runs as under DVC, except for the start of Python. A change of the clone's code has no effect.
        """
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr("sys.argv", [stage])
            stages.run(stage, importlib.import_module(f"stages.{stage}").main)

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command there, in a session of its own; what it says goes to stderr.txt."""
        with open(self.folder / "stderr.txt", "w") as errors:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    @contextmanager
    def serving(self) -> Iterator[tuple[str, subprocess.Popen]]:
        """Start the page at a free port; yield its address and process, and stop it at the end of the block."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url, process = f"http://127.0.0.1:{port}", self.start("python", "-m", "medcards", "app", "--port", str(port))

        def answers() -> bool:
            assert process.poll() is None, (self.folder / "stderr.txt").read_text()
            try:
                return urllib.request.urlopen(url, timeout=1).status == 200
            except OSError:
                return False

        try:
            wait(answers)
            yield url, process
        finally:
            process.terminate()
            process.wait(PATIENCE)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def set_params(self, **values: object) -> None:
        """Change params.yaml: ``data__source="file"`` sets data.source."""
        yaml, file = YAML(), self.folder / "params.yaml"
        params = yaml.load(file)
        for name, value in values.items():
            block, _, key = name.partition("__")
            if key:
                params[block][key] = value
            else:
                params[block] = value
        with open(file, "w") as out:
            yaml.dump(params, out)

    def changed(self) -> dict[str, set[str]]:
        """The stages whose own inputs or outputs changed, with the names of the changed inputs."""
        said = json.loads(self.run("dvc", "status", "--json").stdout)
        return {
            stage: {name for part in found for name in part.get("changed deps", {})} for stage, found in said.items()
        }

    def stages_run(self, done: subprocess.CompletedProcess | str) -> list[str]:
        """The stages that a dvc command says it ran, or would run; not those that DVC's run cache brought back."""
        said = done if isinstance(done, str) else done.stdout + done.stderr
        return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]

    def files_of(self, stage: str) -> dict[Path, bytes]:
        """The files of a stage's outs that do not depend on the clock."""
        outs = [out if isinstance(out, str) else next(iter(out)) for out in STAGES[stage]["outs"]]
        paths = [self.folder / out for out in outs]
        files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
        names = {file: file.relative_to(self.folder) for file in files}
        return {file: file.read_bytes() for file in files if not {*names[file].parts, str(names[file])} & CLOCKED}

    def figures(self, stage: str, file: str = "metrics") -> dict:
        """What a stage measured."""
        return json.loads((self.folder / "data/figures" / stage / f"{file}.json").read_text())

    def metrics(self, name: str) -> dict:
        """A file of metrics/, as the stage report published it."""
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text())

    def edit(self, file: str, before: str, after: str) -> None:
        """Replace a text in a file, which must hold it."""
        path = self.folder / file
        text = path.read_text()
        assert before in text, f"{file} does not hold {before!r}"
        path.unlink()  # DVC's cache may be linked to it
        path.write_text(text.replace(before, after))


def tiny_repository(folder: Path) -> Repository:
    """A clone whose deck is a tiny file, with markup in one card, and whose models are tiny and its own."""
    repository = Repository.of_files(folder)
    deck = tiny.write_deck(repository.folder / "decks" / "tiny.json")
    shown = "In case 12, &lt;b id='injected'&gt;bold&lt;/b&gt; "  # cleaned to tags
    deck.write_text(deck.read_text().replace("In case 12, ", shown))
    # Drawn wide: under the usual narrow weights, all texts are near-duplicates, and none is a wrong answer.
    tiny.make_encoder(repository.folder / "models" / "encoder" / "tiny", initializer_range=1.0)
    tiny.make_reranker(repository.folder / "models" / "reranker" / "tiny")
    tiny.make_llm(repository.folder / "models" / "llm" / "tiny")
    repository.set_params(**tiny.PARAMS)
    repository.commit("tiny material")
    return repository


def finish(folder: Path, material: Path) -> None:
    """Run the pipeline in a copy of the tiny material. What `dvc repro` says goes to first_run.txt."""
    repository = Repository(Path(shutil.copytree(material, folder)))
    said = repository.run("dvc", "repro").stdout
    (folder / ".git/info/exclude").write_text("first_run.txt\n")
    repository.commit("first run")
    (folder / "first_run.txt").write_text(said)


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first who asks for it makes, for all processes of this run of the tests. Change copies only."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.with_suffix(".whole").exists():
            make(folder)
            folder.with_suffix(".whole").touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> None:
    """The per-user cache of the tests. Downloads are those of the user; exported models are the tests' own."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for downloads in (cache_folder() / kind for kind in ("pypi", "plain")):
            downloads.mkdir(parents=True, exist_ok=True)
            (folder / downloads.name).symlink_to(downloads)

    os.environ["MEDCARDS_CACHE"] = str(made_once(tmp_path_factory, "cache", make))


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> Path:
    """The tiny repository before its first run. No test changes it."""

    def make(folder: Path) -> None:
        folder.mkdir()
        tiny_repository(folder)

    return made_once(tmp_path_factory, "material", make)


@pytest.fixture(scope="module")
def repository(material, tmp_path_factory) -> Repository:
    """A copy of the tiny repository before its first run."""
    return Repository(shutil.copytree(material, tmp_path_factory.mktemp("repository"), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def finished(material, tmp_path_factory) -> Repository:
    """A copy of the tiny repository after `dvc repro`, which said what is in first_run.txt."""
    made = made_once(tmp_path_factory, "made", lambda folder: finish(folder, material))
    return Repository(shutil.copytree(made, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True))


@pytest.fixture
def medcards(capsys, monkeypatch) -> Callable[..., subprocess.CompletedProcess]:
    """Runs ``python -m medcards`` with arguments in this process, which saves a start and its imports."""
    from medcards.__main__ import main

    def run(*arguments: object) -> subprocess.CompletedProcess:
        monkeypatch.chdir(ROOT)
        capsys.readouterr()
        status, last = 0, ""
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:  # Python prints a text as the last line, and ends with status 1
            status, last = (1, f"{end}\n") if isinstance(end.code, str) else (end.code or 0, "")
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, out, err + last)

    return run
