"""Seconds and memory of a process and its workers."""

import subprocess
import sys

import psutil

from medcards.base.cost import cost, peak_memory


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
