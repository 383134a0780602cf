"""From a masked model to the fastest thing that computes the same."""

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from gossamer.compression.agreement import answers_of_copy, check_output_of_copy
from gossamer.compression.checking import check_example, check_model, wrong_answers
from gossamer.compression.choosing import ChannelsLast, choose_layouts, fastest, time_candidates
from gossamer.compression.compacting.copying import given_module, plain_copy
from gossamer.compression.compaction import compactions
from gossamer.compression.compressed import (
    Compressed,
    Rebuilding,
    RunnerModule,
    SignatureModule,
    signature_of,
)
from gossamer.compression.known_answers import KnownAnswers
from gossamer.compression.lengths import Declared, DynamicShapes, declared, for_lengths
from gossamer.compression.lowering.part_inputs import inputs_of_parts
from gossamer.compression.lowering.parts import (
    Division,
    Part,
    portable_whole,
    refusal,
    with_parts,
)
from gossamer.compression.lowering.rewriting import divided
from gossamer.compression.lowering.tracing import Trace
from gossamer.compression.outputs import giving, leaves
from gossamer.compression.random_operations import random_operations
from gossamer.compression.storing import with_usual_layouts
from gossamer.core.errors import InputError
from gossamer.core.progress import patiently
from gossamer.engine import Network, Signature
from gossamer.engine.native import MOST_THREADS, Engine
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import Example
from gossamer.measures.functional.repeatable import check_answers_repeat
from gossamer.measures.functional.running import run

_LAYOUTS_SHARE = 0.2
"""Share of the time for how the weights of the layers are stored."""
_BLOCKS_SHARE = 0.15
"""Share of the time for whether blocks or fewer units are faster."""
_CANDIDATES_SHARE = 0.5
"""Share of the time for what is chosen from in the end; the first is spent twice for blocks."""
_NOTHING = Network((1,), (), 0)
_STEPS = 5


