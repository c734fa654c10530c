"""embed: encode the searched answers and every question with the unadapted bi-encoder.

reads   data/cards, data/models/encoder.json
writes  data/vectors
        data/figures/embed: metrics.json
"""

from medcards.base.files import atomic, write_json
from medcards.base.manifests import pinned_model
from medcards.base.references import resolve
from medcards.base.workers import Workers, compute_params, place_of
from medcards.deck import cards as card_tables
from medcards.search.encoder import EmbedParams, embed_cards, load_encoder, unknown_share
from medcards.search.vectors import Vectors, save_vectors
from stages import DATA, figures, load_params, run


def main() -> None:
    (params,) = load_params(embed=EmbedParams)
    compute = compute_params()
    reference = pinned_model(DATA, "encoder")
    model = load_encoder(resolve(reference), reference)
    workers = Workers.on(compute, load_encoder, place_of(reference))
    shards = card_tables.card_shards(DATA / "cards")
    with atomic(DATA / "vectors") as folder:
        save_vectors((embed_cards(model, shard, params.batch_tokens, workers) for shard in shards), folder)

    cards = card_tables.load_cards(DATA / "cards")
    vectors = Vectors.load(DATA / "vectors", cards)
    texts = {"answers": card_tables.corpus(cards).answer, "questions": cards.question}
    metrics = {
        "model": reference,
        "dimension": vectors.answers.shape[1],
        "answers": len(vectors.answers),
        "questions": len(vectors.questions),
        "max_tokens": vectors.max_tokens,
        "answers_cut": int((vectors.answer_tokens > vectors.max_tokens).sum()),
        "questions_cut": int((vectors.question_tokens > vectors.max_tokens).sum()),
        "unknown_tokens": {name: unknown_share(model.tokenizer.backend_tokenizer, of) for name, of in texts.items()},
    }
    with figures("embed") as folder:
        write_json(folder / "metrics.json", metrics)


if __name__ == "__main__":
    run("embed", main)
