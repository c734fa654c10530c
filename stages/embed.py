"""embed: unit vectors of the searched answers and of every question, by the bi-encoder.

With embed.adapt, the bi-encoder is first fine-tuned on training cards; the vectors of the one as it came lie in
data/embeddings/before.

reads   data/cards
writes  data/embeddings, data/encoder, metrics/embed.json
"""

from medcards.base.files import atomic, write_json
from medcards.base.manifests import write_manifest
from medcards.base.params import Seed
from medcards.base.references import resolve
from medcards.deck import cards as card_tables
from medcards.search.adaptation import AdaptParams, adapt
from medcards.search.encoder import EmbedParams, embed_cards, load_encoder
from stages import DATA, METRICS, SCRATCH, load_params, pinned, run


def main() -> None:
    seed, params, adapting = load_params(seed=Seed, embed=EmbedParams, adapt=AdaptParams)
    params = pinned(params, "encoder")
    cards = card_tables.load(DATA / "cards")
    model = load_encoder(resolve(params.model), params.model)
    embeddings = before = embed_cards(model, cards, params.batch_size)
    adapted = {}
    if params.adapt:
        adapted = adapt(model, cards, card_tables.corpus(cards), before, adapting, seed, SCRATCH / "adapt")
        embeddings = embed_cards(model, cards, params.batch_size)

    with atomic(DATA / "encoder") as folder:
        if adapted:
            model.save(str(folder / "model"), create_model_card=False)
        write_manifest(folder, params.model)
    with atomic(DATA / "embeddings") as folder:
        embeddings.save(folder)
        if adapted:
            before.save(folder / "before")
    write_json(
        METRICS / "embed.json",
        {
            "model": params.model,
            "adapted": adapted,
            "dimension": embeddings.answers.shape[1],
            "answers": len(embeddings.answers),
            "questions": len(embeddings.questions),
            "max_tokens": embeddings.max_tokens,
            "answers_cut": int((embeddings.answer_tokens > embeddings.max_tokens).sum()),
            "questions_cut": int((embeddings.question_tokens > embeddings.max_tokens).sum()),
        },
    )


if __name__ == "__main__":
    run("embed", main)
