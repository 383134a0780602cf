"""One part of the data: inputs and targets, in batches that a seed alone decides."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.core.streams import stream, stream_seed
from gossamer.data.splits import stratified_sample
from gossamer.graph.examples import Example, tensors_in, told
from gossamer.networks.generators import generators_kept, seed_generators

Batch = tuple[Any, Any]
"""Inputs, as `gossamer.compress` takes an example, and targets, as the task takes them."""


@dataclass(frozen=True)
class Preprocessing:
    """What raw numbers go through before the network sees them: ``(x / scale - mean) / deviation``.

    Parameters
    ----------
    scale
        Raw numbers are divided by it: 255 for pixels.
    mean, deviation
        Of the scaled numbers: one for each channel, or one for all; none: 0 and 1.

    Raises
    ------
    InputError
        If a number is not finite, or scale or deviation not positive.

    Examples
    --------
    >>> Preprocessing(255.0, (0.5,), (0.5,))(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[-1.,  1.]])
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("scale", (self.scale,)), ("deviation", self.deviation)):
            if not all(0 < value < math.inf for value in values):
                raise InputError(
                    f"preprocessing: {name} is {_shown(values)}, expected positive numbers."
                )
        if not all(map(math.isfinite, self.mean)):
            raise InputError(
                f"preprocessing: mean is {_shown(self.mean)}, expected finite numbers."
            )

    def __call__(self, raw: Tensor) -> Tensor:
        """Return what the network sees of raw numbers ``[examples, channels, ...]``."""
        values = (raw if raw.is_floating_point() else raw.float()) / self.scale
        if self.mean:
            values = values - _by_channel("mean", self.mean, values)
        if self.deviation:
            values = values / _by_channel("deviation", self.deviation, values)
        return values


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _by_channel(name: str, numbers: tuple[float, ...], values: Tensor) -> Tensor:
    channels = values.shape[1] if values.ndim > 1 else 1
    if len(numbers) not in (1, channels):
        raise InputError(
            f"preprocessing: {name} has {len(numbers)} numbers, but inputs have {channels} "
            "channels; give one for each channel, or one for all."
        )
    return values.new_tensor(numbers).reshape(-1, *(1 for _ in values.shape[2:]))


