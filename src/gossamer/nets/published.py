"""The networks of the published studies, as plain `nn.Sequential` with stable names.

They are returned as PyTorch initialises them; `gossamer.nets.initialise` draws the published
initialisation.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from gossamer.nets.geometry import MLP_HIDDEN, check_sizes, fashion_cnn_features


def mlp(inputs: int, classes: int, hidden: Sequence[int] = MLP_HIDDEN) -> nn.Sequential:
    """Return a multilayer perceptron with ReLU and without biases.

    The default for 784 inputs and 10 classes is the MNIST network of the study
    `weight-vs-unit`, of 2,386,000 parameters.

    Parameters
    ----------
    inputs
        Numbers in one example; examples of any shape are flattened.
    classes
        Number of outputs, which are logits.
    hidden
        Units of each hidden layer, in order.

    Raises
    ------
    InputError
        If a width is below 1.

    Examples
    --------
    >>> [name for name, _ in mlp(4, 2, hidden=(3,)).named_children()]
    ['flatten', 'dense1', 'relu1', 'output']
    >>> sum(weight.numel() for weight in mlp(784, 10).parameters())
    2386000
    """
    check_sizes((inputs, *hidden), classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    widths = (inputs, *hidden)
    for number, (before, after) in enumerate(pairwise(widths), start=1):
        layers[f"dense{number}"] = nn.Linear(before, after, bias=False)
        layers[f"relu{number}"] = nn.ReLU()
    layers["output"] = nn.Linear(widths[-1], classes, bias=False)
    return nn.Sequential(layers)


def fashion_cnn(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """Return the FashionMNIST network of the study `sparsity-leakage`.

    Two 3x3 convolutions without padding, of 32 and 64 filters, each followed by a 2x2 max-pooling
    and a ReLU, then 250 dense units with ReLU and the output. The study puts each ReLU before the
    pooling; the two commute, so this is the same function, on a quarter of the numbers.

    Parameters
    ----------
    input_shape
        Channels, height and width of one example.
    classes
        Number of outputs, which are logits.

    Raises
    ------
    InputError
        If the examples are not images of at least 10x10 pixels.

    Examples
    --------
    >>> sum(weight.numel() for weight in fashion_cnn((1, 28, 28), 10).parameters())
    421576
    """
    check_sizes(input_shape, classes)
    features = fashion_cnn_features(input_shape)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(input_shape[0], 32, 3),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 3),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            dense1=nn.Linear(features, 250),
            relu3=nn.ReLU(),
            output=nn.Linear(250, classes),
        )
    )


def published(
    name: str, input_shape: Sequence[int], classes: int, hidden: Sequence[int]
) -> nn.Sequential:
    """Return the published network of that name; `hidden` matters to `mlp` alone."""
    if name == "mlp":
        return mlp(math.prod(input_shape), classes, hidden)
    return fashion_cnn(input_shape, classes)
