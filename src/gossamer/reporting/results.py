"""A study's records by arm, level and seed: what everything on the page is made from.

Displays hold data first and plot second: everything that a figure draws or a table prints is
computed by pure functions of `Results`, and can be checked without drawing or printing it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gossamer.core.formats import counted, inside, listed
from gossamer.leakage.attacks import has_references
from gossamer.measures import counted_examples, read_training
from gossamer.records.joint import JointRecord
from gossamer.records.leakage import Leakage
from gossamer.records.record import Arm, Phase, Record, StudyRun, TrialLabel
from gossamer.stats.intervals import Interval, mean_interval, mutual_interval, rounding_deviation

ACCURACY = "test_accuracy"


def same_level(level: float) -> float:
    """Make levels comparable that were written or computed in different ways."""
    return round(float(level), 9)


@dataclass(frozen=True)
class Results:
    """The records of a study by arm, level and seed, and what is still missing.

    Parameters
    ----------
    study
        What was asked for.
    records
        What was found so far, by key; trials without a record are simply not done.
    joints
        What was measured of several of these networks together; their numbers count as measures
        of the records that they are about.
    phases
        Trainings that were done, by key; measures are derived from their histories.
    """

    study: StudyRun
    records: Mapping[str, Record] = field(repr=False)
    joints: tuple[JointRecord, ...] = field(default=(), repr=False)
    phases: Mapping[str, Phase] = field(default_factory=dict, repr=False)

    @cached_property
    def asked(self) -> dict[tuple[str, float], dict[int, TrialLabel]]:
        """Trials by arm and level, then by seed."""
        cells: dict[tuple[str, float], dict[int, TrialLabel]] = {}
        for trial in self.study.trials:
            cells.setdefault((trial.arm, same_level(trial.level)), {})[trial.seed] = trial
        return cells

    @cached_property
    def done(self) -> tuple[TrialLabel, ...]:
        """Trials that have their record."""
        return tuple(trial for trial in self.study.trials if trial.key in self.records)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trials that are done."""
        return tuple(sorted({trial.seed for trial in self.done}))

    @cached_property
    def unit_counts(self) -> tuple[int, ...]:
        """Numbers of units that an arm has at a level, where it has any, ascending."""
        counts = {
            len(self.units({seed: 0.0 for seed, t in trials.items() if t.key in self.records}))
            for trials in self.asked.values()
        }
        return tuple(sorted(counts - {0}))

    @property
    def one_seed(self) -> bool:
        """Whether no number rests on more than one seed, or on more than one pair of seeds."""
        return self.unit_counts == (1,)

    @property
    def unit(self) -> str:
        """What intervals count: ``"seed"``, or ``"pair of seeds"`` where seeds are paired."""
        return "pair of seeds" if self.study.paired else "seed"

    def counted_units(self, number: int) -> str:
        """Return a number of units in words: ``"5 seeds"``, ``"1 pair of seeds"``."""
        return (
            counted(number, "pair") + " of seeds" if self.study.paired else counted(number, "seed")
        )

    @property
    def basis(self) -> str:
        """What a number rests on: ``"one seed"``, ``"mean over 4 pairs of seeds"``."""
        if not self.unit_counts:
            return f"no {self.unit} yet"
        if self.one_seed:
            return f"one {self.unit}"
        few, many = self.unit_counts[0], self.unit_counts[-1]
        return f"mean over {f'{few} to ' if few < many else ''}{self.counted_units(many)}"

    def units(self, values: Mapping[int, float]) -> list[float]:
        """Return the independent numbers behind values by seed, which intervals count.

        They are the values themselves, in the order of the seeds. Where seeds 2j and 2j + 1 train
        on complementary halves, the two are not independent: their mean is the unit, and a pair
        with one half missing is left out.
        """
        if not self.study.paired:
            return [values[seed] for seed in sorted(values)]
        firsts = sorted(seed for seed in values if seed % 2 == 0 and seed + 1 in values)
        return [(values[seed] + values[seed + 1]) / 2 for seed in firsts]

    @cached_property
    def baseline(self) -> Arm | None:
        """The arm that the others are compared to."""
        return next(iter(self.arms("baseline")), None)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets of the arms, in the study's order."""
        return tuple(dict.fromkeys(arm.dataset for arm in self.study.arms))

    @cached_property
    def _unpruned(self) -> dict[str, Arm]:
        bases = [arm for arm in self.study.arms if (arm.name, 0.0) in self.asked]
        bases.sort(key=lambda arm: arm.role != "baseline")
        found: dict[str, Arm] = {}
        for arm in self.study.arms:
            bare = self._dense_part(arm)
            for base in bases:
                if base.recipe == bare and base.name != arm.name and same_setting(base, arm):
                    found.setdefault(arm.name, base)
        return found

    def prunes(self, arm: Arm) -> bool:
        """Whether a recipe makes the network sparse at some time."""
        return self._dense_part(arm) != arm.recipe

    def _dense_part(self, arm: Arm) -> tuple[Mapping[str, Any], ...]:
        """Return the steps of an arm that an unpruned network does, too, without an updater."""
        return tuple(
            {name: value for name, value in step.items() if name != "updater"}
            for step in arm.recipe
            if step.get("step") not in self.study.sparse_steps
        )

    def unpruned(self, arm: str) -> Arm | None:
        """Return the arm that trains as this one does and never prunes, the baseline if it can.

        It has the same dataset and network; None if there is no such arm.
        """
        return self._unpruned.get(arm)

    def trains_longer(self, arm: str) -> bool:
        """Whether an arm is planned to take more optimizer steps than the baseline."""
        base = self.baseline.name if self.baseline else ""
        return self.planned_steps(arm) > self.planned_steps(base)

    def planned_steps(self, arm: str) -> int:
        """Return the optimizer steps of an arm's longest trial, if it were run alone."""
        steps = (trial.optimizer_steps for trial in self.study.trials if trial.arm == arm)
        return max(steps, default=0)

    def arms(self, role: str) -> tuple[Arm, ...]:
        """Arms of a role, in the study's order."""
        return tuple(arm for arm in self.study.arms if arm.role == role)

    def label(self, name: str) -> str:
        """Return what the study calls an arm."""
        return next((arm.label for arm in self.study.arms if arm.name == name), name)

    def named(self, name: str) -> str:
        """Return an arm as a sentence names it; the one unpruned network by what it is."""
        if self.baseline and name == self.baseline.name and len(self.datasets) == 1:
            return "the unpruned network"
        return inside(self.label(name))

    @cached_property
    def has_levels(self) -> bool:
        """Whether any trial stands elsewhere than at level 0 of the axis."""
        return any(level != 0 for _, level in self.asked)

    @cached_property
    def _own_levels(self) -> dict[str, tuple[float, ...]]:
        levels: dict[str, list[float]] = {}
        for name, level in self.asked:
            levels.setdefault(name, []).append(level)
        return {name: tuple(sorted(found)) for name, found in levels.items()}

    def own_levels(self, arm: str) -> tuple[float, ...]:
        """Levels at which an arm has trials of its own, ascending; 0 alone without a grid."""
        return self._own_levels.get(arm, ())

    def levels(self, arm: str) -> tuple[float, ...]:
        """Levels of an arm, ascending; level 0 too where the baseline stands in for it."""
        return ((0.0,) if self._stands_in(arm, 0.0) else ()) + self.own_levels(arm)

    def _stands_in(self, arm: str, level: float) -> bool:
        """Whether the baseline is what this main arm is at level 0: all of it but the pruning."""
        # On another axis than a share, such as connections, 0 is not "nothing pruned".
        if level != 0 or (arm, 0.0) in self.asked or not self.axis_in_percent:
            return False
        base = self.unpruned(arm)
        main = any(candidate.name == arm for candidate in self.arms("main"))
        return main and base is not None and base == self.baseline

    def found(self, arm: str, level: float) -> Mapping[int, Record]:
        """Return the records of one arm at one level, by seed."""
        return self._found.get(self._cell(arm, level), {})

    def _cell(self, arm: str, level: float) -> tuple[str, float]:
        """Return where the records of an arm at a level are: perhaps under the baseline."""
        level = same_level(level)
        if self._stands_in(arm, level) and self.baseline is not None:
            arm = self.baseline.name
        return arm, level

    @cached_property
    def _found(self) -> dict[tuple[str, float], dict[int, Record]]:
        """The records of each arm and level by seed: figures and tables ask for them often."""
        return {
            cell: {
                seed: self.records[trial.key]
                for seed, trial in sorted(trials.items())
                if trial.key in self.records
            }
            for cell, trials in self.asked.items()
        }

    def classes(self, arm: str) -> int:
        """Return how many classes there are; 0 if no record of the arm says so."""
        return self._classes.get(arm, 0)

    @cached_property
    def _classes(self) -> dict[str, int]:
        most: dict[str, int] = {}
        for (arm, _), records in self._found.items():
            counts = [len(record.per_class.get("test", ())) for record in records.values()]
            most[arm] = max(most.get(arm, 0), *counts, 0)
        return most

    @cached_property
    def _joint_measures(self) -> dict[str, dict[str, float]]:
        # A study that was run again with more seeds has joints of both runs: the larger one last.
        found: dict[str, dict[str, float]] = {}
        for joint in sorted(self.joints, key=_size_of):
            for key, measures in joint.measures.items():
                found.setdefault(key, {}).update(measures)
        return found

    @cached_property
    def measures(self) -> dict[str, dict[str, float]]:
        """Every named number of each record, by key: its own, joint ones, those of its training."""
        return {
            key: {
                **self._training_measures(record),
                **self._joint_measures.get(key, {}),
                **record.measures,
            }
            for key, record in self.records.items()
        }

    def _training_measures(self, record: Record) -> dict[str, float]:
        """Read the history of the training that a recipe ends in, if it does not go on after it."""
        steps = record.identity.get("steps") or [{}]
        last = self.phases.get(record.phases[-1]) if record.phases else None
        return read_training(last) if last and steps[-1].get("step") == "train" else {}

    def joint(self, arm: str, level: float, kind: str) -> JointRecord | None:
        """Return what was measured of an arm's networks together; of several, the largest."""
        keys = {record.key for record in self.found(arm, level).values()}
        fitting = [j for j in self.joints if j.kind == kind and keys.intersection(j.records)]
        return max(fitting, key=_size_of, default=None)

    def leakage(self, arm: str, level: float) -> Leakage | None:
        """Return what the audit of an arm at a level found; None if there was none."""
        joint = self.joint(arm, level, "leakage")
        return joint.leakage if joint else None

    def values(self, arm: str, level: float, measure: str = ACCURACY) -> Mapping[int, float]:
        """One measure of one arm at one level, by seed; records that lack it are left out."""
        asked = *self._cell(arm, level), measure
        if asked not in self._values:
            measures, values = self.measures, dict[int, float]()
            for seed, record in self.found(arm, level).items():
                value = measures[record.key].get(measure)
                if value is not None and math.isfinite(value):
                    values[seed] = value
            self._values[asked] = values
        return self._values[asked]

    @cached_property
    def _values(self) -> dict[tuple[str, float, str], Mapping[int, float]]:
        """Those that were asked for, since several figures and tables show the same."""
        return {}

    def interval(self, arm: str, level: float, measure: str = ACCURACY) -> Interval | None:
        """Mean over the units with its 95% interval; None where nothing was measured."""
        asked = arm, same_level(level), measure
        if asked not in self._intervals:
            values = self.units(self.values(*asked))
            least = rounding_deviation(self.resolution(measure))
            self._intervals[asked] = interval_of(values, measure, least_deviation=least)
        return self._intervals[asked]

    @cached_property
    def _intervals(self) -> dict[tuple[str, float, str], Interval | None]:
        """Those that were asked for, since several figures and tables show the same."""
        return {}

    def paired(
        self,
        first: tuple[str, float],
        second: tuple[str, float],
        confidence: float = 0.95,
        measure: str = ACCURACY,
    ) -> Interval | None:
        """Mean of first minus second over the units that both have; None without one."""
        values = self.units(self.differences(first, second, measure))
        least = rounding_deviation(self.resolution(measure), terms=2)
        return interval_of(values, measure, confidence, least)

    def differences(
        self, first: tuple[str, float], second: tuple[str, float], measure: str = ACCURACY
    ) -> dict[int, float]:
        """Return first minus second of a measure, by seed, for the seeds that both have."""
        ours, theirs = self.values(*first, measure), self.values(*second, measure)
        return {seed: ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()}

    def resolution(self, measure: str) -> float:
        """Return the step in which a measure moves: one example of those it is a share of.

        0 where nothing says how many these are; where records differ, the coarsest step.
        """
        examples = counted_examples(measure)
        return self._largest_steps.get(examples, 0.0) if examples else 0.0

    @cached_property
    def _largest_steps(self) -> dict[str, float]:
        """One over the smallest number of examples, by the measure that says it."""
        steps: dict[str, float] = {}
        for record in self.records.values():
            for name, count in record.measures.items():
                if name.endswith("_examples") and count > 0:
                    steps[name] = max(steps.get(name, 0.0), 1 / count)
        return steps

    @cached_property
    def axis_in_percent(self) -> bool:
        """Whether the axis holds fractions, such as sparsities."""
        return all(0 <= trial.level <= 1 for trial in self.study.trials)

    def position(self, level: float) -> float:
        """Where a level stands on the axis as it is drawn."""
        return round(100 * level, 6) if self.axis_in_percent else level

    def level_text(self, level: float) -> str:
        """Return a level as text: ``"80%"``, or ``"20"`` on an axis without percents."""
        return f"{self.position(level):g}{'%' if self.axis_in_percent else ''}"

    def short_place(self, level: float) -> str:
        """Return a level as short as it is understood: ``"80%"``, or ``"epsilon 20"``."""
        return self.level_text(level) if self.axis_in_percent else self.place(level)

    def place(self, level: float) -> str:
        """Return a level with its axis, as a sentence needs it: ``"80% sparsity"``."""
        return self.places([level])

    def places(self, levels: Sequence[float]) -> str:
        """Return levels with their axis, as a sentence needs them: ``"30 and 50% sparsity"``."""
        text = listed([f"{self.position(level):g}" for level in levels])
        return f"{text}% {self.axis}" if self.axis_in_percent else f"{self.axis} {text}"

    @property
    def axis(self) -> str:
        """Name of the axis in words."""
        return self.study.axis.replace("_", " ")

    @property
    def axis_title(self) -> str:
        """Title of the axis, with its unit."""
        title = self.axis[:1].upper() + self.axis[1:]
        return f"{title} (%)" if self.axis_in_percent else title


def same_setting(first: Arm, second: Arm) -> bool:
    """Whether two arms learn the same task: same dataset, same share of it, same network."""
    return (first.dataset, first.network, first.pool) == (
        second.dataset,
        second.network,
        second.pool,
    )


def _size_of(joint: JointRecord) -> int:
    return len(joint.records) + len(joint.others)


def interval_of(
    values: Sequence[float], measure: str, confidence: float = 0.95, least_deviation: float = 0.0
) -> Interval | None:
    """Mean of a measure over units with the interval that suits it; None without values."""
    if not values:
        return None
    interval = mutual_interval if has_references(measure) else mean_interval
    return interval(values, confidence, least_deviation)
