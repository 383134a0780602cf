"""A network as the header of a file describes it: JSON objects that name arrays by their number.

Each operator is an object of its name and its typed fields; a field that has its usual value is
left out. What the fields hold is checked afterwards, by `check_network`.
"""

import math
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.fields import (
    MOST_LAYERS,
    MOST_NUMBERS,
    MOST_WEIGHTS,
    Floats,
    is_array,
    typed_fields,
)
from gossamer.engine.gsm.bfloat16 import from_bfloat16, to_bfloat16
from gossamer.engine.gsm.claims import LEAST_BITMAP_COLUMNS, dense_as_bitmap
from gossamer.engine.gsm.container import Stored, shown_keys
from gossamer.engine.gsm.patterns import (
    Pattern,
    bitmap_bytes,
    from_bitmap,
    from_columns,
    smallest_encoding,
    to_bitmap,
    to_columns,
)
from gossamer.engine.network import Network
from gossamer.engine.operator import OPERATORS, Operator
from gossamer.engine.weights import BLOCK_ROWS, Layout, Weights

Precision = Literal["float32", "bfloat16"]

_WEIGHTS_KEYS = {"layout", "rows", "columns", "encoding", "pattern", "values"}
_PATTERN_ARRAYS = {"full": 0, "bitmap": 1, "columns": 2}


def describe_network(
    network: Network, precision: Precision = "float32"
) -> tuple[dict[str, Any], list[Stored]]:
    """Return a network as JSON and the arrays that it names by number.

    Parameters
    ----------
    network
        A sound one.
    precision
        Of the weights; everything else is stored as float32.
    """
    arrays: list[Stored] = []
    layers = [
        {"type": layer.name, **_described(layer, arrays, precision)} for layer in network.layers
    ]
    ends: dict[str, Any] = {"input_shape": list(network.inputs[0]), "output": network.outputs[0]}
    if len(network.inputs) > 1 or len(network.outputs) > 1:
        inputs = [list(shape) for shape in network.inputs]
        ends = {"input_shapes": inputs, "outputs": list(network.outputs)}
    return {"layers": layers, **ends}, arrays


def build_network(header: Any, arrays: Sequence[Stored]) -> Network:
    """Undo `describe_network`; whether the network is sound is for `check_network` to say.

    Raises
    ------
    InputError
        If anything is missing, too much or wrong.
    """
    several = isinstance(header, dict) and "input_shapes" in header
    keys = {"input_shapes", "outputs"} if several else {"input_shape", "output"}
    check_keys("network", header, {"layers", *keys})
    if not isinstance(header["layers"], list) or len(header["layers"]) > MOST_LAYERS:
        raise InputError(f"network: layers must be a list of at most {MOST_LAYERS}.")
    reader = _Arrays(arrays)
    layers = tuple(
        _built_layer(f"layer {i}", layer, reader) for i, layer in enumerate(header["layers"])
    )
    reader.check_all_read()
    if not several:
        return Network(tupled(header["input_shape"]), layers, header["output"])
    shapes, outputs = header["input_shapes"], header["outputs"]
    if not isinstance(shapes, list) or not all(isinstance(shape, list) for shape in shapes):
        raise InputError(f"network: input_shapes is {shapes!r:.80}, expected a list of lists.")
    if not isinstance(outputs, list):
        raise InputError(f"network: outputs is {outputs!r:.80}, expected a list.")
    return Network(tuple(map(tuple, shapes)), layers, tuple(outputs))


class _Arrays:
    """The arrays of a file, each to be read once."""

    def __init__(self, arrays: Sequence[Stored]) -> None:
        self._arrays = dict(enumerate(arrays))
        self._count = len(arrays)

    def take(self, where: str, number: Any, dtypes: Sequence[str]) -> NDArray[Any]:
        """Return the array of a number, which has one of these types."""
        if type(number) is not int or number not in self._arrays:
            raise InputError(
                f"{where} is {number!r:.80}, expected the number of an array, from 0 to "
                f"{self._count - 1}, that nothing else names."
            )
        name, array = self._arrays.pop(number)
        if name not in dtypes:
            raise InputError(f"{where} is of type {name}, expected {' or '.join(dtypes)}.")
        return from_bfloat16(array) if name == "bfloat16" else array

    def check_all_read(self) -> None:
        """Refuse arrays that belong to nothing."""
        if self._arrays:
            raise InputError(f"array {min(self._arrays)} belongs to no layer.")


