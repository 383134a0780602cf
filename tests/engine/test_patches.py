"""Convolutions of patches as products of one position, against the same as they were."""

import numpy as np
import pytest

from gossamer.engine import (
    Attention,
    Convolution,
    Operator,
    Program,
    Reshape,
    Value,
    available_instruction_sets,
    dense,
    finished,
    patches_as_channels,
    run_portable,
)
from gossamer.engine.native import Engine


def of_patches(kernel: tuple[int, int], counts: tuple[int, int], **options: object) -> Program:
    """Return attention over patches of three channels."""
    random = np.random.default_rng(0)
    columns = 3 * kernel[0] * kernel[1]
    weights = random.standard_normal((4, columns)) / columns**0.5
    fields = {"stride": kernel, "bias": random.standard_normal(4), **options}
    operators: dict[Value, Operator] = {
        "patches": Convolution("x", dense(weights), kernel, **fields),  # type: ignore[arg-type]
        "tokens": Reshape("patches", (4, 1, counts[0] * counts[1])),
        "y": Attention("tokens", "tokens", "tokens", 2, 2, 0.3),
    }
    size = (kernel[0] * counts[0], kernel[1] * counts[1])
    return Program({"x": (3, *size)}, operators, ("y",))


@pytest.mark.parametrize(
    ("kernel", "counts"), [((2, 2), (3, 3)), ((16, 16), (14, 14)), ((3, 5), (2, 17))]
)
def test_patches_in_the_channels_give_the_same(
    kernel: tuple[int, int], counts: tuple[int, int]
) -> None:
    program = of_patches(kernel, counts)
    changed = patches_as_channels(program)
    found = changed.operators["patches"]
    assert isinstance(found, Convolution)
    assert found.kernel == found.stride == (1, 1)
    inputs = np.random.default_rng(1).standard_normal((2, *program.inputs["x"]))
    expected = run_portable(finished(program), inputs, dtype=np.float64)
    mine = run_portable(finished(changed), inputs, dtype=np.float64)
    np.testing.assert_allclose(mine, expected, rtol=1e-12)
    for name in available_instruction_sets():
        given = Engine(finished(changed), name)(inputs.astype(np.float32))
        assert np.abs(given - expected).max() <= 1e-5 * np.abs(expected).max()


def test_windows_that_are_no_patches_stay() -> None:
    kept = [
        of_patches((2, 2), (3, 3), stride=(1, 1), padding=(1, 1)),
        of_patches((4, 4), (3, 3), groups=1, dilation=(1, 1), stride=(4, 2)),
    ]
    for program in kept:
        shapes = Program(program.inputs, {"patches": program.operators["patches"]}, ("patches",))
        size = shapes.shapes()["patches"]
        tokens = Reshape("patches", (4, 1, size[1] * size[2]))
        program = Program(program.inputs, {**program.operators, "tokens": tokens}, ("y",))
        assert patches_as_channels(program).operators == program.operators


def test_without_attention_images_stay_as_they_are() -> None:
    program = of_patches((2, 2), (3, 3))
    operators: dict[Value, Operator] = {"patches": program.operators["patches"]}
    alone = Program(program.inputs, operators, ("patches",))
    assert patches_as_channels(alone) is alone
