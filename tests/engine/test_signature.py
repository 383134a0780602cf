import contextlib

import pytest

from gossamer.core.errors import InputError
from gossamer.engine import (
    Concatenate,
    Network,
    Pool,
    Pooling,
    Reshape,
    Signature,
    TensorSpec,
    check_network,
    own_signature,
)
from gossamer.engine.signature import check_signature


def check(signature: Signature, network: Network) -> None:
    check_signature(signature, network, check_network(network))


def test_own_shapes_are_those_of_the_network() -> None:
    pool = Pool(0, Pooling("max", (2, 2), (2, 2)))
    network = Network((3, 4, 6), (pool, Reshape(1, (18,))), 1)
    assert own_signature(network) == Signature.of_shapes((3, 4, 6), (3, 2, 3))


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3), (3, 1, 2), (1,) * 7 + (6,)])
def test_the_same_number_of_numbers_fits(shape: tuple[int, ...]) -> None:
    check(Signature.of_shapes(shape, shape), Network((6,), (Reshape(0, (2, 1, 3)),), 1))


@pytest.mark.parametrize("shape", [(5,), (), (0, 6), (-2, -3), (6.0,), (1,) * 8 + (6,), [6]])
def test_another_number_or_no_shape_is_refused(shape: tuple[int, ...]) -> None:
    own = Network((6,), (), 0)
    with pytest.raises(InputError, match="input_shape is"):
        check(Signature.of_shapes(shape, (6,)), own)
    with pytest.raises(InputError, match="output_shape is"):
        check(Signature.of_shapes((6,), shape), own)


JOINED = Network(((2,), (3,)), (Concatenate((0, 1)),), (2, 0))


def specs(*names: str, shapes: tuple[tuple[int, ...], ...], **types: object) -> object:
    return tuple(
        TensorSpec(name, shape, types.get(name, "float32"))  # type: ignore[arg-type]
        for name, shape in zip(names, shapes, strict=True)
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, ""),
        ({"returns": "tensor"}, "returns is 'tensor', expected one output, not 2"),
        ({"returns": "list"}, "returns is 'list', expected one of tensor, tuple, dict"),
        ({"inputs": specs("a", shapes=((2,),))}, "1 inputs are described, expected 2"),
        ({"inputs": specs("a", "a", shapes=((2,), (3,)))}, "inputs: a name stands twice"),
        ({"inputs": specs("a", "", shapes=((2,), (3,)))}, "input 1: name is ''"),
        ({"inputs": specs("a", "b\n", shapes=((2,), (3,)))}, "input 1: name is 'b"),
        ({"inputs": specs("a", "b", shapes=((2,), (4,)))}, "input 1: shape is (4,), expected"),
        ({"outputs": specs("a", "b", shapes=((5,), (2,)), b="int8")}, "output 1: type is 'int8'"),
    ],
)
def test_names_and_types_are_checked(change: dict[str, object], complaint: str) -> None:
    sound: dict[str, object] = {
        "inputs": specs("tokens", "mask", shapes=((2, 1), (3,)), tokens="int64", mask="bool"),
        "outputs": specs("logits", "hidden", shapes=((5,), (2,))),
        "returns": "dict",
    }
    signature = Signature(**(sound | change))  # type: ignore[arg-type]
    with pytest.raises(InputError) if complaint else contextlib.nullcontext() as caught:
        check(signature, JOINED)
    assert complaint in str(caught and caught.value)
