"""The stages that Ray shares write the same outs with its workers as without."""

import shutil

import pytest
from conftest import needs

from medcards.base import workers

STAGES = ("prepare", "embed", "adapt", "rerank_eval", "answer")


@pytest.mark.slow
@needs("ray")
def test_stages_write_the_same_outs_with_ray(finished, monkeypatch):
    import ray

    read, by_workers = [], workers._by_workers
    monkeypatch.setattr(workers, "FEW", 1)  # so that the workers read the few batches of a tiny deck
    monkeypatch.setattr(workers, "_by_workers", lambda *given: read.append(given) or by_workers(*given))
    finished.set_params(answer__systems=["base", "lora"])
    finished.run_here("answer")
    shutil.rmtree(finished.folder / ".scratch/answer")  # otherwise no answer is computed again
    assert not read
    finished.set_params(compute__engine="ray", compute__workers=1)
    try:
        for stage in STAGES:
            before = finished.files_of(stage)
            finished.run_here(stage)
            assert read and finished.files_of(stage) == before, stage
            read.clear()
    finally:
        ray.shutdown()