def compress(
    model: nn.Module,
    example: Example,
    *,
    dynamic_shapes: DynamicShapes | None = None,
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
        A batch of inputs [batch, ...], of float32, whole numbers or truth values; a tuple of
        positional arguments or a dict of keyword arguments, in which tensors may stand in tuples,
        lists and dictionaries. Everything is timed on it, so its size should be that of the batches
        to come; the compressed network takes other sizes too, and its inputs as the example has
        them.
    dynamic_shapes
        By the names of inputs (the forward's parameters; a tensor by itself is "input", too) the
        axes that have another length in other calls, with a `torch.export.Dim` of a largest length,
        the same for equal ones: ``{"input_ids": {1: torch.export.Dim("tokens", max=512)}}``; or a
        multiple of one, for images ``{"x": {2: 32 * rows, 3: 32 * columns}}``. The network must be
        lowered whole, and is checked at several lengths.
    threads
        How many threads the compressed network, and all that it is timed against, may use; None
        takes as many as PyTorch uses now.
    choose
        "measure", or "engine" to take the engine without timing anything, wherever it can be used.
    seconds
        How long to time; more is taken where three calls of each candidate take longer.

    Returns
    -------
    Compressed
        Call it with a batch; `str` of it says what was timed and chosen, `save` writes it to a
        file that needs no PyTorch.

    Raises
    ------
    InputError
        If the model or the example is not as described, the model has forward hooks or gives
        different answers to the same inputs, or its output holds something computed that is no
        dense tensor. Tensors may stand in tuples, lists, mappings, dataclasses and plain objects,
        which stay what they are.

    Warns
    -----
    RuntimeWarning
        If a faster form of the network gave other answers than the network, and so is not used.

    Notes
    -----
    Weights that are zero are not multiplied: a NaN or an infinity that only they read does not
    reach the output, where PyTorch would multiply it by 0 and give NaN.

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
    root = given_module(model)
    check_model(root)
    given = Arguments.of(root, example)
    check_example(given)
    threads = _valid_threads(threads)
    _check_seconds(seconds)
    Engine(_NOTHING)  # a wrong instruction set would be found only where it is taken for a limit
    if choose not in ("measure", "engine"):
        raise InputError(f"'choose' is {choose!r}, but 'measure' or 'engine' was expected.")
    forked = torch.random.fork_rng(devices=[])
    with torch.inference_mode(mode=False), forked, patiently("compression step", _STEPS) as tell:
        tell("finding out whether its answers repeat")
        twin = plain_copy(model).eval()
        with torch.no_grad():
            check_output_of_copy(twin, given)
        check_answers_repeat(twin, given, "so it cannot be compressed")
        with torch.no_grad():
            answers_of_copy(model, twin, given)
        timed = seconds if choose == "measure" else None
        asked = None if dynamic_shapes is None else declared(given, dynamic_shapes)
        return _compress(twin, given.clone(), threads, timed, asked, tell)


def _valid_threads(threads: int | None) -> int:
    if threads is None:
        return min(torch.get_num_threads(), MOST_THREADS)
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if not whole or not 1 <= threads <= MOST_THREADS:
        raise InputError(
            f"'threads' is {threads!r}, but a whole number from 1 to {MOST_THREADS} was expected."
        )
    return threads


def _check_seconds(seconds: float) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise InputError(f"'seconds' is {seconds!r}, but a number above 0 was expected.")


@dataclass(frozen=True, eq=False)
class _Lowered:
    """The model with its parts in the engine; without parts the model is None.

    `on_numpy` is the whole network where some of it has no compiled kernel: what a file holds.
    """

    module: nn.Module | None
    networks: tuple[Network, ...]
    remaining: tuple[str, ...]
    whole: Network | None
    fixed_batch: str
    modules: tuple[tuple[str, ...], ...] = ()
    on_numpy: tuple[Network, nn.Module] | None = None
    source: nn.Module | None = None
    """What was lowered."""


def _compress(
    model: nn.Module,
    example: Arguments,
    threads: int,
    seconds: float | None,
    asked: Declared | None,
    tell: Callable[[str], None],
) -> Compressed:
    """Compress a model that was checked, in evaluation mode; without seconds nothing is timed."""
    answers = KnownAnswers(model)
    output = answers.plain.of(example)
    tell("removing units")
    compacted, in_blocks = compactions(model, example, answers)
    tell("lowering it to the engine")
    small = compacted.network
    lowered = _lower_best(small, in_blocks, example, threads, seconds, output)
    modules = {"dense": model}
    if _parameters(small) < _parameters(model):
        modules["compact"] = small
    if lowered.module is not None:
        modules["engine"] = lowered.module
    checked = modules if lowered.on_numpy is None else modules | {"file": lowered.on_numpy[1]}
    tell("comparing answers")
    wrong = wrong_answers(checked, example, not lowered.fixed_batch, answers)
    for name, problem in wrong.items():
        message = f"The {name} form of {type(model).__name__} is not used: {problem}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        modules.pop(name, None)
    whole = lowered.whole
    if whole is None and lowered.on_numpy is not None and "file" not in wrong:
        whole = lowered.on_numpy[0]
    if "engine" in wrong:
        lowered = _Lowered(None, (), (wrong["engine"],), None, lowered.fixed_batch)
        whole = None
    signature = signature_of(example, output)
    tell("finding what is fastest" if asked is None else "comparing answers at other lengths")
    if asked is not None:
        lengths = for_lengths(
            lowered.source, example, asked, lowered.whole, lowered.remaining, threads
        )
        whole, signature, modules["engine"] = lengths
    dense = Compressed(
        choice="dense",
        network=whole,
        remaining=lowered.remaining,
        unfollowed=compacted.unfollowed,
        timings={},
        signature=signature,
        batch=len(example),
        fixed_batch=lowered.fixed_batch,
        threads=threads,
        model_class=type(model).__name__,
        _arguments=example[:0].clone(),
        _module=model,
        _networks=lowered.networks,
        _modules=lowered.modules,
    )
    if seconds is not None:
        return _fastest_of(modules, dense, example, seconds)
    choice = list(modules)[-1]
    return replace(dense, choice=choice, _module=modules[choice])


def _fastest_of(
    modules: Mapping[str, nn.Module], dense: Compressed, example: Arguments, seconds: float
) -> Compressed:
    """Return what is fastest as it will be called; the model is timed as it was given."""
    timed = dict(modules)
    images = any(tensor.dim() == 4 for tensor in example)
    if images and any(weight.dim() == 4 for weight in modules["dense"].parameters()):
        others = {
            f"{name} channels_last": ChannelsLast(module)
            for name, module in modules.items()
            if name != "engine"
        }
        timed |= {name: module for name, module in others.items() if _runs(module, example)}
    found = {name: replace(dense, choice=name, _module=module) for name, module in timed.items()}
    calls = {name: _call(compressed, example) for name, compressed in found.items()}
    calls["dense"] = _call(modules["dense"], example)
    timings = time_candidates(calls, _CANDIDATES_SHARE * seconds, dense.threads)
    return replace(found[fastest(timings)], timings=timings)


def _runs(module: nn.Module, example: Arguments) -> bool:
    """Tell whether a module takes an example: a forward may ask for another layout in memory."""
    try:
        with torch.no_grad():
            run(module, example.clone())
    except InputError:
        return False
    return True


def _call(network: Callable[..., object], example: Arguments) -> Callable[[], object]:
    args, kwargs = example.positional_and_named
    return partial(network, *args, **kwargs)


def _lower_best(
    small: nn.Module,
    in_blocks: nn.Module | None,
    example: Arguments,
    threads: int,
    seconds: float | None,
    output: Any,
) -> _Lowered:
    """Lower the smallest network, or the one that has kept its blocks if it is faster."""
    lowered = _lower(small, example, threads, seconds, output)
    if in_blocks is None:
        return lowered
    aligned = _lower(in_blocks, example, threads, seconds, output)
    if aligned.module is None:
        return lowered
    if lowered.module is None or seconds is None:
        return aligned
    calls = {"small": _call(lowered.module, example), "aligned": _call(aligned.module, example)}
    timings = time_candidates(calls, _BLOCKS_SHARE * seconds, threads)
    return lowered if timings["small"].median < timings["aligned"].median else aligned


def _lower(
    model: nn.Module, example: Arguments, threads: int, seconds: float | None, output: Any
) -> _Lowered:
    """Lower a network that gives such an output for the example."""
    gives_tensor = isinstance(output, Tensor)
    held = leaves(output)
    recorded = [isinstance(leaf.value, Tensor | int) for leaf in held]
    chosen = [leaf for leaf, needed in zip(held, recorded, strict=True) if needed]
    try:
        with contextlib.nullcontext() if gives_tensor else giving(model, chosen):
            traced, division = divided(model, example)
            _check_draws_nothing(model, traced.graph.graph)
    except InputError as reason:
        return _Lowered(None, (), (str(reason),), None, fixed_batch="")
    modules, refused = _part_modules(traced, division, example, threads, seconds)
    remaining = (*division.refused, *refused, *division.rest)
    signature = signature_of(example, output)
    on_numpy = None
    if division.rest and (part := portable_whole(traced.graph)):
        network = with_usual_layouts(part.network)
        made = _whole_module(Engine(network, "numpy"), network, signature, output, threads)
        on_numpy = (network, made)
    if not modules:
        return _Lowered(None, (), remaining, None, traced.fixed_batch, on_numpy=on_numpy)
    networks = tuple(module.network for module in modules.values())
    names = tuple(part.modules for part in modules)
    whole = division.whole(traced.graph)
    if whole in modules:
        network, engine = modules[whole].network, modules[whole].engine
        module = _whole_module(engine, network, signature, output, threads)
        return _Lowered(module, networks, (), network, traced.fixed_batch, names, source=model)
    parts = {part: _part_module(part, one, threads) for part, one in modules.items()}
    module = with_parts(traced.graph, parts)
    if not gives_tensor:
        module = Rebuilding(module, output, recorded)
    return _Lowered(module, networks, remaining, None, traced.fixed_batch, names, on_numpy)


class _Engined(NamedTuple):
    """A network, and the engine that runs it."""

    network: Network
    engine: Engine


def _whole_module(
    engine: Engine, network: Network, signature: Signature, output: Any, threads: int
) -> nn.Module:
    """Return a network that is lowered whole as a module that gives what the model does."""
    if signature.is_plain:
        (given,), (found,) = signature.inputs, signature.outputs
        return RunnerModule(engine, network, given.shape, found.shape, threads)
    module = SignatureModule(engine, network, signature, threads)
    if signature.returns == "tensor":
        return module
    return Rebuilding(module, output, [isinstance(one.value, Tensor) for one in leaves(output)])


def _check_draws_nothing(model: nn.Module, recorded: fx.Graph) -> None:
    """Refuse a recording that draws random numbers, though the network gives the same each time.

    Raises
    ------
    InputError
        If it does, with the names of the operations.
    """
    if names := random_operations(recorded):
        raise InputError(
            f"The network {type(model).__name__} draws random numbers ({', '.join(names)}) with a "
            "seed that its forward sets, which a recording does not keep: draw them once in its "
            "__init__ and keep them with register_buffer."
        )


def _part_modules(
    traced: Trace,
    division: Division,
    example: Arguments,
    threads: int,
    seconds: float | None,
) -> tuple[dict[Part, _Engined], list[str]]:
    """Return the parts in the engine, and why others stay in PyTorch that it cannot hold."""
    inputs = {} if seconds is None else inputs_of_parts(traced, division, example)
    share = _LAYOUTS_SHARE * (seconds or 0) / max(1, len(division.parts))
    found: dict[Part, _Engined] = {}
    refused = []
    for part in division.parts:
        try:
            given = inputs.get(part)
            network = (
                with_usual_layouts(part.network)
                if given is None
                else choose_layouts(part.network, given, threads, share)
            )
            found[part] = _Engined(network, Engine(network))
        except InputError as reason:
            refused.append(refusal(part.exits[-1], reason))
    return found, refused


def _part_module(part: Part, made: _Engined, threads: int) -> RunnerModule:
    (given,), (found,) = part.input_shapes, part.output_shapes
    return RunnerModule(made.engine, made.network, given, found, threads)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
