"""What a search within an accuracy budget found, tried and spent: what its page is drawn from."""

from typing import Any, Literal

from gossamer.records.leakage import Estimate
from gossamer.records.record import Value
from gossamer.records.speed import Latency, Machine

Target = Literal["latency", "size", "flops"]
"""What was made as small as the budget allows: seconds, bytes, or multiply-adds."""


class Bounded(Value):
    """A number measured on examples, with its two-sided interval."""

    value: float
    low: float
    high: float
    examples: int


class Timed(Value):
    """How long one way to run a network takes for one batch."""

    network: Literal["dense", "shrunk"]
    runner: str
    """Such as "PyTorch", "ONNX Runtime" or "gossamer"."""
    batch: int
    threads: int
    latency: Latency


class Weighed(Value):
    """A network before or after, in numbers."""

    metric: Bounded
    """On test data, or on validation data where there was none."""
    bytes: int
    """Of the dense weights, or of the deployed file."""
    parameters: int
    nonzero: int
    multiply_adds: int
    """Of non-zero weights, for one example."""


class LayerShare(Value):
    """What one layer keeps."""

    name: str
    weights: int
    kept: int


class Tolerance(Value):
    """How the network answers to pruning one layer alone, without training."""

    name: str
    sparsities: tuple[float, ...]
    damage: tuple[float, ...]
    """At each of them, by how much the outputs change; see `measure` of the search."""


class Tried(Value):
    """One candidate, in the order in which they were made and tested."""

    number: int
    pattern: str
    sparsity: float
    """Of all prunable weights."""
    cost: float
    """Seconds of a batch, bytes or multiply-adds, by the target."""
    speed_up: float
    """The cost of the dense network over that."""
    metric: float
    """On validation data."""
    drop: float
    """By how much that is worse than the dense network's, on the same examples."""
    bound: float | None
    """What the true drop does not exceed, with the confidence of the search; None: not tested."""
    changed: float
    """Share of the validation examples whose metric differs from the dense network's."""
    within: bool
    """Whether it was shown, or found where nothing can be shown, to keep the budget."""
    chosen: bool
    epochs: float
    """Of fine-tuning, since the candidate before."""
    seconds: float
    losses: tuple[float, ...]
    """Mean loss of fine-tuning, one number an epoch."""
    distance: float | None = None
    """From the dense network's outputs, on training examples; None where it was not measured."""
    confidence: float | None = None
    """Of the bound; None: that of the search."""


class Leaked(Value):
    """How well one attack tells members from others, of the network before and after."""

    attack: str
    before: Estimate
    """Area under the ROC curve; a half is guessing."""
    after: Estimate
    members: int
    others: int
    is_headline: bool


class Shrinking(Value):
    """A whole search."""

    model: str
    task: str
    """What the metric is called."""
    higher_is_better: bool
    target: Target
    pattern: str
    batch: int
    threads: int
    precision: Literal["float32", "bf16"] | None = None
    """What candidates were trained in; nobody knows of a training of one's own."""
    max_drop: float
    min_accuracy: float | None = None
    """What was to be reached, where that was asked for; `max_drop` is what lies above it then."""
    confidence: float
    certified: bool
    """Whether the budget is kept by a bound; False: by the estimate alone, or nothing was found."""
    part: Literal["test", "validation"]
    """On which data before and after were measured."""
    validation_is_held_out: bool
    before: Weighed
    after: Weighed
    drop: Bounded
    """On the data of before and after."""
    timed: tuple[Timed, ...]
    layers: tuple[LayerShare, ...]
    sensitivity: tuple[Tolerance, ...]
    measure: str
    """What the damage of the sensitivity is."""
    tried: tuple[Tried, ...]
    epochs: float
    seconds: float
    forecast: float
    """Seconds that were foretold."""
    findings: tuple[str, ...]
    """What was found, in sentences; the first is the answer."""
    warnings: tuple[str, ...]
    equality: str
    """How the deployed file was held against the masked network, and what came out."""
    leakage: tuple[Leaked, ...] = ()
    """By attack, where members were given."""
    loading: str
    """The lines of Python that load the smaller network."""
    machine: Machine
    finished: bool
    """False if it was stopped before its end."""

    @property
    def chosen(self) -> Tried | None:
        """The candidate that was taken; None where the dense network stayed."""
        return next((one for one in self.tried if one.chosen), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain lists, dicts, strings and numbers, as JSON has them."""
        return self.model_dump(mode="json")
