"""rerank_train: train the cross-encoder, or note which one is used.

Apart from rerank_eval, so that another depth of the candidates trains nothing.

reads   data/cards, data/embeddings, data/encoder, data/index
writes  data/reranker (a manifest, always: a reference, what was trained, or none), metrics/rerank_train.json,
        plots/rerank_train
"""

import pandas as pd
from matplotlib import pyplot as plt

from medcards import cards as card_tables
from medcards.ann import HnswIndex
from medcards.encoder import Embeddings, load_encoder
from medcards.figures import save
from medcards.files import atomic, write_json
from medcards.manifests import model_folder, read_manifest, write_manifest
from medcards.params import Seed
from medcards.reranker import RerankerParams, train_reranker
from stages import DATA, METRICS, PLOTS, SCRATCH, load_params, pinned, run


def train(params: RerankerParams, seed: int) -> tuple[object, list[dict]]:
    """The cross-encoder trained on the deck, and its training log."""
    cards = card_tables.load(DATA / "cards")
    embeddings = Embeddings.load(DATA / "embeddings", cards)
    index = HnswIndex.load(DATA / "index", embeddings.answers)
    encoder = load_encoder(model_folder(DATA / "encoder"))
    answers = card_tables.corpus(cards)
    return train_reranker(encoder, cards, answers, embeddings, index.search, params, seed, SCRATCH / "rerank")


def main() -> None:
    seed, params = load_params(seed=Seed, reranker=RerankerParams)
    log = pd.DataFrame(columns=["step", "loss"])
    with atomic(DATA / "reranker") as folder:
        folder.mkdir()
        if params.model == "train":
            model, history = train(params, seed)
            log = pd.DataFrame(history)[["step", "loss"]].astype({"loss": float})
            model.save(str(folder / "model"), create_model_card=False)
            write_manifest(folder, read_manifest(DATA / "encoder")["model"])
        elif params.model == "none":
            write_manifest(folder, "none")
        else:
            write_manifest(folder, pinned(params, "reranker").model)
        manifest = read_manifest(folder)
    with atomic(PLOTS / "rerank_train") as folder:
        figure, axes = plt.subplots(figsize=(6, 4))
        axes.plot(log.step, log.loss, marker="o")
        axes.set(xlabel="optimizer step", ylabel="training loss (nats per question)")
        save(figure, log, folder / "loss.png")
    write_json(
        METRICS / "rerank_train.json",
        {"model": manifest["model"], "trained": manifest["trained"], "steps": int(log.step.max()) if len(log) else 0},
    )


if __name__ == "__main__":
    run("rerank_train", main)
