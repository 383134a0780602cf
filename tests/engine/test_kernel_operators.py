"""What a layer of the compiled kernels is made of, and an operator that has a scalar run alone."""

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.engine import available_instruction_sets

COMPILED = tuple(name for name in available_instruction_sets() if name != "numpy")
pytestmark = pytest.mark.skipif(not COMPILED, reason="built without compiled kernels")
on_every_set = pytest.mark.parametrize("instruction_set", COMPILED)


def kernels() -> Any:
    return importlib.import_module("gossamer.kernels._native")


def run(plan: Any, inputs: NDArray[np.float32], instruction_set: str, threads: int) -> Any:
    shape = plan.check()[plan.outputs[0]]
    outputs = np.full((len(inputs), *shape), np.nan, np.float32)
    kernels().Engine(plan, instruction_set).run(inputs, outputs, threads)
    return outputs


def normalized(values: NDArray[np.floating], axes: int, epsilon: float) -> NDArray[np.float64]:
    over = tuple(range(-axes, 0))
    centred = values.astype(np.float64) - values.mean(axis=over, keepdims=True, dtype=np.float64)
    variance = np.square(centred).mean(axis=over, keepdims=True)
    found: NDArray[np.float64] = centred / np.sqrt(variance + epsilon)
    return found


@on_every_set
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("examples", [1, 3, 17, 64, 100])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_scalar_run_serves_one_example_and_many(
    instruction_set: str, axes: int, examples: int, threads: int
) -> None:
    random = np.random.default_rng(axes)
    inputs = random.standard_normal((examples, 4, 5, 3)).astype(np.float32)
    scale, shift = random.standard_normal((2, *(4, 5, 3)[-axes:])).astype(np.float32)
    plan = kernels().Plan([4, 5, 3])
    fields = {"axes": axes, "scale": scale.reshape(-1), "shift": shift.reshape(-1)}
    plan.add("layer_norm", [0], fields)
    plan.add("concatenate", [1, 0], {})
    plan.add("reshape", [2], {"shape": [120]})
    plan.add("layer_norm", [3], {"epsilon": 0.5, "scale": None})
    plan.outputs = [4]
    image = normalized(inputs, axes, 1e-5) * scale + shift
    joined = np.concatenate([image, inputs], axis=1).reshape(examples, 120)
    found = run(plan, inputs, instruction_set, threads)
    np.testing.assert_allclose(found, normalized(joined, 1, 0.5), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "inputs", "fields", "message"),
    [
        ("layernorm", [0], {}, 'there is no operator "layernorm"'),
        ("softmax", [0], {"logaritm": True}, 'softmax has no field "logaritm"'),
        ("softmax", [0, 0], {}, "softmax must read so many values: 1"),
        ("reshape", [0], {}, 'reshape needs "shape"'),
        ("reshape", [0], {"shape": 6}, "reshape: shape is not of the type that it takes"),
        ("reshape", [0], {"shape": {6}}, "a field of a layer cannot be of such a type"),
    ],
)
def test_what_no_operator_takes(name: str, inputs: list[int], fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernels().Plan([6]).add(name, inputs, fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": 2}, "layer 0: axes must be between 1 and"),
        ({"axes": 0}, "layer 0: axes must be between 1 and"),
        ({"epsilon": -1.0}, "layer 0: epsilon must be 0 or more"),
        ({"epsilon": float("nan")}, "layer 0: epsilon must be 0 or more"),
        ({"shift": np.zeros(5, np.float32)}, "layer 0: scale and shift must have a number for"),
    ],
)
def test_a_normalization_that_is_not_sound(fields: dict[str, Any], message: str) -> None:
    plan = kernels().Plan([6])
    plan.add("layer_norm", [0], fields)
    with pytest.raises(ValueError, match=message):
        plan.check()


@on_every_set
@pytest.mark.parametrize("examples", [1, 20])
@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("shape", [(37, 1, 45), (3, 18, 35), (40, 33, 1), (1, 1, 50)])
def test_axes_of_any_size_change_their_places(
    instruction_set: str, shape: tuple[int, int, int], order: tuple[int, ...], examples: int
) -> None:
    inputs = np.random.default_rng(0).standard_normal((examples, *shape)).astype(np.float32)
    plan = kernels().Plan([*shape])
    plan.add("permute", [0], {"order": [*order]})
    plan.outputs = [1]
    expected = inputs.transpose(0, *(1 + axis for axis in order))
    np.testing.assert_array_equal(run(plan, inputs, instruction_set, 1), expected)
