"""A compressed network: a callable that computes what the masked network computes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gossamer.compression.outputs import leaves, map_tensors, output_names, with_leaves
from gossamer.compression.storing import layers_in_words, layouts_in_words
from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.engine import (
    Engine,
    Network,
    NumberType,
    Shape,
    Signature,
    TensorSpec,
    weights_of,
)
from gossamer.engine.lengths import at_lengths, lengths_of
from gossamer.graph.arguments import ONLY, Arguments
from gossamer.graph.examples import kind_of
from gossamer.measures.functional.latency import Timing, threads_of_torch
from gossamer.runtime.decoder import Decoder
from gossamer.runtime.inputs import as_inputs


class RunnerModule(nn.Module):
    """A network of one input and one output as a module of PyTorch, without gradients.

    Parameters
    ----------
    engine
        What computes it.
    network
        What it computes.
    input_shape, output_shape
        Of one example, as in PyTorch; whatever axes stand before are examples.
    threads
        How many threads it takes.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        input_shape: Shape,
        output_shape: Shape,
        threads: int,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.network = network
        self.input_shape = input_shape
        self.output_shape = output_shape
        self.threads = threads

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., *output_shape] for inputs [..., *input_shape]."""
        return torch.from_numpy(self.compute(_as_array(inputs)))

    def compute(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [..., *output_shape] for an array [..., *input_shape]."""
        if numbers.shape[1:] == self.input_shape == self.network.input_shape:
            found = self.engine(numbers, threads=self.threads)
            before = numbers.shape[:1]
        else:
            before = numbers.shape[: numbers.ndim - len(self.input_shape)]
            # An empty batch leaves no number to tell a length of -1 from.
            examples = numbers.reshape(math.prod(before), *self.network.input_shape)
            found = self.engine(examples, threads=self.threads)
        shape = (*before, *self.output_shape)
        return found if found.shape == shape else found.reshape(shape)


class SignatureModule(nn.Module):
    """A network of any inputs and outputs as a module of PyTorch, without gradients.

    It gives its outputs in a tuple, or the only one by itself where the signature says so.

    Parameters
    ----------
    engine
        What computes it.
    network
        What it computes.
    signature
        What it takes and gives.
    threads
        How many threads it takes.
    """

    def __init__(
        self, engine: Engine, network: Network, signature: Signature, threads: int
    ) -> None:
        super().__init__()
        self.engine = engine
        self.network = network
        self.signature = signature
        self.threads = threads

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the network gives for tensors wherever they stand in its arguments."""
        given = [one for one in pytree.tree_leaves((inputs, named)) if isinstance(one, Tensor)]
        outputs = tuple(map(torch.from_numpy, self.compute([*map(_as_array, given)])))
        return outputs[0] if self.signature.returns == "tensor" else outputs

    def compute(self, numbers: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs for an array of each input, all [examples, ...]."""
        arrays = [
            one.reshape(len(one), *shape)
            for one, shape in zip(numbers, self.network.inputs, strict=True)
        ]
        return self.signature.typed(self.engine.run(arrays, threads=self.threads))


def _as_array(tensor: Tensor) -> NDArray[Any]:
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


