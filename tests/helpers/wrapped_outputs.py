"""Outputs of networks in containers of many kinds."""

import dataclasses
import types
import typing
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass
class Scores:
    logits: Tensor
    hidden: Tensor | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    logits: Tensor
    classes: int = dataclasses.field(default=4, init=False)


class Pair(typing.NamedTuple):
    logits: Tensor
    scale: float


class Plain:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.kind = "plain"


@dataclasses.dataclass
class FieldsAndItems(OrderedDict[str, Any]):
    """A mapping whose items are its fields that are not None, as some libraries return."""

    logits: Tensor
    hidden: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


WRAPPERS: dict[str, Callable[[Tensor], Any]] = {
    "dataclass": lambda y: Scores(y, y * 2),
    "dataclass with None": Scores,
    "frozen dataclass": Frozen,
    "named tuple": lambda y: Pair(y, 0.5),
    "object": Plain,
    "fields and items": lambda y: FieldsAndItems(y, (y + 1, y.sum())),
    "namespace": lambda y: types.SimpleNamespace(logits=y),
    "read-only mapping": lambda y: types.MappingProxyType({"logits": y}),
    "default dict": lambda y: defaultdict(list, logits=y),
    "tuple with None": lambda y: (None, y, None),
    "nested": lambda y: {"x": [Scores(y, y), (Plain(y), 1.5, "text")], 3: y.max(1)},
    "whole numbers": lambda y: (y.argmax(1), y > 0),
    "no batch": lambda y: y.sum(),
    "size": lambda y: {"y": y, "size": y.shape},
    "complex": lambda y: torch.complex(y, y * 2),
}
