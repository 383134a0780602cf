"""The checklist of a fair evaluation, answered from a study's records.

After Blalock, Gonzalez Ortiz, Frankle and Guttag (2020), "What is the State of Neural Network
Pruning?", MLSys, arXiv 2003.03033, with the control that they do not ask for: an unpruned network
that is trained as long. Each rule says itself when it is met; what is not met is said plainly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.core.formats import inside, listed, percent, sentence
from gossamer.records.record import Arm
from gossamer.reporting.results import Results, same_setting

OPERATING_POINTS = 5
SEVERAL = 3
"""Fewer seeds give no idea of their spread."""
PAIRS = 3
"""Of dataset and network, as Blalock et al. ask for."""
STANDARD_DATASETS = ("mnist", "fashion-mnist", "cifar10")
"""Those of the built-in datasets that the literature reports on."""
SIZES = ("parameters", "nonzero_parameters", "macs_dense", "macs_nonzero")


@dataclass(frozen=True)
class ChecklistItem:
    """One demand on an evaluation, and whether the study meets it."""

    text: str
    met: bool | None
    """None where the demand does not apply, or nothing is measured yet."""
    evidence: str
    """What it is judged by, in one or two sentences."""


def checklist(results: Results) -> tuple[ChecklistItem, ...]:
    """Answer the checklist for a study, as far as its records go."""
    return (
        _sizes(results),
        _operating_points(results),
        _seeds(results),
        _simple_baselines(results),
        _same_budget(results),
        _raw_accuracies(results),
        _settings(results),
        _standard_pairs(results),
    )


def _pruned(results: Results) -> list[Arm]:
    """Return the main arms that make a network sparse."""
    return [arm for arm in results.arms("main") if results.prunes(arm)]


def _names(arms: Sequence[Arm]) -> str:
    return listed([inside(arm.label) for arm in arms])


def _sizes(results: Results) -> ChecklistItem:
    text = "Compression and theoretical speed-up are both given, with their definitions"
    arms = _pruned(results)
    found = {arm.label: ratios for arm in arms if (ratios := _largest_ratios(results, arm))}
    if not found:
        return _nothing_yet(text) if arms else _no_pruned_arm(text)
    each = [
        f"{smaller:.1f}× and {faster:.1f}× ({inside(name)})"
        for name, (smaller, faster) in found.items()
    ]
    lacking = [arm for arm in arms if arm.label not in found]
    return ChecklistItem(
        text,
        not lacking,
        "Compression is the parameters of the dense network over the non-zero ones, theoretical "
        "speed-up the multiply-adds of the dense network over those of non-zero weights: at most "
        f"{listed(each)}." + (f" Not measured of {_names(lacking)}." if lacking else ""),
    )


def _largest_ratios(results: Results, arm: Arm) -> tuple[float, float] | None:
    """Return the largest compression and speed-up of an arm, against its dense network."""
    dense = _dense(results, arm)
    ratios = []
    for level in results.own_levels(arm.name):
        own = [results.interval(arm.name, level, name) for name in SIZES]
        # Packed layers store no zeros, so only the dense network knows what there was.
        whole = [results.interval(dense.name, 0.0, name) for name in SIZES] if dense else own
        sizes = [one.mean for one in (whole[0], own[1], whole[2], own[3]) if one and one.mean > 0]
        if len(sizes) == len(SIZES):
            ratios.append((sizes[0] / sizes[1], sizes[2] / sizes[3]))
    if not ratios:
        return None
    return max(ratio for ratio, _ in ratios), max(ratio for _, ratio in ratios)


def _dense(results: Results, arm: Arm) -> Arm | None:
    """Return an arm that is never pruned, of the same dataset and network, that is measured."""
    known = [results.unpruned(arm.name), results.baseline, *results.study.arms]
    for one in known:
        if one is None or results.prunes(one) or not same_setting(one, arm):
            continue
        if results.found(one.name, 0.0):
            return one
    return None


def _operating_points(results: Results) -> ChecklistItem:
    text = (
        f"Every main arm that prunes has {OPERATING_POINTS} operating points or more, one of them "
        "where the network has collapsed"
    )
    arms = _pruned(results)
    if not arms:
        return _no_pruned_arm(text)
    points = {arm.name: _measured_levels(results, arm) for arm in arms}
    if not any(points.values()):
        return _nothing_yet(text)
    counts = [f"{inside(arm.label)} {len(points[arm.name])}" for arm in arms]
    few = [arm for arm in arms if len(points[arm.name]) < OPERATING_POINTS]
    standing = [arm for arm in arms if not _collapses(results, arm, points[arm.name])]
    whole = "every pruned arm" if len(arms) > 1 else _names(arms)
    does = "does" if len(standing) == 1 else "do"
    who = f"{_names(standing)} {does} not so far" if standing else f"{whole} does"
    return ChecklistItem(
        text,
        not few and not standing,
        f"Points by arm: {listed(counts)}. A network has collapsed where its mean test accuracy is "
        f"less than half-way from chance (one over the classes) to that of the dense network: "
        f"{who}.",
    )


def _measured_levels(results: Results, arm: Arm) -> list[float]:
    levels = results.own_levels(arm.name)
    return [level for level in levels if results.interval(arm.name, level) is not None]


def _collapses(results: Results, arm: Arm, levels: Sequence[float]) -> bool:
    dense = _dense(results, arm)
    start = results.interval(dense.name, 0.0) if dense else None
    classes = results.classes(arm.name)
    if start is None or not classes:
        return False
    threshold = (1 / classes + start.mean) / 2
    accuracies = [results.interval(arm.name, level) for level in levels]
    return any(one.mean < threshold for one in accuracies if one)


def _seeds(results: Results) -> ChecklistItem:
    text = f"Several seeds ({SEVERAL} or more), with their spread"
    counts = results.unit_counts
    if not counts:
        return _nothing_yet(text)
    few, many = counts[0], counts[-1]
    number = f"{few} to {results.counted_units(many)}" if few < many else results.counted_units(few)
    shown = (
        "The spread is shown as a 95% interval." if many > 1 else "One gives no spread to be shown."
    )
    return ChecklistItem(text, few >= SEVERAL, f"A number rests on {number}. {shown}")


def _simple_baselines(results: Results) -> ChecklistItem:
    text = (
        "Random and magnitude pruning as baselines, both over all weights at once and with the "
        "same proportions of every layer"
    )
    if not _pruned(results):
        return _no_pruned_arm(text)
    found: dict[tuple[str, str], list[Arm]] = {}
    for arm in results.study.arms:
        for kind in baseline_kinds(arm):
            found.setdefault(kind, []).append(arm)
    wanted = [
        (score, share)
        for score in ("random", "magnitude")
        for share in ("global", "layer by layer")
    ]
    there = [f"{' '.join(kind)}: {_names(found[kind])}" for kind in wanted if kind in found]
    lacking = [" ".join(kind) for kind in wanted if kind not in found]
    sentences = [sentence("; ".join(there))] if there else []
    sentences += [f"Lacking: {listed(lacking)}"] if lacking else []
    return ChecklistItem(text, not lacking, f"{'. '.join(sentences)}.")


def baseline_kinds(arm: Arm) -> set[tuple[str, str]]:
    """Return which of the simple ways of pruning an arm's recipe takes.

    A transferred mask that is shuffled within layers or units is random, with given proportions
    of the layers; one that is borrowed from the same dataset is what its source did.

    Returns
    -------
    set
        Pairs of "magnitude" or "random" with "global" or "layer by layer".
    """
    return {kind for step in arm.recipe for kind in _kinds(step, arm.dataset)}


def _kinds(step: Mapping[str, Any], dataset: str) -> set[tuple[str, str]]:
    if step.get("step") == "prune":
        score = str(step.get("score", "magnitude"))
        share = "global" if step.get("allocation", "global") == "global" else "layer by layer"
        return {(score, share)} if score in ("random", "magnitude") else set()
    if step.get("step") != "transfer":
        return set()
    if step.get("shuffle"):
        return {("random", "layer by layer")}
    source = step.get("source")
    if not isinstance(source, Mapping) or source.get("data") not in (None, dataset):
        return set()
    return {kind for one in source.get("recipe", ()) for kind in _kinds(one, dataset)}


def _same_budget(results: Results) -> ChecklistItem:
    text = "An unpruned network trained with the same budget of optimizer steps"
    arms = _pruned(results)
    if not arms:
        return _no_pruned_arm(text)
    beside = {arm.label: one for arm in arms if (one := _as_long(results, arm))}
    pairs = [f"{inside(name)} has {inside(one.label)}" for name, one in beside.items()]
    lacking = [arm for arm in arms if arm.label not in beside]
    sentences = [sentence(listed(pairs))] if pairs else []
    sentences += [f"No such network beside {_names(lacking)}"] if lacking else []
    return ChecklistItem(text, not lacking, f"{'. '.join(sentences)}.")


def _as_long(results: Results, arm: Arm) -> Arm | None:
    """Return an unpruned arm that takes the same trainings, or as many optimizer steps."""
    if unpruned := results.unpruned(arm.name):
        return unpruned
    steps = results.planned_steps(arm.name)
    for one in results.study.arms:
        as_long = results.planned_steps(one.name) == steps
        if as_long and not results.prunes(one) and same_setting(one, arm):
            return one
    return None


def _raw_accuracies(results: Results) -> ChecklistItem:
    text = "Raw accuracies, of the dense network too, and not only changes"
    arms = [arm for arm in results.study.arms if _measured_levels(results, arm)]
    base = results.baseline
    if not arms or (base and base not in arms):
        return _nothing_yet(text)
    dense = results.interval(base.name, 0.0) if base else None
    start = f"The unpruned network has {percent(dense.mean)}%" if dense else "No unpruned network"
    where = "the tables and results.csv give test accuracies themselves"
    return ChecklistItem(text, dense is not None, f"{start}; {where}.")


def _settings(results: Results) -> ChecklistItem:
    text = "All hyper-parameters"
    if not results.study.file.strip():
        return ChecklistItem(text, False, "The study's file is not kept in the report.")
    return ChecklistItem(
        text,
        True,
        "The study's file stands whole in the report, and every training with its defaults "
        "resolved.",
    )


def _standard_pairs(results: Results) -> ChecklistItem:
    text = f"At least {PAIRS} pairs of a standard dataset and a network"
    pairs = list(dict.fromkeys((arm.dataset, arm.network) for arm in results.study.arms))
    named = listed([f"{dataset} with {network}" for dataset, network in pairs])
    strange = list(
        dict.fromkeys(dataset for dataset, _ in pairs if dataset not in STANDARD_DATASETS)
    )
    evidence = f"{len(pairs)}: {named}."
    if strange:
        evidence += f" Of no standard: {listed(strange)}."
    return ChecklistItem(text, len(pairs) >= PAIRS and not strange, evidence)


def _nothing_yet(text: str) -> ChecklistItem:
    return ChecklistItem(text, None, "Nothing that it asks for is measured yet.")


def _no_pruned_arm(text: str) -> ChecklistItem:
    return ChecklistItem(text, None, "No main arm makes a network sparse.")
