"""What must be borne in mind of a study before it is run; a dry run says the same."""

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gossamer.core.formats import compact, counted, listed, percent
from gossamer.core.system import available_cores, unreadable_threads
from gossamer.recipes import Train
from gossamer.records.record import Claim
from gossamer.stats.intervals import mean_interval, simultaneous_confidence
from gossamer.stats.verdicts import one_unit_note
from gossamer.studies.parallelism import said
from gossamer.studies.plan import arms_at
from gossamer.studies.process_settings import processor_has_bf16
from gossamer.studies.run import Prepared

_ONE_APART = (0.0, math.sqrt(2))
"""Two numbers whose standard deviation is 1."""


def remarks(prepared: Prepared) -> tuple[str, ...]:
    """Return what a reader must know of the results that a study will have, a sentence each."""
    return (
        *_baseline(prepared),
        *_seeds(prepared),
        *_claims(prepared),
        *_chance(prepared),
        *_few_examples(prepared),
        *_precision(prepared),
        *_threads(prepared),
        *_disk(prepared),
    )


def _units(prepared: Prepared) -> tuple[int, str]:
    """Return how many independent numbers there are, and what they are called."""
    if prepared.spec.leakage is not None:
        return prepared.seeds // 2, "pair of seeds"
    return prepared.seeds, "seed"


def _baseline(prepared: Prepared) -> Iterator[str]:
    there = {arm.name for arm in arms_at(prepared.spec, prepared.scale)}
    baseline = prepared.spec.baseline
    if baseline is None:
        yield 'No arm has role = "baseline", so nothing says what pruning costs.'
    elif baseline.name not in there:
        yield (
            f"The baseline {baseline.name} is not run at the {prepared.scale} scale, so nothing "
            "says what pruning costs."
        )


def _seeds(prepared: Prepared) -> Iterator[str]:
    units, unit = _units(prepared)
    if units == 1:
        yield one_unit_note(unit)


def _claims(prepared: Prepared) -> Iterator[str]:
    spec, scale = prepared.spec, prepared.scale
    judged = spec.claims_at(scale)
    left_out = [claim.name for claim in spec.claims if claim.name not in {c.name for c in judged}]
    if left_out:
        yield (
            f"Not judged, as their arms are not run at the {scale} scale: claims "
            f"{listed(left_out)}."
        )
    units, unit = _units(prepared)
    names = f"{'claims' if len(judged) > 1 else 'claim'} {listed([c.name for c in judged])}"
    if judged and units == 1:
        yield f"One {unit} cannot judge {names}."
    if judged and units == 2:
        apart = mean_interval(_ONE_APART, simultaneous_confidence(_comparisons(prepared, judged)))
        yield (
            f"Two {'pairs of seeds' if 'pair' in unit else 'seeds'} give intervals of "
            f"±{apart.half_width or 0:.0f} standard deviations of a difference, which hardly "
            f"decide {names}: run more."
        )


def _comparisons(prepared: Prepared, judged: tuple[Claim, ...]) -> int:
    """Return how many paired differences the claims rest on, at least."""
    levels = len(prepared.spec.levels_at(prepared.scale)) or 1
    return sum(len(claim.against) * (len(claim.levels) or levels) for claim in judged)


def _chance(prepared: Prepared) -> Iterator[str]:
    """Say what guessing reaches, which an accuracy has to be held against."""
    found = Counter[tuple[str, int]]()
    for planned in prepared.plan.trials:
        dataset = prepared.datasets(planned.keyed.trial.data)
        found[dataset.name, dataset.classes] += 1
    for name, classes in found:
        yield f"Guessing reaches {percent(1 / classes, 1)}% on {name}."


def _few_examples(prepared: Prepared) -> Iterator[str]:
    """Say which arms have less than one batch to train on."""
    few: dict[tuple[int, int], list[str]] = {}
    for planned in prepared.plan.trials:
        trial = planned.keyed
        batches = [step.batch for step in trial.trial.steps if isinstance(step, Train)]
        if batches and trial.train_examples < min(batches):
            few.setdefault((trial.train_examples, min(batches)), []).append(planned.arm)
    for (examples, batch), arms in few.items():
        yield (
            f"There {'is' if examples == 1 else 'are'} {counted(examples, 'example')} to train on, "
            f"less than a batch of {batch}, in {listed(list(dict.fromkeys(arms)))}: an epoch is "
            "one step."
        )


def _precision(prepared: Prepared) -> Iterator[str]:
    precision = prepared.spec.precision_at(prepared.scale)
    on_processor = prepared.request.device == "cpu" and precision == "bf16"
    if on_processor and processor_has_bf16() is False:
        yield (
            "This processor has no bf16 instructions: bf16 is far slower here than "
            'precision = "float32".'
        )


def _threads(prepared: Prepared) -> Iterator[str]:
    """Say what was asked for of processes and threads that is slow here, or was passed over."""
    if prepared.request.scheduler is not None:
        return
    asked, cores = listed(said(prepared.request)), available_cores()
    jobs = min(prepared.jobs, len(prepared.plan.tasks) or 1)
    if asked and jobs * prepared.threads > cores:
        yield (
            f"{asked}: with {counted(cores, 'core')} here, {counted(jobs, 'process')} of "
            f"{counted(prepared.threads, 'thread')} wait for one another; fewer are likely faster."
        )
    gain = prepared.estimate.gain_of_one_thread if prepared.estimate else 1.0
    if asked and gain > 1:
        yield (
            f"{asked}: beside what else this machine does, one thread is {gain:.2g} times as fast "
            f"as {prepared.threads}: --threads 1 is better now."
        )
    if prepared.request.threads is None:
        for setting in unreadable_threads():
            yield f"{setting} is passed over, as it is no number of threads: expected 1 or more."


def _disk(prepared: Prepared) -> Iterator[str]:
    if prepared.estimate is None:
        return
    folder = prepared.request.folder
    there = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path())
    free, needed = shutil.disk_usage(there).free, prepared.estimate.kept_bytes
    if free < needed:
        yield (
            f"The disk of {folder} has {compact(free, 'B')} free, but about {compact(needed, 'B')} "
            "are needed."
        )
