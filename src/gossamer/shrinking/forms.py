"""The forms in which one part of the data may be given, each made a `Split`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.graph.examples import tensors_in
from gossamer.shrinking.split import Batch, Items, Preprocessing, Split, mapped

LABEL_COLUMNS = ("label", "labels", "target", "targets")
"""What the targets are called where an example is a dict."""

_MOST_BYTES = 2**31
"""A part that takes more memory is read anew in every epoch."""
_LOOKED_AT = 8


@dataclass(frozen=True)
class Part:
    """One part of the data, and what its form told beside it."""

    split: Split
    class_names: tuple[str, ...] | None = None


def part_of(what: str, given: Any, preprocessing: Preprocessing | None = None) -> Part:
    """Return a part of the data from whatever form it was given in.

    Parameters
    ----------
    what
        The part, such as ``"train"``, as complaints begin.
    given
        A pair of inputs and targets (tensors, NumPy arrays, tuples or dicts of them), a
        `torch.utils.data.Dataset` or `DataLoader`, a dataset of Hugging Face, or a `Split`. Tensors
        are what the network takes; NumPy's uint8 are pixels, divided by 255.
    preprocessing
        What raw inputs of a pair go through, in the place of the division by 255.

    Raises
    ------
    InputError
        If it is none of these, or empty, or holds NaN.
    """
    try:
        found = _part(given, preprocessing)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    _check_finite(what, found.split)
    return found


def _part(given: Any, preprocessing: Preprocessing | None) -> Part:
    if isinstance(given, Split):
        return Part(given)
    if isinstance(given, tuple) and len(given) == 2:
        inputs, targets = given
        return Part(_pair(inputs, targets, preprocessing))
    if isinstance(given, Mapping) and set(given) == {"inputs", "targets"}:
        return Part(_pair(given["inputs"], given["targets"], preprocessing))
    names = _class_names(given)
    if preprocessing is not None:
        raise InputError(
            "preprocessing is for arrays; a dataset gives what the network takes, so let its "
            "transform do it"
        )
    if isinstance(given, DataLoader):
        return Part(_of_loader(given), names or _class_names(given.dataset))
    if hasattr(given, "column_names") and hasattr(given, "features"):
        from gossamer.shrinking.columns import of_columns

        return Part(*of_columns(given))
    if isinstance(given, TensorDataset) and len(given.tensors) == 2:
        return Part(Split(*given.tensors), names)
    if isinstance(given, IterableDataset):
        return Part(resident(Items(list(given), collated)), names)
    has_items = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    if has_items and not isinstance(given, str | bytes | Mapping | Tensor | np.ndarray | tuple):
        return Part(resident(Items(given, collated)), names)
    raise InputError(
        f"a {type(given).__name__} was given, expected a pair (inputs, targets), a Dataset or "
        "DataLoader of PyTorch, or a dataset of Hugging Face"
    )


def _pair(inputs: Any, targets: Any, preprocessing: Preprocessing | None) -> Split:
    """Return a part of inputs and targets; see `part_of` for how arrays are taken."""
    pixels = isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8
    chosen = preprocessing or (Preprocessing(255.0) if pixels else None)
    made = _tensors("inputs", inputs)
    if chosen is not None and not isinstance(made, Tensor):
        raise InputError("preprocessing is for a single array of inputs, not for several")
    return Split(made, _tensors("targets", targets), chosen)


def _tensors(what: str, given: Any) -> Any:
    """Return arrays as tensors of a type that networks take; tensors stay what they are."""
    if isinstance(given, Tensor):
        return given.detach()
    if isinstance(given, Mapping):
        return {str(name): _tensors(f"{what}[{name!r}]", one) for name, one in given.items()}
    if isinstance(given, tuple):
        return tuple(_tensors(f"{what}[{i}]", one) for i, one in enumerate(given))
    array = as_array(what, given, "expected an array of numbers")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what}: the type is {array.dtype}, expected numbers")
    if array.dtype == np.uint8 and what == "inputs":
        return torch.from_numpy(np.ascontiguousarray(array).copy())
    kind = np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind).copy())


def _class_names(given: Any) -> tuple[str, ...] | None:
    names = getattr(given, "classes", None)
    if isinstance(names, list | tuple) and names and all(isinstance(one, str) for one in names):
        return tuple(names)
    return None


def _of_loader(loader: Any) -> Split:
    """Return the examples of a DataLoader; batches and their order are this library's own."""
    if isinstance(loader.dataset, IterableDataset):
        return resident(Items(list(loader.dataset), _collate_of(loader)))
    sampler, dataset = loader.sampler, loader.dataset
    if isinstance(sampler, SubsetRandomSampler):
        dataset = Subset(dataset, list(sampler.indices))
    elif not isinstance(sampler, SequentialSampler) and not (
        isinstance(sampler, RandomSampler) and not sampler.replacement
    ):
        raise InputError(
            f"the DataLoader draws its examples by a {type(sampler).__name__}, which is not known "
            "here: give the dataset itself, or train by a callable of your own"
        )
    if loader.batch_size is None:
        raise InputError(
            "the DataLoader makes no batches of single examples: give a dataset of single examples"
        )
    return resident(Items(dataset, _collate_of(loader)))


