"""rows: choose the cards that the language model is trained and validated on, and the cards in the training prompts.

reads   data/cards, data/vectors, data/models/encoder.json (the unadapted encoder reads perturbed questions)
writes  data/rows, data/figures/rows
"""

import numpy as np

from medcards.base.files import atomic, write_json
from medcards.base.manifests import pinned_model
from medcards.base.params import Seed
from medcards.base.references import resolve
from medcards.deck import cards as card_tables
from medcards.search.encoder import encode_questions, load_encoder
from medcards.search.rows import RowsParams, rows_with_context
from medcards.search.vectors import Vectors
from stages import DATA, figures, load_params, run


def encoder(questions: list[str]) -> np.ndarray:
    """Vectors of questions. The encoder is loaded when it is called."""
    reference = pinned_model(DATA, "encoder")
    return encode_questions(load_encoder(resolve(reference), reference), questions)


def main() -> None:
    seed, params = load_params(seed=Seed, rows=RowsParams)
    cards = card_tables.load_cards(DATA / "cards")
    train, validation = rows_with_context(cards, Vectors.load(DATA / "vectors", cards), encoder, params, seed)
    with atomic(DATA / "rows") as folder:
        folder.mkdir()
        train.to_parquet(folder / "train.parquet", index=False)
        validation.to_parquet(folder / "validation.parquet", index=False)
        write_json(folder / "manifest.json", {"material": card_tables.read_material(DATA / "cards")})
    with figures("rows") as folder:
        counts = {
            "train": len(train),
            "validation": len(validation),
            "with_context": int(train.context.map(bool).sum()),
            "with_right_card": int((train.cited > 0).sum()),
        }
        write_json(folder / "metrics.json", counts)


if __name__ == "__main__":
    run("rows", main)