@dataclass(frozen=True, eq=False)
class Items:
    """Examples that are read one by one whenever they are needed, as random augmentation wants it.

    Parameters
    ----------
    items
        Has a length, and an example at each index.
    collate
        From a list of examples to a batch: inputs and targets.
    """

    items: Any
    collate: Callable[[list[Any]], Batch]


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets of one part of the data.

    Parameters
    ----------
    inputs
        What the network takes, of all examples at once: a tensor, a tuple of positional or a dict
        of keyword arguments, the first dimension of each tensor the examples. Or `Items`.
    targets
        What the loss and the metric take beside the network's outputs: a tensor, or a tuple or
        dict of tensors. `Items` hold their own.
    preprocessing
        What inputs go through when a batch is made; None: they are what the network sees.

    Raises
    ------
    InputError
        If there is no example, or tensors are not as long as each other.

    Examples
    --------
    >>> split = Split(torch.arange(5.0)[:, None], torch.arange(5))
    >>> [targets.tolist() for _, targets in split.batches(2)]
    [[0, 1], [2, 3], [4]]
    >>> shuffled = [targets.tolist() for _, targets in split.batches(2, seed=0)]
    >>> shuffled == [targets.tolist() for _, targets in split.batches(2, seed=0)]
    True
    """

    inputs: Example | Items
    targets: Any = None
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        if isinstance(self.inputs, Items):
            if not len(self.inputs.items):
                raise InputError("there are no examples, expected at least one.")
            return
        lengths = {len(one) if one.ndim else 0 for one in tensors_in((self.inputs, self.targets))}
        if not tensors_in(self.inputs) or not tensors_in(self.targets):
            raise InputError("inputs and targets must hold a tensor each, or tuples or dicts.")
        if len(lengths) > 1:
            raise InputError(
                f"inputs and targets are not as long as each other ({_lengths(lengths)} examples), "
                "expected the examples as the first dimension of each tensor."
            )
        if not lengths.pop():
            raise InputError("there are no examples, expected at least one.")

    def __len__(self) -> int:
        if isinstance(self.inputs, Items):
            return len(self.inputs.items)
        return len(tensors_in(self.inputs)[0])

    @property
    def is_resident(self) -> bool:
        """Whether all examples are in memory, so that reading one twice gives the same."""
        return not isinstance(self.inputs, Items)

    def at(self, positions: Tensor) -> Batch:
        """Return the examples at positions, as the network sees them, and their targets."""
        if isinstance(self.inputs, Items):
            items = self.inputs.items
            try:
                return self.inputs.collate([items[i] for i in positions.tolist()])
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"examples cannot be read or put into one batch ({told(error)}): give a "
                    "dataset whose examples are tensors of one shape each"
                ) from error
        inputs = mapped(self.inputs, lambda one: one.index_select(0, positions))
        if self.preprocessing is not None:
            inputs = mapped(inputs, self.preprocessing)
        return inputs, mapped(self.targets, lambda one: one.index_select(0, positions))

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[Batch]:
        """Yield all examples in batches, the last of which may be smaller.

        Parameters
        ----------
        size
            Examples of a batch.
        seed
            Decides the order, and what random augmentation does; None: the order of the data. With
            a seed a last batch of a single example, of which batch normalisation makes nothing, is
            joined to the one before it.
        epoch
            Each has an order of its own.
        """
        if size < 1:
            raise InputError(f"batch size is {size}, expected at least 1.")
        order = torch.arange(len(self))
        if seed is not None:
            order = torch.from_numpy(stream(seed, "batches", epoch).permutation(len(self)))
        starts = list(range(0, len(order), size))
        if seed is not None:
            starts = starts[: self.shuffled_batches(size)]
        for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
            yield self._drawn(order[begin:end], seed or 0, epoch, begin)

    def shuffled_batches(self, size: int) -> int:
        """Return how many batches `batches` gives with a seed."""
        return max(1, len(self) // size + (len(self) % size > 1))

    def _drawn(self, positions: Tensor, seed: int, epoch: int, begin: int) -> Batch:
        if self.is_resident:
            return self.at(positions)
        with generators_kept():
            seed_generators(stream_seed(seed, "augmentation", epoch, begin))
            return self.at(positions)

    def whole(self, size: int = 1024) -> Batch:
        """Return all inputs, as the network sees them, and all targets."""
        if self.is_resident:
            return self.at(torch.arange(len(self)))
        parts = list(self.batches(size))
        return joined([inputs for inputs, _ in parts]), joined([targets for _, targets in parts])

    def example(self, count: int = 2) -> Any:
        """Return the inputs of the first examples, for what looks at what a network computes."""
        return self.at(torch.arange(min(count, len(self))))[0]

    def subset(self, positions: Tensor) -> "Split":
        """Return the part at positions."""
        if isinstance(self.inputs, Items):
            items = torch.utils.data.Subset(self.inputs.items, positions.tolist())
            return Split(Items(items, self.inputs.collate))
        return Split(
            mapped(self.inputs, lambda one: one.index_select(0, positions)),
            mapped(self.targets, lambda one: one.index_select(0, positions)),
            self.preprocessing,
        )

    def sample(self, count: int, seed: int = 0) -> "Split":
        """Return so many examples, of each class its share where targets are classes."""
        if count >= len(self):
            return self
        return self.subset(torch.from_numpy(self.sample_positions(count, seed)))

    def sample_positions(self, count: int, seed: int) -> Any:
        """Return the sorted positions of a sample."""
        classes = self.classes
        if classes is not None:
            return stratified_sample(classes, count, seed)
        return np.sort(stream(seed, "sample").permutation(len(self))[:count])

    @property
    def classes(self) -> Any:
        """The targets as class numbers ``[examples]``, int64; None if they are none in memory."""
        targets = self.targets
        if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
            return None
        return targets.numpy(force=True).astype(np.int64)


def mapped(item: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return tensors changed, within whatever tuples, lists and dicts they lie in.

    Examples
    --------
    >>> mapped({"x": torch.ones(2), "rest": (None, torch.ones(1))}, torch.neg)
    {'x': tensor([-1., -1.]), 'rest': (None, tensor([-1.]))}
    """
    if isinstance(item, Tensor):
        return change(item)
    if isinstance(item, Mapping):
        return {name: mapped(one, change) for name, one in item.items()}
    if isinstance(item, tuple | list):
        return type(item)(mapped(one, change) for one in item)
    return item


def first(inputs: Any, count: int) -> Any:
    """Return so many examples of a batch; the same ones again where it holds fewer.

    Examples
    --------
    >>> first((torch.tensor([1, 2]), {"mask": torch.tensor([True, False])}), 3)
    (tensor([1, 2, 1]), {'mask': tensor([ True, False,  True])})
    """
    held = len(tensors_in(inputs)[0])
    if count <= held:
        return mapped(inputs, lambda one: one[:count])
    return mapped(inputs, lambda one: one[torch.arange(count) % held])


def joined(parts: list[Any]) -> Any:
    """Return batches as one, within whatever tuples and dicts their tensors lie in."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple | list):
        return type(first)(joined(list(each)) for each in zip(*parts, strict=True))
    return first


def _lengths(lengths: set[int]) -> str:
    return ", ".join(f"{length:,}" for length in sorted(lengths))
