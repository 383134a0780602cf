"""The attacks of an audit, one file each: what is in this folder is run, tabulated and explained.

A file holds the score and an `Attack` of the name ``ATTACK`` that says everything else; variants of
it stand in ``VARIANTS``. Nothing else names an attack, but to choose one on purpose.
"""

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import product
from pkgutil import iter_modules

import numpy as np

from gossamer.core.errors import InputError
from gossamer.core.formats import counted, listed
from gossamer.leakage.attacks.attack import Attack, Case, Targets
from gossamer.leakage.design import Design, reference_counts
from gossamer.records.measures import READINGS, attack_reading

__all__ = [
    "ATTACKS",
    "HEADLINES",
    "Attack",
    "Case",
    "Targets",
    "attack_measures",
    "attack_of",
    "chosen_attacks",
    "has_references",
    "obstacle",
    "usual_attacks",
]


def _found() -> Iterator[Attack]:
    for module in iter_modules(__path__):
        held = vars(import_module(f"{__name__}.{module.name}"))
        if "ATTACK" in held:
            yield held["ATTACK"]
            yield from held.get("VARIANTS", ())


def _published(attack: Attack) -> tuple[bool, int, str]:
    years = [int(year) for year in re.findall(r"\d{4}", attack.source)]
    return not attack.usual, max(years, default=0), attack.name


ATTACKS = {attack.name: attack for attack in sorted(_found(), key=_published)}
"""Every attack by name, the usual ones first, in the order of their publication."""

HEADLINES = ("lira_online", "lira_offline", "rmia", "base", "loss")
"""The attack that is chosen before looking, and that networks are compared by: the first of these
that runs. Without references it is the loss, as attacks with thresholds of each class are made for
balanced accuracy: a rare false-positive rate fixed on other data is not kept where each class
shifts its own tail."""

ENOUGH = 0.5
"""Share of the members, and of the others, of each target that must have the references an attack
needs."""


def usual_attacks() -> tuple[str, ...]:
    """Return the names of what an audit runs unless told otherwise."""
    return tuple(name for name, attack in ATTACKS.items() if attack.usual)


def chosen_attacks(names: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return which attacks to run, each once; complain of what is no attack.

    Parameters
    ----------
    names
        Of `ATTACKS`, or a single one; None: the usual ones.

    Raises
    ------
    InputError
        If a name is unknown, or there is none; or an attack is of those that an audit of one
        version of the models cannot run, or reports in any case.

    Examples
    --------
    >>> chosen_attacks(["loss", "gap", "loss"])
    ('loss', 'gap')
    """
    if names is None:
        return usual_attacks()
    names = [names] if isinstance(names, str) else names
    known = [a.name for a in ATTACKS.values() if a.versions == 1 and not a.in_sample]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"no attack is called {unknown[0]!r}" if unknown else "no attack is named"
        raise InputError(f"attacks: {what}, expected some of {listed(known)}.")
    return tuple(dict.fromkeys(names))


def obstacle(attack: Attack, design: Design) -> str | None:
    """Say why an attack cannot be run; None if it can."""
    if not attack.mutual:
        return None
    units = int(design.units.max()) + 1
    if design.models == 1:
        return "one model was given, and it compares the target with other models"
    if not design.informative.any():
        return "every model was trained on the same examples, so that none serves as reference"
    if design.kind == "overlapping":
        return (
            "which of the other models were trained on an example, or how many, tells whether the "
            "target was, which it would take for leakage"
        )
    if units < attack.fewest_units:
        there = f"there is {units}" if units == 1 else f"there are {units}"
        shared = " of different splits" if 2 * units < design.models else ""
        noun = "pairs of models" if design.kind == "paired" else "models"
        return f"it needs {attack.fewest_units} {noun}{shared}, and {there}"
    for target, members in enumerate(design.members):
        inside, outside = reference_counts(design, target)
        enough = np.minimum(inside, outside) >= attack.fewest_references
        if min(enough[members].mean(), enough[~members].mean()) < ENOUGH:
            return (
                f"it needs {counted(attack.fewest_references, 'other model')} that trained on an "
                "example and as many that did not, which too few examples have"
            )
    return None


def attack_of(measure: str) -> Attack | None:
    """Return the attack that a measure is of; None if it is of none.

    Examples
    --------
    >>> attack_of("lira_online_tpr@0.01").label, attack_of("lyra_auc"), attack_of("test_loss")
    ('LiRA, online', None, None)
    """
    found = attack_reading(measure)
    attack = ATTACKS.get(found[0]) if found else None
    # The best threshold in sample is fixed for no false-positive rate.
    return None if attack and attack.in_sample and "@" in measure else attack


def attack_measures() -> tuple[str, ...]:
    """Return the names of all numbers of all attacks that a study takes."""
    asked = [a for a in ATTACKS.values() if a.usual or a.in_sample or a.versions == 2]
    names = (f"{attack.name}_{reading}" for attack, reading in product(asked, READINGS))
    return tuple(name for name in names if attack_of(name))


def has_references(measure: str) -> bool:
    """Whether a measure is of an attack that holds a network against those of the other seeds.

    The numbers of several networks then hang together: each is a reference of the others.

    Examples
    --------
    >>> has_references("lira_online_auc"), has_references("loss_auc")
    (True, False)
    """
    attack = attack_of(measure)
    return attack is not None and attack.mutual
