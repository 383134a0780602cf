"""The graph of a PyTorch model: which operations of PyTorch it runs on which values.

`torch.export` records the model in evaluation mode; what it writes in place is made explicit, so
that every value in the graph is computed once and never changes.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from gossamer.compression.lowering.in_place import without_writing
from gossamer.compression.lowering.other_calls import (
    OtherCalls,
    by_differences,
    by_gather,
    by_linear,
)
from gossamer.compression.lowering.packed_sequences import padded_sequences
from gossamer.compression.lowering.recurrent_calls import (
    RecurrentCalls,
    named_as_in_pytorch,
)
from gossamer.core.errors import InputError
from gossamer.engine import RULES
from gossamer.graph.arguments import Arguments, joined
from gossamer.graph.examples import Example
from gossamer.measures.functional.running import told


@dataclass(frozen=True)
class Trace:
    """The graph of a model over its parameters.

    `fixed_batch` says why it takes batches of the example's size only; empty where it takes any.
    `decomposed` gives the same trace in PyTorch's own functional form, where `graph` was written
    in a shorter way; more of that may be known.
    """

    graph: fx.GraphModule
    fixed_batch: str
    decomposed: "Callable[[], Trace] | None" = None


def trace(model: nn.Module, given: Example | Arguments) -> Trace:
    """Record what a model computes from an example, for batches of any size where it allows them.

    Parameters
    ----------
    model
        In evaluation mode. It runs, and must not mind: give a copy.
    given
        Its inputs, [batch, ...].

    Raises
    ------
    InputError
        If PyTorch cannot record it, with its reason inside the sentence.
    """
    example = Arguments.of(model, given)
    fixed_batch = ""
    for strict in (False, True):  # which also follows len(x) and int(x.shape[0]), but takes longer
        try:
            return _exported(model, several_examples(example), dynamic=True, strict=strict)
        except Exception as error:  # noqa: BLE001 - a user's forward may raise anything
            fixed_batch = fixed_batch or _first_sentence(error)
    try:
        return _exported(model, example, dynamic=False, fixed_batch=fixed_batch)
    except Exception as error:
        raise InputError(
            f"The network {type(model).__name__} cannot be recorded by torch.export "
            f"({_first_sentence(error)})"
        ) from error


def several_examples(example: Arguments) -> Arguments:
    """Return an example of which a recording stays open for any size of the batch.

    A dimension of 1 is taken for a constant, so that a batch of 1 would never become another.
    """
    return example if len(example) > 1 else joined([example, example])


def _first_sentence(error: Exception) -> str:
    """Return the beginning of what PyTorch says of a model, which goes on over its internals."""
    said = told(error)
    if "Constraints violated" in said:
        return "what it computes depends on the size of the batch, which its forward reads"
    return said.partition(". ")[0].partition("! ")[0]


def _exported(
    model: nn.Module,
    example: Arguments,
    *,
    dynamic: bool,
    strict: bool = False,
    fixed_batch: str = "",
) -> Trace:
    args, kwargs = example.positional_and_named
    batch = [{0: torch.export.Dim("batch")}] * len(example.tensors)
    dimensions = example.dynamic_shapes(batch) if dynamic else None
    with contextlib.ExitStack() as calls, torch.no_grad(), quietly(), _masks_taken_as_they_are():
        if not strict:
            calls.enter_context(RecurrentCalls())
            calls.enter_context(padded_sequences())
            calls.enter_context(OtherCalls(_OTHERS))
        program = torch.export.export(model, args, kwargs, dynamic_shapes=dimensions, strict=strict)
    with quietly():
        graph = _module_of(program)
    if without_writing(graph):
        _forget_effects(graph)
        if _is_known(graph):
            return Trace(graph, fixed_batch, partial(_decomposed, program, fixed_batch))
    return _decomposed(program, fixed_batch)


def _decomposed(program: torch.export.ExportedProgram, fixed_batch: str) -> Trace:
    """Return the trace of what was recorded in PyTorch's own functional form, which takes long."""
    with torch.no_grad(), quietly():
        graph = _module_of(program.run_decompositions(dict(_DECOMPOSED)))
    _forget_effects(graph)
    return Trace(graph, fixed_batch)


def _module_of(program: torch.export.ExportedProgram) -> fx.GraphModule:
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    named_as_in_pytorch(graph)
    return graph


