"""Signatures in the header of a file: in short where there is one nameless input and output."""

from typing import Any

from gossamer.core.errors import InputError
from gossamer.engine.fields import LONGEST, MOST_AXES, MOST_ENDS
from gossamer.engine.gsm.header import check_keys, tupled
from gossamer.engine.signature import Lengths, Signature, TensorSpec, Varying
from gossamer.engine.spans import RULES

_PLAIN_KEYS = {"input_shape", "output_shape"}
_NAMED_KEYS = {"inputs", "outputs", "returns"}
KEYS = (_PLAIN_KEYS, _NAMED_KEYS, _NAMED_KEYS | {"lengths"})
"""What a header holds of a signature: in short or in full, for one length or several."""

_SPEC_KEYS = {"name", "shape", "type"}
_LENGTHS_KEYS = {"least", "most", "varying"}
_VARYING_KEYS = {"path", "axis", "slope", "offset"}
_MORE_KEYS = {"length", "of", "rule"}
_MOST_LENGTHS = 8
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
    least, most = (
        ends[0] if len(ends) == 1 else list(ends) for ends in (lengths.least, lengths.most)
    )
    varying = [_described_varying(one) for one in lengths.varying]
    return {**found, "lengths": {"least": least, "most": most, "varying": varying}}


def _described_varying(one: Varying) -> dict[str, Any]:
    """Return what varies as JSON, without what is usual."""
    found = {**vars(one), "path": list(one.path), "of": [list(pair) for pair in one.of]}
    return {key: value for key, value in found.items() if key in _VARYING_KEYS or value}


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
    least, most = (_built_ends(described[name]) for name in ("least", "most"))
    ends = zip(least, most, strict=False)
    sound = len(least) == len(most) and 1 <= len(least) <= _MOST_LENGTHS
    if not sound or not all(low <= high <= LONGEST for low, high in ends):
        raise InputError(
            f"lengths: {described['least']!r:.40} to {described['most']!r:.40}, expected 1 to "
            f"{LONGEST} at most."
        )
    varying = described["varying"]
    if not isinstance(varying, list) or not 1 <= len(varying) <= _MOST_VARYING:
        raise InputError(f"lengths: varying is {varying!r:.80}, expected a list.")
    for i, one in enumerate(varying):
        where = f"lengths: varying {i}"
        known = isinstance(one, dict)
        check_keys(where, one, _VARYING_KEYS | (one.keys() & _MORE_KEYS if known else set()))
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
        _check_more(where, one, len(least))
    return Lengths(least, most, tuple(map(_built_varying, varying)))


def _built_ends(ends: Any) -> tuple[int, ...]:
    """Return the shortest or the longest of each length; nothing if they are none."""
    found = tuple(ends) if isinstance(ends, list) else (ends,)
    return found if all(_is_whole(end, 1) for end in found) else ()


def _check_more(where: str, one: Any, lengths: int) -> None:
    number, of, rule = one.get("length", 0), one.get("of", []), one.get("rule", "")
    if not _is_whole(number, 0) or number >= lengths:
        raise InputError(f"{where}: length is {number!r:.80}, expected one below {lengths}.")
    pairs = isinstance(of, list) and len(of) <= MOST_AXES
    if not pairs or not all(
        isinstance(pair, list) and len(pair) == 2 and all(_is_whole(n, 0) for n in pair)
        for pair in of
    ):
        raise InputError(f"{where}: of is {of!r:.80}, expected pairs of a value and an axis.")
    if rule not in ("", *RULES):
        raise InputError(f"{where}: rule is {rule!r:.80}, expected one of {', '.join(RULES)}.")


def _built_varying(one: Any) -> Varying:
    of = tuple((value, axis) for value, axis in one.get("of", []))
    numbers = (one["axis"], one["slope"], one["offset"], one.get("length", 0))
    return Varying(tuple(one["path"]), *numbers, of, one.get("rule", ""))


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
