"""The networks of the published studies, as plain `nn.Sequential` with stable names.

They are returned as PyTorch initialises them; `gossamer.networks.initialise` draws the published
initialisation.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise, repeat

from torch import nn

from gossamer.networks.geometry import HIDDEN, check_sizes, image_features

_UNNUMBERED = frozenset({"flatten", "output"})


def mlp(inputs: int, classes: int, hidden: Sequence[int] = HIDDEN["mlp"]) -> nn.Sequential:
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
    features = image_features("fashion-cnn", input_shape)
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


def mnist_cnn(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """Return the MNIST network of the study `mask-transfer`.

    Two 3x3 convolutions without padding, of 32 and 64 filters, with a ReLU after the first only, a
    2x2 max-pooling, a dropout of whole channels (0.25), then 128 dense units with ReLU, dropout
    (0.5) and the output. The study ends with a log-softmax, which belongs to the loss here.

    Parameters
    ----------
    input_shape
        Channels, height and width of one example.
    classes
        Number of outputs, which are logits.

    Raises
    ------
    InputError
        If the examples are not images of at least 6x6 pixels.

    Examples
    --------
    >>> sum(weight.numel() for weight in mnist_cnn((1, 28, 28), 10).parameters())
    1199882
    """
    check_sizes(input_shape, classes)
    features = image_features("mnist-cnn", input_shape)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(input_shape[0], 32, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 3),
            pool=nn.MaxPool2d(2),
            dropout1=nn.Dropout2d(0.25),
            flatten=nn.Flatten(),
            dense1=nn.Linear(features, 128),
            relu2=nn.ReLU(),
            dropout2=nn.Dropout(0.5),
            output=nn.Linear(128, classes),
        )
    )


def cifar_cnn(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """Return the CIFAR-10 network of the study `sparsity-leakage`.

    Three blocks of two 3x3 convolutions with padding, of 32, 64 and 128 filters, each followed by
    an ELU and then a normalisation, with a 2x2 max-pooling at the block's end, then the output. The
    poolings stay behind the normalisations: the scale of a channel may become negative, and then
    the two do not commute.

    Parameters
    ----------
    input_shape
        Channels, height and width of one example.
    classes
        Number of outputs, which are logits.

    Raises
    ------
    InputError
        If the examples are not images of at least 8x8 pixels.

    Examples
    --------
    >>> sum(weight.numel() for weight in cifar_cnn((3, 32, 32), 10).parameters())
    308394
    """
    check_sizes(input_shape, classes)
    features = image_features("cifar-cnn", input_shape)
    widths = (input_shape[0], 32, 64, 128)
    blocks = (_elu_block(before, after) for before, after in pairwise(widths))
    return _numbered(chain(*blocks, _head(features, classes)))


def cifar_dropout_cnn(
    input_shape: Sequence[int], classes: int, hidden: Sequence[int] = HIDDEN["cifar-dropout-cnn"]
) -> nn.Sequential:
    """Return the CIFAR-10 network of the first run of the study `random-sparse-layers`.

    Three blocks, of 32, 64 and 128 filters: a 3x3 convolution with padding, ReLU, dropout (0.3, 0.3
    and 0.4), another convolution, ReLU, normalisation, 2x2 max-pooling. Then the hidden dense
    layers, each with ReLU, with dropout (0.3) between one and the next, and the output.

    Parameters
    ----------
    input_shape
        Channels, height and width of one example.
    classes
        Number of outputs, which are logits.
    hidden
        Units of each hidden dense layer, in order.

    Raises
    ------
    InputError
        If the examples are not images of at least 8x8 pixels, or a width is below 1.

    Examples
    --------
    >>> sum(weight.numel() for weight in cifar_dropout_cnn((3, 32, 32), 10).parameters())
    1403498
    """
    check_sizes((*input_shape, *hidden), classes)
    features = image_features("cifar-dropout-cnn", input_shape)
    return _numbered(
        chain(
            _dropout_block(input_shape[0], 32, dropout=0.3),
            _dropout_block(32, 64, dropout=0.3),
            _dropout_block(64, 128, dropout=0.4),
            _head(features, classes, hidden, dropouts=(0.3,)),
        )
    )


def cifar_wide_cnn(
    input_shape: Sequence[int], classes: int, hidden: Sequence[int] = HIDDEN["cifar-wide-cnn"]
) -> nn.Sequential:
    """Return the CIFAR-10 network of the second run of the study `random-sparse-layers`.

    Three blocks, of 32, 128 and 512 filters: a 3x3 convolution with padding, ReLU, dropout (0.5,
    but none in the first block), another convolution, ReLU, normalisation, 2x2 max-pooling. Then
    the hidden dense layers, each with ReLU, with dropouts of 0.5, 0.4 and 0.3 between one and the
    next, in this order, and the output. Fewer hidden layers have the first of these dropouts, so
    that ``hidden=(128, 32)`` is the head of the published sparse network; more have 0.3 from the
    third on.

    Parameters
    ----------
    input_shape
        Channels, height and width of one example.
    classes
        Number of outputs, which are logits.
    hidden
        Units of each hidden dense layer, in order.

    Raises
    ------
    InputError
        If the examples are not images of at least 8x8 pixels, or a width is below 1.

    Examples
    --------
    >>> sum(weight.numel() for weight in cifar_wide_cnn((3, 32, 32), 10).parameters())
    21044682
    """
    check_sizes((*input_shape, *hidden), classes)
    features = image_features("cifar-wide-cnn", input_shape)
    return _numbered(
        chain(
            _dropout_block(input_shape[0], 32, dropout=None),
            _dropout_block(32, 128, dropout=0.5),
            _dropout_block(128, 512, dropout=0.5),
            _head(features, classes, hidden, dropouts=(0.5, 0.4, 0.3)),
        )
    )


def published(
    name: str, input_shape: Sequence[int], classes: int, hidden: Sequence[int]
) -> nn.Sequential:
    """Return the published network of that name; `hidden` matters to those that have it alone."""
    match name:
        case "mlp":
            return mlp(math.prod(input_shape), classes, hidden)
        case "cifar-dropout-cnn":
            return cifar_dropout_cnn(input_shape, classes, hidden)
        case "cifar-wide-cnn":
            return cifar_wide_cnn(input_shape, classes, hidden)
        case "cifar-cnn":
            return cifar_cnn(input_shape, classes)
        case "mnist-cnn":
            return mnist_cnn(input_shape, classes)
        case _:
            return fashion_cnn(input_shape, classes)


_Layer = tuple[str, nn.Module]
"""The kind of a layer, which begins its name, and the layer."""


def _elu_block(before: int, after: int) -> Iterator[_Layer]:
    for channels in (before, after):
        yield "conv", nn.Conv2d(channels, after, 3, padding=1)
        yield "elu", nn.ELU()
        yield "norm", _normalisation(after)
    yield "pool", nn.MaxPool2d(2)


def _dropout_block(before: int, after: int, dropout: float | None) -> Iterator[_Layer]:
    yield "conv", nn.Conv2d(before, after, 3, padding=1)
    yield "relu", nn.ReLU()
    if dropout is not None:
        yield "dropout", nn.Dropout(dropout)
    yield "conv", nn.Conv2d(after, after, 3, padding=1)
    yield "relu", nn.ReLU()
    yield "norm", _normalisation(after)
    yield "pool", nn.MaxPool2d(2)


def _normalisation(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with the momentum and epsilon of Keras."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _head(
    features: int, classes: int, hidden: Sequence[int] = (), dropouts: Sequence[float] = (0.0,)
) -> Iterator[_Layer]:
    """Yield the dense layers; the last dropout also stands between any further hidden ones."""
    yield "flatten", nn.Flatten()
    widths = (features, *hidden)
    rates = chain(dropouts, repeat(dropouts[-1]))
    for number, (before, after) in enumerate(pairwise(widths)):
        if number:
            yield "dropout", nn.Dropout(next(rates))
        yield "dense", nn.Linear(before, after)
        yield "relu", nn.ReLU()
    yield "output", nn.Linear(widths[-1], classes)


def _numbered(layers: Iterable[_Layer]) -> nn.Sequential:
    """Name layers by their kind and their number among those of that kind, as in conv2."""
    counts: Counter[str] = Counter()
    named: OrderedDict[str, nn.Module] = OrderedDict()
    for kind, layer in layers:
        counts[kind] += 1
        named[kind if kind in _UNNUMBERED else f"{kind}{counts[kind]}"] = layer
    return nn.Sequential(named)
