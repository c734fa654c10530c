"""Export of a bi-encoder or a cross-encoder from sentence-transformers to ONNX."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from medcards import reason_of
from medcards.base.files import write_json
from medcards.search.encoder import question_prompt
from medcards.search.exported import ExportedModel, NotExportable

PROBES = [
    "What is gout?",
    "A painful inflammation of the joints, most often of the big toe.",
    *("b", "Qu'est-ce que c'est ? 10⁹/L", "痛风是什么？", "A (β-)blocker; 5 mg/day, or 2.5%." * 5),
    "pain " * 600,
]
"""Texts that both models read: of several lengths and scripts, and one that most models cut."""
PARITY = 1e-4
"""Largest difference between the results of the exported model and of the original, absolute and relative."""


class _Tensors(torch.nn.Module):
    """A sentence-transformers model with tensors as its input and output, as ONNX needs them."""

    def __init__(self, model, names: list[str]):
        super().__init__()
        self._model, self._names = model, names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        found = self._model(dict(zip(self._names, tensors, strict=True)))
        return found["scores"].squeeze(-1) if "scores" in found else normalize(found["sentence_embedding"])


def export_to_onnx(model, read: Callable[[list], np.ndarray], folder: Path) -> None:
    """Write a model as ``model.onnx`` with its tokenizer and its prompt, and check that it is the same model.

    Parameters
    ----------
    model : a SentenceTransformer or a CrossEncoder. It is moved to the CPU.
    read : from questions, or pairs of texts, to the model's results.
    folder : folder that is made.

    Raises
    ------
    NotExportable : the model is not made of operations that ONNX has, or the exported model gives other results.
    """
    from sentence_transformers import CrossEncoder

    pairs = isinstance(model, CrossEncoder)
    probes = [(PROBES[0], text) for text in PROBES] if pairs else PROBES
    wanted = read(probes)
    folder.mkdir(parents=True)
    try:
        write_json(folder / "prompt.json", {"prompt": "" if pairs else question_prompt(model)})
        _save_tokenizer(model, folder / "tokenizer.json")
        _save_graph(model.to("cpu").eval(), probes[:2], folder / "model.onnx")
        found = ExportedModel(folder)(probes)
    except Exception as error:  # the exporter and the runtime raise many types of errors
        raise NotExportable(f"it could not be exported to ONNX ({type(error).__name__}: {reason_of(error)})") from error
    if not np.allclose(found, wanted, rtol=PARITY, atol=PARITY):
        raise NotExportable(f"after its export to ONNX, its results differ by {np.abs(found - wanted).max():.2g}")
    write_json(folder / "known_result.json", {"text": probes[0], "result": np.asarray(wanted[0]).tolist()})


def _save_tokenizer(model, file: Path) -> None:
    """Save the tokenizer with the model's padding and its longest length."""
    tokenizer = model.tokenizer
    fast = tokenizer.backend_tokenizer
    fast.enable_truncation(model.max_seq_length)
    fast.enable_padding(direction=tokenizer.padding_side, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    fast.save(str(file))


def _save_graph(model, texts: list, file: Path) -> None:
    """Write the graph of the operations that the model runs for two texts, for any number and length of texts."""
    given = {name: value for name, value in model.preprocess(texts).items() if torch.is_tensor(value)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a missing optional package
    shape = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Tensors(model, list(given)),
            tuple(given.values()),
            file,
            input_names=list(given),
            dynamic_shapes=((shape,) * len(given),),
            dynamo=True,
            verbose=False,
        )
