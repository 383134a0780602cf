from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.data import load_digits
from gossamer.data.resident import Resident, batches, epoch_order, make_resident

LAST = torch.channels_last


def images(count: int = 10, channels: int = 3) -> Resident:
    shape = (count, channels, 5, 4)
    x: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return make_resident(x, np.arange(count), 255)


def channels_last_strides(tensor: torch.Tensor) -> bool:
    # is_contiguous says yes to both layouts when there is one channel; the strides, which
    # convolutions choose their kernel by, tell them apart.
    _, channels, height, width = tensor.shape
    return tensor.stride() == (height * width * channels, 1, width * channels, channels)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_values_are_standardised_in_float32(dtype: str, channels_last: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4)).astype(dtype)
    y = np.arange(7)
    resident = make_resident(x, y, 255, mean=0.3, std=0.4, channels_last=channels_last)
    expected = (x.astype(np.float64) / 255 - 0.3) / 0.4
    assert resident.inputs.dtype == torch.float32
    assert resident.labels.dtype == torch.int64
    np.testing.assert_allclose(resident.inputs.numpy(), expected, atol=1e-6)
    assert resident.labels.tolist() == y.tolist()
    assert len(resident) == 7


def test_values_are_the_same_bits_in_both_layouts() -> None:
    x = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4)).astype(np.uint8)
    first, second = (
        make_resident(x, np.arange(7), 255, mean=0.3, std=0.4, channels_last=channels_last)
        for channels_last in (True, False)
    )
    assert torch.equal(first.inputs, second.inputs)


def test_published_moments_standardise_the_data() -> None:
    digits = load_digits()
    scaled = digits.x_train / digits.scale
    resident = make_resident(
        digits.x_train,
        digits.y_train,
        digits.scale,
        mean=float(scaled.mean()),
        std=float(scaled.std()),
    )
    assert float(resident.inputs.mean()) == pytest.approx(0, abs=1e-4)
    assert float(resident.inputs.std(unbiased=False)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_channels_last_wherever_they_come_from(channels: int) -> None:
    resident = images(channels=channels)
    assert channels_last_strides(resident.inputs)
    for inputs, _ in batches(resident, epoch_order(10, 0, "shuffle", 1), 4):
        assert channels_last_strides(inputs)
        assert inputs.is_contiguous(memory_format=LAST)


def test_a_convolution_of_a_batch_is_channels_last() -> None:
    inputs, _ = next(batches(images(channels=1), torch.arange(10), 4))
    assert torch.nn.Conv2d(1, 4, 3)(inputs).is_contiguous(memory_format=LAST)


def test_images_are_channels_first_on_demand() -> None:
    x = np.zeros((6, 3, 5, 4), np.uint8)
    resident = make_resident(x, np.arange(6), 255, channels_last=False)
    assert resident.inputs.is_contiguous()
    inputs, _ = next(batches(resident, torch.arange(6), 4))
    assert inputs.is_contiguous()


def test_a_resident_owns_its_memory() -> None:
    x, y = np.ones((4, 3), np.float32), np.arange(4)
    resident = make_resident(x, y, 1)
    x[:], y[:] = 7, 7
    assert resident.inputs.max() == 1
    assert resident.labels.tolist() == [0, 1, 2, 3]


def test_read_only_arrays_are_taken_without_a_warning() -> None:
    digits = load_digits()
    assert not digits.x_train.flags.writeable
    assert len(make_resident(digits.x_train, digits.y_train, digits.scale)) == len(digits.x_train)


def test_an_order_is_a_permutation_that_seed_purpose_and_epoch_choose() -> None:
    order = epoch_order(50, 0, "shuffle", 1)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(order, epoch_order(50, 0, "shuffle", 1))
    for other in ((1, "shuffle", 1), (0, "mix", 1), (0, "shuffle", 2)):
        assert not torch.equal(order, epoch_order(50, *other))


def test_an_order_never_changes() -> None:
    assert epoch_order(8, 0, "shuffle", 1).tolist() == [6, 1, 2, 7, 3, 4, 5, 0]


@pytest.mark.parametrize("size", [1, 3, 5, 10, 64])
def test_batches_visit_every_example_once_in_order(size: int) -> None:
    resident, order = images(), epoch_order(10, 0, "shuffle", 1)
    found = list(batches(resident, order, size))
    assert [len(labels) for _, labels in found[:-1]] == [size] * (len(found) - 1)
    assert torch.cat([labels for _, labels in found]).tolist() == order.tolist()
    for inputs, labels in found:
        assert torch.equal(inputs, resident.inputs[labels])


@pytest.mark.parametrize("start", range(5))
def test_starting_later_gives_the_rest_of_the_same_batches(start: int) -> None:
    resident, order = images(), epoch_order(10, 0, "shuffle", 1)
    everything = list(batches(resident, order, 3))
    rest = list(batches(resident, order, 3, start))
    assert len(rest) == 4 - start
    for (inputs, labels), (expected_inputs, expected_labels) in zip(
        rest, everything[start:], strict=True
    ):
        assert torch.equal(inputs, expected_inputs)
        assert torch.equal(labels, expected_labels)


def test_batches_of_a_part_and_of_features() -> None:
    resident = make_resident(np.arange(12.0).reshape(6, 2), np.arange(6), 1)
    found = [labels.tolist() for _, labels in batches(resident, torch.tensor([5, 0, 3]), 2)]
    assert found == [[5, 0], [3]]


def test_a_batch_is_a_copy() -> None:
    resident = images()
    batch, _ = next(batches(resident, torch.arange(10), 4))
    batch.zero_()
    assert resident.inputs[0].any()


X, Y = np.zeros((4, 3), np.float32), np.arange(4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"y": Y[:3]}, "x holds 4 examples and y 3 labels"),
        ({"scale": 0.0}, "scale is 0.0, expected a positive number"),
        ({"std": -1.0}, "std is -1.0, expected a positive number"),
        ({"std": float("nan")}, "std is nan"),
        ({"mean": float("inf")}, "mean is inf, expected a finite number"),
    ],
)
def test_what_makes_no_resident_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_resident(**{"x": X, "y": Y, "scale": 1.0, **arguments})


def test_bad_sizes_and_starts_are_refused_at_the_call() -> None:
    resident, order = make_resident(X, Y, 1.0), torch.arange(4)
    for size in (0, -1):
        with pytest.raises(InputError, match=f"batch size is {size}, expected at least 1"):
            batches(resident, order, size)
    for start in (-1, 3):
        with pytest.raises(InputError, match=f"start is batch {start}, expected from 0 to the 2"):
            batches(resident, order, 2, start)
