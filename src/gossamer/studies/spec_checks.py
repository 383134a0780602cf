"""What a study file must hold beyond the kinds of its fields: names that exist, values that differ.

Each check yields a `StudyFileError` for everything that it finds wrong, with its place.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gossamer.core.formats import percentage
from gossamer.leakage.attacks import attack_measures
from gossamer.measures import condition_of, measure_named, measures, measures_of, optional
from gossamer.recipes import DataSpec
from gossamer.studies.study_errors import ErrorCollector, StudyFileError, StudyFileErrors, path_text
from gossamer.studies.validation_problems import Place, hint, problems
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
        With every place where something is wrong.
    """
    found = [error for check in _CHECKS for error in check(spec)]
    data_is_known = not any("data" in error.place for error in found)
    if data_is_known:
        found += [error for check in _CHECKS_OF_DATA for error in check(spec)]
    if found:
        recipes = recipe_errors(spec) if data_is_known else []
        raise StudyFileErrors([*map(_with_path, found), *recipes])


def _with_path(error: StudyFileError) -> StudyFileError:
    return StudyFileError(f"{path_text(error.place)}: {error}", *error.place, what=error.what)


def recipe_errors(spec: "StudySpec") -> list[StudyFileError]:
    """Return what is wrong with the recipes of a file that is refused anyway, at any scale.

    A file in order is checked at the scale that is run alone, whose trials need its recipes.
    """
    errors = ErrorCollector()
    for scale in spec.scales:
        for arm in spec.arms:
            for level in spec.levels if scale in arm.scales else ():
                with errors.collecting(*spec.place_of(arm, "recipe")):
                    spec.recipe_of(arm, scale, level)
    return errors.found


def _names_differ(spec: "StudySpec") -> Iterator[StudyFileError]:
    for what, names, field in (
        ("arm", [arm.name for arm in spec.arms], "arms"),
        ("label", [arm.label for arm in spec.arms], "arms"),
        ("claim", [claim.name for claim in spec.claims], "claims"),
    ):
        for position, name in enumerate(names):
            if name in names[:position]:
                yield StudyFileError(f"{what} {name!r} is given twice", field, position)
    baselines = [n for n, arm in enumerate(spec.arms) if arm.role == "baseline"]
    if len(baselines) > 1:
        named = " and ".join(spec.arms[n].name for n in baselines)
        yield StudyFileError(f"there can be one baseline, not {named}", "arms", baselines[1])


def _levels_differ(spec: "StudySpec") -> Iterator[StudyFileError]:
    yield from _must_differ(spec.levels, "grid", spec.axis)
    for name, scale in spec.scales.items():
        yield from _must_differ(scale.levels or (), "scales", name, "levels")
    for position, claim in enumerate(spec.claims):
        yield from _must_differ(claim.levels, "claims", position, "levels")
    if spec.latency is not None:
        yield from _must_differ(spec.latency.levels, "latency", "levels")


def _must_differ(levels: Sequence[float], *place: str | int) -> Iterator[StudyFileError]:
    """Yield an error for levels that are equal, or so nearly that a page would print them alike."""
    for first, second in pairwise(sorted(levels)):
        if first == second:
            yield StudyFileError(f"{first:g} is given twice", *place)
        elif math.isclose(first, second, rel_tol=_NEAR):
            yield StudyFileError(f"{first!r} and {second!r} are too near to be told apart", *place)


def _scales_fit(spec: "StudySpec") -> Iterator[StudyFileError]:
    for name, scale in spec.scales.items():
        for level in scale.levels or ():
            if lack := _not_in_grid(spec, level):
                yield StudyFileError(f"{level:g} {lack}", "scales", name, "levels")
        if spec.axis in scale.values:
            yield StudyFileError(
                f"{spec.axis!r} is the grid's variable, which has its values there: leave it out",
                *("scales", name, "values", spec.axis),
            )


def _arms_are_run(spec: "StudySpec") -> Iterator[StudyFileError]:
    for position, arm in enumerate(spec.arms):
        place: Place = ("arms", position, "scales")
        if len(set(arm.scales)) < len(arm.scales):
            yield StudyFileError(f"arm {arm.name} has a scale twice", *place)
        if not set(arm.scales) & set(spec.scales):
            yield StudyFileError(
                f"arm {arm.name} is run at {' and '.join(arm.scales) or 'no scale'}, but the study "
                f"has {' and '.join(spec.scales)}: it would never be run",
                *place,
            )


def _data_can_be_changed(spec: "StudySpec") -> Iterator[StudyFileError]:
    changes = (
        *(("scales", name, scale.data) for name, scale in spec.scales.items()),
        *(("arms", position, arm.data) for position, arm in enumerate(spec.arms)),
    )
    for what, which, changed in changes:
        try:
            DataSpec.model_validate({"name": spec.data.name, **changed})
        except ValidationError as error:
            for one in problems(error, (DataSpec,)):
                yield StudyFileError(one.text, what, which, "data", *one.place)


