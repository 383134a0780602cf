"""Image networks that take other sizes than the example's, from memory and files, or refuse."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.core.errors import InputError
from gossamer.engine import Convolution, Network, pack_weights
from gossamer.engine.lengths import at_lengths
from gossamer.engine.ops.resample import INTERPOLATIONS, Resample
from gossamer.engine.ops.take import Take
from gossamer.engine.signature import Lengths, Signature, Varying
from gossamer.engine.spans import rule_of, spanned

HEIGHT, WIDTH = (torch.export.Dim(name, min=8, max=27) for name in ("height", "width"))


class Segmenter(nn.Module):
    """Strides, gates of all places, mirrored edges, and what is resized to what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1, padding_mode="reflect")
        self.gate = nn.Linear(6, 6)
        self.deeper = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(12, 2, 1)
        self.classes = nn.Linear(54, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x).relu()
        gated = first * self.gate(first.mean((2, 3))).sigmoid()[:, :, None, None]
        deep = self.deeper(functional.max_pool2d(gated, 3, 2, 1)).relu()
        wide = functional.interpolate(deep, first.shape[2:], mode="bilinear")
        joined = self.last(torch.cat([first, wide], 1))
        found = functional.interpolate(joined, scale_factor=2, mode="nearest")
        return found, self.classes(functional.adaptive_avg_pool2d(first, 3).flatten(1))


def test_every_size_gives_what_the_module_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Segmenter().eval()
    gossamer.prune(model, 0.5)
    shapes = {"x": {2: HEIGHT, 3: WIDTH}}
    small = gossamer.compress(
        model, torch.randn(2, 3, 12, 16), choose="engine", threads=1, dynamic_shapes=shapes
    )
    small.save(tmp_path / "n.gsm")
    loaded = gossamer.load(tmp_path / "n.gsm")
    exact = Segmenter().eval().double()
    exact.load_state_dict(model.state_dict())
    for height, width in [(8, 8), (9, 26), (27, 27), (12, 15), (23, 10), (18, 21)]:
        images = torch.randn(2, 3, height, width)
        expected = exact(images.double())
        for found in (small(images), loaded(images.numpy())):
            for one, wanted in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, wanted.detach(), rtol=0, atol=2e-6)
    for network in (small, loaded):
        with pytest.raises(InputError, match=r"\[2, 3, 9, 28\], expected 8 to 27 along axis 3"):
            network(np.zeros((2, 3, 9, 28), np.float32))


