"""What a search is asked for."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from torch import nn

from gossamer.core.errors import InputError
from gossamer.masks import Mask
from gossamer.records.shrinking import Target

PatternName = Literal["auto", "weight", "block", "unit", "unit+weight"]
PATTERNS: tuple[PatternName, ...] = ("auto", "weight", "block", "unit", "unit+weight")
TARGETS: tuple[Target, ...] = ("latency", "size", "flops")

PrecisionName = Literal["auto", "float32", "bf16"]
PRECISIONS: tuple[PrecisionName, ...] = ("auto", "float32", "bf16")

_MANY_EXAMPLES = 32_000
DEFAULT_RATE = 1e-3
"""Of Adam, where too little is trained to find out a better one."""

Train = Callable[[nn.Module, Mask, int], object]
"""A training of one's own: trains the network in place for so many epochs, and keeps what the mask
prunes at zero, as `mask.enforce(model, optimizer)` does."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What determines a search, beside network and data; `gossamer.shrink` says what each means."""

    max_drop: float = 0.005
    min_accuracy: float | None = None
    target: Target = "latency"
    pattern: PatternName = "auto"
    batch: int = 64
    threads: int = 1
    exclude: tuple[str, ...] = ()
    keep_units_multiple_of: int = 1
    confidence: float = 0.95
    epochs: int = 30
    rate: float | None = None
    """None: found out, by how near a few bring the outputs to the dense network's."""
    train_batch: int = 64
    distillation: float = 0.7
    temperature: float = 2.0
    distill_features: bool = False
    precision: PrecisionName = "auto"
    """Of training. "auto": bfloat16 where it is faster; see `gossamer.shrinking.precision`."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, expected, sound in _CHECKS:
            value = getattr(self, name)
            if not sound(value):
                raise InputError(f"{name} is {value!r}, but {expected} was expected.")
        if self.keep_units_multiple_of > 1 and self.pattern not in ("auto", "unit"):
            raise InputError(
                f"keep_units_multiple_of is for whole units, but pattern is {self.pattern!r}, by "
                "which a layer may lose any number of them: give pattern='unit', or 'auto', which "
                "takes it then."
            )

    def key(self) -> dict[str, Any]:
        """Return the whole as JSON has it, options that change nothing left out.

        A rate that is to be found out is noted with what it leads to, in the plan.
        """
        told = asdict(self)
        if not self.distill_features:
            del told["distill_features"]
        if self.precision == "auto":
            del told["precision"]
        return told | {"rate": self.rate or DEFAULT_RATE}


def options_of(**given: Any) -> Options:
    """Return options, those that are None left at their defaults."""
    known = {item.name for item in fields(Options)}
    return Options(**{name: v for name, v in given.items() if name in known and v is not None})


def usual_batch(examples: int) -> int:
    """Return how many of so many training examples a step takes, where nothing else is asked for.

    Few examples give few steps, which are worth more than their noise costs.

    Examples
    --------
    >>> usual_batch(20_000), usual_batch(50_000)
    (16, 64)
    """
    return 16 if examples < _MANY_EXAMPLES else 64


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_CHECKS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("max_drop", "a number above 0, such as 0.005", lambda v: _is_number(v) and v > 0),
    ("min_accuracy", "a number or None", lambda v: v is None or _is_number(v)),
    ("target", f"one of {', '.join(TARGETS)}", lambda v: v in TARGETS),
    ("pattern", f"one of {', '.join(PATTERNS)}", lambda v: v in PATTERNS),
    ("precision", f"one of {', '.join(PRECISIONS)}", lambda v: v in PRECISIONS),
    ("batch", "a whole number from 1", lambda v: _is_whole(v, 1)),
    ("threads", "a whole number from 1", lambda v: _is_whole(v, 1)),
    ("keep_units_multiple_of", "a whole number from 1", lambda v: _is_whole(v, 1)),
    ("confidence", "a number from 0.5 to below 1", lambda v: _is_number(v) and 0.5 <= v < 1),
    ("epochs", "a whole number from 1", lambda v: _is_whole(v, 1)),
    ("rate", "a number above 0 or None", lambda v: v is None or (_is_number(v) and v > 0)),
    ("train_batch", "a whole number from 2", lambda v: _is_whole(v, 2)),
    ("distillation", "a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1),
    ("temperature", "a number above 0", lambda v: _is_number(v) and v > 0),
    ("seed", "a whole number from 0", lambda v: _is_whole(v, 0)),
)
