"""Dataset cards: of the deck (where it comes from, what it holds, its known faults), and of exported rows."""

from huggingface_hub import DatasetCardData

from medcards.report.render import render
from medcards.report.results import leaked_share

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LICENCE_OF_ONTOLOGY = "https://hpo.jax.org/app/license"


def dataset_card(metrics: dict[str, dict]) -> str:
    """The card as Markdown with the metadata block of the Hugging Face hub.

    Parameters
    ----------
    metrics : what the stages measured: ``prepare``, ``embed``, ``audit`` and ``eda``.
    """
    prepare = metrics["prepare"]
    material = prepare["material"]
    name, licence = name_and_licence(material)
    size = next((label for limit, label in SIZES if prepare["cards"] < limit), "n>1M")
    card_data = DatasetCardData(
        pretty_name=name, task_categories=["question-answering"], size_categories=[size], tags=["medical"], **licence
    )
    reasons = sorted(prepare["cleaning"].keys() - {"rows_read", "kept"})
    return render(
        "dataset_card.md.jinja",
        card_data=card_data,
        name=name,
        material=material,
        prepare=prepare,
        cleaning={key: prepare["cleaning"][key] for key in ("rows_read", *reasons, "kept")},
        words={side: metrics["eda"][side]["words"]["quartiles"][1] for side in ("questions", "answers")},
        leak=leaked_share(metrics["audit"], "group", "questions", "bi-encoder"),
        embed=metrics["embed"],
    )


def rows_card(material: dict) -> str:
    """The card of rows that the command export writes, see :func:`medcards.llm.conversations.export_rows`.

    Parameters
    ----------
    material : description of the deck, see :func:`medcards.deck.sources.read_deck`.
    """
    name, licence = name_and_licence(material)
    tasks = ["question-answering", "text-generation"]
    card_data = DatasetCardData(pretty_name=name, task_categories=tasks, tags=["medical"], **licence)
    return render("rows_card.md.jinja", card_data=card_data, name=name, material=material)


def name_and_licence(material: dict) -> tuple[str, dict[str, str]]:
    """The name of a deck, and its licence in the metadata of the Hugging Face hub."""
    if material["source"] == "ontology":
        licence = {"license": "other", "license_name": "hpo", "license_link": LICENCE_OF_ONTOLOGY}
        return "Flashcards from the Human Phenotype Ontology", licence
    if material["source"] == "hub":
        return material["reference"], {"license": material["licence"] or "unknown"}
    return "A deck of flashcards", {"license": "unknown"}
