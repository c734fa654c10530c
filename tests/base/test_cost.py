"""Seconds and memory of a process and its workers, and the machine that it runs on."""

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT

from medcards.base.cost import cost, machine, peak_memory


def test_the_cost_names_the_machine():
    found = cost()["machine"]
    assert found == machine() and set(found) == {"processor", "cores", "memory_gb", "device"}
    assert found["cores"] == psutil.cpu_count() and found["memory_gb"] > 0
    if sys.platform == "linux" and "model name" in (known := open("/proc/cpuinfo").read()):
        assert f": {found['processor']}\n" in known


def test_the_device_of_a_process_is_the_gpu_that_it_used(monkeypatch):
    """A GPU that PyTorch finds and the process did not use is not named."""
    for used, device in ((False, "cpu"), (True, "NVIDIA X")):
        cuda = SimpleNamespace(is_initialized=lambda used=used: used, get_device_name=lambda: "NVIDIA X")
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        assert machine()["device"] == device
    monkeypatch.delitem(sys.modules, "torch")
    assert machine()["device"] == "cpu"


def test_the_memory_of_workers_counts():
    held = "memory = bytearray(80_000_000); print('ready', flush=True); input()"
    alone = cost()["peak_memory_mb"]
    with subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        assert cost()["peak_memory_mb"] >= alone + 70
        worker.communicate(b"\n")
    assert cost()["peak_memory_mb"] <= peak_memory() / 1e6 + 50


def test_a_worker_that_has_just_ended_does_not_count(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        ended = psutil.Process(worker.pid)
        worker.communicate(b"\n")
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [ended])
    assert cost()["peak_memory_mb"] <= peak_memory() / 1e6 + 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell them apart")
def test_the_memory_of_the_process_that_started_this_one_does_not_count():
    held = bytearray(300_000_000)
    code = "from medcards.base.cost import peak_memory; print(peak_memory())"
    assert int(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) < len(held)
