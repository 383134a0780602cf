"""A network compiled for this machine and run on batches of examples.

Every weight that is not stored is skipped, and so is the input it would be multiplied by: a NaN or
an infinity that only pruned weights read does not reach the output, where PyTorch would multiply it
by 0 and give NaN. Elsewhere NaN and infinities spread as they do in PyTorch.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.engine.check import check_inputs, check_network
from gossamer.engine.fields import Floats, Shape, Value, is_values, typed_fields
from gossamer.engine.indices import Indices
from gossamer.engine.network import Network
from gossamer.engine.operator import Operator
from gossamer.engine.ops.function import MOST_WHOLE
from gossamer.engine.portable import run_portable, run_portable_all
from gossamer.engine.reused import Reused

try:
    from gossamer.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

INSTRUCTION_SET_VARIABLE = "GOSSAMER_INSTRUCTION_SET"
WITHOUT_KERNELS = (
    "gossamer was installed without its compiled kernels, so networks run on NumPy alone, many "
    "times slower: in a clone of gossamer, where a C++ compiler is present, run `pip install "
    "--force-reinstall --no-deps .`."
)
MOST_THREADS = 1024
_MOST_REPEATS = 10**6

_FLOAT32 = np.dtype(np.float32)
_Arrays = Floats | tuple[Floats, ...]


def available_instruction_sets() -> tuple[str, ...]:
    """Return what `Engine` can run on here, the fastest first.

    Examples
    --------
    >>> available_instruction_sets()[-1]
    'numpy'
    """
    compiled = () if _native is None else tuple(_native.available_instruction_sets())
    return (*compiled, "numpy")


class Engine:
    """A network made ready to run; threads may share it.

    Parameters
    ----------
    network
        What to compute. Its arrays are copied.
    instruction_set
        One of `available_instruction_sets()`. If None, the environment variable
        GOSSAMER_INSTRUCTION_SET names it, or else it is the fastest; with AVX-512, batches of 5
        to 8 then run on AVX2, which takes half as long.

    Attributes
    ----------
    instruction_set : str
        "avx512", "avx2", "baseline" or "numpy". It is "numpy", after a RuntimeWarning, where the
        network is sound but holds what the compiled kernels do not: an operator, or a value that
        is too large.

    Raises
    ------
    InputError
        If the network is not sound, or the instruction set not available.

    Examples
    --------
    >>> from gossamer.engine import Linear, pack_weights
    >>> weights = pack_weights(np.array([[0.0, 2.0], [3.0, 0.0]]), "csr")
    >>> engine = Engine(Network((2,), (Linear(0, weights),), 1))
    >>> engine(np.array([[1.0, 10.0]], np.float32)).tolist()
    [[20.0, 3.0]]
    """

    def __init__(self, network: Network, instruction_set: str | None = None) -> None:
        shapes = check_network(network)
        self.instruction_set = _chosen(instruction_set)
        self._network = network
        self._input_shapes = network.inputs
        self._output_shapes = tuple(shapes[value] for value in network.outputs)
        self._memory = tuple(Reused() for _ in network.outputs)
        self._single = len(network.inputs) == len(network.outputs) == 1
        self._indices = Indices(network)
        self._asked = _asked(instruction_set)
        self._compiled: _native.Engine | None = None
        self._in_eights: _native.Engine | None = None
        if self.instruction_set != "numpy":
            reason = _beyond_kernels(network)
            try:
                self._compiled = None if reason else _compiled(network, self.instruction_set)
            except OverflowError as problem:
                reason = f"{problem}, too much for the compiled kernels"
            if reason:
                warnings.warn(
                    f"{reason}: this network runs on NumPy alone, many times slower.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self.instruction_set = "numpy"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as the network; what was compiled is made again."""
        asked = "numpy" if self.instruction_set == "numpy" else self._asked
        return _restored, (self._network, asked)

    def __call__(self, inputs: NDArray[np.generic], threads: int = 1) -> Floats:
        """Return what a network of one input and one output gives for each example.

        Parameters
        ----------
        inputs
            Examples, float32 [N, *input shape]; N may be 0. Other types of numbers are converted
            where no digit can be lost, whole ones of any type up to 2**24.
        threads
            Processor threads to use, between 1 and 1024.

        Returns
        -------
        float32 [N, *output shape].

        Raises
        ------
        InputError
            If the inputs do not fit the network, or `threads` is out of range.
        """
        if not self._single:
            raise InputError(
                f"this network has {counted(len(self._input_shapes), 'input')} and "
                f"{counted(len(self._output_shapes), 'output')}; call `run` with a tuple of arrays."
            )
        examples = self._examples(inputs, threads)
        if self._compiled is None:
            return np.asarray(run_portable(self._network, examples), np.float32)
        outputs = self._memory[0].empty((len(examples), *self._output_shapes[0]))
        runs = self._compiled_for(self._compiled, len(examples), threads)
        self._run(runs, examples, outputs, threads)
        return outputs

    def run(self, inputs: Sequence[NDArray[np.generic]], threads: int = 1) -> tuple[Floats, ...]:
        """Return all outputs of a network of any number of inputs, for each example.

        Parameters and errors are those of a call, with an array for each input.

        Examples
        --------
        >>> from gossamer.engine import Concatenate
        >>> engine = Engine(Network(((1,), (2,)), (Concatenate((1, 0)),), (2, 0)))
        >>> found = engine.run((np.array([[1]], np.int64), np.array([[2.0, 3.0]], np.float32)))
        >>> [output.tolist() for output in found]
        [[[2.0, 3.0, 1.0]], [[1.0]]]
        """
        if self._single:
            (given,) = inputs
            return (self(given, threads),)
        examples = self._all_examples(inputs, threads)
        return self.compute(examples, threads)

    def compute(self, examples: tuple[Floats, ...], threads: int = 1) -> tuple[Floats, ...]:
        """Do what `run` does with inputs that are known to fit: contiguous float32 of each shape.

        Checking those takes as long as a small network; a part of a network is given what another
        part computed.
        """
        if self._compiled is None:
            found = run_portable_all(self._network, examples)
            return tuple(np.asarray(one, np.float32) for one in found)
        count = len(examples[0])
        outputs = tuple(
            memory.empty((count, *shape))
            for memory, shape in zip(self._memory, self._output_shapes, strict=True)
        )
        runs = self._compiled_for(self._compiled, count, threads)
        self._run(runs, examples, outputs, threads)
        return outputs

    def _run(self, runs: "_native.Engine", inputs: _Arrays, outputs: _Arrays, threads: int) -> None:
        """Run the kernels, and refuse what was computed and counts no row or place."""
        before = _native.refusals() if self._indices.any else 0
        runs.run(inputs, outputs, threads)
        if (
            self._indices.any and _native.refusals() != before
        ):  # here, or in another thread at the same time
            run_portable_all(self._network, inputs if isinstance(inputs, tuple) else (inputs,))

    def _compiled_for(
        self, compiled: "_native.Engine", examples: int, threads: int
    ) -> "_native.Engine":
        """Return what runs so many examples fastest, unless the instruction set was asked for.

        Vectors of 16 would be filled to a half by 5 to 8 of them, which vectors of 8 hold. Up to 6
        are otherwise run one by one, and several threads then share each. Where layers are computed
        one by one anyway, that is not so.
        """
        fewest = 5 if threads == 1 else 7
        in_eights = self.instruction_set == "avx512" and fewest <= examples <= 8
        if not in_eights or self._asked or compiled.leading:
            return compiled
        if self._in_eights is None:  # only now: few ever need it, and it holds the weights again
            self._in_eights = _compiled(self._network, "avx2")
        return self._in_eights

    def layer_seconds(
        self,
        inputs: NDArray[np.generic] | Sequence[NDArray[np.generic]],
        threads: int = 1,
        repeats: int = 10,
    ) -> list[float]:
        """Return the least time that each layer took over so many runs, in seconds.

        With several threads it is the mean over them. What a layer took in with the one before it
        costs nothing by itself.

        Raises
        ------
        InputError
            If the inputs do not fit, `threads` or `repeats` is out of range, or this engine runs on
            NumPy, which measures no layers.
        """
        several = inputs if isinstance(inputs, tuple | list) else (inputs,)
        examples = self._all_examples(several, threads)
        if type(repeats) is not int or not 1 <= repeats <= _MOST_REPEATS:
            raise InputError(
                f"repeats is {repeats!r:.80}, expected a whole number from 1 to {_MOST_REPEATS}."
            )
        if self._compiled is None:
            raise InputError(
                "layer_seconds needs an engine with compiled kernels, but this one runs on NumPy."
            )
        used = self._compiled_for(self._compiled, len(examples[0]), threads)
        measured: list[float] = used.layer_seconds(examples, threads, repeats)
        return measured

    def _all_examples(self, inputs: Sequence[Any], threads: int) -> tuple[Floats, ...]:
        """Return what is given to each input, as `_examples` does for one."""
        _check_threads(threads)
        check_inputs(self._network, [np.asarray(given) for given in inputs])
        self._indices.check(inputs)
        return tuple(
            _converted(given, shape)
            for given, shape in zip(inputs, self._input_shapes, strict=True)
        )

    def _examples(self, inputs: Any, threads: int) -> Floats:
        """Return the inputs as contiguous float32 after a check of them and of the threads."""
        _check_threads(threads)
        if self._indices.rows:
            (found,) = self._all_examples((inputs,), threads)
            return found
        # Small networks take no longer than the checks below, so what needs none is let pass.
        if (
            type(inputs) is np.ndarray
            and inputs.dtype is _FLOAT32
            and inputs.shape[1:] == self._input_shapes[0]
            and inputs.flags.c_contiguous
            and inputs.flags.aligned
        ):
            examples: Floats = inputs
            return examples
        return _converted(inputs, self._input_shapes[0])


