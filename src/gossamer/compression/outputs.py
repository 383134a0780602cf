"""What a network gives: the tensors inside of it, and the containers around them.

An output may be a tensor, or tensors in tuples, lists, mappings, dataclasses and plain objects, one
inside the other. `torch.utils._pytree` knows a dataclass or an object only where it was registered,
which a library must not do to a user's classes; here they are looked into as they are.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, fx, nn

from gossamer.compression.example_batches import mixed
from gossamer.compression.probing import inputs_like
from gossamer.core.errors import InputError
from gossamer.graph.arguments import ONLY, Arguments

_WHOLE = (
    Tensor, np.ndarray, np.generic, nn.Module, fx.Proxy, fx.Node, Enum, type, FunctionType,
    MethodType, ModuleType, torch.SymInt, torch.SymFloat, torch.SymBool,
)  # fmt: skip
"""What is never looked into, though some of them have attributes."""


class Step(NamedTuple):
    """One step into a container: an attribute of that name, or what stands at that key."""

    key: Any
    attribute: bool


class Leaf(NamedTuple):
    """What a container holds, and the way to it."""

    steps: tuple[Step, ...]
    value: Any

    @property
    def name(self) -> str:
        """Return the way in words, such as 'hidden_0'; empty for an output without container."""
        return "_".join(str(step.key) for step in self.steps)


def _parts(value: object) -> dict[Step, Any] | None:
    """Return what a container holds; None for what is none."""
    if isinstance(value, _WHOLE):
        return None
    if isinstance(value, Mapping):
        return {Step(key, False): part for key, part in value.items()}
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", None)
        if isinstance(names, tuple):
            return {Step(name, True): part for name, part in zip(names, value, strict=True)}
        return {Step(index, False): part for index, part in enumerate(value)}
    if is_dataclass(value):
        known = [field.name for field in fields(value) if hasattr(value, field.name)]
        return {Step(name, True): getattr(value, name) for name in known}
    if hasattr(value, "__dict__"):
        return {Step(name, True): part for name, part in vars(value).items()}
    return None


def _walk(
    value: object, steps: tuple[Step, ...] = (), around: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[Step, ...], Any, bool]]:
    """Yield every container and leaf with the way to it, and whether it is a leaf."""
    parts = None if id(value) in around else _parts(value)
    yield steps, value, parts is None
    for step, part in (parts or {}).items():
        yield from _walk(part, (*steps, step), (*around, id(value)))


def leaves(output: object) -> list[Leaf]:
    """Return what is inside an output, in order.

    Examples
    --------
    >>> [leaf.name for leaf in leaves({"x": [torch.ones(1), None], "y": 2.0})]
    ['x_0', 'x_1', 'y']
    """
    return [Leaf(steps, value) for steps, value, is_leaf in _walk(output) if is_leaf]


def output_names(tensors: Sequence[Leaf], inputs: Sequence[str] = (ONLY,)) -> tuple[str, ...]:
    """Return names for the outputs of a network, all different and none that of an input.

    Examples
    --------
    >>> output_names(leaves({"logits": torch.ones(1), "hidden": (torch.ones(1), torch.ones(1))}))
    ('logits', 'hidden_0', 'hidden_1')
    >>> output_names([leaf for leaf in leaves((None, torch.ones(1))) if leaf.value is not None])
    ('output_1',)
    >>> output_names(leaves(torch.ones(1)))
    ('output',)
    """
    names: list[str] = []
    for leaf in tensors:
        name = output_name(leaf, inputs)
        while name in (*names, *inputs):
            name += "_again"
        names.append(name)
    return tuple(names)


def output_name(leaf: Leaf, inputs: Sequence[str]) -> str:
    """Return the name of one output, beside inputs of these names."""
    if not leaf.name:
        return "output"
    taken = leaf.name[0].isdigit() or leaf.name in inputs
    return f"output_{leaf.name}" if taken else leaf.name


@dataclass(frozen=True, eq=False)
class Form:
    """What is around and beside the tensors of an output.

    Examples
    --------
    >>> Form.of([torch.ones(1), 2]) == Form.of([torch.zeros(1), 2])
    True
    >>> Form.of([torch.ones(1), 2]) == Form.of((torch.zeros(1), 3))
    False
    """

    kinds: tuple[tuple[tuple[Step, ...], type], ...]
    """Of each container and leaf the way to it and its class."""
    constants: tuple[Any, ...]
    """The leaves that are no tensors."""

    @classmethod
    def of(cls, output: object) -> Self:
        """Return the form of an output."""
        found = list(_walk(output))
        kinds = ((steps, Tensor if _is_tensor(value) else type(value)) for steps, value, _ in found)
        constants = (value for _, value, is_leaf in found if is_leaf and not _is_tensor(value))
        return cls(tuple(kinds), tuple(constants))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Form)
            and self.kinds == other.kinds
            and all(map(_equal, self.constants, other.constants))
        )

    def __hash__(self) -> int:
        return hash(self.kinds)


def comparable(output: object) -> list[Any]:
    """Return the form of an output, which has to be equal, and its tensors, which may round.

    Complex tensors gain an axis of two.

    Examples
    --------
    >>> [type(part).__name__ for part in comparable({"x": torch.ones(1), "y": (torch.ones(2), 3)})]
    ['Form', 'Tensor', 'Tensor']
    """
    found = [leaf.value for leaf in leaves(output) if _is_tensor(leaf.value)]
    real = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in found]
    return [Form.of(output), *real]


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second) or bool(first != first and second != second)
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return False


def with_leaves(output: Any, values: Sequence[Any]) -> Any:
    """Return an output of the same form with other leaves, given in order.

    Raises
    ------
    InputError
        If an object in it can neither be copied nor made anew.
    """
    waiting = iter(values)

    def rebuilt(value: Any, around: tuple[int, ...]) -> Any:
        parts = None if id(value) in around else _parts(value)
        if parts is None:
            return next(waiting)
        inside = (*around, id(value))
        return _with_parts(value, {step: rebuilt(part, inside) for step, part in parts.items()})

    return rebuilt(output, ())


def _with_parts(value: Any, parts: Mapping[Step, Any]) -> Any:
    """Return a copy of a container with other parts, made past its constructor."""
    kind = type(value)
    try:
        if isinstance(value, tuple):
            make = getattr(kind, "_make", kind)
            return make(list(parts.values()))
        if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
            return kind({step.key: part for step, part in parts.items()})
        twin = _shallow_copy(value)
        for step, part in parts.items():
            if not step.attribute:
                twin[step.key] = part
            else:  # a frozen dataclass refuses an ordinary assignment
                object.__setattr__(twin, step.key, part)
    except Exception as error:
        raise InputError(
            f"An output of the class {kind.__name__} cannot be copied with other tensors in it: "
            "return tuples, lists, dictionaries or dataclasses."
        ) from error
    if isinstance(value, Mapping):
        _set_attributes(twin, value, parts)
    return twin


def _set_attributes(twin: Any, value: Mapping[Any, Any], parts: Mapping[Step, Any]) -> None:
    """Change the attributes of a mapping, too, that are its items under another name."""
    changed = {id(value[step.key]): part for step, part in parts.items()}
    for name, held in getattr(value, "__dict__", {}).items():
        if isinstance(held, Tensor) and id(held) in changed:
            object.__setattr__(twin, name, changed[id(held)])


def _shallow_copy(value: Any) -> Any:
    with contextlib.suppress(Exception):  # a mapping whose constructor wants arguments
        return copy.copy(value)
    kind: Any = type(value)
    twin = kind.__new__(kind)
    for key, part in value.items() if isinstance(value, Mapping) else ():
        twin[key] = part
    for name, part in vars(value).items():
        object.__setattr__(twin, name, part)
    return twin


def map_tensors(output: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return an output with each tensor changed; itself where none is."""
    if isinstance(output, Tensor):
        return change(output)
    before = [leaf.value for leaf in leaves(output)]
    after = [change(value) if isinstance(value, Tensor) else value for value in before]
    unchanged = all(one is other for one, other in zip(before, after, strict=True))
    return output if unchanged else with_leaves(output, after)


