"""What a study file must hold beyond the kinds of its fields: names that exist, values that differ.

Each check raises `StudyFileError` with the place of the first thing that is wrong.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gossamer.recipes import DataSpec
from gossamer.records.measures import (
    MEASURES,
    is_measure,
    needs_latency,
    needs_leakage,
    needs_overlaps,
    needs_validation,
)
from gossamer.studies.complaints import StudyFileError
from gossamer.studies.problems import Place, first_problem, hint
from gossamer.studies.written_recipes import PlacedStep, mentioned

if TYPE_CHECKING:
    from gossamer.studies.claim_spec import ClaimSpec
    from gossamer.studies.spec import ArmSpec, StudySpec

_NEAR = 1e-6
"""Relative difference below which two levels would be printed alike."""


def check_study(spec: "StudySpec") -> None:
    """Refuse a study whose parts do not go together.

    Raises
    ------
    StudyFileError
        At the first place where something is wrong.
    """
    for check in (
        _names_differ,
        _levels_differ,
        _scales_fit,
        _arms_are_run,
        _data_can_be_changed,
        _halves_are_complementary,
        _pairs_are_whole,
        _recipes_can_be_written_out,
        _overlaps_are_of_arms,
        _timed_arms_stand_beside_the_baseline,
        _timed_levels_are_in_the_grid,
        _claims_are_about_arms,
        _claims_are_about_measures,
    ):
        check(spec)


def _names_differ(spec: "StudySpec") -> None:
    for what, names, field in (
        ("arm", [arm.name for arm in spec.arms], "arms"),
        ("label", [arm.label for arm in spec.arms], "arms"),
        ("claim", [claim.name for claim in spec.claims], "claims"),
    ):
        for position, name in enumerate(names):
            if name in names[:position]:
                raise StudyFileError(f"{what} {name!r} is given twice", field, position)
    baselines = [n for n, arm in enumerate(spec.arms) if arm.role == "baseline"]
    if len(baselines) > 1:
        named = " and ".join(spec.arms[n].name for n in baselines)
        raise StudyFileError(f"there can be one baseline, not {named}", "arms", baselines[1])


def _levels_differ(spec: "StudySpec") -> None:
    _must_differ(spec.levels, "grid", spec.axis)
    for name, scale in spec.scales.items():
        _must_differ(scale.levels or (), "scales", name, "levels")
    for position, claim in enumerate(spec.claims):
        _must_differ(claim.levels, "claims", position, "levels")


def _must_differ(levels: Sequence[float], *place: str | int) -> None:
    """Refuse levels that are equal, or so nearly that a page would print them alike."""
    for first, second in pairwise(sorted(levels)):
        if first == second:
            raise StudyFileError(f"{first:g} is given twice", *place)
        if math.isclose(first, second, rel_tol=_NEAR):
            raise StudyFileError(f"{first!r} and {second!r} are too near to be told apart", *place)


def _scales_fit(spec: "StudySpec") -> None:
    for name, scale in spec.scales.items():
        for level in scale.levels or ():
            if level not in spec.levels:
                raise StudyFileError(f"{level:g} is not in the grid", "scales", name, "levels")
        if spec.axis in scale.values:
            raise StudyFileError(
                f"{spec.axis!r} is the grid's variable, which has its values there: leave it out",
                *("scales", name, "values", spec.axis),
            )


def _arms_are_run(spec: "StudySpec") -> None:
    for position, arm in enumerate(spec.arms):
        place: Place = ("arms", position, "scales")
        if len(set(arm.scales)) < len(arm.scales):
            raise StudyFileError(f"arm {arm.name} has a scale twice", *place)
        if not set(arm.scales) & set(spec.scales):
            raise StudyFileError(
                f"arm {arm.name} is run at {' and '.join(arm.scales) or 'no scale'}, but the study "
                f"has {' and '.join(spec.scales)}: it would never be run",
                *place,
            )


def _data_can_be_changed(spec: "StudySpec") -> None:
    changes = (
        *(("scales", name, scale.data) for name, scale in spec.scales.items()),
        *(("arms", position, arm.data) for position, arm in enumerate(spec.arms)),
    )
    for what, which, changed in changes:
        try:
            DataSpec.model_validate({"name": spec.data.name, **changed})
        except ValidationError as error:
            first = first_problem(error, (DataSpec,))
            place = (what, which, "data", *first.place)
            raise StudyFileError(first.text, *place) from error


def _halves_are_complementary(spec: "StudySpec") -> None:
    for arm in spec.arms if spec.leakage else ():
        for scale in spec.scales:
            data = spec.data_of(arm, scale)
            if data.pool == "half" and data.validation and data.validation_from == "train":
                raise StudyFileError(
                    f"arm {arm.name} trains on complementary halves of the pool, and what is "
                    'held out would be missing: use validation_from = "test", or 0',
                    *spec.data_place(arm, scale, "validation"),
                )


def _pairs_are_whole(spec: "StudySpec") -> None:
    for name, scale in spec.scales.items():
        if spec.leakage and scale.seeds % 2:
            raise StudyFileError(
                "seeds train in pairs, on complementary halves of the data, so their number must "
                f"be even, not {scale.seeds}",
                *("scales", name, "seeds"),
            )


def _recipes_can_be_written_out(spec: "StudySpec") -> None:
    book = spec.cookbook
    for name, source in spec.sources.items():
        book.written_out(source.recipe, f"source {name}", ("sources", name, "recipe"), (name,))
    for position, arm in enumerate(spec.arms):
        steps = spec.steps_of(arm)
        if not spec.levels and spec.axis in mentioned([one.step for one in steps]):
            raise StudyFileError(f"it is empty, but arm {arm.name} needs it", "grid", spec.axis)
        own = (None, arm.data.get("name", spec.data.name))
        attacked = spec.leakage and arm.data.get("pool", "half") == "half"
        if attacked and any(_borrows(one, own) for one in steps):
            # The source would have trained on examples that count as non-members here.
            raise StudyFileError(
                "with leakage a mask cannot come from another seed's half of the same data: "
                "let its source have seed_offset = 0, or data of its own",
                *("arms", position, "recipe"),
            )


def _borrows(one: PlacedStep, data: Sequence[str | None]) -> bool:
    """Tell whether a step borrows a mask from another seed on one of these datasets."""
    source = one.step.get("source")
    return bool(source and source["data"] in data and source["seed_offset"])


def _overlaps_are_of_arms(spec: "StudySpec") -> None:
    for position, pair in enumerate(spec.overlaps):
        for arm in pair:
            if lack := _no_arm(spec, arm):
                raise StudyFileError(f"{arm!r} {lack}", "overlaps", position)
        if pair[0] == pair[1]:
            raise StudyFileError(f"{pair[0]!r} is compared with itself", "overlaps", position)
        if pair in spec.overlaps[:position]:
            raise StudyFileError(f"{' and '.join(pair)} are given twice", "overlaps", position)


def _timed_arms_stand_beside_the_baseline(spec: "StudySpec") -> None:
    if spec.latency is None:
        return
    baseline = spec.baseline
    if baseline is None:
        raise StudyFileError(
            'networks are timed beside those of the baseline, but no arm has role = "baseline"',
            "latency",
        )
    names = spec.latency.arms
    for position, name in enumerate(names):
        place: Place = ("latency", "arms", position)
        if lack := _no_arm(spec, name):
            raise StudyFileError(f"{name!r} {lack}", *place)
        if name == baseline.name:
            message = f"{name!r} is the baseline, which is timed in any case: leave it out"
            raise StudyFileError(message, *place)
        if name in names[:position]:
            raise StudyFileError(f"{name!r} is given twice", *place)
        if _task(spec, spec.arm(name)) != _task(spec, baseline):
            raise StudyFileError(
                f"{name!r} has another network or other data than the baseline {baseline.name!r}, "
                "so that their times say nothing about pruning",
                *place,
            )


def _task(spec: "StudySpec", arm: "ArmSpec") -> tuple[object, object]:
    return arm.network or spec.network, arm.data.get("name", spec.data.name)


def _timed_levels_are_in_the_grid(spec: "StudySpec") -> None:
    levels = spec.latency.levels if spec.latency else ()
    _must_differ(levels, "latency", "levels")
    for level in levels:
        if level not in spec.levels:
            raise StudyFileError(f"{level:g} is not in the grid", "latency", "levels")


def _no_arm(spec: "StudySpec", name: str) -> str:
    """Say that a name is no arm; nothing if it is one."""
    names = [arm.name for arm in spec.arms]
    if name in names:
        return ""
    return f"is no arm{hint(name, names) or '; the arms are ' + ', '.join(names)}"


def _claims_are_about_arms(spec: "StudySpec") -> None:
    for position, claim in enumerate(spec.claims):
        for field, arm in claim.arms():
            if lack := _no_arm(spec, arm):
                message = f"claim {claim.name} is about {arm!r}, which {lack}"
                raise StudyFileError(message, "claims", position, field)
        others: Place = ("claims", position, "against")
        if claim.against_level is None and claim.compare in claim.others:
            raise StudyFileError(
                f"claim {claim.name} compares {claim.compare!r} with itself", *others
            )
        if len(set(claim.others)) < len(claim.others):
            raise StudyFileError(f"claim {claim.name} has an arm twice", *others)
        for field, level in claim.fixed_levels():
            if level not in (0, *spec.levels):
                message = f"claim {claim.name} looks at {level:g}, which is not in the grid"
                raise StudyFileError(message, "claims", position, field)


def _claims_are_about_measures(spec: "StudySpec") -> None:
    for position, claim in enumerate(spec.claims):
        for field, measure in claim.measures():
            if lack := _why_absent(spec, claim, measure):
                message = f"claim {claim.name} is about {measure!r}, which {lack}"
                raise StudyFileError(message, "claims", position, field)
        if claim.lacks_margin:
            raise StudyFileError(
                f"claim {claim.name} must state its margin, the smallest difference that matters: "
                f"for {claim.measure!r}, which is no fraction, there is none that suits everyone",
                *("claims", position),
            )


def _why_absent(spec: "StudySpec", claim: "ClaimSpec", measure: str) -> str:
    """Say why a claim's measure will never be taken; nothing if it will."""
    if not is_measure(measure):
        return f"is no measure{hint(measure, MEASURES)}"
    if needs_leakage(measure) and spec.leakage is None:
        return 'is measured with leakage = "paired-halves" only'
    arms = [spec.arm(name) for _, name in claim.arms()]
    if needs_validation(measure) and not _all_hold_out(spec, arms):
        return "is measured where part of the data is held out only: set validation in [data]"
    if needs_latency(measure) and (untimed := _untimed(spec, arms)):
        return f"is measured of arms that [latency] names only: add {untimed} to its arms"
    if needs_overlaps(measure) and claim.compare not in {first for first, _ in spec.overlaps}:
        return f"is measured of the first arms of overlaps only: add {claim.compare} to them"
    return ""


def _untimed(spec: "StudySpec", arms: Iterable["ArmSpec"]) -> str:
    """Return the first arm that is not timed; empty if all are."""
    timed = spec.latency.arms if spec.latency else ()
    named = [arm.name for arm in arms if arm.role != "baseline" and arm.name not in timed]
    return next(iter(named), "" if spec.latency else "the arms")


def _all_hold_out(spec: "StudySpec", arms: Iterable["ArmSpec"]) -> bool:
    return all(spec.data_of(arm, scale).validation for arm in arms for scale in spec.scales)