def fma_peak(instruction_set: str | None = None, seconds: float = 0.1) -> float:
    """Return how many floating-point operations a second one core does on its registers.

    Examples
    --------
    >>> fma_peak(seconds=0.001) > 1e6  # doctest: +SKIP
    True
    """
    return float(_kernels().fma_peak(_chosen(instruction_set), seconds))


def read_bandwidth(size: int, instruction_set: str | None = None, seconds: float = 0.1) -> float:
    """Return how many bytes a second one core reads of an array of `size` bytes, again and again.

    Examples
    --------
    >>> read_bandwidth(2**14, seconds=0.001) > 1e6  # doctest: +SKIP
    True
    """
    return float(_kernels().read_bandwidth(_chosen(instruction_set), size, seconds))


def kept_attention_kernel(
    sequences: int,
    most: int,
    heads: int,
    key_heads: int,
    width: int,
    depth: int,
    scale: float,
    added: Floats,
) -> "_native.KeptAttention | None":
    """Return what keeps keys and values (see `gossamer.engine.kept`); None where NumPy is to."""
    chosen = _chosen(None)
    if chosen == "numpy":
        return None
    made: _native.KeptAttention = _kernels().KeptAttention(
        sequences, most, heads, key_heads, width, depth, scale, added.reshape(-1), chosen
    )
    return made


