"""rerank_train: train the cross-encoder, or note which one is used.

Apart from rerank_eval, so that another depth of the candidates trains nothing.

reads   data/cards, data/embeddings, data/encoder, data/index
writes  data/reranker (a manifest, always: a reference, what was trained, or none), metrics/rerank_train.json,
        plots/rerank_train
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from medcards.base.files import atomic, write_json
from medcards.base.manifests import model_folder, read_manifest, write_manifest
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.report.style import save
from medcards.search.cross_encoder_training import RerankerParams, train_reranker, training_lists
from medcards.search.encoder import Embeddings, load_encoder
from medcards.search.index import HnswIndex
from stages import DATA, METRICS, PLOTS, SCRATCH, load_params, pinned, run

SMOOTHED = 10


def train(params: RerankerParams, seed: int) -> tuple[object, pd.Series]:
    """The cross-encoder trained on the deck, and the loss of every step."""
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    index = HnswIndex.load(DATA / "index", embeddings.answers)
    encoder = load_encoder(model_folder(DATA / "encoder"))
    embeddings.check_encoder(encoder, cards)
    lists = training_lists(cards, embeddings, index, params, seed)
    return train_reranker(encoder, lists, params, seed, SCRATCH / "rerank_train")


def main() -> None:
    seed, params = load_params(seed=Seed, reranker=RerankerParams)
    model, loss = train(params, seed) if params.model == "train" else (None, pd.Series(dtype=float))
    with atomic(DATA / "reranker") as folder:
        if model:
            model.save(str(folder / "model"), create_model_card=False)
            write_manifest(folder, read_manifest(DATA / "encoder")["model"])
        else:
            write_manifest(folder, params.model if params.model == "none" else pinned(params, "reranker").model)
        manifest = read_manifest(folder)
    with atomic(PLOTS / "rerank_train") as folder:
        curve = pd.DataFrame({"step": np.arange(1, len(loss) + 1), "loss": loss})
        curve["smoothed"] = loss.rolling(SMOOTHED, min_periods=1).mean()
        figure, axes = plt.subplots(figsize=(6, 4))
        axes.plot(curve.step, curve.loss, alpha=0.3, label="of a step")
        axes.plot(curve.step, curve.smoothed, label=f"mean of {SMOOTHED}")
        axes.set(xlabel="optimizer step", ylabel="training loss (nats per question)")
        axes.legend()
        save(figure, curve, folder / "loss.png")
    trained = {key: manifest[key] for key in ("model", "trained")}
    write_json(METRICS / "rerank_train.json", trained | {"steps": len(loss)})


if __name__ == "__main__":
    run("rerank_train", main)
