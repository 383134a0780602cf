"""Signatures in the header of a file: in short where there is one nameless input and output."""

from typing import Any

from gossamer.core.errors import InputError
from gossamer.engine.fields import LONGEST, MOST_ENDS
from gossamer.engine.gsm.header import check_keys, tupled
from gossamer.engine.signature import Lengths, Signature, TensorSpec, Varying

_PLAIN_KEYS = {"input_shape", "output_shape"}
_NAMED_KEYS = {"inputs", "outputs", "returns"}
KEYS = (_PLAIN_KEYS, _NAMED_KEYS, _NAMED_KEYS | {"lengths"})
"""What a header holds of a signature: in short or in full, for one length or several."""

_SPEC_KEYS = {"name", "shape", "type"}
_LENGTHS_KEYS = {"least", "most", "varying"}
_VARYING_KEYS = {"path", "axis", "slope", "offset"}
_MOST_VARYING = 2**16
_MOST_STEPS = 16
_LARGEST = 2**31


def describe_signature(signature: Signature) -> dict[str, Any]:
    """Return a signature as JSON.

    Examples
    --------
    >>> describe_signature(Signature.of_shapes((3,), (2,)))
    {'input_shape': [3], 'output_shape': [2]}
    """
    if signature.is_plain:
        return {
            "input_shape": list(signature.inputs[0].shape),
            "output_shape": list(signature.outputs[0].shape),
        }
    found = {
        "inputs": [_described(spec) for spec in signature.inputs],
        "outputs": [_described(spec) for spec in signature.outputs],
        "returns": signature.returns,
    }
    if (lengths := signature.lengths) is None:
        return found
    varying = [{**vars(one), "path": list(one.path)} for one in lengths.varying]
    return {**found, "lengths": {**vars(lengths), "varying": varying}}


def build_signature(header: dict[str, Any]) -> Signature:
    """Undo `describe_signature`; whether it fits its network is for `check_signature` to say.

    Raises
    ------
    InputError
        If anything is missing, too much or wrong.
    """
    if header.keys() >= _PLAIN_KEYS:
        return Signature.of_shapes(tupled(header["input_shape"]), tupled(header["output_shape"]))
    inputs, outputs = (_built(name, header[name]) for name in ("inputs", "outputs"))
    lengths = _built_lengths(header["lengths"]) if "lengths" in header else None
    return Signature(inputs, outputs, header["returns"], lengths)


def _built_lengths(described: Any) -> Lengths:
    check_keys("lengths", described, _LENGTHS_KEYS)
    least, most, varying = described["least"], described["most"], described["varying"]
    if not (_is_whole(least, 1) and _is_whole(most, 1) and least <= most <= LONGEST):
        raise InputError(
            f"lengths: {least!r:.40} to {most!r:.40}, expected 1 to {LONGEST} at most."
        )
    if not isinstance(varying, list) or not 1 <= len(varying) <= _MOST_VARYING:
        raise InputError(f"lengths: varying is {varying!r:.80}, expected a list.")
    for i, one in enumerate(varying):
        where = f"lengths: varying {i}"
        check_keys(where, one, _VARYING_KEYS)
        path, axis = one["path"], one["axis"]
        steps = isinstance(path, list) and 3 <= len(path) <= _MOST_STEPS
        if not steps or not all(isinstance(step, str) or _is_whole(step, 0) for step in path):
            raise InputError(f"{where}: path is {path!r:.80}, expected names and places.")
        if path[:2] == [1, "inputs"] and (len(path) != 5 or path[3] != "shape"):
            raise InputError(f"{where}: path is {path!r:.80}, expected a length of an input.")
        numbers = (one["slope"], one["offset"])
        if not all(_is_whole(number, -_LARGEST) for number in numbers):
            raise InputError(f"{where}: slope and offset are {numbers!r:.80}, expected integers.")
        if axis is not None and not _is_whole(axis, 0):
            raise InputError(f"{where}: axis is {axis!r:.80}, expected null or an axis.")
    found = (Varying(tuple(o["path"]), o["axis"], o["slope"], o["offset"]) for o in varying)
    return Lengths(least, most, tuple(found))


def _is_whole(number: object, least: int) -> bool:
    return type(number) is int and least <= number <= _LARGEST


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "type": spec.type}


def _built(name: str, described: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(described, list) or not 1 <= len(described) <= MOST_ENDS:
        raise InputError(f"{name} is {described!r:.80}, expected a list of 1 to {MOST_ENDS}.")
    for i, one in enumerate(described):
        check_keys(f"{name} {i}", one, _SPEC_KEYS)
    return tuple(TensorSpec(one["name"], tupled(one["shape"]), one["type"]) for one in described)
