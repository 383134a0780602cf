"""What a search hands over, and the folder it is written to."""

import csv
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gossamer.compression import Compressed
from gossamer.compression.onnx import export_onnx
from gossamer.core.errors import GossamerError, InputError, MissingPackageError
from gossamer.core.files import replacing
from gossamer.core.installing import needing
from gossamer.graph.examples import Example
from gossamer.masks import Mask
from gossamer.records.shrinking import Shrinking, Tried, Weighed
from gossamer.shrinking.loading import save_shrunk
from gossamer.shrinking.split import first


def loading_lines(network: nn.Module) -> str:
    """Return the Python that loads the smaller network again; its class is the user's own."""
    kind = type(network)
    if kind.__module__.startswith(("torch.", "__main__")):  # no module that holds this network
        return (
            "import gossamer\n"
            "# build() is your own function that returns the network before it was shrunk\n"
            'model = gossamer.load_shrunk(build(), "model.safetensors")'
        )
    return (
        f"import gossamer\nfrom {kind.__module__} import {kind.__name__}\n"
        f'model = gossamer.load_shrunk({kind.__name__}(...), "model.safetensors")'
    )


@dataclass(frozen=True, eq=False)
class Shrunk:
    """What `gossamer.shrink` returns.

    Attributes
    ----------
    network
        What runs fastest, a `Compressed`: call it, or `save` it.
    model
        The smaller network as a plain module, without the units that are gone.
    masked
        The network with its old widths, zeros in the place of what was pruned.
    mask
        What was kept; None where the dense network stayed.
    report
        All that was measured and tried.
    metadata
        What the file of the network says of itself: classes and preprocessing where known.
    """

    network: Compressed
    model: nn.Module
    masked: nn.Module
    mask: Mask | None
    report: Shrinking
    metadata: Mapping[str, Any]
    example: Example

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that is zero."""
        return 0.0 if self.mask is None else self.mask.sparsity

    @property
    def before(self) -> Weighed:
        """The network as it was given."""
        return self.report.before

    @property
    def after(self) -> Weighed:
        """The network that was found."""
        return self.report.after

    @property
    def certified(self) -> bool:
        """Whether a bound holds the drop within the budget, not its estimate alone."""
        return self.report.certified

    def __str__(self) -> str:
        return "\n".join(self.report.findings)

    def save(self, folder: Path | str) -> Path:
        """Write all that there is to a folder.

        ``network.gsm``, ``model.safetensors``, ``model.onnx``, ``mask.safetensors``,
        ``trials.csv``, ``shrinking.json`` and ``report.html``; what cannot be had, such as ONNX
        where its packages are not installed, is said in a warning.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_shrunk(self.model, folder / "model.safetensors")
        if self.mask is not None:
            self.mask.save(folder / "mask.safetensors")
        self._save_network(folder / "network.gsm")
        try:
            export_onnx(self.model, first(self.example, 2), folder / "model.onnx")
        except (MissingPackageError, InputError) as error:
            warnings.warn(f"no ONNX file was written: {error}", RuntimeWarning, stacklevel=2)
        _write(folder / "trials.csv", trial_lines(self.report.tried))
        _write(folder / "shrinking.json", json.dumps(self.report.to_dict(), indent=1))
        write_page(self.report, folder)
        return folder

    def _save_network(self, path: Path) -> None:
        try:
            self.network.save(path, metadata=self.metadata)
        except GossamerError as error:
            warnings.warn(f"{path.name} was not written: {error}", RuntimeWarning, stacklevel=3)


def trial_lines(tried: tuple[Tried, ...]) -> str:
    """Return one line of CSV a candidate; what there is not is left empty."""
    text = io.StringIO()
    names = list(Tried.model_fields)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for one in tried:
        values = one.model_dump(mode="json")
        writer.writerow(
            " ".join(f"{v:g}" for v in values[name]) if name == "losses" else values[name]
            for name in names
        )
    return text.getvalue()


def write_page(report: Shrinking, folder: Path) -> None:
    """Write the page of a search, where what draws it is installed."""
    try:
        with needing("studies", "the page of a search"):
            from gossamer.reporting.shrinking import write_shrinking
    except MissingPackageError as missing:
        warnings.warn(f"no page was written: {missing}", RuntimeWarning, stacklevel=3)
        return
    write_shrinking(report, folder)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
