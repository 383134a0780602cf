"""The audit: every attack that can be run, its numbers, and what the audit checks of itself."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import StoredArray, as_array
from gossamer.core.errors import InputError
from gossamer.leakage import self_tests
from gossamer.leakage.attacks import (
    ATTACKS,
    HEADLINES,
    Attack,
    Case,
    chosen_attacks,
    obstacle,
)
from gossamer.leakage.design import find_design, without_mate
from gossamer.leakage.evaluation import evaluate
from gossamer.leakage.exposure import most_exposed
from gossamer.leakage.given_arrays import (
    EXPECTED_LOGITS,
    checked_beside,
    checked_labels,
    checked_members,
)
from gossamer.leakage.notes import (
    breakdowns,
    collapsed_models,
    few_examples,
    finding,
    mateless,
    notes_on,
    strongest_of,
)
from gossamer.leakage.output_statistics import Statistics, different, model_statistics
from gossamer.leakage.provenance import arrays_source, provenance
from gossamer.leakage.threshold_split import find_split
from gossamer.leakage.uncertainty import Resampler
from gossamer.records.example_scores import ExampleScores
from gossamer.records.leakage import (
    AttackResult,
    Check,
    Given,
    Leakage,
    Provenance,
    Skipped,
    Source,
)

Progress = Callable[[int, int, str], None]
"""Called with what is done, out of how much, and what comes next."""

KeepScores = Callable[[ExampleScores], None]
"""Called once with every example's scores, such as the `append` of a list."""

_IN_SAMPLE = tuple(name for name, attack in ATTACKS.items() if attack.in_sample)
"""What is reported in any case: the published baseline."""


def audit(
    logits: ArrayLike | StoredArray,
    labels: ArrayLike,
    members: ArrayLike,
    *,
    pairs: ArrayLike | None = None,
    probabilities: bool = False,
    attacks: Sequence[str] | str | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
    keep_scores: KeepScores | None = None,
    source: Source | None = None,
) -> Leakage:
    """Measure how well an attacker can tell which examples a model was trained on.

    Every model is a target in turn, attacked with the others except its pair mate as references.
    Thresholds come from other models or, where there are none, from the other half of the
    examples; never from the scores that they judge, but for the published baseline.

    Parameters
    ----------
    logits
        ``[models, examples, classes]``, or ``[examples, classes]`` of one model. What
        `gossamer.leakage.archive.read_archive` found in a file is read as it is needed.
    labels
        True classes, ``[examples]``, whole numbers from 0, each the column of its class. One-hot
        rows and other forms that can be meant in one way only are taken, too; see
        `gossamer.core.labels.read_labels`.
    members
        Whether a model was trained on an example, ``[models, examples]``; or ``[examples]`` if
        all models were trained on the same.
    pairs
        ``[models]``: a number that a model shares with the one trained on the complementary
        examples. None: such pairs are recognised.
    probabilities
        The first argument holds probabilities.
    attacks
        Names of the attacks to run, of `gossamer.leakage.attacks.ATTACKS`; None: all usual ones.
        The best threshold in sample is always reported.
    temperature
        What logits are divided by before RMIA and BASE take probabilities, which often makes them
        stronger above 1. To be chosen before looking, or on other models: the highest of several
        audits of the same models flatters the attacker.
    seed
        Of resampling, splits and self-tests.
    progress
        Called before each part, as an audit of many models takes seconds.
    keep_scores
        Called with what every attack says of every example.
    source
        The file that the arrays are from, for the provenance; None: the arrays are hashed.

    Returns
    -------
    Leakage
        Its `provenance` says with what and when it was found.

    Raises
    ------
    InputError
        If an array is not as described; all labels are the same; or a model has fewer than two
        members or two others.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> members = generator.random((1, 400)) < 0.5
    >>> labels = generator.integers(0, 3, 400)
    >>> logits = generator.normal(size=(1, 400, 3))
    >>> logits[0, members[0], labels[members[0]]] += 3.0
    >>> leakage = audit(logits, labels, members)
    >>> leakage.passed, leakage.attack("loss").auc.value > 0.9
    (True, True)
    """
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise InputError(f"temperature: is {temperature!r}, expected a positive number such as 2.")
    given: Given = "probabilities" if probabilities else "logits"
    outputs = (
        logits if isinstance(logits, StoredArray) else as_array(given, logits, EXPECTED_LOGITS)
    )
    numbers, inside = checked_beside(outputs, given, labels, members)
    options = _Options(
        given,
        {} if isinstance(outputs, StoredArray) else {given: outputs.reshape(*inside.shape, -1)},
        outputs.shape[-1],
        chosen_attacks(attacks),
        _checked_seed(seed),
        progress or _silent,
        keep_scores,
        source,
        temperature,
    )

    def read(temperature: float) -> Iterator[Statistics]:
        return model_statistics(
            outputs, numbers, probabilities=probabilities, temperature=temperature
        )

    found = Statistics.stack(list(different(_told(read(1.0), len(inside), options))))
    if temperature != 1:
        softened = Statistics.stack(list(_told(read(temperature), len(inside), options)))
        options = replace(options, softened=softened)
    return _audited(found, numbers, inside, pairs, options)