def _halves_are_complementary(spec: "StudySpec") -> Iterator[StudyFileError]:
    for arm in spec.arms if spec.leakage else ():
        for scale in spec.scales:
            data = spec.data_of(arm, scale)
            if data.pool == "half" and data.validation and data.validation_from == "train":
                what = (
                    "trains on complementary halves of the pool, and what is held out would be "
                    'missing: use validation_from = "test", or 0'
                )
                place = spec.data_place(arm, scale, "validation")
                yield StudyFileError(f"arm {arm.name} {what}", *place, what=what)


def _pairs_are_whole(spec: "StudySpec") -> Iterator[StudyFileError]:
    for name, scale in spec.scales.items():
        if spec.leakage and scale.seeds % 2:
            yield StudyFileError(
                "seeds train in pairs, on complementary halves of the data, so their number must "
                f"be even, not {scale.seeds}",
                *("scales", name, "seeds"),
            )


def _recipes_can_be_written_out(spec: "StudySpec") -> Iterator[StudyFileError]:
    book, errors = spec.cookbook, ErrorCollector()
    for name, source in spec.sources.items():
        with errors.collecting("sources", name):
            book.written_out(source.recipe, f"source {name}", ("sources", name, "recipe"), (name,))
    for position, arm in enumerate(spec.arms):
        steps: list[PlacedStep] = []
        with errors.collecting(*spec.place_of(arm, "recipe")):
            steps = spec.steps_of(arm)
        if not spec.levels and spec.axis in mentioned([one.step for one in steps]):
            message = f"it is empty, but arm {arm.name} needs it"
            yield StudyFileError(message, "grid", spec.axis, what="it is empty")
        own = (None, arm.data.get("name", spec.data.name))
        attacked = spec.leakage and arm.data.get("pool", "half") == "half"
        if attacked and any(_borrows(one, own) for one in steps):
            # The source would have trained on examples that count as non-members here.
            yield StudyFileError(
                "with leakage a mask cannot come from another seed's half of the same data: "
                "let its source have seed_offset = 0, or data of its own",
                *("arms", position, "recipe"),
            )
    yield from errors.found


def _borrows(one: PlacedStep, data: Sequence[str | None]) -> bool:
    """Tell whether a step borrows a mask from another seed on one of these datasets."""
    source = one.step.get("source")
    return bool(source and source["data"] in data and source["seed_offset"])


def _overlaps_are_of_arms(spec: "StudySpec") -> Iterator[StudyFileError]:
    for position, pair in enumerate(spec.overlaps):
        for arm in pair:
            if lack := _no_arm(spec, arm):
                yield StudyFileError(f"{arm!r} {lack}", "overlaps", position)
                break
        if pair[0] == pair[1]:
            yield StudyFileError(f"{pair[0]!r} is compared with itself", "overlaps", position)
        if pair in spec.overlaps[:position]:
            yield StudyFileError(f"{' and '.join(pair)} are given twice", "overlaps", position)


def _timed_arms_stand_beside_the_baseline(spec: "StudySpec") -> Iterator[StudyFileError]:
    if spec.latency is None:
        return
    baseline = spec.baseline
    if baseline is None:
        yield StudyFileError(
            'networks are timed beside those of the baseline, but no arm has role = "baseline"',
            "latency",
        )
        return
    names = spec.latency.arms
    for position, name in enumerate(names):
        place: Place = ("latency", "arms", position)
        if lack := _no_arm(spec, name):
            yield StudyFileError(f"{name!r} {lack}", *place)
        elif name == baseline.name:
            message = f"{name!r} is the baseline, which is timed in any case: leave it out"
            yield StudyFileError(message, *place)
        elif name in names[:position]:
            yield StudyFileError(f"{name!r} is given twice", *place)
        elif _task(spec, spec.arm(name)) != _task(spec, baseline):
            yield StudyFileError(
                f"{name!r} has another network or other data than the baseline {baseline.name!r}, "
                "so that their times say nothing about pruning",
                *place,
            )


def _task(spec: "StudySpec", arm: "ArmSpec") -> tuple[object, object]:
    return arm.network or spec.network, arm.data.get("name", spec.data.name)


def _timed_levels_are_in_the_grid(spec: "StudySpec") -> Iterator[StudyFileError]:
    for level in spec.latency.levels if spec.latency else ():
        if lack := _not_in_grid(spec, level):
            yield StudyFileError(f"{level:g} {lack}", "latency", "levels")


def _not_in_grid(spec: "StudySpec", level: float) -> str:
    """Say that a level is none of the grid; nothing if it is one."""
    if level in spec.levels:
        return ""
    return f"is not in the grid{percentage(level) if level / 100 in spec.levels else ''}"


def _no_arm(spec: "StudySpec", name: str) -> str:
    """Say that a name is no arm; nothing if it is one."""
    names = [arm.name for arm in spec.arms]
    if name in names:
        return ""
    return f"is no arm{hint(name, names) or '; the arms are ' + ', '.join(names)}"


