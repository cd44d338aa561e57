"""Comparison of clean accuracy with chance."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.core.checks import check_count
from art_ext.core.metrics.intervals import wilson

LEAST_SAMPLES = 10  # an interval of fewer samples is too wide


def chance_level(label_counts: Sequence[int], num_classes: int) -> float:
    """Compute the accuracy that a classifier reaches without using the input.

        chance = max(1 / K, max_k n_k / n), or 1 / K if all samples have one label.

    Args:
        label_counts: n_k, the number of samples of each label. Labels that do not occur may be
            omitted.
        num_classes: K >= 1.

    Raises:
        ValueError: if num_classes or a count is not an integer in range, or there is no sample.
    """
    check_count("num_classes", num_classes)
    for count in label_counts:
        check_count("each label count", count, least=0)
    occurring = [count for count in label_counts if count]
    if not occurring:
        raise ValueError("label_counts must count at least one sample, got none")
    largest = max(occurring) / sum(occurring) if len(occurring) > 1 else 0.0
    return max(1 / num_classes, largest)


def chance_warning(correct: int, label_counts: Sequence[int], num_classes: int) -> str | None:
    """Return a message if clean accuracy is not above chance. Otherwise return None.

    With fewer than 10 samples, None is returned.

    Args:
        correct: number of correctly classified samples.
        label_counts: number of samples of each label.
        num_classes: number of classes of the model.
    """
    total = sum(label_counts)
    if total < LEAST_SAMPLES:
        return None
    chance = chance_level(label_counts, num_classes)
    low, high = wilson(correct, total)
    if low > chance:
        return None
    return (
        f"clean accuracy {100 * correct / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}] is not"
        f" above the chance level of {100 * chance:.1f} %: are the labels in another order than the"
        " model's classes, were the weights loaded, and does the preprocessing fit the model?"
    )
