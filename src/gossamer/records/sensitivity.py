"""How much a network loses when one of its layers alone is pruned, and nothing is trained."""

from typing import Any

from gossamer.records.record import Value


class Level(Value):
    """One layer at one sparsity."""

    asked: float
    sparsity: float
    """That was reached, over the weights of the layer."""
    drop: float
    """By how much the metric is worse, the mean over the same examples; below 0 it is better."""
    low: float
    high: float
    """Ends of its 95% interval."""
    loss: float
    """By how much the loss grows."""


class LayerSensitivity(Value):
    """A layer, or several whose units go together."""

    names: tuple[str, ...]
    """Of its weights."""
    weights: int
    levels: tuple[Level, ...]

    @property
    def label(self) -> str:
        """The first name without what all end in, and how many more there are."""
        more = len(self.names) - 1
        return self.names[0].removesuffix(".weight") + (f" (+{more})" if more else "")

    def tolerates(self, drop: float) -> float:
        """Return the highest sparsity up to which no level lost more than a drop; 0 if none."""
        found = 0.0
        for one in sorted(self.levels, key=lambda level: level.sparsity):
            if one.drop > drop:
                break
            found = one.sparsity
        return found


class Sensitivity(Value):
    """All layers of a network."""

    model: str
    data: str
    task: str
    """What the metric is called."""
    higher_is_better: bool
    is_share: bool
    """Whether the metric is a share of examples, such as an accuracy."""
    pattern: str
    before: float
    """The metric of the network as it is, on the same examples."""
    loss: float
    examples: int
    seed: int
    layers: tuple[LayerSensitivity, ...]
    left_alone: dict[str, str]
    """Weights that were not pruned, each with the reason."""
    notes: tuple[str, ...]
    seconds: float
    finished: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain lists, dicts, strings and numbers, as JSON has them."""
        return self.model_dump(mode="json")
