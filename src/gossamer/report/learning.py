"""Whether the networks of a study have learnt enough for a comparison to mean anything."""

from collections.abc import Iterable, Iterator

from gossamer.core.formats import counted, inside, percent
from gossamer.measures import condition_of
from gossamer.report.results import ACCURACY, Results

LEARNT = 0.1
"""Share of the way from guessing to no error at all that a network has to go."""

_OF_ANSWERS = ("test_", "train_", "running_", "validation_")
"""How measures begin that are taken of what networks answer, not of their size or speed."""


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
        if accuracy < _learnt_from(chance):
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


def _learnt_from(chance: float) -> float:
    return chance + LEARNT * (1 - chance)


def not_learnt(results: Results, cells: Iterable[tuple[str, float]], measure: str) -> str:
    """Say which of some arms have not learnt, so that no difference from them has a size.

    An arm that ends in training and whose networks are no better than guessing shows that this
    training was too short or impossible, not what a pruning costs; and where only some networks of
    an arm are, the mean over both kinds is that of neither. Networks that are pruned after training
    are what the pruning made of them, at chance, too.

    Returns
    -------
    str
        Empty where all have learnt, or where the measure is not one of what networks answer.
    """
    if not measure.startswith(_OF_ANSWERS) and condition_of(measure) != "leakage":
        return ""
    found = (_without_learning(results, arm, level) for arm, level in cells)
    return next(filter(None, found), "")


def _without_learning(results: Results, arm: str, level: float) -> str:
    classes = results.classes(arm)
    recipe = next(one.recipe for one in results.study.arms if one.name == arm)
    accuracies = list(results.values(arm, level, ACCURACY).values())
    if not classes or not accuracies or not recipe or recipe[-1].get("step") != "train":
        return ""
    unlearnt = [one for one in accuracies if one < _learnt_from(1 / classes)]
    if not unlearnt:
        return ""
    number = "" if len(unlearnt) == len(accuracies) else f"{len(unlearnt)} of "
    reaches = percent(max(unlearnt), 1)
    return (
        f"{number}{counted(len(accuracies), 'network')} of {inside(results.label(arm))} "
        f"{'has' if len(accuracies) == 1 else 'have'} not learnt: {reaches}% at most, where "
        f"guessing reaches {percent(1 / classes, 1)}%"
    )