def _described(part: Any, arrays: list[Stored], precision: Precision) -> dict[str, Any]:
    """Describe an operator, or a part of one, by the fields that do not have their usual value."""
    found: dict[str, Any] = {}
    for field in fields(part):
        content = _content(getattr(part, field.name), arrays, precision)
        if content != _content(field.default, arrays, precision):  # MISSING equals nothing else
            found[field.name] = content
    return found


def _content(content: Any, arrays: list[Stored], precision: Precision) -> Any:
    if isinstance(content, Weights):
        return _described_weights(content, arrays, precision)
    if isinstance(content, np.ndarray):
        return _added(arrays, "float32", content)
    if is_dataclass(content):
        return _described(content, arrays, precision)
    return list(content) if isinstance(content, tuple) else content


def _described_weights(
    weights: Weights, arrays: list[Stored], precision: Precision
) -> dict[str, Any]:
    encoding, pattern, values = _encoded(weights)
    described = {
        "layout": weights.layout,
        "rows": weights.rows,
        "columns": weights.columns,
        "encoding": encoding,
        "pattern": [_added(arrays, *stored) for stored in pattern],
    }
    if precision == "bfloat16":
        values = to_bfloat16(values)
        if not np.isfinite(from_bfloat16(values)).all():
            raise InputError("a weight is beyond the range of bfloat16; store float32 instead.")
    return {**described, "values": _added(arrays, precision, values)}


def _encoded(weights: Weights) -> tuple[str, list[Stored], NDArray[Any]]:
    """Return the name of an encoding, the arrays of the pattern, and the values that are stored."""
    if weights.layout == "dense":
        return _encoded_dense(weights)
    pattern = Pattern(len(weights.starts) - 1, weights.columns, weights.starts, weights.indices)
    if smallest_encoding(pattern) == "bitmap":
        return "bitmap", [("uint8", to_bitmap(pattern))], weights.values
    return "columns", [*to_columns(pattern)], weights.values


def _encoded_dense(weights: Weights) -> tuple[str, list[Stored], NDArray[Any]]:
    """Leave zeros out where that takes less room: a layer may be dense for its speed alone."""
    values = np.ascontiguousarray(weights.values)
    held = values.view(np.uint32) != 0  # Negative zeros are kept.
    count = int(np.count_nonzero(held))
    larger = count * 4 + bitmap_bytes(*held.shape) >= values.nbytes
    if larger or not dense_as_bitmap(held.size, count):
        return "full", [], values
    return "bitmap", [("uint8", np.packbits(held, bitorder="little"))], values[held]


def _added(arrays: list[Stored], name: str, array: NDArray[Any]) -> int:
    arrays.append((name, array))
    return len(arrays) - 1


def _built_layer(where: str, header: Any, arrays: _Arrays) -> Operator:
    if not isinstance(header, dict):
        raise InputError(f"{where}: is {header!r:.80}, expected an object.")
    name = header.get("type")
    if not isinstance(name, str) or name not in OPERATORS:
        raise InputError(
            f"{where}: type is {name!r:.80}, expected one of {', '.join(sorted(OPERATORS))}."
        )
    rest = {key: value for key, value in header.items() if key != "type"}
    return cast("Operator", _built(where, OPERATORS[name], rest, arrays))


def _built(where: str, wanted: type[Any], header: Any, arrays: _Arrays) -> Any:
    """Build an operator, or a part of one, from an object of its fields."""
    needed = {field.name for field in fields(wanted) if field.default is MISSING}
    check_keys(where, header, needed, {field.name for field in fields(wanted)})
    types = typed_fields(wanted)
    found = {
        key: _built_content(f"{where}: {key}", types[key].hint, content, arrays)
        for key, content in header.items()
    }
    return wanted(**found)


def _built_content(where: str, hint: Any, content: Any, arrays: _Arrays) -> Any:
    if hint is Weights:
        return _built_weights(where, content, arrays)
    if content is None:  # Whether it may be none is checked afterwards, as all else.
        return None
    if is_array(hint):
        return arrays.take(where, content, ["float32"])
    if isinstance(hint, type) and is_dataclass(hint):
        return _built(where, hint, content, arrays)
    return tupled(content)


