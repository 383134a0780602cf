from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.leakage.design import (
    Design,
    find_design,
    redraw,
    reference_counts,
    shuffle,
    without_mate,
)

Members = NDArray[np.bool_]
PairedMembers = Callable[..., Members]


def balanced_members(models: int, examples: int, each: int, seed: int = 0) -> Members:
    """Every example is in `each` of the models, drawn for each example."""
    ranks = np.random.default_rng(seed).random((models, examples)).argsort(axis=0)
    found: Members = ranks < each
    return found


def test_pairs_are_recognised_in_any_order(paired_members: PairedMembers) -> None:
    members = paired_members(8, 50)
    order = np.random.default_rng(1).permutation(8)
    design = find_design(members[order])
    assert design.kind == "paired"
    assert design.mates is not None
    for model in range(8):
        assert (members[order][model] != members[order][design.mates[model]]).all()
        assert design.units[model] == design.units[design.mates[model]]


def test_models_trained_on_equal_halves_are_paired_one_to_one() -> None:
    half = np.array([True, True, False, False])
    design = find_design(np.stack([half, half, ~half, ~half]))
    assert design.mates is not None
    assert design.mates.tolist() == [2, 3, 0, 1]


def test_examples_that_no_model_trained_on_do_not_hide_pairs(paired_members: PairedMembers) -> None:
    members = np.hstack([paired_members(4, 30), np.zeros((4, 5), dtype=bool)])
    design = find_design(members)
    assert design.kind == "paired"
    assert design.informative.sum() <= 30


def test_given_pairs_are_checked(paired_members: PairedMembers) -> None:
    members = paired_members(4, 30)
    assert find_design(members, [7, 7, 3, 3]).kind == "paired"
    with pytest.raises(InputError, match="models 0 and 2 agree on"):
        find_design(members, [0, 1, 0, 1])
    with pytest.raises(InputError, match="exactly twice"):
        find_design(members, [0, 0, 0, 1])
    with pytest.raises(InputError, match="a whole number for each of the 4 models"):
        find_design(members, [0, 0])


def test_models_of_the_same_examples_are_no_pair(paired_members: PairedMembers) -> None:
    half = np.array([True, False, True, False])
    with pytest.raises(InputError, match="models 0 and 1 were trained on the same examples"):
        find_design([half, half], [0, 0])
    first, _, third, fourth = paired_members(4, 30)
    with pytest.raises(InputError, match="models 1 and 2 were trained on the same examples"):
        find_design([third, first, first, fourth], [0, 1, 1, 0])


def test_models_of_the_same_split_are_one_unit(paired_members: PairedMembers) -> None:
    first, mate, third, fourth = paired_members(4, 60)
    assert find_design([first, mate, third, fourth]).units.tolist() == [0, 0, 1, 1]
    assert find_design([first, first, first]).units.tolist() == [0, 0, 0]
    twice = find_design([first, mate, third, fourth, mate, first])
    assert twice.kind == "paired"
    assert twice.units.tolist() == [0, 0, 1, 1, 0, 0]
    # Mates are whatever was trained on the complement, and examples in no model part nobody.
    never = np.hstack([[first, mate, first], np.zeros((3, 5), dtype=bool)])
    assert find_design(never).units.tolist() == [0, 0, 0]


def test_all_models_of_the_targets_split_are_left_out(paired_members: PairedMembers) -> None:
    halves = paired_members(6, 60)
    design = find_design(np.vstack([halves, halves[:2]]))
    rows = np.arange(8)[:, None] * np.ones((1, 60))
    assert [row[0] for row in design.left_out(rows, 7)] == [0, 1, 6, 7]
    assert [row[0] for row in design.left_out(rows, 2)] == [2, 3]
    for target in range(8):
        inside, outside = reference_counts(design, target)
        assert (inside == outside).all()
    # Equally many models of each example, but twice the same ones.
    balanced = balanced_members(3, 60, 1)
    assert find_design(balanced).kind == "balanced"
    assert find_design(np.vstack([balanced, balanced])).kind == "overlapping"


def test_models_whose_mates_are_missing_are_found(paired_members: PairedMembers) -> None:
    members = paired_members(8, 40)
    assert without_mate(members).tolist() == []
    assert without_mate(members[1:]).tolist() == [0]
    assert without_mate(members[[0, 2, 1, 3, 4, 6, 5]]).tolist() == [5]
    assert without_mate(np.hstack([members[:7], np.zeros((7, 9), bool)])).tolist() == [6]
    # A half twice beside its complement once: which of the two has the mate cannot matter.
    assert len(without_mate(members[[0, 1, 0]])) == 1
    # Hardly any model has a mate: these are no pairs.
    assert without_mate(members[[0, 1, 2, 4]]).tolist() == []
    assert without_mate(np.random.default_rng(0).random((7, 40)) < 0.5).tolist() == []
    assert without_mate(members[:1]).tolist() == []
    # Whoever says which are pairs is taken at their word, and refused if it is wrong.
    assert without_mate(members[:3], [0, 0, 1]).tolist() == []