def audit_statistics(
    statistics: Statistics,
    labels: ArrayLike,
    members: ArrayLike,
    *,
    pairs: ArrayLike | None = None,
    classes: int | None = None,
    attacks: Sequence[str] | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_scores: KeepScores | None = None,
    source: Source | None = None,
) -> Leakage:
    """Audit from the statistics that were kept instead of all logits.

    Parameters
    ----------
    statistics
        Of every model and example.
    classes
        Number of classes, if it is to be reported.
    labels, members, pairs, attacks, seed, progress, keep_scores
        As for `audit`.
    source
        What the statistics are of; None: the result has no provenance, as whoever kept them knows
        it best.

    Returns
    -------
    Leakage

    Raises
    ------
    InputError
        As for `audit`.
    """
    options = _Options(
        "statistics",
        {},
        classes,
        chosen_attacks(attacks),
        _checked_seed(seed),
        progress or _silent,
        keep_scores,
        source,
    )
    models, examples = statistics.models, statistics.examples
    inside = checked_members(members, models, examples)
    numbers = checked_labels(labels, examples, classes, models)
    for _ in different(statistics.of_models(np.array([model])) for model in range(models)):
        pass
    return _audited(statistics, numbers, inside, pairs, options)


@dataclass(frozen=True)
class _Options:
    """What an audit is to do, beside what it is to look at."""

    given: Given
    outputs: Mapping[str, NDArray[Any]]
    """What is to be hashed if no source is named; empty if nothing is."""
    classes: int | None
    attacks: tuple[str, ...]
    seed: int
    progress: Progress
    keep_scores: KeepScores | None
    source: Source | None
    temperature: float = 1.0
    softened: Statistics | None = None
    """Statistics at the temperature, if it is not 1."""


def _audited(
    statistics: Statistics,
    numbers: NDArray[np.int64],
    inside: NDArray[np.bool_],
    pairs: ArrayLike | None,
    options: _Options,
) -> Leakage:
    alone = without_mate(inside, pairs)
    kept = np.delete(np.arange(statistics.models), alone)
    case = _case_of(statistics, numbers, inside, kept, pairs, options)
    design = case.design
    obstacles = {name: obstacle(ATTACKS[name], design) for name in options.attacks}
    possible = [name for name, why in obstacles.items() if why is None]
    headline = next((name for name in HEADLINES if name in possible), (*possible, *_IN_SAMPLE)[0])
    results, scores = _attacked(case, possible, options)
    found = {result.name: result for result in results}
    strongest, compared = strongest_of(results)
    chosen = strongest or headline
    checks = _checks(case, headline, chosen, results, options.classes)
    if options.keep_scores is not None:
        options.keep_scores(ExampleScores(tuple(kept.tolist()), numbers, design.members, scores))
    total = len(results) + 1
    options.progress(total, total, "")
    comparable = bool(design.informative.any())
    return Leakage(
        models=design.models,
        examples=statistics.examples,
        classes=options.classes,
        paired=design.kind == "paired",
        references=self_tests.count_references(design) if comparable else None,
        non_members=int((~design.members).sum(axis=1).min()),
        unlearnt=len(collapsed_models(case)),
        headline=headline,
        strongest=chosen,
        compared=compared,
        attacks=tuple(_renumbered(result, kept) for result in results),
        checks=checks,
        exposed=most_exposed(case) if comparable else (),
        skipped=tuple(
            Skipped(attack=name, reason=f"because {why}") for name, why in obstacles.items() if why
        ),
        notes=(
            *mateless(alone),
            *notes_on(case, pairs is None, possible),
            *few_examples(case),
        ),
        sentence=finding(found[chosen], compared),
        headline_sentence="" if chosen == headline else finding(found[headline]),
        warnings=breakdowns(case),
        provenance=_provenance(numbers, inside, pairs, options),
    )