class PatchAttention(nn.Module):
    """A transformer of images, whose patches leave out what does not fill one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.places = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.classes = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.patches(x)
        tokens = (grid + self.places(grid)).flatten(2).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        found: Tensor = self.classes(mixed.mean(1))
        return found


@pytest.mark.parametrize("each", [1, 4])
def test_patches_need_not_fill_images_of_all_sizes(each: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PatchAttention().eval()
    gossamer.prune(model, 0.5)
    height = torch.export.Dim("height", min=8 // each, max=24 // each)
    shapes = {"x": {2: each * height if each > 1 else height}}
    example = torch.randn(2, 3, 16, 20)
    small = gossamer.compress(model, example, choose="engine", threads=1, dynamic_shapes=shapes)
    small.save(tmp_path / "n.gsm")
    loaded = gossamer.load(tmp_path / "n.gsm")
    kernels = {layer.kernel for layer in loaded.network.layers if isinstance(layer, Convolution)}
    assert ((4, 4) in kernels) == (each == 1)  # products where patches fill every image
    for size in [8, 24, 16, 12, *([9, 22, 23] if each == 1 else [])]:
        images = torch.randn(3, 3, size, 20)
        with torch.no_grad():
            expected = copy.deepcopy(model).double()(images.double())
        np.testing.assert_allclose(small(images), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(loaded(images.numpy()), expected, rtol=1e-5, atol=1e-6)


def test_sizes_may_be_multiples() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 2, stride=2), nn.Upsample(scale_factor=2)).eval()
    size = torch.export.Dim("size", max=5)
    shapes = {"input": {2: 4 * size, 3: 4 * size + 2}}
    example = torch.randn(2, 2, 8, 10)
    small = gossamer.compress(model, example, choose="engine", dynamic_shapes=shapes)
    images = torch.randn(3, 2, 16, 18)
    torch.testing.assert_close(small(images), model(images).detach())
    with pytest.raises(InputError, match=r"expected 4 to 20 in steps of 4 along axis 2"):
        small(images[:, :, :15])
    with pytest.raises(InputError, match=r"shape \[3, 16, 14\]|expected \[examples, 2, 16, 18\]"):
        small(images[:, :, :, :14])


def test_a_network_of_one_size_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(48, 2)).eval()
    shapes = {"input": {2: HEIGHT}}
    with pytest.raises(InputError, match=r"The length cannot vary: The network Sequential fails"):
        gossamer.compress(model, torch.randn(2, 2, 4, 4), dynamic_shapes=shapes)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(INTERPOLATIONS)),
    lengths=st.lists(st.integers(1, 12), min_size=2, max_size=4, unique=True),
    results=st.lists(st.integers(1, 12), min_size=4, max_size=4),
)
def test_matrices_are_made_again(name: str, lengths: list[int], results: list[int]) -> None:
    def made(length: int, result: int) -> Resample:
        matrix = INTERPOLATIONS[name](length, result, length / result)
        return Resample(0, 0, pack_weights(matrix, "csr"))

    lengths = sorted(lengths)
    operators = [made(*pair) for pair in zip(lengths, results, strict=False)]
    rule = rule_of(operators, lengths)
    for operator, length in zip(operators, lengths, strict=True):
        found = spanned(operators[-1], rule, operator.matrix.rows, length, lengths[-1])
        np.testing.assert_array_equal(found.values, operator.matrix.values)
        np.testing.assert_array_equal(found.indices, operator.matrix.indices)


@settings(deadline=None)
@given(before=st.integers(0, 3), after=st.integers(0, 3), length=st.integers(5, 9))
def test_mirrored_edges_move_with_the_end(before: int, after: int, length: int) -> None:
    def padded(size: int) -> tuple[int, ...]:
        return tuple(map(int, np.pad(np.arange(size), (before, after), mode="reflect")))

    operators = [Take(0, 0, padded(size)) for size in (length, 12)]
    rule = rule_of(operators, (length, 12))
    found = spanned(operators[-1], rule, length + before + after, length, 12)
    assert found == padded(length)


@pytest.mark.parametrize(
    "change",
    [
        {"of": ((9, 0),)},
        {"of": ((0, 9),)},
        {"rule": "linear"},
        {"slope": 10**7},
        {"slope": 0},
        {"path": (0, "layers", 0, "axis")},
    ],
)
def test_what_fits_no_size_is_refused(change: dict[str, object]) -> None:
    places = tuple(np.repeat(np.arange(8), 2).tolist())
    network = Network((8, 1, 1), (Take(0, 0, places),), 1)
    size = Varying((0, "inputs", 0, 0), None, 1, 0)
    known = {"slope": 2, "offset": 0, "of": ((0, 0),), "rule": "nearest"}
    fields = {"path": (0, "layers", 0, "indices"), "axis": None, **known}
    good, bad = (Varying(**(fields | more)) for more in ({}, change))  # type: ignore[arg-type]
    plain = Signature.of_shapes((8, 1, 1), (16, 1, 1))
    sound, unsound = (
        replace(plain, lengths=Lengths((1,), (8,), (size, one))) for one in (good, bad)
    )
    assert at_lengths(network, sound, (3,))[0].layers == (Take(0, 0, (0, 0, 1, 1, 2, 2)),)
    with pytest.raises(InputError, match="lengths"):
        at_lengths(network, unsound, (3,))