def _kernels() -> ModuleType:
    if _native is None:
        raise InputError(WITHOUT_KERNELS)
    return _native


def _check_threads(threads: int) -> None:
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise InputError(
            f"threads is {threads!r:.80}, expected a whole number from 1 to {MOST_THREADS}."
        )


def _converted(inputs: NDArray[np.generic], expected: Shape) -> Floats:
    """Return what an input is given, of any type and order, as contiguous float32."""
    given = np.asarray(inputs)
    if given.ndim != len(expected) + 1 or given.shape[1:] != expected:
        named = ", ".join(map(str, expected))
        raise InputError(
            f"inputs have the shape {given.shape}, but this network takes (N, {named})."
        )
    if given.dtype.kind in "iu":
        least, most = (int(given.min()), int(given.max())) if given.size else (0, 0)
        if not -MOST_WHOLE <= least <= most <= MOST_WHOLE:
            raise InputError(
                f"inputs hold {least if least < -MOST_WHOLE else most}, expected whole numbers of "
                f"at most {MOST_WHOLE}, which float32 holds exactly."
            )
    elif not np.can_cast(given.dtype, np.float32):
        raise InputError(
            f"inputs are {given.dtype}, which float32 cannot hold without loss; convert them "
            "with `inputs.astype('float32')`."
        )
    return np.require(given, np.float32, ["C_CONTIGUOUS", "ALIGNED"])


