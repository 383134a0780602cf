"""What an attack is: its score, what the attacker must have, and what is said of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from gossamer.leakage.design import Design, Scores
from gossamer.leakage.output_statistics import Labels, Statistics
from gossamer.leakage.references import References, gather
from gossamer.leakage.threshold_split import Split

POOLED_BELOW = 64
"""With fewer models an example's own variance is too noisy (Carlini et al. 2022, figure 10)."""

OUTPUT = "the target's output"
WITH_AND_WITHOUT = "the target's output and models trained with and without each example"
WITHOUT = "the target's output and models trained without each example"

Targets = Sequence[int] | None
"""Which models are attacked; None: all."""


@dataclass(frozen=True)
class Case:
    """Everything that an attack may look at."""

    statistics: Statistics
    labels: Labels
    design: Design
    split: Split
    seed: int
    first: Statistics | None = None
    """Of an earlier version of the same models, for attacks on two versions."""
    softened: Statistics | None = None
    """At a temperature other than 1."""
    temperature: float = 1.0

    @cached_property
    def margins(self) -> References:
        """Margins gathered over all models."""
        return gather(self.statistics.margin, self.design)

    @cached_property
    def first_margins(self) -> References:
        """Those of the earlier version."""
        assert self.first is not None
        return gather(self.first.margin, self.design)

    @property
    def tempered(self) -> Statistics:
        """Statistics at the temperature, for attacks that take one."""
        return self.softened or self.statistics

    @property
    def pooled(self) -> bool:
        """Whether LiRA pools variances unless told otherwise."""
        return self.design.models < POOLED_BELOW


Score = Callable[[Case, Targets], Scores]
"""Scores of the targets, ``[targets, examples]``: the higher, the likelier a member; NaN for
examples that the attack cannot judge."""


@dataclass(frozen=True)
class Attack:
    """One attack. All that tables, figures, intervals, glossary and claims say of it is here."""

    name: str
    """As in the code and in measures, such as "lira_online"."""
    label: str
    """As in a table, such as "LiRA, online"."""
    phrase: str
    """As within a sentence, such as "LiRA online"."""
    source: str
    """Authors and year of the paper that it is from."""
    requirement: str
    """What the attacker has."""
    meaning: str
    """What it does, in a sentence of the glossary."""
    unit: str
    """Of the score."""
    references: Literal["none", "out", "in and out"]
    """Models that the target is held against: none; those that did not train on an example; or
    those that did, too. Results of targets that are each other's references hang together, so that
    with any references intervals are widened."""
    score: Score
    fewest_references: int = 0
    """References that it needs a side."""
    fewest_units: int = 1
    """Pairs, or unpaired models, that it needs."""
    threshold: float | None = None
    """Where the attack itself says who is accused; None: at thresholds learnt on other data."""
    learns: bool = False
    """A model of its own is fitted to the references, which takes its time."""
    decides: bool = False
    """Scores are yes or no alone, so that no threshold makes accusations rare."""
    thresholds_of_classes: bool = False
    """Its thresholds are of each class, which in the tail are noise: intervals of a TPR at a rare
    FPR would hold too seldom (`benchmarks/attack_coverage.py`), and none is given."""
    in_sample: bool = False
    """Its one threshold is the best on the very scores that it judges: optimistic."""
    versions: Literal[1, 2] = 1
    """Versions of a model that the attacker knows of."""
    tempered: bool = False
    """Whether it takes the option ``temperature``."""
    learnt_on: Score | None = None
    """Scores that thresholds are learnt on, if not those that are judged: an attacker may be wrong
    about the targets."""
    usual: bool = True
    """Whether an audit runs it unless told otherwise."""
    version: int = 1
    """Of the computation: with another, studies attack again."""

    @property
    def mutual(self) -> bool:
        """Whether the targets are each other's references."""
        return self.references != "none"


def chosen(scores: Scores, targets: Targets) -> Scores:
    """Return the rows of the targets."""
    return scores if targets is None else scores[list(targets)]