def test_kinds_without_pairs() -> None:
    assert find_design(balanced_members(6, 40, 3)).kind == "balanced"
    drawn = np.random.default_rng(0).random((6, 40)) < 0.5
    assert find_design(drawn).kind == "independent"
    assert find_design(drawn[:1]).kind == "independent"
    assert find_design(np.tile(drawn[0], (3, 1))).kind == "overlapping"
    with_others = np.hstack([np.random.default_rng(1).random((6, 900)) < 0.5, np.zeros((6, 300))])
    assert find_design(with_others).kind == "independent"


def test_members_that_go_together_are_noticed() -> None:
    generator = np.random.default_rng(0)
    often = generator.random(2000) < 0.5
    together = generator.random((8, 2000)) < np.where(often, 0.8, 0.2)
    design = find_design(together)
    assert design.kind == "overlapping"
    drawn = redraw(design, generator)
    np.testing.assert_array_equal(np.sort(drawn.members.sum(axis=0)), np.sort(together.sum(axis=0)))


@pytest.mark.parametrize("each", [2, 3, 4])
def test_a_balanced_design_leaves_out_a_model_of_the_other_side(each: int) -> None:
    members = balanced_members(6, 200, each)
    design = find_design(members)
    assert design.mates is not None
    mates = np.take_along_axis(members, design.mates, axis=0)
    assert (mates != members).all()
    # Every model of the other side gets its turn.
    for target in range(6):
        assert len(np.unique(design.mates[target])) == 5


def test_reference_counts_do_not_depend_on_membership(paired_members: PairedMembers) -> None:
    for members in (paired_members(8, 100), balanced_members(8, 100, 3)):
        design = find_design(members)
        counts = [reference_counts(design, target) for target in range(8)]
        inside, outside = (np.stack(side) for side in zip(*counts, strict=True))
        assert (inside == inside[0]).all()
        assert (outside == outside[0]).all()
        assert (inside + outside == 6).all()


def test_the_naive_design_counts_membership() -> None:
    members = balanced_members(8, 100, 4)
    naive = Design(members, "independent", np.arange(8), None)
    inside, _ = reference_counts(naive, 0)
    np.testing.assert_array_equal(inside == 3, members[0])


def test_redrawn_memberships_respect_the_design(paired_members: PairedMembers) -> None:
    generator = np.random.default_rng(0)
    paired = find_design(paired_members(6, 500))
    drawn = redraw(paired, generator)
    assert find_design(drawn.members).kind == "paired"
    swapped = (drawn.members != paired.members).mean()
    assert 0.45 < swapped < 0.55

    balanced = find_design(balanced_members(6, 500, 2))
    drawn = redraw(balanced, generator)
    assert (drawn.members.sum(axis=0) == 2).all()
    assert drawn.mates is not None
    assert (np.take_along_axis(drawn.members, drawn.mates, axis=0) != drawn.members).all()

    independent = find_design(generator.random((6, 500)) < 0.3)
    drawn = redraw(independent, generator)
    np.testing.assert_array_equal(drawn.members.sum(axis=1), independent.members.sum(axis=1))


def test_shuffling_keeps_what_models_have_in_common(paired_members: PairedMembers) -> None:
    generator = np.random.default_rng(0)
    never = np.zeros((6, 100), dtype=bool)
    paired = find_design(np.hstack([paired_members(6, 400), never]))
    dealt = shuffle(paired, generator)
    for model in range(6):
        both = dealt.members[dealt.units == dealt.units[model]]
        assert (both.sum(axis=0) <= 1).all()
        assert dealt.members[model].sum() == paired.members[model].sum()
    assert dealt.members[:, 400:].any()

    balanced = find_design(balanced_members(6, 400, 3))
    dealt = shuffle(balanced, generator)
    assert dealt.mates is not None
    assert (np.take_along_axis(dealt.members, dealt.mates, axis=0) != dealt.members).all()


def test_selecting_examples_keeps_their_mates() -> None:
    design = find_design(balanced_members(6, 50, 3))
    part = design.select(np.array([7, 3]))
    assert design.mates is not None
    assert part.mates is not None
    np.testing.assert_array_equal(part.mates, design.mates[:, [7, 3]])
