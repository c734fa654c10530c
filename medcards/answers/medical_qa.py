"""The answer scores as a metric of the library evaluate. It needs no network. In the repository's root:

    import evaluate
    metric = evaluate.load("medcards/answers/medical_qa.py")
    metric.compute(
        predictions=["A cyst of the kidney"],
        references=["A fluid-filled sac of the kidney"],
        questions=["What is a renal cyst?"],
    )

It gives the number of answers, and the mean of every score of :func:`medcards.answers.scores.score_answer` over the
answers that have it.
"""

import datasets
import evaluate

from medcards.answers.scores import TermWeights, score_answer, score_answers

METRIC_COLUMNS = ("predictions", "references", "questions")


class MedicalQA(evaluate.Metric):
    """Scores of answers; some leave out the words of the question."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=f"Three lists of texts: {', '.join(METRIC_COLUMNS)}.\n\n{score_answer.__doc__}",
            features=datasets.Features({name: datasets.Value("string") for name in METRIC_COLUMNS}),
        )

    def _compute(self, predictions: list[str], references: list[str], questions: list[str]) -> dict[str, float]:
        """The means. The references are the deck of :class:`medcards.answers.scores.TermWeights`."""
        scores = score_answers(predictions, references, questions, TermWeights(references))
        return scores.mean().dropna().to_dict() | {"n": len(scores)}
