"""What timing a compressed file found: frozen values that JSON holds."""

from typing import Any

from gossamer.records.record import Value
from gossamer.records.speed import Latency, Machine


class StoredLayer(Value):
    """A layer with weights, in the order in which they run."""

    kind: str
    """ "linear" or "convolution"."""
    rows: int
    """Outputs: features, or channels."""
    columns: int
    """Inputs of each: features, or channels within the group times the kernel's size."""
    stored: str
    """ "dense", "csr" or "block"; "sparse" in records of before, for "csr"."""
    nonzero: int
    """How many of its weights are not zero."""

    @property
    def weights(self) -> int:
        """How many weights it has, zeros and all."""
        return self.rows * self.columns


class FileTime(Value):
    """Seconds of one call on one batch."""

    threads: int
    batch: int
    latency: Latency


class FileSpeed(Value):
    """The speed of a compressed file on one machine, and what it holds."""

    file: str
    size: int
    """Bytes of the file."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    layers: tuple[StoredLayer, ...]
    seconds: float
    """Time that was given to each number of `times`."""
    machine: Machine
    finished: bool
    """False if it was interrupted; what was measured until then is there."""
    times: tuple[FileTime, ...]

    @property
    def weights(self) -> int:
        """How many weights its layers have, zeros and all."""
        return sum(layer.weights for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zeros in the weights of its layers: units that were removed are none of them."""
        nonzero = sum(layer.nonzero for layer in self.layers)
        return 1 - nonzero / self.weights if self.weights else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain lists, dicts, strings and numbers, as JSON has them."""
        return self.model_dump(mode="json") | {"weights": self.weights, "sparsity": self.sparsity}