def check_output(
    network: nn.Module, example: Arguments, answer: Callable[[Arguments], Any]
) -> None:
    """Refuse an output that cannot be compared, or be recorded by any of PyTorch's recorders.

    Tensors are what a network computes. Whatever else stands beside them, numbers, text or None,
    has to be the same for all inputs of a size: a number that is computed from the input must be a
    tensor for that.

    Parameters
    ----------
    network
        The network, for its name.
    example
        Its inputs, [batch, ...].
    answer
        Returns what it gives for inputs of these shapes, or raises InputError.

    Raises
    ------
    InputError
        If it cannot, in a sentence that names the part, or the network fails on the example.
    """
    output = answer(example)
    found = leaves(output)
    for leaf in found:
        if problem := _problem_of_leaf(leaf.value):
            raise InputError(_sentence(network, leaf, problem))
    if not any(isinstance(leaf.value, Tensor) for leaf in found):
        raise InputError(_sentence(network, Leaf((), output), "in which no tensor is found"))
    others = _other_leaves(example, answer)
    if others is None:  # it takes nothing else that could be made of its example
        return
    if [leaf.steps for leaf in others] != [leaf.steps for leaf in found]:
        raise InputError(
            _sentence(network, Leaf((), output), "whose form is not the same for other inputs")
        )
    for leaf, other in zip(found, others, strict=True):
        if not isinstance(leaf.value, Tensor) and not _equal(leaf.value, other.value):
            raise InputError(_sentence(network, leaf, "that is not the same for other inputs"))


