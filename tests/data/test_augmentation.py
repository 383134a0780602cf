import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from gossamer.core.errors import InputError
from gossamer.core.streams import stream
from gossamer.data.augmentation import epoch_maps, warp

Array = NDArray[np.float64]

STUDY: dict[str, Any] = {"rotation": 40.0, "shift": 0.2, "shear": 0.2, "zoom": 0.2, "flip": True}
CHOICES: list[dict[str, Any]] = [
    {"rotation": 180.0},
    {"shift": 0.4},
    {"shear": 60.0},
    {"zoom": 0.7},
    {"flip": True},
    STUDY,
    {"rotation": 30.0, "shift": 0.15, "shear": 15.0, "zoom": 0.15, "flip": True},
]
GOLDEN = [
    [[1.1129674, 0.1206685, 0.2985413], [-0.1215639, 1.0710579, -0.3734775]],
    [[-0.7761077, -0.4048209, -0.0734678], [-0.2833424, 1.0981333, -0.0173411]],
]
SIZES = [(32, 32), (28, 28), (9, 17), (1, 5)]


def random_images(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Images in the layout of a resident batch: channels last."""
    values = np.random.default_rng(0).normal(size=(count, height, width, channels))
    return torch.from_numpy(values.astype("f4")).permute(0, 3, 1, 2)


def reference_map(
    draws: Array,
    height: int,
    width: int,
    *,
    rotation: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
    zoom: float = 0.0,
    flip: bool = False,
) -> Array:
    """The matrices of Keras one by one, in homogeneous (row, column) of pixels."""
    angle, lean = math.radians(rotation * draws[0]), math.radians(shear * draws[3])
    cos, sin = math.cos(angle), math.sin(angle)
    turn = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    move = [[1, 0, shift * height * draws[1]], [0, 1, shift * width * draws[2]], [0, 0, 1]]
    slant = [[1, -math.sin(lean), 0], [0, math.cos(lean), 0], [0, 0, 1]]
    stretch = np.diag([1 + zoom * draws[4], 1 + zoom * draws[5], 1])
    mirror = np.diag([1, -1 if flip and draws[6] < 0 else 1, 1])
    to_centre = np.array([[1, 0, -(height - 1) / 2], [0, 1, -(width - 1) / 2], [0, 0, 1]])
    steps = [np.linalg.inv(to_centre), turn, move, slant, stretch, mirror, to_centre]
    return np.asarray(np.linalg.multi_dot([np.asarray(step, float) for step in steps]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("choices", CHOICES)
def test_images_are_warped_as_scipy_does_it_in_float64(
    choices: dict[str, Any], size: tuple[int, int]
) -> None:
    images = random_images(12, *size)
    found = warp(images, epoch_maps(images.shape, 7, 3, **choices)).double().numpy()
    draws = stream(7, "augmentation", 3).uniform(-1, 1, (12, 7))
    for position, image in enumerate(images.double().numpy()):
        matrix = reference_map(draws[position], *size, **choices)
        for channel, plane in enumerate(image):
            expected = ndimage.affine_transform(
                plane, matrix[:2, :2], matrix[:2, 2], order=1, mode="nearest"
            )
            # Positions are rounded to float32: some millionths of a pixel.
            np.testing.assert_allclose(found[position, channel], expected, atol=5e-5)


IDENTITY = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
MIRROR = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
QUARTER = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])


@pytest.mark.parametrize("size", [(32, 32), (8, 16), (28, 28), (5, 7)])
@pytest.mark.parametrize(
    ("one", "expected"), [(IDENTITY, torch.clone), (MIRROR, lambda images: images.flip(3))]
)
def test_identity_and_mirror_are_exact(one: torch.Tensor, expected: Any, size: Any) -> None:
    images = random_images(4, *size)
    found = warp(images, one.expand(4, 2, 3))
    torch.testing.assert_close(found, expected(images), rtol=0, atol=2e-5)
    if all(side.bit_count() == 1 for side in size):
        assert torch.equal(found, expected(images))


@pytest.mark.parametrize("side", [32, 28, 7])
def test_a_quarter_turn_is_exact(side: int) -> None:
    images = random_images(4, side, side)
    expected = torch.rot90(images, -1, (2, 3))
    found = warp(images, QUARTER.expand(4, 2, 3))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    if side == 32:
        assert torch.equal(found, expected)


def test_beyond_the_border_lies_the_nearest_pixel() -> None:
    images = random_images(1, 4, 6)
    shifted = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]])  # By one whole width.
    found = warp(images, shifted)
    torch.testing.assert_close(found, images[..., -1:].expand_as(images), rtol=0, atol=1e-6)


def test_standardised_images_are_warped_as_raw_ones() -> None:
    images = random_images(20, 32, 32)
    maps = epoch_maps(images.shape, 0, 1, **STUDY)
    found = warp((images - 0.47) / 0.25, maps)
    torch.testing.assert_close(found, (warp(images, maps) - 0.47) / 0.25, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_layout_in_memory_stays(channels: int) -> None:
    images = random_images(4, 8, 6, channels)
    maps = epoch_maps(images.shape, 0, 1, **STUDY)
    assert images.stride(1) == 1
    assert warp(images, maps).stride() == images.stride()
    first = images.clone(memory_format=torch.contiguous_format)
    assert warp(first, maps).is_contiguous()
    assert torch.equal(warp(first, maps), warp(images, maps))


def test_the_images_themselves_stay() -> None:
    images = random_images(4, 8, 8)
    before = images.clone()
    warp(images, epoch_maps(images.shape, 0, 1, **STUDY))
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [1, 3, 7, 32])
def test_an_image_does_not_depend_on_the_batch_it_is_in(size: int) -> None:
    images = random_images(32, 32, 32)
    maps = epoch_maps(images.shape, 0, 1, **STUDY)
    parts = [warp(images[k : k + size], maps[k : k + size]) for k in range(0, 32, size)]
    assert torch.equal(torch.cat(parts), warp(images, maps))


def test_seed_epoch_and_position_alone_choose_a_map() -> None:
    maps = epoch_maps((50, 3, 8, 8), 0, 1, **STUDY)
    assert torch.equal(maps, epoch_maps((50, 3, 8, 8), 0, 1, **STUDY))
    assert torch.equal(maps[:20], epoch_maps((20, 1, 8, 8), 0, 1, **STUDY))
    for other in ((1, 1), (0, 2)):
        assert not (maps == epoch_maps((50, 3, 8, 8), *other, **STUDY)).all(dim=(1, 2)).any()
    assert len(np.unique(maps.numpy(), axis=0)) == 50


def test_maps_never_change() -> None:
    found = epoch_maps((2, 3, 32, 32), 0, 1, **STUDY)
    np.testing.assert_allclose(found, GOLDEN, rtol=0, atol=1e-6)


def test_a_component_that_is_switched_on_leaves_the_others_as_they_were() -> None:
    shape = (200, 3, 8, 8)
    flipped = epoch_maps(shape, 0, 1, flip=True)[:, 0, 0] < 0
    moved = epoch_maps(shape, 0, 1, shift=0.2)[:, :, 2]
    both = epoch_maps(shape, 0, 1, shift=0.2, flip=True)
    assert torch.equal(both[:, 0, 0] < 0, flipped)
    assert torch.equal(both[:, :, 2], moved)


def uniform(values: torch.Tensor, low: float, high: float) -> bool:
    """Tell whether many values are spread evenly from low to high (Kolmogorov, 1 in 10^6)."""
    spread = ((values.double().sort().values - low) / (high - low)).numpy()
    even = np.arange(1, len(spread) + 1) / len(spread)
    return bool(0 <= spread[0] <= spread[-1] <= 1 and np.abs(spread - even).max() < 0.027)


def test_every_component_is_uniform_in_its_range() -> None:
    shape = (10_000, 3, 20, 40)
    turned = epoch_maps((10_000, 3, 8, 8), 0, 1, rotation=40.0)
    assert uniform(torch.rad2deg(torch.atan2(-turned[:, 0, 1], turned[:, 0, 0])), -40, 40)
    moved = epoch_maps(shape, 0, 1, shift=0.2)[:, :, 2] / 2  # Positions go from -1 to 1.
    assert uniform(moved[:, 0], -0.2, 0.2)
    assert uniform(moved[:, 1], -0.2, 0.2)
    assert abs(np.corrcoef(moved.numpy().T)[0, 1]) < 0.05
    leaning = epoch_maps(shape, 0, 1, shear=30.0)
    assert uniform(torch.rad2deg(torch.asin(leaning[:, 1, 0] * 20 / 40)), -30, 30)
    zoomed = epoch_maps(shape, 0, 1, zoom=0.3)
    assert uniform(zoomed[:, 0, 0], 0.7, 1.3)
    assert uniform(zoomed[:, 1, 1], 0.7, 1.3)
    assert abs(np.corrcoef(zoomed[:, 0, 0], zoomed[:, 1, 1])[0, 1]) < 0.05
    flipped = epoch_maps(shape, 0, 1, flip=True)[:, 0, 0] < 0
    assert float(flipped.float().mean()) == pytest.approx(0.5, abs=0.025)


def test_features_are_refused() -> None:
    with pytest.raises(InputError, match=r"needs images, .* shape \[50, 6\]: leave augmentation"):
        epoch_maps((50, 6), 0, 1, flip=True)
