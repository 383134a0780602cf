from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray


class Weights:
    def __init__(self, kind: str, rows: int, columns: int, values: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], starts: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], indices: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None: ...

class Pooling:
    def __init__(self, kind: str, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], ceil: bool, counts_padding: bool) -> None: ...

class Epilogue:
    def __init__(self, residual: int | None, activation: str, alpha: float, scale: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None, shift: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None, pooling: Pooling | None) -> None: ...

class Plan:
    def __init__(self, input_shape: Sequence[int]) -> None: ...

    def add(self, name: str, inputs: Sequence[int], fields: dict[str, object]) -> None:
        """
        Add a layer of any operator; a field that is None is as if it were not given.
        """

    def add_input(self, shape: Sequence[int]) -> None:
        """Add a further input; no layer may stand before it."""

    @property
    def outputs(self) -> list[int]: ...

    @outputs.setter
    def outputs(self, arg: Sequence[int], /) -> None: ...

    def check(self) -> list[list[int]]:
        """Check every number; return the shape of every value."""

class Engine:
    def __init__(self, plan: Plan, instruction_set: str) -> None: ...

    @property
    def instruction_set(self) -> str: ...

    @property
    def leading(self) -> int: ...

    def run(self, inputs: object, outputs: object, threads: int) -> None: ...

    def layer_seconds(self, inputs: object, threads: int, repeats: int) -> list[float]: ...

class KeptAttention:
    def __init__(self, sequences: int, most: int, heads: int, key_heads: int, width: int, depth: int, scale: float, added: object, instruction_set: str) -> None:
        """
        `added` to the scores is an array of no numbers or [1 or heads x most x most].
        """

    @property
    def bytes(self) -> int: ...

    def attend(self, places: Sequence[int], query: object, key: object, value: object, output: object) -> None:
        """
        Keep the key and the value of a token of each sequence at its place, and attend from it; a sequence whose place is below 0 keeps nothing and gets zeros.
        """

class TrainingIndex:
    """
    Where the non-zeros of a sparse layer stand. The memory at the addresses that its methods take is the caller's to check: float32, outputs and the gradient of the inputs [features][examples].
    """

    def __init__(self, positions: int, count: int, rows: int, columns: int, instruction_set: str) -> None: ...

    def forward(self, values: int, bias: int, inputs: int, example: int, feature: int, examples: int, outputs: int, threads: int) -> None: ...

    def backward(self, values: int, inputs: int, example: int, feature: int, gradient: int, gradient_example: int, gradient_feature: int, examples: int, of_inputs: int, of_values: int, of_bias: int, threads: int) -> None: ...

class TrainingConvolution:
    """
    Where the non-zeros of a sparse convolution stand, for images of one size. The memory at the addresses that its methods take is the caller's to check: float32, [images][channels][height][width] or channels last; outputs and the gradient of the inputs lie as the inputs do.
    """

    def __init__(self, positions: int, count: int, outputs: int, inputs: int, groups: int, vertical: Sequence[int], horizontal: Sequence[int], instruction_set: str) -> None: ...

    def forward(self, values: int, bias: int, inputs: int, channels_last: bool, images: int, outputs: int, threads: int) -> None: ...

    def backward(self, values: int, inputs: int, channels_last: bool, gradient: int, gradient_channels_last: bool, images: int, of_inputs: int, of_values: int, of_bias: int, threads: int) -> None: ...

def available_instruction_sets() -> list[str]: ...

def operators() -> list[str]:
    """Names that `Plan.add` takes."""

def refusals() -> int:
    """
    How often a number was met that counts no row or place, in all engines.
    """

MOST_NUMBERS: int = 268435456

MOST_WEIGHTS: int = 2147483647

MOST_LAYERS: int = 65536

LONGEST: int = 65536

def fma_peak(instruction_set: str, seconds: float) -> float:
    """Floating-point operations a second of one core, in registers."""

def read_bandwidth(instruction_set: str, bytes: int, seconds: float) -> float:
    """
    Bytes a second that one core reads of an array of so many bytes, over and over.
    """
