"""The models of the search without PyTorch: exported to ONNX once, then run by ONNX Runtime.

The import of PyTorch and sentence-transformers takes longer than a search. The exported models lie in the per-user
cache. The name of a model's folder is a hash of its manifest and of the versions that export and run it.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from medcards import InputError, reason_of
from medcards.base.files import atomic, read_json, remove, to_json
from medcards.base.manifests import model_folder, read_manifest
from medcards.base.references import cache_folder, written_in_cache
from medcards.search.cross_encoder import Scorer, load_cross_encoder, score
from medcards.search.encoder import TextEncoder, encode_questions, in_token_batches, load_encoder

log = logging.getLogger(__name__)

PACKAGES = ("torch", "sentence-transformers", "onnxscript", "onnxruntime")
"""Packages that export and run a model. Another version makes another export."""
EXPORT = 2
"""Number of the way in which :mod:`medcards.search.onnx_export` exports. Another way has another number."""
REFUSED = "not_exportable.txt"
"""File with the reason, in the folder of a model that cannot be exported."""
KEPT = 8
"""Number of exported models that the cache keeps. The oldest ones are removed."""
SEARCH_BATCH_TOKENS = 256
"""Largest number of tokens in a batch. A search has few texts, of unequal lengths, so small batches save padding."""


class NotExportable(Exception):
    """The exported model is not the original, or there is none. The text says why."""


class ExportedModel:
    """A bi-encoder or a cross-encoder that ONNX Runtime runs on the CPU.

    Call it with a list of questions for unit vectors, or with a list of (question, answer) pairs for scores.

    Parameters
    ----------
    folder : what :func:`medcards.search.onnx_export.export_to_onnx` wrote.
    threads : number of threads; those of the machine if 0.
    """

    def __init__(self, folder: Path, threads: int = 0):
        import onnxruntime
        from tokenizers import Tokenizer

        self._prompt = read_json(folder / "prompt.json")["prompt"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [given.name for given in self._session.get_inputs()]

    def __call__(self, texts: list) -> np.ndarray:
        """Unit vectors of questions, shape (questions, dimension), or scores of pairs, shape (pairs,)."""
        found = self._tokenizer.encode_batch([self._prompt + text for text in texts] if self._prompt else texts)
        tokens = {
            "input_ids": np.array([text.ids for text in found]),
            "token_type_ids": np.array([text.type_ids for text in found]),
            "attention_mask": np.array([text.attention_mask for text in found]),
        }

        def read(session, places: list[int]) -> np.ndarray:
            used = tokens["attention_mask"][places].any(axis=0)
            (rows,) = session.run(None, {name: tokens[name][places][:, used] for name in self._inputs})
            return rows

        lengths = tokens["attention_mask"].sum(axis=1)
        return in_token_batches(read, self._session, list(range(len(texts))), lengths, SEARCH_BATCH_TOKENS)


def search_encoder(folder: Path, threads: int = 0) -> TextEncoder:
    """The bi-encoder that the search runs.

    Parameters
    ----------
    folder : the folder that the stage adapt wrote.
    threads : see :class:`ExportedModel`.
    """
    return _exported(folder, "bi-encoder", load_encoder, encode_questions, threads)


def search_scorer(folder: Path, threads: int = 0) -> Scorer | None:
    """The cross-encoder that the search runs; None if the run uses no cross-encoder.

    Parameters
    ----------
    folder : the folder that the stage rerank_train wrote.
    threads : see :class:`ExportedModel`.
    """
    return _exported(folder, "cross-encoder", load_cross_encoder, score, threads)


def _exported(folder: Path, role: str, load: Callable, read: Callable, threads: int) -> Callable | None:
    """The exported model that a manifest names. It is exported now if it is not in the cache.

    PyTorch runs a model that cannot be exported. The results are the same, and a warning says why the start is slow.
    The cache keeps the reason, so that the export is tried once.
    """
    manifest = read_manifest(folder)
    if manifest["model"] == "none":
        return None
    made_of = [role, manifest, EXPORT, {name: version(name) for name in PACKAGES}]
    home = cache_folder() / "onnx" / hashlib.sha256(to_json(made_of).encode()).hexdigest()[:16]
    if not home.exists():
        log.info("exporting the %s to %s, once", role, home)
        _export(load(model_folder(folder)), read, home)
    if (refused := home / REFUSED).exists():
        log.warning("PyTorch runs the %s, which starts slowly: %s", role, refused.read_text(encoding="utf-8"))
        return partial(read, load(model_folder(folder)))
    return _load(home, threads)


def _export(model, read: Callable, home: Path) -> None:
    """Export a model, or write why not, unless another process did so meanwhile. The oldest exports are removed."""
    from medcards.search.onnx_export import export_to_onnx

    with written_in_cache(home.parent / "exports"):
        if not home.exists():
            with atomic(home) as scratch:
                try:
                    export_to_onnx(model, partial(read, model), scratch)
                except NotExportable as reason:
                    (scratch / REFUSED).write_text(str(reason), encoding="utf-8")
        homes = sorted((path for path in home.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for old in homes[:-KEPT]:
            remove(old)


def _load(home: Path, threads: int) -> ExportedModel:
    """The exported model, which must still give the result that the original gave."""
    known = read_json(home / "known_result.json")
    try:
        model = ExportedModel(home, threads)
        found = model([known["text"]])[0]
    except ImportError:
        raise
    except Exception as error:  # the runtime and the tokenizer raise many types of errors
        raise InputError(f"{home} is damaged, delete it: {reason_of(error)}") from error
    if not np.allclose(found, known["result"], rtol=1e-3, atol=1e-3):
        raise InputError(f"{home} gives other results than the model that it was exported from: delete it")
    return model