_warned = False


def _asked(instruction_set: str | None) -> str | None:
    return instruction_set or os.environ.get(INSTRUCTION_SET_VARIABLE)


def _chosen(instruction_set: str | None) -> str:
    available = available_instruction_sets()
    asked = _asked(instruction_set)
    if asked is not None and asked not in available:
        source = "instruction_set" if instruction_set else INSTRUCTION_SET_VARIABLE
        raise InputError(
            f"{source} is {asked!r}, which is not available here; it must be one of "
            f"{', '.join(available)}."
        )
    chosen = asked or available[0]
    if chosen == "numpy" and asked is None:
        _warn_once()
    return chosen


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(WITHOUT_KERNELS, RuntimeWarning, stacklevel=4)


def _restored(network: Network, instruction_set: str | None) -> Engine:
    """Return an engine as it was asked for, or the fastest where this machine has no such."""
    return Engine(
        network, instruction_set if instruction_set in available_instruction_sets() else None
    )


def _compiled(network: Network, instruction_set: str) -> "_native.Engine":
    try:
        engine: _native.Engine = _kernels().Engine(_plan(network), instruction_set)
    except ValueError as problem:
        raise InputError(f"the network cannot be run: {problem}.") from problem
    return engine


def _plan(network: Network) -> "_native.Plan":
    first, *further = network.inputs
    plan: _native.Plan = _kernels().Plan(list(first))
    for shape in further:
        plan.add_input(list(shape))
    for layer in network.layers:
        hints = {name: field.hint for name, field in typed_fields(type(layer)).items()}
        values = [name for name, hint in hints.items() if hint == Value or is_values(hint)]
        read = [found for name in values if (found := getattr(layer, name)) is not None]
        inputs = [one for part in read for one in (part if isinstance(part, tuple) else (part,))]
        given = {name: _there(getattr(layer, name)) for name in hints if name not in values}
        plan.add(layer.name, inputs, given)
    plan.outputs = list(network.outputs)
    return plan


def _there(content: Any) -> Any:
    """Return what the kernels take in the place of a field."""
    if isinstance(content, np.ndarray):
        return np.ascontiguousarray(content).reshape(-1)
    made = getattr(_kernels(), type(content).__name__, None)
    return made(*_arguments(content)) if is_dataclass(content) and made else content


def _arguments(part: Any) -> Iterator[Any]:
    """Yield the fields of a part of an operator as the kernels take them, in their order."""
    for field in fields(part):
        content = _there(getattr(part, field.name))
        if is_dataclass(content):  # the kernels take its fields one by one
            yield from _arguments(content)
        else:
            yield content


def _beyond_kernels(network: Network) -> str:
    """Say what the compiled kernels do not have that a network needs; empty if nothing."""
    for layer in network.layers:
        if not has_kernels(layer):
            return f"{type(layer).__name__} has no compiled kernel yet"
    return ""


def has_kernels(layer: Operator) -> bool:
    """Tell whether the compiled kernels have an operator; where there are none, NumPy has all."""
    return _native is None or layer.name in _native.operators()
