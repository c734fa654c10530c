"""adapt: with adapt.enabled, adapt the bi-encoder to the training cards; else name the unadapted one.

The search uses what this stage names. What describes the deck uses data/vectors, so it does not depend on the
adaptation. A fine-tuning that was killed resumes from its last checkpoint.

reads   data/cards, data/vectors, data/models/encoder.json
writes  data/encoder: manifest.json always; model/ and vectors/ of the adapted bi-encoder where there is one
        data/figures/adapt: metrics.json
"""

from functools import partial

from medcards.base.files import atomic, hashes_of, write_json
from medcards.base.manifests import model_fingerprint, pinned_model, read_manifest, write_manifest
from medcards.base.params import Seed
from medcards.base.references import resolve
from medcards.base.scratch import scratch
from medcards.base.workers import compute_params
from medcards.deck import cards as card_tables
from medcards.search.adaptation import AdaptParams, adapt
from medcards.search.encoder import check_encoder, encode_questions, load_encoder, save_encoder
from medcards.search.vectors import Vectors, save_vectors
from stages import DATA, figures, load_params, run


def main() -> None:
    seed, params = load_params(seed=Seed, adapt=AdaptParams)
    compute = compute_params()
    reference, model, metrics = pinned_model(DATA, "encoder"), None, {}
    if params.enabled:
        cards = card_tables.load_cards(DATA / "cards")
        vectors, model = Vectors.load(DATA / "vectors", cards), load_encoder(resolve(reference), reference)
        check_encoder(vectors, partial(encode_questions, model), cards)
    inputs = {"seed": seed, "params": params.model_dump(), "cards": hashes_of(DATA / "cards")}
    inputs |= {"encoder": model_fingerprint(DATA, "encoder"), "vectors": hashes_of(DATA / "vectors")}
    with scratch("adapt", **inputs) as checkpoints, atomic(DATA / "encoder") as folder:
        if model is not None:
            vectors, metrics = adapt(model, cards, vectors, params, seed, checkpoints, compute)
            save_encoder(model, folder / "model")
            save_vectors(vectors, folder / "vectors")
        write_manifest(folder, reference)
    manifest = read_manifest(DATA / "encoder")
    with figures("adapt") as folder:
        write_json(folder / "metrics.json", {key: manifest[key] for key in ("model", "trained")} | metrics)


if __name__ == "__main__":
    run("adapt", main)
