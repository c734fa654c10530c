"""Batches that a model reads at a time."""

from collections.abc import Sequence


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group texts of similar lengths into batches of at most ``budget`` tokens, padding included.

    Parameters
    ----------
    lengths : number of tokens of each text.
    budget : largest number of texts of a batch times the length of its longest text. A longer text is alone in
        its batch.

    Returns
    -------
    the positions of the texts in each batch, longest text first. Texts of one length keep their order.

    >>> token_batches([2, 9, 3, 3, 1], budget=6)
    [[1], [2, 3], [0, 4]]
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
