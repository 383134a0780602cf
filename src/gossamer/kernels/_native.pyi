# ruff: noqa: A002 (the arguments are named so in cpp/module.cpp)
"""The compiled kernels, cpp/module.cpp; what they take is described there and in network.py."""

import numpy as np
from numpy.typing import NDArray

_Pair = tuple[int, int]
_Floats = NDArray[np.float32]

# The limits of checks.py.
MOST_NUMBERS: int
MOST_WEIGHTS: int
MOST_LAYERS: int
LONGEST: int

class Weights:
    def __init__(
        self,
        kind: str,
        rows: int,
        columns: int,
        values: _Floats,
        starts: NDArray[np.int64],
        indices: NDArray[np.int32],
    ) -> None: ...

class Pooling:
    def __init__(
        self,
        kind: str,
        kernel: _Pair,
        stride: _Pair,
        padding: _Pair,
        dilation: _Pair,
        ceil: bool,
        counts_padding: bool,
    ) -> None: ...

class Epilogue:
    def __init__(
        self,
        residual: int | None,
        activation: str,
        alpha: float,
        scale: _Floats | None,
        shift: _Floats | None,
        pooling: Pooling | None,
    ) -> None: ...

class Plan:
    output: int
    def __init__(self, input_shape: list[int]) -> None: ...
    def add_linear(
        self, input: int, weights: Weights, bias: _Floats | None, epilogue: Epilogue
    ) -> None: ...
    def add_convolution(
        self,
        input: int,
        weights: Weights,
        kernel: _Pair,
        stride: _Pair,
        padding: _Pair,
        dilation: _Pair,
        groups: int,
        bias: _Floats | None,
        epilogue: Epilogue,
    ) -> None: ...
    def add_pool(self, input: int, pooling: Pooling) -> None: ...
    def add_pointwise(self, input: int, epilogue: Epilogue) -> None: ...
    def add_concatenate(self, inputs: list[int]) -> None: ...
    def add_reshape(self, input: int, shape: list[int]) -> None: ...
    def add_softmax(self, input: int, logarithm: bool) -> None: ...
    def check(self) -> list[list[int]]: ...

class Engine:
    def __init__(self, plan: Plan, instruction_set: str) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    def run(self, inputs: _Floats, outputs: _Floats, threads: int) -> None: ...
    def layer_seconds(self, inputs: _Floats, threads: int, repeats: int) -> list[float]: ...

def available_instruction_sets() -> list[str]: ...
def fma_peak(instruction_set: str, seconds: float) -> float: ...
def read_bandwidth(instruction_set: str, bytes: int, seconds: float) -> float: ...
