"""embed: unit vectors of the searched answers and of every question, by the bi-encoder.

reads   data/cards
writes  data/embeddings, metrics/embed.json
"""

from medcards import cards as card_tables
from medcards.encoder import EmbedParams, embed_cards
from medcards.files import atomic, write_json
from medcards.references import pin
from stages import DATA, METRICS, load_params, run, watched


def main() -> None:
    (params,) = load_params(embed=EmbedParams)
    model = pin(watched(params.model, "encoder"))
    params = params.model_copy(update={"model": model})
    embeddings = embed_cards(card_tables.load(DATA / "cards"), params)
    with atomic(DATA / "embeddings") as folder:
        embeddings.save(folder, model)
    write_json(
        METRICS / "embed.json",
        {
            "model": model,
            "dimension": embeddings.answers.shape[1],
            "answers": len(embeddings.answers),
            "questions": len(embeddings.questions),
        },
    )


if __name__ == "__main__":
    run("embed", main)
