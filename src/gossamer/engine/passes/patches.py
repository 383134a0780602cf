"""Programs whose convolutions of patches are products of one position.

A transformer of images reads patches that lie side by side. With the numbers of a patch as channels
its convolution is a product of each position, as those of tokens are, for which there are faster
kernels.
"""

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

from gossamer.engine.fields import Shape, Value
from gossamer.engine.network import Program
from gossamer.engine.operator import Operator
from gossamer.engine.ops.attention import Attention
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.permute import Permute
from gossamer.engine.ops.reshape import Reshape

CUT_PATCHES: ContextVar[bool] = ContextVar("CUT_PATCHES", default=True)
"""Whether patches that fill an image become channels; not so where they do not at other sizes."""


def patches_as_channels(program: Program) -> Program:
    """Return a program of attentions that computes the same, with patches in the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from gossamer.engine.weights import dense
    >>> operators = {
    ...     "patches": Convolution("x", dense(np.ones((4, 12))), (2, 2), (2, 2)),
    ...     "tokens": Reshape("patches", (4, 1, 9)),
    ...     "y": Attention("tokens", "tokens", "tokens", 1, 1, 1.0),
    ... }
    >>> changed = patches_as_channels(Program({"x": (3, 6, 6)}, operators, ("y",)))
    >>> [operator.name for operator in changed.operators.values()]
    ['reshape', 'permute', 'reshape', 'convolution', 'reshape', 'attention']
    """
    if not CUT_PATCHES.get() or not any(
        isinstance(one, Attention) for one in program.operators.values()
    ):
        return program  # examples lie side by side, where any order of them is as good
    shapes = program.shapes()
    operators: dict[Value, Operator] = {}
    for name, operator in program.operators.items():
        if isinstance(operator, Convolution) and _reads_patches(operator, shapes[operator.input]):
            operators.update(_as_channels(name, operator, shapes[operator.input]))
        else:
            operators[name] = operator
    return replace(program, operators=operators)


def _reads_patches(convolution: Convolution, image: Shape) -> bool:
    """Tell whether patches lie side by side and fill the image."""
    kernel = convolution.kernel
    fitting = all(size % taps == 0 for size, taps in zip(image[1:], kernel, strict=True))
    plain = convolution.padding == (0, 0) and convolution.dilation == (1, 1)
    side_by_side = convolution.stride == kernel and max(kernel) > 1
    by_channel = convolution.bias is None or convolution.bias.ndim == 1
    whole = convolution.groups == 1 and not convolution.epilogue.stages
    return fitting and plain and side_by_side and by_channel and whole


def _as_channels(
    name: Value, convolution: Convolution, image: Shape
) -> Iterator[tuple[Value, Operator]]:
    channels, (tall, wide) = image[0], convolution.kernel
    height, width = image[1] // tall, image[2] // wide
    parts = [f"{name}.{part}" for part in ("cut", "turned", "laid")]
    yield parts[0], Reshape(convolution.input, (channels, height, tall, width, wide))
    yield parts[1], Permute(parts[0], (0, 2, 4, 1, 3))
    yield parts[2], Reshape(parts[1], (channels * tall * wide, height, width))
    one = (1, 1)
    yield name, replace(convolution, input=parts[2], kernel=one, stride=one)
