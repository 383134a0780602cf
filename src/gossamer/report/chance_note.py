"""Whether the networks of a study have learnt enough for a comparison to mean anything."""

from gossamer.formats import inside, percent
from gossamer.report.results import ACCURACY, Results

LEARNT = 0.1
"""Share of the way from guessing to no error at all that a network has to go."""


def chance_note(results: Results) -> str:
    """Say that the baseline hardly does better than guessing; nothing where it does.

    Whatever is done to networks at chance, they stay on a par.
    """
    base = results.baseline
    levels = results.own_levels(base.name) if base else ()
    if base is None or not levels:
        return ""
    interval, classes = results.interval(base.name, levels[0], ACCURACY), results.classes(base.name)
    if interval is None or not classes:
        return ""
    chance = 1 / classes
    if interval.mean >= chance + LEARNT * (1 - chance):
        return ""
    return (
        f"The test accuracy of {inside(base.label)} is {percent(interval.mean, 1)}%, where "
        f"guessing reaches {percent(chance, 1)}%: it has hardly learnt anything yet. Networks "
        "that know nothing are all on a par, so what follows says nothing of trained ones."
    )
