from collections.abc import Callable

import pytest
import torch
from torch import nn

from gossamer.core.errors import InputError
from gossamer.networks import (
    cifar_cnn,
    cifar_dropout_cnn,
    cifar_wide_cnn,
    fashion_cnn,
    mlp,
    mnist_cnn,
)

Make = Callable[..., nn.Sequential]
CIFAR = (3, 32, 32)
CONVOLUTIONS = 896 + 9_248 + 18_496 + 36_928 + 73_856 + 147_584
"""Parameters of the six convolutions of `cifar_cnn` and `cifar_dropout_cnn`."""


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_mlp_is_the_published_one() -> None:
    network = mlp(784, 10)
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "dense1.weight": (1000, 784),
        "dense2.weight": (1000, 1000),
        "dense3.weight": (500, 1000),
        "dense4.weight": (200, 500),
        "output.weight": (10, 200),
    }
    assert parameters(network) == 2_386_000


def test_mlp_computes_relu_of_products() -> None:
    network = mlp(6, 3, hidden=(5, 4)).double()
    examples = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    expected = examples.reshape(7, 6)
    for name in ("dense1", "dense2"):
        expected = (expected @ network.get_parameter(f"{name}.weight").T).clamp(min=0)
    expected = expected @ network.get_parameter("output.weight").T
    torch.testing.assert_close(network(examples), expected)


def test_mlp_without_hidden_layers_is_linear() -> None:
    assert [name for name, _ in mlp(4, 3, hidden=()).named_children()] == ["flatten", "output"]


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 28, 28), 421_576), ((3, 32, 32), 896 + 18_496 + 576_250 + 2_510)]
)
def test_fashion_cnn_parameters(shape: tuple[int, ...], expected: int) -> None:
    network = fashion_cnn(shape, 10)
    assert parameters(network) == expected
    assert network(torch.zeros(2, *shape)).shape == (2, 10)


def test_fashion_cnn_layers_have_stable_names() -> None:
    assert [name for name, _ in fashion_cnn((1, 28, 28), 10).named_children()] == [
        "conv1",
        "pool1",
        "relu1",
        "conv2",
        "pool2",
        "relu2",
        "flatten",
        "dense1",
        "relu3",
        "output",
    ]


def test_pooling_before_relu_is_the_published_function_bit_for_bit() -> None:
    network = fashion_cnn((1, 28, 28), 10)
    layers = dict(network.named_children())
    layers["relu1"], layers["pool1"] = layers["pool1"], layers["relu1"]
    layers["relu2"], layers["pool2"] = layers["pool2"], layers["relu2"]
    published = nn.Sequential(*layers.values())
    assert isinstance(published[1], nn.ReLU)
    examples = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network(examples), published(examples))


@pytest.mark.parametrize("side", [10, 11])
def test_smallest_images(side: int) -> None:
    assert fashion_cnn((1, side, side), 2)(torch.zeros(1, 1, side, side)).shape == (1, 2)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"images of 9x28 pixels, but expected at least 10x10"):
        fashion_cnn((1, 9, 28), 10)


def test_other_than_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(784,\), but expected \(channels, height, width"):
        fashion_cnn((784,), 10)


@pytest.mark.parametrize("hidden", [(0,), (3, -1)])
def test_widths_below_one_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="sizes of at least 1"):
        mlp(4, 2, hidden)


def test_no_classes_are_refused() -> None:
    with pytest.raises(InputError, match="number of classes is 0"):
        fashion_cnn((1, 28, 28), 0)


def test_mnist_cnn_is_the_published_one() -> None:
    network = mnist_cnn((1, 28, 28), 10)
    assert parameters(network) == 1_199_882 == 320 + 18_496 + 1_179_776 + 1_290
    assert {name: repr(layer).partition("(")[0] for name, layer in network.named_children()} == {
        "conv1": "Conv2d",
        "relu1": "ReLU",
        "conv2": "Conv2d",
        "pool": "MaxPool2d",
        "dropout1": "Dropout2d",
        "flatten": "Flatten",
        "dense1": "Linear",
        "relu2": "ReLU",
        "dropout2": "Dropout",
        "output": "Linear",
    }
    assert dropouts(network) == [0.25, 0.5]


def dropouts(network: nn.Module) -> list[float]:
    return [m.p for m in network.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))]


def kinds(network: nn.Sequential) -> str:
    return " ".join(name.rstrip("0123456789") for name, _ in network.named_children())


