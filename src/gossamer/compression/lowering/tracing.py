"""The graph of a PyTorch model: which operations of PyTorch it runs on which values.

`torch.export` records the model in evaluation mode; what it writes in place is made explicit, so
that every value in the graph is computed once and never changes.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments, joined
from gossamer.graph.examples import Example
from gossamer.measures.functional.running import told


@dataclass(frozen=True)
class Trace:
    """The graph of a model over its parameters.

    `fixed_batch` says why it takes batches of the example's size only; empty where it takes any.
    """

    graph: fx.GraphModule
    fixed_batch: str


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
            program = _exported(model, several_examples(example), dynamic=True, strict=strict)
            return Trace(program, fixed_batch="")
        except Exception as error:  # noqa: BLE001 - a user's forward may raise anything
            fixed_batch = fixed_batch or _first_sentence(error)
    try:
        return Trace(_exported(model, example, dynamic=False), fixed_batch)
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
    model: nn.Module, example: Arguments, *, dynamic: bool, strict: bool = False
) -> fx.GraphModule:
    args, kwargs = example.positional_and_named
    batch = [{0: torch.export.Dim("batch")}] * len(example.tensors)
    dimensions = example.dynamic_shapes(batch) if dynamic else None
    with torch.no_grad(), quietly(), _masks_taken_as_they_are():
        program = torch.export.export(model, args, kwargs, dynamic_shapes=dimensions, strict=strict)
        graph = program.run_decompositions({}).module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    _forget_effects(graph)
    return graph


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

    What is repeated for each example, as a class token is, is computed for a batch of one, and so
    has the length 1 where the batch would be.
    """
    found: dict[Any, Any] = {}
    with torch.no_grad():
        for node in graph.graph.nodes:
            if node.op == "get_attr":
                value = _attribute(graph, str(node.target))
            elif _is_constant(node, found):
                value = _computed(node, found)
            elif operation_name(node) in _FILLED and node.all_input_nodes == [node.args[0]]:
                value = _computed(node, {node.args[0]: torch.empty(0)})
            elif _is_repeated(node, found):
                value = _computed(node, found | {n: 1 for n in node.all_input_nodes if is_size(n)})
            else:
                continue
            if isinstance(value, Tensor | list | tuple):
                found[node] = value
    return found


_FILLED = frozenset({"new_ones", "new_zeros", "new_full"})
"""Functions that take nothing but its type and place from the tensor that they are given."""
_REPEATED = frozenset({"expand", "repeat", "zeros", "ones", "full"})
"""Functions that may give the same for each example."""


def _is_constant(node: fx.Node, found: Mapping[Any, Any]) -> bool:
    if operation_name(node) == "getitem":
        return node.args[0] in found
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    random = torch.Tag.nondeterministic_seeded in node.target.tags
    return not random and bool(node.args) and all(n in found for n in node.all_input_nodes)


def _is_repeated(node: fx.Node, found: Mapping[Any, Any]) -> bool:
    """Tell whether a node gives a constant for each example, along an axis that is the batch."""
    value = node.meta.get("val")
    if operation_name(node) not in _REPEATED or not isinstance(value, Tensor):
        return False
    if not all(n in found or _is_batch(n) for n in node.all_input_nodes):
        return False
    return sum(not isinstance(size, int) for size in value.shape) == 1


def _is_batch(node: fx.Node) -> bool:
    """Tell whether a node is the size of the batch."""
    value = node.meta.get("val")
    return isinstance(value, torch.SymInt) and value.node.expr.is_Symbol


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