def _is_known(graph: fx.GraphModule) -> bool:
    """Tell whether no function that PyTorch would write as others is unknown to the operators.

    It writes out those that may give a view of what they read, unless that is all that they do.
    """
    fixed: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "get_attr" or is_size(node):
            fixed.add(node)
        elif node.op == "call_function" and _written_as_others(node.target):
            if operation_name(node) not in RULES and not fixed.issuperset(node.all_input_nodes):
                return False
            fixed.add(node)
    return True


def _written_as_others(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return False
    shares = any(one.alias_info is not None for one in target._schema.arguments)
    return target in _DECOMPOSED or (shares and target._can_decompose())


def _composed(*functions: torch._ops.OpOverload) -> dict[torch._ops.OpOverload, Any]:
    """Return how PyTorch computes functions by others of its own."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return {function: partial(function._op_dk, key) for function in functions}


_aten = torch.ops.aten
_OTHERS: dict[str, Callable[..., Any]] = {
    "take_along_dim": by_gather,
    "cdist": by_differences,
    "bilinear": by_linear,
}
"""What does the same as functions that no operator computes, or for one size of the batch only."""
_DECOMPOSED = _composed(
    _aten.einsum.default,
    _aten.tensordot.default,
    _aten.inner.default,
    _aten.pairwise_distance.default,
)
"""Functions that are written as products, sums and permutations when a model is recorded."""


@contextlib.contextmanager
def _masks_taken_as_they_are() -> Iterator[None]:
    """Keep `nn.TransformerEncoder` from asking whether the numbers of a mask are causal.

    A recording cannot follow that, and what it computes does not depend on the answer.
    """
    module = torch.nn.modules.transformer
    detect = module._detect_is_causal_mask
    module._detect_is_causal_mask = lambda _, is_causal=None, *_sizes: bool(is_causal)
    try:
        yield
    finally:
        module._detect_is_causal_mask = detect


def _forget_effects(graph: fx.GraphModule) -> None:
    """Drop checks, and what a model writes into its input: a compressed one leaves it alone.

    Raises
    ------
    InputError
        If it also writes into its buffers, and so computes something else the next time.
    """
    for node in [n for n in computing(graph) if not n.users]:
        name = operation_name(node)
        written = node.args[0] if name == "copy_" else None
        if isinstance(written, fx.Node) and written.op != "placeholder":
            raise InputError(f"it changes its {written} in evaluation mode")
        if written is not None or name.startswith("_assert"):
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep PyTorch from writing about its internals, and printing whole graphs where it fails."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def constants(graph: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Return the value of every node that depends on parameters and buffers alone.

    What is the same for each example, as a class token or a causal mask is, has the length 1 where
    the batch would be. Whether it is the same is found out for two sizes of the batch.
    """
    return _evaluated(graph)[0]


def numbers_of_examples(graph: fx.GraphModule) -> set[fx.Node]:
    """Return the nodes that give the numbers of the examples, from 0, along the first axis."""
    return {
        node
        for node, given in _evaluated(graph)[1].items()
        if all(
            isinstance(value, Tensor)
            and value.flatten().tolist() == list(range(batch))
            and value.shape[:1] == (batch,)
            for value, batch in zip(given.values, _BATCHES, strict=True)
        )
    }


def _evaluated(graph: fx.GraphModule) -> tuple[dict[Any, Any], "dict[fx.Node, _ByBatch]"]:
    """Return what is constant, and what reads nothing beside it but the size of the batch."""
    found: dict[Any, Any] = {}
    by_batch: dict[fx.Node, _ByBatch] = {}
    with torch.no_grad():
        for node in graph.graph.nodes:
            value: object = None
            if node.op == "get_attr":
                value = _attribute(graph, str(node.target))
            elif _is_constant(node, found) and not any(n in by_batch for n in node.all_input_nodes):
                value = _computed(node, found)
            elif (sizes := _for_batches(node, found, by_batch)) is not None:
                by_batch[node] = sizes
                value = sizes.alike(node)
            if isinstance(value, Tensor | list | tuple):
                found[node] = value
    return found, by_batch


_FILLED = frozenset({"new_ones", "new_zeros", "new_full", "zeros_like", "ones_like", "full_like"})
"""Functions that take nothing but its shape and type from the tensor that they are given."""
_BATCHES = (2, 3)


@dataclass(frozen=True)
class _ByBatch:
    """What a node gives for the batches of `_BATCHES`, of which it knows the size alone."""

    values: tuple[Any, ...]

    def alike(self, node: fx.Node) -> Tensor | None:
        """Return what each example is given, along an axis of length 1; None if that differs."""
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or not all(isinstance(v, Tensor) for v in self.values):
            return None
        axes = [axis for axis, size in enumerate(value.shape) if not isinstance(size, int)]
        if not axes:
            first: Tensor = self.values[0]
            return first if all(torch.equal(first, one) for one in self.values) else None
        if len(axes) != 1:
            return None
        one: Tensor = self.values[0].narrow(axes[0], 0, 1)
        same = all(
            given.shape[axes[0]] == batch and torch.equal(given, one.expand_as(given))
            for given, batch in zip(self.values, _BATCHES, strict=True)
        )
        return one if same else None


def _for_batches(
    node: fx.Node, found: Mapping[Any, Any], by_batch: Mapping[Any, _ByBatch]
) -> _ByBatch | None:
    """Compute a node that reads nothing but constants and the size of the batch."""
    value = node.meta.get("val")
    if isinstance(value, torch.SymInt):
        sizes = [_at_batch(value, batch) for batch in _BATCHES]
        return None if None in sizes else _ByBatch(tuple(sizes))
    read = node.all_input_nodes
    filled: tuple[Any, ...] = node.args[:1] if operation_name(node) in _FILLED else ()
    known = [n for n in read if n in by_batch or n in found]
    if not read or not _repeats(node) or len(known) + len({*filled} - {*known}) != len(read):
        return None
    values = []
    for number, batch in enumerate(_BATCHES):
        given = {n: by_batch[n].values[number] if n in by_batch else found[n] for n in known}
        given |= {n: _empty(n, batch) for n in filled if n not in given}
        values.append(_computed(node, given))
    return None if any(one is None for one in values) else _ByBatch(tuple(values))


def _at_batch(size: int | torch.SymInt, batch: int) -> int | None:
    """Return a size for a batch; None if it depends on something else."""
    if isinstance(size, int):
        return size
    symbols = list(size.node.expr.free_symbols)
    return int(size.node.expr.subs(symbols[0], batch)) if len(symbols) == 1 else None


def _empty(node: Any, batch: int) -> Tensor | None:
    """Return a tensor of the shape and type of what a node gives for a batch."""
    value = node.meta["val"]
    sizes = [size for one in value.shape if (size := _at_batch(one, batch)) is not None]
    return torch.empty(sizes, dtype=value.dtype) if len(sizes) == value.dim() else None


def _is_constant(node: fx.Node, found: Mapping[Any, Any]) -> bool:
    if operation_name(node) == "getitem":
        return node.args[0] in found
    return _repeats(node) and bool(node.args) and all(n in found for n in node.all_input_nodes)


def _repeats(node: fx.Node) -> bool:
    """Tell whether a node calls a function of PyTorch that gives the same each time."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    attends = operation_name(node) == "scaled_dot_product_attention"
    if attends and not (node.args[4:5] or (node.kwargs.get("dropout_p"),))[0]:
        return True
    return torch.Tag.nondeterministic_seeded not in node.target.tags


def _computed(node: fx.Node, found: Mapping[Any, Any]) -> object:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: found[n])
    assert callable(node.target)
    with contextlib.suppress(Exception):
        return node.target(*args, **kwargs)
    return None


def _attribute(graph: fx.GraphModule, path: str) -> object:
    found: object = graph
    for part in path.split("."):
        found = getattr(found, part)
    return found


def is_size(node: fx.Node) -> bool:
    """Tell whether a node gives no tensor but a number, such as the size of the batch."""
    return isinstance(node.meta.get("val"), int | torch.SymInt)


def values_read(node: fx.Node, fixed: Container[fx.Node]) -> list[fx.Node]:
    """Return the nodes whose tensors a node reads, without what depends on parameters alone."""
    return [n for n in node.all_input_nodes if n not in fixed and not is_size(n)]


NETWORK = "the network"
"""Path of the outermost module."""


def module_path(node: fx.Node) -> str:
    """Return the name of the module whose forward calls a node."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if isinstance(path, str)]
    return paths[-1] if paths and paths[-1] else NETWORK


def operation_name(node: fx.Node) -> str:
    """Return the name of the function of PyTorch that a node calls, without its overload."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.removeprefix("aten::")
    return str(getattr(node.target, "__name__", node.target))


def computing(graph: fx.GraphModule) -> Iterator[fx.Node]:
    """Yield the nodes that compute something."""
    return (node for node in graph.graph.nodes if node.op.startswith("call_"))
