"""Whether the networks of a study have learnt enough for a comparison to mean anything."""

from collections.abc import Iterator

from gossamer.core.formats import inside, percent
from gossamer.report.results import ACCURACY, Results

LEARNT = 0.1
"""Share of the way from guessing to no error at all that some network has to go."""


def chance_note(results: Results) -> str:
    """Say of which datasets no network does much better than guessing; nothing where one does.

    Networks at chance are on a par with each other, whatever is done to them.
    """
    sentences = []
    for dataset in results.datasets:
        found = list(_accuracies(results, dataset))
        if not found:
            continue
        accuracy, label, chance = max(found)
        if accuracy < chance + LEARNT * (1 - chance):
            sentences.append(_sentence(results, dataset, accuracy, label, chance))
    return " ".join(sentences)


def _accuracies(results: Results, dataset: str) -> Iterator[tuple[float, str, float]]:
    """Yield the mean accuracy of each arm at each level, its label, and that of guessing."""
    for arm in results.study.arms:
        classes = results.classes(arm.name)
        if arm.dataset != dataset or not classes:
            continue
        for level in results.own_levels(arm.name):
            interval = results.interval(arm.name, level, ACCURACY)
            if interval:
                yield interval.mean, arm.label, 1 / classes


def _sentence(results: Results, dataset: str, accuracy: float, label: str, chance: float) -> str:
    where = f" on {dataset}" if len(results.datasets) > 1 else ""
    return (
        f"The highest test accuracy{where} is {percent(accuracy, 1)}% ({inside(label)}), where "
        f"guessing reaches {percent(chance, 1)}%: what is compared so close to guessing says "
        "nothing of networks that have learnt."
    )