def _case_of(
    statistics: Statistics,
    labels: NDArray[np.int64],
    inside: NDArray[np.bool_],
    kept: NDArray[np.intp],
    pairs: ArrayLike | None,
    options: _Options,
) -> Case:
    """Return what is attacked: the outputs of the models that are kept, and who knows what."""
    design = find_design(inside[kept], pairs, options.seed)
    return Case(
        statistics.of_models(kept),
        labels,
        design,
        find_split(design, options.seed),
        options.seed,
        softened=options.softened.of_models(kept) if options.softened else None,
        temperature=options.temperature,
    )


def _provenance(
    labels: NDArray[np.int64],
    members: NDArray[np.bool_],
    pairs: ArrayLike | None,
    options: _Options,
) -> Provenance | None:
    source = options.source
    if source is None and options.outputs:
        grouped = None if pairs is None else as_array("pairs", pairs, "expected whole numbers")
        arrays = {**options.outputs, "labels": labels, "members": members, "pairs": grouped}
        source = arrays_source("arrays", arrays)
    if source is None:
        return None
    return provenance(
        source,
        options.given,
        seed=options.seed,
        models=len(members),
        attacks=options.attacks,
        pairs=pairs is not None,
        temperature=options.temperature,
    )


def _checked_seed(seed: int) -> int:
    try:
        return index(seed)
    except TypeError:
        raise InputError(f"seed: is {seed!r}, expected a whole number.") from None


def _silent(done: int, total: int, what: str) -> None:
    """Tell nobody."""


def _told(parts: Iterator[Statistics], models: int, options: _Options) -> Iterator[Statistics]:
    """Tell which model is read next; this takes longer than all that follows."""
    total = len(options.attacks) + len(_IN_SAMPLE) + 1
    for model in range(models):
        options.progress(0, total, f"reading model {model + 1} of {models}")
        yield next(parts)
    yield from parts  # which is none, but for the look at the checksum


def _attacked(
    case: Case, names: Sequence[str], options: _Options
) -> tuple[tuple[AttackResult, ...], dict[str, NDArray[np.float32]]]:
    """Run the attacks, the published baseline last; return the scores of all that are kept."""
    total = len(names) + len(_IN_SAMPLE) + 1
    paired = case.design.kind == "paired"
    units, misled = case.design.units, bool(collapsed_models(case))
    resamplers = {
        mutual: Resampler(units, paired=paired, seed=case.seed, mutual=mutual, misled=misled)
        for mutual in (False, True)
    }
    compared = sum(not ATTACKS[name].decides for name in names)
    results, kept = [], {}
    for done, name in enumerate((*names, *_IN_SAMPLE)):
        attack = _with_options(ATTACKS[name], case)
        options.progress(done, total, attack.label)
        scores = attack.score(case, None)
        if options.keep_scores is not None:
            kept[name] = scores.astype(np.float32)
        resampler = resamplers[attack.mutual]
        results.append(
            evaluate(attack, scores, case.design, case.split, resampler, compared=compared)
        )
    options.progress(total - 1, total, "Self-tests")
    return tuple(results), kept


def _with_options(attack: Attack, case: Case) -> Attack:
    """Say in an attack's label which options were not the usual ones."""
    if not attack.tempered or case.temperature == 1:
        return attack
    return replace(attack, label=f"{attack.label}, temperature {case.temperature:g}")


def _checks(
    case: Case,
    headline: str,
    strongest: str,
    results: tuple[AttackResult, ...],
    classes: int | None,
) -> tuple[Check, ...]:
    tested = {strongest: "null, strongest attack", headline: "null"}
    checks = [
        self_tests.null_check(ATTACKS[name], case, which)
        for name, which in tested.items()
        if not ATTACKS[name].in_sample
    ]
    checks += [
        self_tests.floor_check(case.statistics, case.design),
        self_tests.rates_check(results),
        self_tests.labels_check(case.labels, classes),
    ]
    if any(ATTACKS[name].mutual for name in tested):
        counts = self_tests.count_references(case.design)
        checks.append(self_tests.references_check(counts))
    return tuple(checks)


def _renumbered(result: AttackResult, kept: NDArray[np.intp]) -> AttackResult:
    """Give targets the numbers of the models as they were given."""
    targets = tuple(
        target.model_copy(update={"model": int(kept[target.model])}) for target in result.per_model
    )
    return result.model_copy(update={"per_model": targets})
