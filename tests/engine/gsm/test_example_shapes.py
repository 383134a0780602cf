import pytest

from gossamer.core.errors import InputError
from gossamer.engine import Network, Pool, Pooling, Reshape
from gossamer.engine.gsm.example_shapes import ExampleShapes, check_example_shapes, own_shapes


def test_own_shapes_are_those_of_the_network() -> None:
    pool = Pool(0, Pooling("max", (2, 2), (2, 2)))
    network = Network((3, 4, 6), (pool, Reshape(1, (18,))), 1)
    assert own_shapes(network) == ExampleShapes((3, 4, 6), (3, 2, 3))


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3), (3, 1, 2), (1,) * 7 + (6,)])
def test_the_same_number_of_numbers_fits(shape: tuple[int, ...]) -> None:
    check_example_shapes(ExampleShapes(shape, shape), ExampleShapes((6,), (2, 1, 3)))


@pytest.mark.parametrize("shape", [(5,), (), (0, 6), (-2, -3), (6.0,), (1,) * 8 + (6,), [6]])
def test_another_number_or_no_shape_is_refused(shape: tuple[int, ...]) -> None:
    own = ExampleShapes((6,), (6,))
    with pytest.raises(InputError, match="input_shape is"):
        check_example_shapes(ExampleShapes(shape, (6,)), own)
    with pytest.raises(InputError, match="output_shape is"):
        check_example_shapes(ExampleShapes((6,), shape), own)
