"""Check a deck, and print the command that runs it.

    python -m medcards check decks/mine.csv
    python -m medcards check mine.csv --question Frage --answer Antwort
    python -m medcards check mine.csv --write

The command reads, cleans, groups and splits the whole deck as the prepare stage does, with the params.yaml of this
folder. It prints what was recognised, and which rows would be dropped. It changes no file, unless --write asks for a
clean copy in decks/. If the pipeline would refuse the deck, it prints one line with the reason and ends with exit
status 1.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("deck", type=Path, help="JSON, JSONL, CSV, TSV, Anki text or Parquet file, or a folder of them")
    parser.add_argument("--question", default="auto", metavar="COLUMN", help="column of the questions")
    parser.add_argument("--answer", default="auto", metavar="COLUMN", help="column of the answers")
    parser.add_argument("--write", action="store_true", help="write the usable cards into decks/, cleaned")


def _of_encoder(reference: str, texts: list[str]) -> Iterator[str]:
    """What the bi-encoder cannot read, if it is on this machine. Nothing is fetched for it."""
    from tokenizers import Tokenizer

    from medcards.base.references import fetched
    from medcards.search.encoder import unknown_share

    folder = fetched(reference)
    file = folder and folder / "tokenizer.json"
    if file and file.exists() and (share := unknown_share(Tokenizer.from_file(str(file)), texts)) > 0.01:
        yield f"the bi-encoder does not know {share:.0%} of the tokens: use one of the deck's language (embed.model)"


def run(given: argparse.Namespace) -> Iterator[str]:
    from ruamel.yaml import YAML

    from medcards.base.files import atomic
    from medcards.base.params import Seed, read_params
    from medcards.deck.check import check_deck, clean_lines, copy_of, run_command
    from medcards.deck.splits import PrepareParams
    from medcards.search.encoder import EmbedParams

    seed, params, embed = read_params("params.yaml", seed=Seed, prepare=PrepareParams, embed=EmbedParams)
    max_length = YAML(typ="safe", pure=True).load(Path("params.yaml"))["finetune"]["max_length"]
    findings, cards, overrides = check_deck(given.deck, given.question, given.answer, seed, params, max_length)
    yield from findings
    yield from _of_encoder(embed.model, [*cards.question, *cards.answer])
    content = clean_lines(cards)
    copy = copy_of(given.deck, content)
    command = run_command(given.deck, given.question, given.answer, copy, overrides)
    if given.write:
        with atomic(copy) as temporary:
            temporary.write_text(content, encoding="utf-8")
        yield f"{copy} holds {len(cards):,} clean cards"
        command = run_command(copy, "auto", "auto", copy, overrides)
    yield "\nTo search it, tune a language model on it, and measure both (STAGE=rerank_eval stops after the search):"
    yield f"\n    {command}"
