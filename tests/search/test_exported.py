"""The exported models of the search give the results of the models that they were exported from."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import tiny

from medcards import InputError
from medcards.base.manifests import write_manifest
from medcards.search.cross_encoder import load_cross_encoder, score
from medcards.search.encoder import encode_questions, load_encoder
from medcards.search.exported import KEPT, ExportedModel, NotExportable, search_encoder, search_scorer
from medcards.search.onnx_export import export_to_onnx

TEXTS = ["What is gout?", "gout", "asthma " * 500, *(card["output"] for card in tiny.deck(9))]
PAIRS = [("What is gout?", text) for text in TEXTS] + [("gout " * 500, "asthma " * 500)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDCARDS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A tiny bi-encoder and its export."""
    folder = tmp_path_factory.mktemp("exported")
    model = load_encoder(tiny.make_encoder(folder / "model"))
    export_to_onnx(model, partial(encode_questions, model), folder / "onnx")
    return model, folder / "onnx"


def test_the_exported_bi_encoder_gives_the_same_vectors(exported):
    model, folder = exported
    run = ExportedModel(folder)
    assert run(TEXTS) == pytest.approx(encode_questions(model, TEXTS), abs=1e-5)
    assert run(TEXTS[3:4]) == pytest.approx(encode_questions(model, TEXTS)[3:4], abs=1e-5)  # alone, so without padding


def test_an_export_that_gives_other_results_is_refused(exported, tmp_path):
    model, _ = exported
    other = load_encoder(tiny.make_encoder(tmp_path / "other", seed=1))
    with pytest.raises(NotExportable, match="its results differ by"):
        export_to_onnx(model, partial(encode_questions, other), tmp_path / "onnx")


def test_the_exported_cross_encoder_gives_the_same_scores(tmp_path, cache, monkeypatch):
    """It is exported once. A later search loads no model of sentence-transformers."""
    folder = tiny.make_reranker(tmp_path / "model")
    write_manifest(tmp_path / "reranker", f"path:{folder}")
    scores = score(load_cross_encoder(folder), PAIRS)
    assert search_scorer(tmp_path / "reranker")(PAIRS) == pytest.approx(scores, abs=1e-5)
    monkeypatch.delattr("sentence_transformers.CrossEncoder")
    assert search_scorer(tmp_path / "reranker")(PAIRS) == pytest.approx(scores, abs=1e-5)

    (home,) = (path for path in cache.iterdir() if path.is_dir())
    known = json.loads((home / "known_result.json").read_text())
    (home / "known_result.json").write_text(json.dumps(known | {"result": known["result"] + 1}))
    with pytest.raises(InputError, match="gives other results than the model"):
        search_scorer(tmp_path / "reranker")
    (home / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="is damaged, delete it"):
        search_scorer(tmp_path / "reranker")


def test_without_a_cross_encoder_there_is_no_scorer(tmp_path):
    write_manifest(tmp_path / "reranker", "none")
    assert search_scorer(tmp_path / "reranker") is None


def test_a_model_that_cannot_be_exported_is_run_by_pytorch(tmp_path, cache, monkeypatch, caplog):
    folder = tiny.make_encoder(tmp_path / "model")
    write_manifest(tmp_path / "encoder", f"path:{folder}")
    monkeypatch.setattr("torch.onnx.export", None)
    found = search_encoder(tmp_path / "encoder")(TEXTS)
    said = "PyTorch runs the bi-encoder, which starts slowly: it could not be exported"
    assert said in caplog.text
    assert np.array_equal(found, encode_questions(load_encoder(folder), TEXTS))
    caplog.clear()
    monkeypatch.delattr("medcards.search.onnx_export.export_to_onnx")  # a later search does not try again
    assert np.array_equal(search_encoder(tmp_path / "encoder")(TEXTS), found) and said in caplog.text


def test_another_version_of_a_package_exports_again(tmp_path, cache, exported, monkeypatch):
    monkeypatch.setattr(
        "medcards.search.onnx_export.export_to_onnx", lambda model, read, folder: shutil.copytree(exported[1], folder)
    )
    write_manifest(tmp_path / "encoder", f"path:{tiny.make_encoder(tmp_path / 'model')}")
    for _ in range(2):
        search_encoder(tmp_path / "encoder")
        assert len([path for path in cache.iterdir() if path.is_dir()]) == 1
    monkeypatch.setattr("medcards.search.exported.version", lambda name: "0.0")
    search_encoder(tmp_path / "encoder")
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_the_cache_keeps_the_newest_exports(tmp_path, cache, exported, monkeypatch):
    def copy(model, read, folder):
        shutil.copytree(exported[1], folder)
        os.utime(folder, (KEPT + 2, KEPT + 2))

    monkeypatch.setattr("medcards.search.onnx_export.export_to_onnx", copy)
    for number in range(KEPT + 2):
        (cache / str(number)).mkdir(parents=True)
        os.utime(cache / str(number), (number, number))
    write_manifest(tmp_path / "encoder", f"path:{tiny.make_encoder(tmp_path / 'model')}")
    search_encoder(tmp_path / "encoder")
    kept = {path.name for path in cache.iterdir() if path.is_dir()}
    assert len(kept) == KEPT and not {"0", "1", "2"} & kept and str(KEPT + 1) in kept
