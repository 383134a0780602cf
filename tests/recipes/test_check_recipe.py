"""Recipes whose steps do not go together are refused, each with its sentence."""

from collections.abc import Sequence
from typing import Any

import pytest

from gossamer.core.errors import InputError
from gossamer.masks import ErdosRenyi, NByM
from gossamer.recipes import (
    Pack,
    Prune,
    Regrow,
    Rewind,
    Step,
    Train,
    Transfer,
    check_recipe,
    expected_after,
)
from gossamer.recipes.steps import Source
from gossamer.training import AdamW, EarlyStop, Sgd
from gossamer.training.updaters import Gradual

TRAIN = Train(epochs=2)
HALF = Prune(sparsity=0.5)
RANDOM = Prune(score="random", allocation=ErdosRenyi(epsilon=2))
UNITS = Prune(sparsity=0.5, pattern="unit")
BORROWED = Transfer(source=Source(recipe=(TRAIN, HALF)))


def refusal(*steps: Step, validation: float = 0.0) -> str:
    with pytest.raises(InputError) as caught:
        check_recipe(steps, validation)
    return str(caught.value)


def test_a_borrowed_mask_counts_like_one_of_its_own() -> None:
    source = Source(recipe=(TRAIN, Prune(sparsity=0.9)))
    message = refusal(Transfer(source=source), Prune(sparsity=0.5))
    assert "asks for a sparsity of 0.5 in all, but 0.9 is pruned by then" in message
    units = Source(recipe=(TRAIN, Prune(sparsity=0.5, pattern="unit")))
    assert "whole units are pruned before it" in refusal(Transfer(source=units), Pack())


def test_recipes_of_the_literature_pass() -> None:
    keep = Train(epochs=1, optimizer_state="keep")
    check_recipe([], 0)
    check_recipe([TRAIN, Prune(sparsity=0.9), keep], 0)
    lottery: list[Any] = [
        TRAIN,
        Prune(sparsity=0.5),
        Rewind(to=0),
        TRAIN,
        Prune(sparsity=0.75),
        Rewind(to=1),
    ]
    check_recipe([*lottery, TRAIN], 0)
    check_recipe([Prune(sparsity=0.9, score="random"), TRAIN], 0)
    check_recipe([Train(epochs=1, early_stop=EarlyStop(patience=1))], 0.1)
    check_recipe([TRAIN, HALF, TRAIN, Regrow(), TRAIN], 0)  # dense-sparse-dense
    check_recipe([RANDOM, Pack(initialisation="he"), TRAIN], 0)
    check_recipe([BORROWED, TRAIN], 0)
    check_recipe([BORROWED, Pack(), TRAIN, Regrow(), HALF, Rewind(to=0), Pack(), TRAIN], 0)
    check_recipe([Train(epochs=1, early_stop=EarlyStop(watch="train_loss", patience=1))], 0)


def test_a_rewind_to_a_step_not_yet_done_is_refused() -> None:
    message = refusal(TRAIN, Rewind(to=2))
    assert message.startswith("step 2 of the recipe (rewind) goes back to after step 2, but only 1")


@pytest.mark.parametrize(
    "before",
    [
        [],
        [Prune(sparsity=0.5)],
        [Train(epochs=1, optimizer=Sgd())],
        [TRAIN, Rewind(to=0)],
        [TRAIN, Train(epochs=1, optimizer=AdamW())],
    ],
)
def test_an_optimizer_state_that_is_not_there_cannot_be_kept(before: list[Any]) -> None:
    message = refusal(*before, Train(epochs=1, optimizer_state="keep"))
    assert f"step {len(before) + 1} of the recipe (train) keeps the optimizer's state" in message


def test_an_early_stop_on_an_empty_validation_split_is_refused() -> None:
    message = refusal(Train(epochs=1, early_stop=EarlyStop(patience=1)))
    assert "stops early on validation_loss" in message


def test_a_pruning_that_asks_for_less_than_is_gone_is_refused() -> None:
    message = refusal(Prune(sparsity=0.9), TRAIN, Rewind(to=0), Prune(sparsity=0.5))
    assert "step 4 of the recipe (prune) asks for a sparsity of 0.5 in all, but 0.9" in message


def test_prunings_of_other_weights_may_ask_for_less() -> None:
    check_recipe([Prune(sparsity=0.9), Prune(sparsity=0.5, exclude=("output layer",))], 0)
    check_recipe([Prune(sparsity=0.9), Prune(sparsity=0.5, pattern="unit")], 0)
    check_recipe([Prune(sparsity=0.9), Prune(sparsity=0, allocation={"dense1": 0.95})], 0)


def test_a_mask_that_was_lifted_or_never_enforced_allows_less() -> None:
    check_recipe([Prune(sparsity=0.9), TRAIN, Regrow(), TRAIN, HALF], 0)
    check_recipe([Prune(sparsity=0.9, enforce=False), TRAIN, HALF], 0)
    check_recipe([Prune(pattern=NByM(n=1, m=4)), TRAIN, Prune(pattern=NByM(n=2, m=4))], 0)
    message = refusal(Prune(sparsity=0.9), Regrow(), Prune(sparsity=0.8), HALF)
    assert message.startswith("step 4 of the recipe (prune) asks for a sparsity of 0.5 in all, but")


