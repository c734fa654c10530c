"""rerank_train: train the cross-encoder, or name the one that is used.

A training that was killed resumes from its last checkpoint.

reads   data/cards, data/vectors, data/encoder, data/models/reranker.json
writes  data/reranker: manifest.json always (a reference, the reference that training started from, or none); model/ of
        a trained cross-encoder
        data/figures/rerank_train: metrics.json, loss.csv (loss by optimizer step; a header where nothing is trained)
"""

from functools import partial

import pandas as pd

from medcards.base.files import atomic, write_csv, write_json
from medcards.base.manifests import model_folder, pinned_model, read_manifest, write_manifest
from medcards.base.params import Seed
from medcards.base.scratch import scratch
from medcards.deck import cards as card_tables
from medcards.search.cross_encoder_training import RerankerParams, loss_curve, train_reranker, training_lists
from medcards.search.encoder import check_encoder, encode_questions, load_encoder
from medcards.search.vectors import search_vectors
from stages import DATA, figures, load_params, run


def material(params: RerankerParams, seed: int) -> tuple[object, dict[str, list]]:
    """The bi-encoder that training starts from, and the lists that it reads."""
    cards = card_tables.load_cards(DATA / "cards")
    vectors, encoder = search_vectors(DATA, cards), load_encoder(model_folder(DATA / "encoder"))
    check_encoder(vectors, partial(encode_questions, encoder), cards)
    return encoder, training_lists(cards, vectors, params, seed)


def main() -> None:
    seed, params = load_params(seed=Seed, reranker=RerankerParams)
    reference, losses, encoder, lists = pinned_model(DATA, "reranker"), pd.Series(dtype=float), None, {}
    if reference == "train":
        encoder, lists = material(params, seed)
        reference = read_manifest(DATA / "encoder")["model"]
    inputs = {"seed": seed, "params": params.model_dump(), "encoder": read_manifest(DATA / "encoder"), "lists": lists}
    with scratch("rerank_train", **inputs) as checkpoints, atomic(DATA / "reranker") as folder:
        if encoder is not None:
            model, losses = train_reranker(encoder, lists, params, seed, checkpoints)
            model.save(str(folder / "model"), create_model_card=False)
        write_manifest(folder, reference)
    manifest = read_manifest(DATA / "reranker")
    metrics = {key: manifest[key] for key in ("model", "trained")} | {"steps": len(losses)}
    with figures("rerank_train") as folder:
        write_json(folder / "metrics.json", metrics)
        write_csv(loss_curve(losses), folder / "loss.csv")


if __name__ == "__main__":
    run("rerank_train", main)