def _problem_of_leaf(value: object) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return "in NumPy, where nothing can follow it"
    if isinstance(value, Tensor) and value.layout != torch.strided:
        return f"of layout {value.layout}"
    if isinstance(value, Tensor) and (value.is_quantized or value.is_nested):
        return "that is quantized or nested"
    return ""


def _sentence(network: nn.Module, leaf: Leaf, problem: str) -> str:
    where = f" as {leaf.name!r}" if leaf.name else ""
    return (
        f"The network {type(network).__name__} returns a {type(leaf.value).__name__}{where} "
        f"{problem}, but dense tensors were expected, alone or in tuples, lists, mappings, "
        "dataclasses or objects, and beside them only what is the same for all inputs: return what "
        "is computed as a tensor, and let the caller convert it with float(), .item() or .numpy()."
    )


def _other_leaves(example: Arguments, answer: Callable[[Arguments], Any]) -> list[Leaf] | None:
    """Return what is in the output for other inputs of an example's shapes that a network takes."""
    for inputs in _other_inputs(example):
        with contextlib.suppress(InputError):
            return leaves(answer(inputs))
    return None


def _other_inputs(example: Arguments) -> Iterator[Arguments]:
    """Yield other inputs of the shapes of an example: random ones, and some made of its own."""
    if example.real:
        yield inputs_like(example)[0]
    if len(example) > 1:
        yield mixed(example, len(example))
        return
    generator = torch.Generator().manual_seed(0)

    def shuffled(tensor: Tensor) -> Tensor:
        order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
        return tensor.flatten()[order].reshape(tensor.shape)

    yield example.mapped(shuffled)


@contextlib.contextmanager
def giving(network: nn.Module, chosen: Sequence[Leaf]) -> Iterator[None]:
    """Let a network give some leaves of its output, as a tuple, for a while.

    Recorders know no containers but their own; the steps to the leaves are all that they see.
    """

    def pick(_module: nn.Module, _inputs: Any, output: Any) -> tuple[Any, ...]:
        return tuple(_at(output, leaf.steps) for leaf in chosen)

    handle = network.register_forward_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def _at(output: Any, steps: Sequence[Step]) -> Any:
    for step in steps:
        output = getattr(output, step.key) if step.attribute else output[step.key]
    return output