class Rebuilding(nn.Module):
    """Gives the output of a network as it was, of a module that gives a part of its leaves.

    Parameters
    ----------
    module
        Returns the recorded leaves in order.
    output
        What the network gives for some input; its other leaves are the same for all inputs.
    recorded
        Of each leaf of the output, whether the module returns it.
    """

    def __init__(self, module: nn.Module, output: Any, recorded: Sequence[bool]) -> None:
        super().__init__()
        self.module = module
        self.output = map_tensors(output, lambda _: torch.empty(0))
        self.constants = [leaf.value for leaf in leaves(self.output)]
        self.recorded = tuple(recorded)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the network does."""
        given = iter(self.module(*inputs, **named))
        values = [
            next(given) if recorded else constant
            for recorded, constant in zip(self.recorded, self.constants, strict=True)
        ]
        return with_leaves(self.output, values)


@dataclass(frozen=True, eq=False)
class Compressed:
    """What `compress` returns: call it with a batch of inputs, arranged as the example was.

    Tensors give tensors, which require no gradient; arrays and nested lists give arrays.

    Attributes
    ----------
    choice
        What is run: "engine" (gossamer's own), or the model in PyTorch, "dense" as it was given or
        "compact" without the units that contribute nothing, each perhaps with " channels_last".
    network
        The whole network as the engine and the file hold it; None where a part stays in PyTorch.
    remaining
        The parts that stay in PyTorch, each as 'module path (operation)'.
    unfollowed
        By module name, the parts whose units all stayed, and why; "" stands for the whole network.
    timings
        What was timed on the example, by the names of `choice`, when it was compressed: calls in
        turn, so that whatever else the machine did met all alike; empty if nothing was.
    signature
        Names, shapes and types of what it takes and gives.
    batch
        Size of the batch that was timed.
    fixed_batch
        Why no other size can be given; empty if any can.
    threads
        How many threads are used.
    model_class
        Name of the class of the model that it was made from.
    """

    choice: str
    network: Network | None
    remaining: tuple[str, ...]
    unfollowed: Mapping[str, str]
    timings: Mapping[str, Timing]
    signature: Signature
    batch: int
    fixed_batch: str
    threads: int
    model_class: str
    _arguments: Arguments
    """As they were in the example, without examples."""
    _module: nn.Module
    _networks: tuple[Network, ...]
    _modules: tuple[tuple[str, ...], ...] = ()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return what the network gives for a batch of inputs [batch, ...].

        Raises
        ------
        InputError
            If the inputs are arranged in another way than those of the example were, have another
            shape, are no numbers of the same kind (of floating point, whole, or truth values), or
            are beyond float32.
        """
        alone = len(inputs) == 1 and not named and self._arguments.names == (ONLY,)
        values = list(inputs) if alone else self._arguments.values_in(inputs, named)
        numbers = as_inputs(values, self._signature_for(values).inputs)
        self._check_batch(len(numbers[0]))
        gives_tensors = any(isinstance(value, Tensor) for value in values)
        if isinstance(self._module, RunnerModule):  # PyTorch has nothing to set up
            found = self._module.compute(numbers[0])
            return torch.from_numpy(found) if gives_tensors else found
        if isinstance(self._module, SignatureModule):
            several = self._module.compute(numbers)
            outputs = tuple(map(torch.from_numpy, several) if gives_tensors else several)
            return outputs[0] if self.signature.returns == "tensor" else outputs
        types = (tensor.dtype for tensor in self._arguments)
        args, kwargs = self._arguments.arranged([*map(_as_tensor, numbers, types)])
        with torch.no_grad(), threads_of_torch(self.threads):
            output = map_tensors(self._module(*args, **kwargs), Tensor.detach)
        return output if gives_tensors else map_tensors(output, Tensor.numpy)

    def _signature_for(self, values: Sequence[Any]) -> Signature:
        """Return what is taken at the length of what is given."""
        if self.signature.lengths is None or self.network is None:
            return self.signature
        arrays = [as_array("inputs", value, "expected numbers") for value in values]
        found = lengths_of(self.signature.lengths, [array.shape for array in arrays])
        return at_lengths(self.network, self.signature, found)[1]

    @property
    def input_shape(self) -> Shape:
        """The shape of one example of the first input."""
        return self.signature.inputs[0].shape

    def _check_batch(self, size: int) -> None:
        if self.fixed_batch and size != self.batch:
            raise InputError(
                f"The inputs are a batch of {size}, but the network computes batches of "
                f"{self.batch} only ({self.fixed_batch}): give that many, or compress with an "
                "example of the new size."
            )

    def decoder(self, max_length: int | None = None, *, batch: int = 1) -> Decoder:
        """Return what computes a causal network token by token, with keys and values kept.

        Parameters
        ----------
        max_length
            How many tokens it can be given; by default as many as the network takes.
        batch
            How many sequences are computed side by side; a mask tells their lengths apart.

        Raises
        ------
        InputError
            If a part stays in PyTorch, or tokens cannot be computed one at a time, with why.
        """
        if self.network is None:
            raise InputError(f"decoder: {self._needs_pytorch()}, expected a network without such.")
        return Decoder(self.network, self.signature, max_length, self.threads, batch)

    @property
    def any_batch(self) -> bool:
        """Whether batches of other sizes than the example's can be given."""
        return not self.fixed_batch

    @property
    def size(self) -> int:
        """How many weights and biases are stored, by the engine and the file."""
        return sum(stored_numbers(network) for network in self._networks)

    def save(
        self,
        path: str | Path,
        dtype: Literal["float32", "bfloat16"] = "float32",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the network to one file, for `gossamer.load` and `gossamer predict`.

        Parameters
        ----------
        path
            The file; its folder must exist. An older file is replaced.
        dtype
            How the weights are stored; "bfloat16" rounds them to 8 significant bits.
        metadata
            What else to keep, as JSON: `gossamer predict` shows the names in ``"classes"``, if
            there is one for each output. Beside it stands where the file comes from (see
            `gossamer.compression.provenance`), unless it says so itself.

        Raises
        ------
        InputError
            If a part of the network stays in PyTorch, so that the file could not be run without,
            if the network computes batches of one size only, if the metadata are not JSON, or the
            file cannot be written.
        """
        from gossamer.compression.provenance import provenance
        from gossamer.engine.gsm.file import write_network

        if self.network is None:
            raise InputError(
                f"{path}: this network cannot be written to a file that needs no PyTorch, as "
                f"{self._needs_pytorch()}; change that, or use torch.export.save."
            )
        if self.fixed_batch:
            raise InputError(
                f"{path}: this network computes batches of {self.batch} only "
                f"({self.fixed_batch}), but a file gives the same answers in batches of any size."
            )
        known = {"network": self.model_class, **provenance(self.network), **(metadata or {})}
        write_network(path, self.network, known, dtype, self.signature)

    def _needs_pytorch(self) -> str:
        if self.remaining:
            return f"these parts of it stay there: {_listed(self.remaining)}"
        return "it runs along further axes of its input, or gives what is computed in another way"

    def report(self) -> str:
        """Return in words what is run, what was timed, and what stays in PyTorch."""
        lines = [f"Runs: {_CHOICES.get(self.choice.split()[0], self.choice)}."]
        if self.timings:
            lines.append(
                f"Timed in turn when it was compressed, a batch of {self.batch} by "
                f"{counted(self.threads, 'thread')} (median and middle half, milliseconds):"
            )
            lines += [f"  {_timing_line(name, t)}" for name, t in self.timings.items()]
            apart = max(high / low for low, high in (t.quartiles for t in self.timings.values()))
            if apart > _STEADY:
                lines.append(
                    f"The machine was busy, as middle halves reach over {apart:.1f}×: idle, "
                    "another may be the fastest; compress again then."
                )
        for network, modules in zip_longest(self._networks, self._modules, fillvalue=()):
            assert isinstance(network, Network)
            lines.append(f"Stored: {layouts_in_words(network)} layers")
            lines += [f"  {line}" for line in layers_in_words(network, modules)]
        if self.remaining:
            lines.append(f"In PyTorch: {_listed(self.remaining)}")
        for name, why in self.unfollowed.items():
            lines.append(f"All units stay: {name or 'the whole network'} ({why})")
        if self.fixed_batch:
            lines.append(f"Batches of {self.batch} only: {self.fixed_batch}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.report()


def signature_of(example: Arguments, output: Any) -> Signature:
    """Return what a network takes and gives, of which an example and its output are known."""
    found = [leaf for leaf in leaves(output) if isinstance(leaf.value, Tensor)]
    names = output_names(found, ())
    flat = type(output) in (tuple, list) and all(isinstance(part, Tensor) for part in output)
    alone = isinstance(output, Tensor)
    return Signature(
        tuple(map(_spec, example.names, example.tensors)),
        tuple(_spec(name, leaf.value) for name, leaf in zip(names, found, strict=True)),
        "tensor" if alone else "tuple" if flat else "dict",
    )


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    """Return the name, shape and type of a tensor; the type is no NumberType where none fits."""
    return TensorSpec(name, tuple(tensor.shape[1:]), cast("NumberType", kind_of(tensor)))


def _as_tensor(numbers: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """Return an array as a tensor, copied only where PyTorch would refuse it or warn."""
    numbers = np.asarray(numbers, str(dtype).removeprefix("torch."))
    shared = numbers.flags.writeable and min(numbers.strides, default=0) >= 0
    return torch.from_numpy(numbers if shared else numbers.copy())


_CHOICES = {
    "engine": "gossamer's engine",
    "compact": "PyTorch on the network without the units that contribute nothing",
    "dense": "the dense network in PyTorch, as nothing else was surely faster",
}
_STEADY = 1.5
"""Ratio of the quartiles that the times of an idle machine stay below."""


def _timing_line(name: str, timing: Timing) -> str:
    low, high = timing.quartiles
    return f"{name:<22} {timing.median * 1e3:9.3f}  ({low * 1e3:.3f} to {high * 1e3:.3f})"


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    shown = list(dict.fromkeys(names))
    more = f", and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def stored_numbers(network: Network) -> int:
    """Return how many weights and biases a network stores."""
    found = 0
    for layer in network.layers:
        if weights := weights_of(layer):
            bias = getattr(layer, "bias", None)
            found += weights.stored + (0 if bias is None else bias.size)
    return found
