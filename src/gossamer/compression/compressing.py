"""From a masked model to the fastest thing that computes the same."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn

from gossamer.compression.checking import check_answers_of, check_example, check_model, run_twice
from gossamer.compression.choosing import ChannelsLast, choose_kinds, fastest, time_candidates
from gossamer.compression.compacting.copying import plain_copy
from gossamer.compression.compaction import compact
from gossamer.compression.compressed import Compressed, RunnerModule
from gossamer.compression.lowering.parts import Division, Part, divide, with_parts
from gossamer.compression.lowering.tracing import Trace, trace
from gossamer.compression.storing import suits_blocks, with_usual_kinds
from gossamer.errors import InputError
from gossamer.kernels.engine import Engine
from gossamer.kernels.network import Floats, Network
from gossamer.masks.names import bare_module

_BLOCK_SECONDS = 0.5
"""How long to time whether blocks or fewer units are faster."""
_PRUNED_BELOW = 0.7
"""Share of non-zeros below which blocks matter."""


def compress(
    model: nn.Module,
    example: Tensor,
    *,
    threads: int | None = None,
    choose: Literal["measure", "engine"] = "measure",
    seconds: float = 3.0,
) -> Compressed:
    """Make a network that was pruned really smaller and faster, without changing what it computes.

    Units that contribute nothing are removed (`compact`), what PyTorch computes is lowered to
    gossamer's engine with batch normalisation, activations, sums and poolings folded and fused
    into the layers before them, the weights of each layer are stored in the way that runs fastest,
    and the result is timed against the network as it was given. The fastest is kept, which may be
    the network itself. What cannot be lowered stays in PyTorch between the parts that can.

    Parameters
    ----------
    model
        Any module that computes in float32 on the CPU; it stays as it is. It is compressed as it
        computes in evaluation mode.
    example
        A batch of inputs [batch, ...]. Everything is timed on it, so its size should be that of
        the batches to come; the compressed network takes other sizes too.
    threads
        How many threads the compressed network, and all that it is timed against, may use; None
        takes as many as PyTorch uses now.
    choose
        "measure", or "engine" to take the engine without timing anything, wherever it can be used.
    seconds
        How long to time.

    Returns
    -------
    Compressed
        Call it with a batch; `str` of it says what was timed and chosen, `save` writes it to a
        file that needs no PyTorch.

    Raises
    ------
    InputError
        If the model or the example is not as described, or the network draws random numbers.

    Examples
    --------
    >>> from gossamer.masks import prune
    >>> model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    >>> mask = prune(model, 0.9)
    >>> example = torch.ones(4, 20)
    >>> small = compress(model, example, choose="engine")
    >>> bool(torch.allclose(small(example), model(example), atol=1e-6))
    True
    >>> small(example.numpy()).shape, small.size < 150
    ((4, 10), True)
    """
    root = bare_module(model)
    check_model(root)
    check_example(example)
    threads = _valid_threads(threads)
    if choose not in ("measure", "engine"):
        raise InputError(f"'choose' is {choose!r}, but 'measure' or 'engine' was expected.")
    with torch.random.fork_rng(devices=[]):
        twin = plain_copy(root).eval()
        return _compress(twin, example.detach().clone(), threads, choose == "measure", seconds)


def _valid_threads(threads: int | None) -> int:
    if threads is None:
        return torch.get_num_threads()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"'threads' is {threads!r}, but a whole number from 1 was expected.")
    return threads


@dataclass(frozen=True, eq=False)
class _Lowered:
    """The model with its parts in the engine; without parts the model is None."""

    module: nn.Module | None
    networks: tuple[Network, ...]
    remaining: tuple[str, ...]
    whole: Network | None
    any_batch: bool


def _compress(
    model: nn.Module, example: Tensor, threads: int, measure: bool, seconds: float
) -> Compressed:
    output = run_twice(model, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the result says what stays as it is
        small = compact(model, example)
    lowered = _lower_best(model, small, example, threads, measure, isinstance(output, Tensor))
    modules = {"dense": model}
    if _parameters(small) < _parameters(model):
        modules["compact"] = small
    if lowered.module is not None:
        modules["engine"] = lowered.module
    check_answers_of(modules, example, lowered.any_batch)
    if measure and example.dim() == 4:
        in_pytorch = [name for name in modules if name != "engine"]
        modules |= {f"{name} channels_last": ChannelsLast(modules[name]) for name in in_pytorch}
    timings = {}
    choice = list(modules)[-1]
    if measure:
        calls = {name: _call(module, example) for name, module in modules.items()}
        timings = time_candidates(calls, seconds, threads)
        choice = fastest(timings)
    return Compressed(
        choice=choice,
        network=lowered.whole,
        remaining=lowered.remaining,
        timings=timings,
        input_shape=tuple(example.shape[1:]),
        batch=len(example),
        any_batch=lowered.any_batch,
        threads=threads,
        _module=modules[choice],
        _networks=lowered.networks,
    )


def _call(module: nn.Module, example: Tensor) -> Callable[[], object]:
    return lambda: module(example)


def _lower_best(
    model: nn.Module,
    small: nn.Module,
    example: Tensor,
    threads: int,
    measure: bool,
    gives_tensor: bool,
) -> _Lowered:
    """Lower the smaller model; or the model itself, if it was pruned in blocks and so is faster.

    A unit that goes from among four rows that share their pattern saves nothing, and the rows
    behind it no longer share theirs.
    """
    lowered = _lower(small, example, threads, measure, gives_tensor)
    if _parameters(small) == _parameters(model) or not _is_in_blocks(model):
        return lowered
    aligned = _lower(model, example, threads, measure, gives_tensor)
    if lowered.module is None or aligned.module is None or not measure:
        return aligned
    calls = {"small": _call(lowered.module, example), "aligned": _call(aligned.module, example)}
    timings = time_candidates(calls, _BLOCK_SECONDS, threads)
    return lowered if timings["small"].median < timings["aligned"].median else aligned


def _is_in_blocks(model: nn.Module) -> bool:
    """Tell whether a layer with pruned weights has them in blocks of four rows."""
    weights = [
        module.weight.detach().flatten(1).numpy()
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    return any(
        np.count_nonzero(matrix) < _PRUNED_BELOW * matrix.size and suits_blocks(matrix)
        for matrix in weights
    )


def _lower(
    model: nn.Module, example: Tensor, threads: int, measure: bool, gives_tensor: bool
) -> _Lowered:
    try:
        traced = trace(model, example)
    except InputError as reason:
        return _Lowered(None, (), (str(reason),), None, any_batch=True)
    division = divide(traced.graph)
    if not division.parts:
        return _Lowered(None, (), division.rest, None, traced.any_batch)
    inputs = _inputs_of_parts(traced, division, example) if measure else {}
    modules = {part: _part_module(part, inputs.get(part), threads) for part in division.parts}
    networks = tuple(module.network for module in modules.values())
    whole = division.whole(traced.graph) if gives_tensor else None
    if whole is not None:
        return _Lowered(modules[whole], networks, (), networks[0], traced.any_batch)
    module = with_parts(traced.graph, modules)
    return _Lowered(module, networks, division.rest, None, traced.any_batch)


def _part_module(part: Part, inputs: Floats | None, threads: int) -> RunnerModule:
    network = (
        with_usual_kinds(part.network)
        if inputs is None
        else choose_kinds(part.network, inputs, threads)
    )
    return RunnerModule(Engine(network), network, part.input_shape, part.output_shape, threads)


def _inputs_of_parts(trace: Trace, division: Division, example: Tensor) -> dict[Part, Floats]:
    """Return what each part reads when the model is given the example."""
    recorded = _Recorder(trace.graph, {part.entry for part in division.parts})
    with torch.no_grad():
        recorded.run(example)
    return {
        part: np.ascontiguousarray(recorded.values[part.entry].numpy()).reshape(
            -1, *part.network.input_shape
        )
        for part in division.parts
    }


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, graph: fx.GraphModule, nodes: set[fx.Node]) -> None:
        super().__init__(graph)
        self.nodes = nodes
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.nodes:
            self.values[n] = value
        return value


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