def _claims_are_about_arms(spec: "StudySpec") -> Iterator[StudyFileError]:
    for position, claim in enumerate(spec.claims):
        for field, arm in claim.arms():
            if lack := _no_arm(spec, arm):
                message = f"claim {claim.name} is about {arm!r}, which {lack}"
                yield StudyFileError(message, "claims", position, field)
        others: Place = ("claims", position, "against")
        if claim.against_level is None and claim.compare in claim.others:
            yield StudyFileError(
                f"claim {claim.name} compares {claim.compare!r} with itself", *others
            )
        if len(set(claim.others)) < len(claim.others):
            yield StudyFileError(f"claim {claim.name} has an arm twice", *others)
        for field, level in claim.fixed_levels():
            if level and (lack := _not_in_grid(spec, level)):
                message = f"claim {claim.name} looks at {level:g}, which {lack}"
                yield StudyFileError(message, "claims", position, field)


def _claims_are_about_measures(spec: "StudySpec") -> Iterator[StudyFileError]:
    for position, claim in enumerate(spec.claims):
        if any(_no_arm(spec, arm) for _, arm in claim.arms()):
            continue  # which is an error already
        for field, measure in claim.measures():
            if lack := _why_absent(spec, claim, measure):
                message = f"claim {claim.name} is about {measure!r}, which {lack}"
                yield StudyFileError(message, "claims", position, field)
        if claim.lacks_margin and _is_taken(claim.measure):
            yield StudyFileError(
                f"claim {claim.name} must state its margin, the smallest difference that matters: "
                f"for {claim.measure!r}, which is no fraction, there is none that suits everyone",
                *("claims", position),
            )


def _what_is_also_measured_is_known(spec: "StudySpec") -> Iterator[StudyFileError]:
    for position, name in enumerate(spec.measure.also):
        if name not in optional():
            message = f"{name!r} is no optional measurement{hint(name, optional())}"
            yield StudyFileError(message, "measure", "also", position)
        elif optional()[name].leakage and spec.leakage is None:
            message = f'{name!r} is measured with leakage = "paired-halves" only'
            yield StudyFileError(message, "measure", "also", position)


def _is_taken(measure: str) -> bool:
    return measure_named(measure) is not None or measure in attack_measures()


def _why_absent(spec: "StudySpec", claim: "ClaimSpec", measure: str) -> str:
    """Say why a claim's measure will never be taken; nothing if it will."""
    if not _is_taken(measure):
        return f"is no measure{hint(measure, (*measures(), *attack_measures()))}"
    for group in optional().values():
        if measure in measures_of([group.name]) and group.name not in spec.measure.also:
            return f'is measured if asked for only: add "{group.name}" to also in [measure]'
    condition = condition_of(measure)
    if condition == "leakage" and spec.leakage is None:
        return 'is measured with leakage = "paired-halves" only'
    arms = [spec.arm(name) for _, name in claim.arms()]
    if condition == "validation" and not _all_hold_out(spec, arms):
        return "is measured where part of the data is held out only: set validation in [data]"
    if condition == "latency" and (untimed := _untimed(spec, arms)):
        return f"is measured of arms that [latency] names only: add {untimed} to its arms"
    if condition == "overlaps" and claim.compare not in {first for first, _ in spec.overlaps}:
        return f"is measured of the first arms of overlaps only: add {claim.compare} to them"
    if condition == "overlaps" and (several := _overlapping_several(spec, arms)):
        return (
            f"is not one number of {several}, whose mask overlaps compares with several: keep one"
        )
    return ""


def _overlapping_several(spec: "StudySpec", arms: Iterable["ArmSpec"]) -> str:
    """Return the first arm whose mask is compared with those of several others; empty if none."""
    firsts = [first for first, _ in spec.overlaps]
    return next((arm.name for arm in arms if firsts.count(arm.name) > 1), "")


def _untimed(spec: "StudySpec", arms: Iterable["ArmSpec"]) -> str:
    """Return the first arm that is not timed; empty if all are."""
    timed = spec.latency.arms if spec.latency else ()
    named = [arm.name for arm in arms if arm.role != "baseline" and arm.name not in timed]
    return next(iter(named), "" if spec.latency else "the arms")


def _all_hold_out(spec: "StudySpec", arms: Iterable["ArmSpec"]) -> bool:
    return all(spec.data_of(arm, scale).validation for arm in arms for scale in spec.scales)


_CHECKS = (
    _names_differ,
    _levels_differ,
    _scales_fit,
    _arms_are_run,
    _data_can_be_changed,
    _pairs_are_whole,
    _recipes_can_be_written_out,
    _overlaps_are_of_arms,
    _timed_arms_stand_beside_the_baseline,
    _timed_levels_are_in_the_grid,
    _what_is_also_measured_is_known,
    _claims_are_about_arms,
)
_CHECKS_OF_DATA = (_halves_are_complementary, _claims_are_about_measures)
"""These look at the data of arms, which must have been found to be in order."""
