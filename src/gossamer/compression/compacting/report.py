"""What became of a network's layers, as values and as a table to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class CompactedLayer:
    """What a linear layer or convolution kept.

    Attributes
    ----------
    inputs, outputs
        Which inputs and which units stay, bool [inputs] and bool [units] as they were before.
    fixed
        Why units had to stay whatever their weights are; empty where they were free to go.
    """

    inputs: Tensor
    outputs: Tensor
    fixed: str


@dataclass(frozen=True, eq=False)
class CompactionReport:
    """A compacted network and what became of its layers; `print` shows a table.

    Attributes
    ----------
    network
        The smaller network.
    layers
        By module name, the layers whose units and inputs could be told apart.
    unfollowed
        By module name, the parts that could not be followed, and why; what they read and give kept
        its width. The name "" stands for the whole network, of which nothing was removed then.
    unreached
        Modules and parameters that a call like the one on the example does not use. Other calls
        that do, by a flag or another method, may find fewer units than they read.
    defaults
        Options of the forward that such a call leaves at their defaults, such as "aux=False"; with
        others it was not followed.
    parameters_before
        How many parameters the network had.
    asked
        What the forward asked of whole numbers or truth values that it was given, such as "bool" of
        one; it was followed for the example, and where its masks hide nothing.
    """

    network: nn.Module
    layers: Mapping[str, CompactedLayer]
    unfollowed: Mapping[str, str]
    unreached: tuple[str, ...] = ()
    defaults: tuple[str, ...] = ()
    parameters_before: int = 0
    asked: str = ""

    @property
    def parameters(self) -> int:
        """How many parameters the smaller network has."""
        return count_parameters(self.network)

    @property
    def shrinks(self) -> bool:
        """Whether any layer lost units or inputs."""
        kept = (part for layer in self.layers.values() for part in (layer.inputs, layer.outputs))
        return not all(bool(part.all()) for part in kept)

    def __str__(self) -> str:
        rows = [("layer", "units", "inputs", "why units stayed")]
        for name, layer in self.layers.items():
            why = layer.fixed if layer.outputs.all() else ""
            rows.append((name, _change(layer.outputs), _change(layer.inputs), why))
        lines = _table(rows) if self.layers else []
        for name, why in self.unfollowed.items():
            lines.append(f"Not followed: {name or 'the whole network'} ({why})")
        if self.unreached:
            lines.append(f"Not run by such a call: {', '.join(self.unreached)}")
        if self.defaults:
            lines.append(f"Followed with {', '.join(self.defaults)} only")
        before, after = self.parameters_before, self.parameters
        share = f" ({after / before:.1%})" if before else ""
        return "\n".join([*lines, f"Parameters: {before:,} -> {after:,}{share}"])


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers the parameters of a network hold."""
    return sum(parameter.numel() for parameter in network.parameters())


def _change(kept: Tensor) -> str:
    return f"{len(kept)} -> {int(kept.sum())}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return ["  ".join(row).rstrip() for row in cells]