def _collate_of(loader: Any) -> Any:
    return partial(_by_collate, loader.collate_fn)


def _by_collate(collate: Any, items: list[Any]) -> Batch:
    return separated(collate(items))


def collated(items: list[Any]) -> Batch:
    """Return single examples as a batch: inputs, and targets."""
    first = items[0]
    if not isinstance(first, tuple | list | Mapping):
        raise InputError(
            f"an example is a {type(first).__name__}, expected a pair of inputs and target; all "
            "inputs and all targets as arrays are a tuple, (inputs, targets)"
        )
    for part in first.values() if isinstance(first, Mapping) else first:
        if not isinstance(part, Tensor | np.ndarray | int | float | Mapping | tuple | list):
            raise InputError(
                f"an example holds a {type(part).__name__}, expected tensors and numbers: give "
                "the dataset a transform that makes tensors"
            )
    return separated(default_collate(items))


def separated(batch: Any) -> Batch:
    """Tell inputs from targets in a batch that a collation made.

    Raises
    ------
    InputError
        If that cannot be told.

    Examples
    --------
    >>> separated([torch.zeros(1), torch.ones(1)])
    (tensor([0.]), tensor([1.]))
    >>> separated({"image": torch.zeros(1), "label": torch.ones(1)})
    (tensor([0.]), tensor([1.]))
    """
    if isinstance(batch, Mapping):
        found = [name for name in LABEL_COLUMNS if name in batch]
        if len(found) != 1 or len(batch) < 2:
            raise InputError(
                f"examples hold {listed([repr(name) for name in batch])}, expected inputs and one "
                f"of {', '.join(LABEL_COLUMNS)}: call the targets so"
            )
        inputs = {name: value for name, value in batch.items() if name != found[0]}
        return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), _plain(
            batch[found[0]]
        )
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        count = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise InputError(
            f"an example is a {type(batch).__name__}{count}, expected a pair of inputs and target: "
            "put several inputs into a tuple, ((first, second), target)"
        )
    inputs, targets = batch
    return tuple(inputs) if isinstance(inputs, list) else inputs, _plain(targets)


def _plain(targets: Any) -> Any:
    """Return numbers of Python, which become float64, as networks compute."""
    return mapped(targets, lambda one: one.float() if one.dtype == torch.float64 else one)


def resident(given: Items) -> Split:
    """Return examples in memory, where reading them twice gives the same and they find room."""
    split = Split(given)
    count = len(split)
    looked = torch.linspace(0, count - 1, min(_LOOKED_AT, count)).long()
    first = split.at(looked)
    if not same(first, split.at(looked)):
        return split
    size = sum(one.element_size() * one.numel() for one in tensors_in(first)) / len(looked)
    return split if size * count > _MOST_BYTES else Split(*split.whole())


def same(one: Any, other: Any) -> bool:
    """Return whether two batches hold the same numbers."""
    pairs = list(zip(tensors_in(one), tensors_in(other), strict=False))
    return len(pairs) > 0 and all(a.shape == b.shape and bool(torch.equal(a, b)) for a, b in pairs)


def is_random(split: Split) -> bool:
    """Return whether examples are others whenever they are read, as random augmentation does it."""
    if split.is_resident:
        return False
    looked = torch.linspace(0, len(split) - 1, min(_LOOKED_AT, len(split))).long()
    return not same(split.at(looked), split.at(looked))


def _check_finite(what: str, split: Split) -> None:
    if not split.is_resident:
        return
    for name, item in (("inputs", split.inputs), ("targets", split.targets)):
        for one in tensors_in(item):
            if not one.is_floating_point() or bool(one.isfinite().all()):
                continue
            example = int((~one.isfinite()).reshape(len(one), -1).any(1).int().argmax())
            raise InputError(
                f"{what}: {name} of example {example} hold NaN or infinite numbers, expected "
                "finite ones; remove or replace that example"
            )