def _built_weights(where: str, header: Any, arrays: _Arrays) -> Weights:
    check_keys(where, header, _WEIGHTS_KEYS)
    layout, rows, columns = header["layout"], header["rows"], header["columns"]
    if layout not in get_args(Layout):
        raise InputError(
            f"{where}: layout is {layout!r:.80}, expected one of {', '.join(get_args(Layout))}."
        )
    _check_size(where, rows, columns)
    encoding, numbers = header["encoding"], header["pattern"]
    if (
        not isinstance(encoding, str)
        or encoding not in _PATTERN_ARRAYS
        or encoding == ("columns" if layout == "dense" else "full")
    ):
        raise InputError(
            f"{where}: encoding is {encoding!r:.80}, which is none of layout {layout}."
        )
    if not isinstance(numbers, list) or len(numbers) != _PATTERN_ARRAYS[encoding]:
        raise InputError(
            f"{where}: pattern is {numbers!r:.80}, expected {_PATTERN_ARRAYS[encoding]} arrays."
        )
    dtypes = ["uint8"] if encoding == "bitmap" else ["uint8", "uint16", "uint32"]
    pattern = [arrays.take(f"{where}: pattern", number, dtypes) for number in numbers]
    for array in pattern:
        if array.ndim != 1:
            raise InputError(
                f"{where}: pattern has an array of shape {list(array.shape)}, expected one length."
            )
    values = arrays.take(f"{where}: values", header["values"], ["float32", "bfloat16"])
    if layout == "dense":
        return _decoded_dense(where, rows, columns, pattern, values)
    return _decoded(where, layout, rows, columns, pattern, values)


def _decoded(
    where: str,
    layout: Layout,
    rows: int,
    columns: int,
    arrays: list[NDArray[Any]],
    values: Floats,
) -> Weights:
    groups = -(-rows // BLOCK_ROWS) if layout == "block" else rows
    try:
        if len(arrays) == 1:
            _check_bitmap_columns(columns)
            pattern = from_bitmap(arrays[0], groups, columns, len(values))
        else:
            pattern = from_columns(arrays[0], arrays[1], groups, columns)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return Weights(layout, rows, columns, values, pattern.starts, pattern.indices)


def _check_bitmap_columns(columns: int) -> None:
    if columns < LEAST_BITMAP_COLUMNS:
        raise InputError(
            f"a bitmap of {columns} columns, expected the encoding columns below "
            f"{LEAST_BITMAP_COLUMNS} columns; write it again."
        )


def _decoded_dense(
    where: str, rows: int, columns: int, arrays: list[NDArray[Any]], values: Floats
) -> Weights:
    if not arrays:
        return Weights("dense", rows, columns, values)
    size = rows * columns
    if not dense_as_bitmap(size, values.size):
        raise InputError(
            f"{where}: a bitmap of {size} numbers with {values.size} values, expected the encoding "
            "full where so few are held; write it again."
        )
    bits = np.unpackbits(arrays[0], bitorder="little").view(bool)
    if bits.size != 8 * bitmap_bytes(rows, columns) or bits[size:].any():
        raise InputError(f"{where}: bitmap of {bits.size} bits, expected {size}, and then zeros.")
    matrix = np.zeros((rows, columns), np.float32)
    held = bits[:size].reshape(rows, columns)
    if values.shape != (np.count_nonzero(held),):
        raise InputError(
            f"{where}: values have shape {list(values.shape)}, expected "
            f"[{np.count_nonzero(held)}], one for each bit that is set."
        )
    matrix[held] = values
    return Weights("dense", rows, columns, matrix)


def _check_size(where: str, rows: Any, columns: Any) -> None:
    """Check the size of a matrix before anything is made of it."""
    if (
        type(rows) is not int
        or type(columns) is not int
        or not 1 <= rows <= MOST_NUMBERS
        or not 1 <= columns <= MOST_WEIGHTS
        or math.prod((rows, columns)) > MOST_WEIGHTS
    ):
        raise InputError(
            f"{where}: {rows!r:.40} rows and {columns!r:.40} columns, expected at most "
            f"{MOST_WEIGHTS} weights in all."
        )


def check_keys(where: str, header: Any, needed: set[str], allowed: set[str] | None = None) -> None:
    """Check that an object has the keys that it needs, and no others than are allowed.

    Raises
    ------
    InputError
        If not, or it is no object.
    """
    if not isinstance(header, dict) or not needed <= set(header) <= (allowed or needed):
        found = shown_keys(header) if isinstance(header, dict) else f"{header!r:.120}"
        more = sorted((allowed or needed) - needed)
        also = f", perhaps {', '.join(more)}" if more else ""
        raise InputError(f"{where}: has {found}, expected {', '.join(sorted(needed))}{also}.")


def tupled(content: Any) -> Any:
    """Return a list as a tuple: a network holds nothing that changes.

    Examples
    --------
    >>> tupled([3, 4]), tupled(5)
    ((3, 4), 5)
    """
    return tuple(content) if isinstance(content, list) else content