@pytest.mark.parametrize("between", [Regrow(), Pack(), Rewind(to=0)])
def test_momenta_that_a_step_drops_cannot_be_kept(between: Step) -> None:
    message = refusal(TRAIN, HALF, between, Train(epochs=1, optimizer_state="keep"))
    assert message == (
        "step 4 of the recipe (train) keeps the optimizer's state, but no adam training comes "
        "right before it: use optimizer_state = 'fresh'"
    )


@pytest.mark.parametrize("between", [HALF, BORROWED, Prune(sparsity=0.5, enforce=False)])
def test_pruning_keeps_momenta(between: Step) -> None:
    check_recipe([TRAIN, between, Train(epochs=1, optimizer_state="keep")], 0)


@pytest.mark.parametrize("before", [[], [TRAIN], [TRAIN, Rewind(to=0)]])
def test_a_regrow_without_a_mask_is_refused(before: list[Step]) -> None:
    assert refusal(*before, Regrow()) == (
        f"step {len(before) + 1} of the recipe (regrow) lifts a mask, but nothing is pruned before "
        "it"
    )


@pytest.mark.parametrize(
    "before",
    [
        [],
        [TRAIN],
        [HALF, Regrow()],
        [Prune(sparsity=0.5, enforce=False)],
        [Transfer(source=BORROWED.source, enforce=False), TRAIN],
    ],
)
def test_a_pack_without_a_mask_in_force_is_refused(before: list[Step]) -> None:
    assert refusal(*before, Pack()) == (
        f"step {len(before) + 1} of the recipe (pack) packs masked layers, but nothing is pruned "
        "before it"
    )


@pytest.mark.parametrize("before", [[UNITS], [HALF, UNITS], [UNITS, TRAIN, HALF]])
def test_a_pack_after_unit_pruning_is_refused(before: list[Step]) -> None:
    assert refusal(*before, Pack()) == (
        f"step {len(before) + 1} of the recipe (pack) packs single weights, but whole units are "
        "pruned before it: leave it out"
    )


@pytest.mark.parametrize("step", [HALF, UNITS, BORROWED, Rewind(to=0), Pack()])
@pytest.mark.parametrize("between", [[], [TRAIN]])
def test_what_needs_dense_weights_is_refused_after_a_pack(step: Step, between: list[Step]) -> None:
    before = [HALF, Pack(), *between]
    assert refusal(*before, step) == (
        f"step {len(before) + 1} of the recipe ({step.kind()}) needs dense weights, but the layers "
        "are packed by then: put a regrow between them, or change the order"
    )
    if not isinstance(step, Pack):
        check_recipe([*before, Regrow(), step], 0)


@pytest.mark.parametrize("to", [2, 3])
def test_a_rewind_to_packed_layers_is_refused(to: int) -> None:
    message = refusal(HALF, Pack(), TRAIN, Regrow(), Rewind(to=to))
    assert message == (
        "step 5 of the recipe (rewind) goes back to packed layers: rewind to a step before the pack"
    )
    for allowed in (0, 1, 4):
        check_recipe([HALF, Pack(), TRAIN, Regrow(), Rewind(to=allowed)], 0)


def test_a_source_is_checked_as_a_recipe_of_its_own() -> None:
    wrong = Transfer(source=Source(recipe=(HALF, Rewind(to=7))))
    assert refusal(TRAIN, wrong) == (
        "step 2 of the recipe (transfer), its source: step 2 of the recipe (rewind) goes back to "
        "after step 7, but only 1 come before it"
    )
    watching = Train(epochs=1, early_stop=EarlyStop(patience=1))
    borrowed = Transfer(source=Source(recipe=(watching, HALF)))
    check_recipe([borrowed], validation=0.1)
    assert "its source: step 1 of the recipe (train) stops early" in refusal(borrowed)
    assert "its source: step 1 of the recipe (transfer), its source: step 1" in refusal(
        Transfer(source=Source(recipe=(borrowed,)))
    )


@pytest.mark.parametrize(
    "recipe", [[TRAIN], [HALF, TRAIN, Regrow()], [TRAIN, Prune(sparsity=0.5, enforce=False)]]
)
def test_a_source_without_a_mask_is_refused(recipe: Sequence[Step]) -> None:
    assert refusal(Transfer(source=Source(recipe=tuple(recipe)))) == (
        "step 1 of the recipe (transfer) borrows a mask, but its source ends without one: let it "
        "prune"
    )


def test_masks_in_force_are_those_not_lifted() -> None:
    def masks(*steps: Step) -> tuple[Step, ...]:
        return expected_after(steps).masks

    assert masks(HALF, TRAIN, UNITS, Rewind(to=0), BORROWED) == (HALF, UNITS, HALF)
    assert masks(HALF, Regrow(), UNITS) == (UNITS,)
    assert masks(Prune(sparsity=0.5, enforce=False), TRAIN, Pack()) == ()


def test_an_early_stop_before_all_is_pruned_is_refused() -> None:
    gradual = Gradual(final=0.9, every=2, updates=3)
    stop = EarlyStop(watch="train_loss", patience=1)
    assert "stops early, which may come before its updater has pruned all" in refusal(
        Train(epochs=9, updater=gradual, early_stop=stop)
    )
