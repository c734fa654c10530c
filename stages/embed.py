"""embed: unit vectors of the searched answers and of every question, by the bi-encoder.

reads   data/cards
writes  data/embeddings, metrics/embed.json
"""

from medcards import cards as card_tables
from medcards.encoder import EmbedParams, embed_cards
from medcards.files import atomic, write_json
from stages import DATA, METRICS, load_params, pinned, run


def main() -> None:
    (params,) = load_params(embed=EmbedParams)
    params = pinned(params, "encoder")
    embeddings = embed_cards(card_tables.load(DATA / "cards"), params)
    with atomic(DATA / "embeddings") as folder:
        embeddings.save(folder, params.model)
    write_json(
        METRICS / "embed.json",
        {
            "model": params.model,
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
