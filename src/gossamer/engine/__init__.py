"""Networks as plain arrays, and all that is done with them by NumPy alone.

**One representation.** A `Network` is a tuple of operators in the order in which they run. An
operator is a frozen value: which values it reads, and the numbers and sizes that it needs. The
first values are the inputs, then comes what each operator gave. A value has one shape for all
examples, without the batch, of one to five lengths; the first counts channels (or features, or
tokens), and an operator that cares for the others names them.

While PyTorch is being lowered, and folded and fused by `passes`, the same operators stand in a
`Program`: their values have names, so that one can be put between two others, and their numbers are
float64. `finished` numbers the values and rounds to float32, once.

**One file an operator.** A file of `ops` holds an operator's typed fields, its shape, its run on
NumPy arrays of either precision, and what functions of PyTorch become it. The types of `fields` say
all that is generic: what an operator reads, what is sound, what a file holds of it, and what the
compiled kernels are handed. `register` makes it known. An operator that the compiled kernels do not
have runs on NumPy alone, and the engine says so.

**Weights** are matrices in a layout (dense, single non-zeros, blocks of four rows) of a type:
float64 in a program, float32 in a network, bfloat16 in files.
"""

from gossamer.engine.activations import Activation, ActivationName, activate
from gossamer.engine.check import check_inputs, check_network
from gossamer.engine.epilogue import Epilogue
from gossamer.engine.fields import (
    LONGEST,
    MOST_AXES,
    MOST_LAYERS,
    MOST_NUMBERS,
    MOST_WEIGHTS,
    Array,
    Doubles,
    Floats,
    Pair,
    Shape,
    Value,
    read_by,
    renamed,
)
from gossamer.engine.native import (
    MOST_THREADS,
    Engine,
    available_instruction_sets,
    has_kernels,
)
from gossamer.engine.network import Network, Program, weights_of
from gossamer.engine.operator import (
    ANY_TYPE,
    OPERATORS,
    ROW_BY_ROW,
    RULES,
    Call,
    Given,
    Lowered,
    Operator,
    network_axis,
    network_shape,
    register,
    step_name,
)
from gossamer.engine.ops.attention import Attention
from gossamer.engine.ops.channel_norm import ChannelNorm
from gossamer.engine.ops.concatenate import Concatenate
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.embedding import Embedding
from gossamer.engine.ops.expand import Expand
from gossamer.engine.ops.layer_norm import LayerNorm
from gossamer.engine.ops.linear import Linear
from gossamer.engine.ops.matmul import Matmul
from gossamer.engine.ops.pad import Pad
from gossamer.engine.ops.permute import Permute
from gossamer.engine.ops.pixel_shuffle import PixelShuffle
from gossamer.engine.ops.pointwise import Pointwise
from gossamer.engine.ops.pool import Pool
from gossamer.engine.ops.recurrence import Recurrence
from gossamer.engine.ops.resample import Resample
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.slice import PARTING, Slice
from gossamer.engine.ops.softmax import Softmax
from gossamer.engine.ops.take import Take
from gossamer.engine.passes.folding import fold
from gossamer.engine.passes.fusing import REWRITTEN, finished, fuse
from gossamer.engine.passes.laying_out import lay_out
from gossamer.engine.passes.patches import patches_as_channels
from gossamer.engine.passes.unread import without_unread
from gossamer.engine.portable import run_portable, run_portable_all
from gossamer.engine.signature import (
    NumberType,
    Signature,
    TensorSpec,
    own_signature,
)
from gossamer.engine.weights import (
    BLOCK_ROWS,
    Layout,
    Weights,
    dense,
    pack_weights,
    unpack_rows,
    unpack_weights,
)
from gossamer.engine.windows import Pooling, window_positions

__all__ = [
    "ANY_TYPE", "BLOCK_ROWS", "LONGEST", "MOST_AXES", "MOST_LAYERS", "MOST_NUMBERS",
    "MOST_THREADS", "MOST_WEIGHTS", "OPERATORS", "PARTING", "REWRITTEN", "ROW_BY_ROW", "RULES",
    "Activation", "ActivationName", "Array", "Attention", "Call", "ChannelNorm", "Concatenate",
    "Constant", "Convolution", "Doubles", "Embedding", "Engine", "Epilogue", "Expand", "Floats",
    "Given", "LayerNorm", "Layout", "Linear", "Lowered", "Matmul", "Network", "NumberType",
    "Operator", "Pad", "Pair", "Permute", "PixelShuffle", "Pointwise", "Pool", "Pooling", "Program",
    "Recurrence", "Resample", "Reshape", "Shape", "Signature", "Slice", "Softmax", "Take",
    "TensorSpec", "Value", "Weights", "activate", "available_instruction_sets", "check_inputs",
    "check_network", "dense", "finished", "fold", "fuse", "has_kernels", "lay_out",
    "network_axis", "network_shape", "own_signature", "pack_weights", "patches_as_channels",
    "read_by", "register", "renamed", "run_portable", "run_portable_all", "step_name",
    "unpack_rows", "unpack_weights", "weights_of", "window_positions", "without_unread",
]  # fmt: skip
