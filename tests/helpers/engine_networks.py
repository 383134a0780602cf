"""Networks of the engine that tests share."""

import numpy as np

from gossamer.engine import (
    Activation,
    Concatenate,
    Convolution,
    Epilogue,
    Layout,
    Linear,
    Network,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Softmax,
    Weights,
    pack_weights,
)


def scattered(rows: int, columns: int, kind: Layout, density: float = 0.3) -> Weights:
    generator = np.random.default_rng(rows * columns)
    held = generator.random((rows, columns)) < density
    return pack_weights(generator.standard_normal((rows, columns)) * held, kind)


def with_every_layer() -> Network:
    """Return a network of every kind of layer and weights, which ends in four classes."""
    generator = np.random.default_rng(5)
    some = [generator.standard_normal(size).astype(np.float32) for size in (4, 4, 4, (4, 3, 3))]
    epilogue = Epilogue(
        1, Activation("leaky-relu", 0.1), some[1], some[2], Pooling("max", (2, 2), (2, 2))
    )
    layers = (
        Convolution(0, scattered(4, 18, "csr"), (3, 3), padding=(1, 1), bias=some[0]),
        Convolution(1, scattered(4, 36, "block"), (3, 3), padding=(1, 1), epilogue=epilogue),
        Pool(1, Pooling("average", (2, 2), (2, 2), counts_padding=False)),
        Concatenate((2, 3)),
        Convolution(4, scattered(4, 8, "dense"), (1, 1), bias=some[3]),
        Pointwise(5, Epilogue(residual=2, activation=Activation("gelu"))),
        Reshape(6, (36,)),
        Linear(7, scattered(700, 36, "csr", 0.01)),
        Linear(8, scattered(4, 700, "csr", 0.01)),
        Softmax(9, logarithm=True),
    )
    return Network((2, 6, 6), layers, 10)
