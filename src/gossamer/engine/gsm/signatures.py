"""Signatures in the header of a file: in short where there is one nameless input and output."""

from typing import Any

from gossamer.core.errors import InputError
from gossamer.engine.fields import MOST_ENDS
from gossamer.engine.gsm.header import check_keys, tupled
from gossamer.engine.signature import Signature, TensorSpec

_PLAIN_KEYS = {"input_shape", "output_shape"}
_NAMED_KEYS = {"inputs", "outputs", "returns"}
KEYS = (_PLAIN_KEYS, _NAMED_KEYS)
"""What a header holds of a signature, in short or in full."""

_SPEC_KEYS = {"name", "shape", "type"}


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
    return {
        "inputs": [_described(spec) for spec in signature.inputs],
        "outputs": [_described(spec) for spec in signature.outputs],
        "returns": signature.returns,
    }


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
    return Signature(inputs, outputs, header["returns"])


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "type": spec.type}


def _built(name: str, described: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(described, list) or not 1 <= len(described) <= MOST_ENDS:
        raise InputError(f"{name} is {described!r:.80}, expected a list of 1 to {MOST_ENDS}.")
    for i, one in enumerate(described):
        check_keys(f"{name} {i}", one, _SPEC_KEYS)
    return tuple(TensorSpec(one["name"], tupled(one["shape"]), one["type"]) for one in described)
