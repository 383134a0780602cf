"""What an audit of a file would do, and whether it would do it: all but the attacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.core.arrays import StoredArray
from gossamer.core.system import available_memory
from gossamer.leakage.archive import Contents, check_memory, read_array
from gossamer.leakage.attacks import ATTACKS, chosen_attacks, obstacle
from gossamer.leakage.design import Kind, find_design, without_mate
from gossamer.leakage.given_arrays import checked_beside
from gossamer.leakage.output_statistics import different, model_statistics
from gossamer.leakage.self_tests import count_references
from gossamer.records.leakage import ReferenceCounts, Skipped


@dataclass(frozen=True)
class DryRun:
    """What a file holds and which attacks it permits."""

    contents: Contents
    models: int
    """Those that would be audited."""
    left_out: tuple[int, ...]
    """Models whose mate is missing, which would not be."""
    examples: int
    classes: int
    design: Kind
    """How memberships were drawn."""
    members: tuple[int, int]
    """Fewest and most examples that a model trained on."""
    references: ReferenceCounts | None
    """None with a single model, or if all were trained on the same examples."""
    possible: tuple[str, ...]
    """Names of the attacks that can be run."""
    skipped: tuple[Skipped, ...]
    available: int | None
    """Bytes of memory there are; None where nothing says so."""


def dry_run(
    contents: Contents,
    attacks: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DryRun:
    """Find out what an audit of a file would do.

    All arrays are read and checked as the audit does, once their declared shapes and types fit
    and there is memory for them.

    Parameters
    ----------
    contents
        Of the file.
    attacks
        Names of the attacks asked for; None: the usual ones.
    progress
        Called after each model that was read.

    Returns
    -------
    DryRun

    Raises
    ------
    InputError
        If the audit would refuse the file.
    """
    declared = contents.headers[contents.scores]
    stored = StoredArray(contents.path, contents.scores, declared)
    labels, members = checked_beside(
        stored, contents.scores, *(read_array(contents, name) for name in ("labels", "members"))
    )
    check_memory(contents)
    examples, classes = declared.shape[-2:]
    parts = model_statistics(stored, labels, probabilities=contents.scores == "probabilities")
    for model, _ in enumerate(different(parts), 1):
        if progress:
            progress(model, len(members), "reading the next model")
    pairs = read_array(contents, "pairs") if "pairs" in contents.headers else None
    alone = without_mate(members, pairs)
    members = np.delete(members, alone, axis=0)
    design = find_design(members, pairs)
    obstacles = {name: obstacle(ATTACKS[name], design) for name in chosen_attacks(attacks)}
    counts = members.sum(axis=1)
    return DryRun(
        contents,
        design.models,
        tuple(alone.tolist()),
        examples,
        classes,
        design.kind,
        (int(counts.min()), int(counts.max())),
        count_references(design) if design.informative.any() else None,
        tuple(name for name, why in obstacles.items() if why is None),
        tuple(
            Skipped(attack=name, reason=f"because {why}") for name, why in obstacles.items() if why
        ),
        available_memory(),
    )
