"""Sharing with `dvc push` and `dvc pull`, over SSH with a real OpenSSH server and over S3, both on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import PATIENCE, PROGRAMS, Repository, needs, wait

pytestmark = pytest.mark.slow


class Server:
    """A program that listens on a port of loopback. It can be stopped and started again."""

    def __init__(self, command: Callable[[int], list[str]]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = command(self.port)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait(self._listens)

    def stop(self) -> None:
        """End the program and the sessions that it serves."""
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            process.kill()
        self._process.wait(PATIENCE)

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"{self._command} ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def ssh(tmp_path) -> Iterator[tuple[Server, Path]]:
    """A server that accepts a temporary key, and that key."""
    keys = [tmp_path / name for name in ("host_key", "user_key")]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # needed by a server that runs as root

    def command(port: int) -> list[str]:
        settings = {
            "ListenAddress": f"127.0.0.1:{port}",
            "HostKey": keys[0],
            "AuthorizedKeysFile": keys[1].with_suffix(".pub"),
            "StrictModes": "no",  # the key lies in a temporary folder
            "UsePAM": "no",
            "PidFile": "none",
            "Subsystem": "sftp internal-sftp",
        }
        (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        return [shutil.which("sshd", path=PROGRAMS), "-D", "-f", str(tmp_path / "sshd_config")]

    server = Server(command)
    yield server, keys[1]
    server.stop()


@pytest.fixture
def s3(monkeypatch) -> Iterator[Server]:
    """A server with S3's protocol and one bucket. The environment gets its credentials."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = Server(lambda port: [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}").create_bucket(Bucket="deck")
    yield server
    server.stop()


def pulls_and_runs_nothing(repository: Repository, folder: Path, *setting: str) -> Repository:
    """Check and return a clone that has decks and models, which git ignores, and pulls all else from the remote."""
    folder.mkdir()
    other = Repository(folder)
    other.run("git", "clone", "-q", str(repository.folder), ".")
    for name in ("decks", "models"):
        shutil.copytree(repository.folder / name, folder / name, dirs_exist_ok=True)
    if setting:
        other.run("dvc", "remote", "modify", "--local", *setting)
    other.run("dvc", "pull")
    assert other.stages_run(other.run("dvc", "repro")) == []
    return other


@needs("sshd", "ssh-keygen", "dvc_ssh")
def test_over_ssh_with_a_server_that_goes_away(finished, ssh, tmp_path):
    server, key = ssh
    store = tmp_path / "store"
    finished.run("dvc", "remote", "add", "-d", "machine", f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}{store}")
    finished.commit("a remote")
    finished.run("dvc", "remote", "modify", "--local", "machine", "keyfile", str(key))
    push = finished.start("dvc", "push", "-j", "1")
    wait(lambda: len([file for file in store.rglob("*") if file.is_file()]) > 3)
    server.stop()
    assert push.wait(PATIENCE) != 0
    said = (finished.folder / "stderr.txt").read_text()
    assert "ERROR: " in said and "Traceback" not in said
    server.start()
    finished.run("dvc", "push")
    assert "in sync" in finished.run("dvc", "status", "--cloud").stdout
    other = pulls_and_runs_nothing(finished, tmp_path / "other", "machine", "keyfile", str(key))
    assert "1." in other.run("python", "-m", "medcards", "search", "gout").stdout


@needs("dvc_s3", "moto", "flask", "flask_cors")
def test_over_s3(finished, s3, tmp_path):
    finished.run("dvc", "remote", "add", "-d", "bucket", "s3://deck/store")
    finished.run("dvc", "remote", "modify", "bucket", "endpointurl", f"http://127.0.0.1:{s3.port}")
    finished.commit("another remote")
    finished.run("dvc", "push")
    pulls_and_runs_nothing(finished, tmp_path / "other")
