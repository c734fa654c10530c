"""The answer scores as a metric of the library evaluate, offline. In the repository's root:

    import evaluate
    metric = evaluate.load("medcards/medical_qa.py")
    metric.compute(
        predictions=["A cyst of the kidney"],
        references=["A fluid-filled sac of the kidney"],
        questions=["What is a renal cyst?"],
    )

It gives the mean of every score of `medcards.answers.scores.score_answer` over the answers that have it, and their number.
"""

import datasets
import evaluate

from medcards.answers.scores import TermWeights, score_answer, score_answers

COLUMNS = ("predictions", "references", "questions")


class MedicalQA(evaluate.Metric):
    """Scores of answers to questions whose words must not count as an answer."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=f"Three lists of texts: {', '.join(COLUMNS)}.\n\n{score_answer.__doc__}",
            features=datasets.Features({name: datasets.Value("string") for name in COLUMNS}),
        )

    def _compute(self, predictions: list[str], references: list[str], questions: list[str]) -> dict[str, float]:
        """The means; words are weighted by how few of the references have them."""
        scores = score_answers(predictions, references, questions, TermWeights(references))
        return scores.mean().dropna().to_dict() | {"n": len(scores)}