def test_mnist_cnn_gives_logits() -> None:
    network = mnist_cnn((1, 28, 28), 10).eval()
    with torch.no_grad():
        output = network(torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert (output.exp().sum(1) - 1).abs().min() > 1


def test_cifar_cnn_is_the_published_one() -> None:
    network = cifar_cnn(CIFAR, 10)
    assert parameters(network) == 308_394 == CONVOLUTIONS + 896 + 20_490
    block = "conv elu norm conv elu norm pool"
    assert kinds(network) == f"{block} {block} {block} flatten output"
    assert network.get_submodule("conv6").get_parameter("weight").shape == (128, 128, 3, 3)


def test_cifar_dropout_cnn_is_the_published_one() -> None:
    network = cifar_dropout_cnn(CIFAR, 10)
    dense = 2048 * 512 + 512 + 512 * 128 + 128 + 128 * 10 + 10
    assert parameters(network) == 1_403_498 == CONVOLUTIONS + 448 + dense
    block = "conv relu dropout conv relu norm pool"
    head = "flatten dense relu dropout dense relu output"
    assert kinds(network) == f"{block} {block} {block} {head}"
    assert dropouts(network) == [0.3, 0.3, 0.4, 0.3]


def test_cifar_wide_cnn_is_the_published_one() -> None:
    network = cifar_wide_cnn(CIFAR, 10)
    assert parameters(network) == 21_044_682
    block = "conv relu dropout conv relu norm pool"
    hidden = "dense relu dropout"
    assert kinds(network) == (
        f"{block.replace(' dropout', '')} {block} {block} "
        f"flatten {hidden} {hidden} {hidden} dense relu output"
    )
    assert dropouts(network) == [0.5, 0.5, 0.5, 0.4, 0.3]
    assert network.get_parameter("dense1.weight").shape == (2048, 8192)


@pytest.mark.parametrize(
    ("make", "hidden", "expected"),
    [
        (cifar_dropout_cnn, (), [0.3, 0.3, 0.4]),
        (cifar_dropout_cnn, (5,), [0.3, 0.3, 0.4]),
        (cifar_dropout_cnn, (5, 4, 3), [0.3, 0.3, 0.4, 0.3, 0.3]),
        (cifar_wide_cnn, (5,), [0.5, 0.5]),
        (cifar_wide_cnn, (128, 32), [0.5, 0.5, 0.5]),
        (cifar_wide_cnn, (9, 8, 7, 6, 5, 4), [0.5, 0.5, 0.5, 0.4, 0.3, 0.3, 0.3]),
    ],
)
def test_heads_of_other_depth(make: Make, hidden: tuple[int, ...], expected: list[float]) -> None:
    network = make((3, 8, 8), 10, hidden=hidden)
    assert dropouts(network) == expected
    assert [m.out_features for m in network if isinstance(m, nn.Linear)] == [*hidden, 10]
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_size_matched_control_of_the_sparse_head() -> None:
    assert parameters(cifar_dropout_cnn(CIFAR, 10, hidden=(31, 57))) == 353_379


@pytest.mark.parametrize("make", [cifar_cnn, cifar_dropout_cnn, cifar_wide_cnn])
def test_normalisations_are_those_of_keras(make: Make) -> None:
    network = make(CIFAR, 10)
    norms = [layer for layer in network if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}


@pytest.mark.parametrize("make", [cifar_cnn, cifar_dropout_cnn, cifar_wide_cnn, mnist_cnn])
def test_outputs_for_colour_images(make: Make) -> None:
    assert make(CIFAR, 10)(torch.zeros(2, *CIFAR)).shape == (2, 10)


@pytest.mark.parametrize(
    ("make", "smallest"),
    [(cifar_cnn, 8), (cifar_dropout_cnn, 8), (cifar_wide_cnn, 8), (mnist_cnn, 6)],
)
def test_smallest_images_of_each(make: Make, smallest: int) -> None:
    for side in (smallest, smallest + 1):
        assert make((1, side, side), 2)(torch.rand(2, 1, side, side)).shape == (2, 2)
    message = f"{smallest - 1}x28 pixels, but expected at least {smallest}x{smallest}"
    with pytest.raises(InputError, match=message):
        make((1, smallest - 1, 28), 2)
    with pytest.raises(InputError, match=r"shape \(784,\), but expected \(channels"):
        make((784,), 2)


@pytest.mark.parametrize("make", [cifar_dropout_cnn, cifar_wide_cnn])
def test_head_widths_below_one_are_refused(make: Make) -> None:
    with pytest.raises(InputError, match="sizes of at least 1"):
        make(CIFAR, 10, hidden=(3, 0))
