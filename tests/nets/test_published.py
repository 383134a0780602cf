import pytest
import torch
from torch import nn

from gossamer.errors import InputError
from gossamer.nets import fashion_cnn, mlp


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
