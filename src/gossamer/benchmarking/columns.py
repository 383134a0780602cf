"""The ways to run a network that `gossamer bench` compares, each at its strongest."""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.benchmarking.subjects import random_inputs
from gossamer.compression.compressed import Compressed
from gossamer.compression.compressing import compress
from gossamer.compression.onnx import export_report, open_session
from gossamer.compression.storing import layouts_in_words
from gossamer.core.errors import InputError
from gossamer.core.progress import shown_already
from gossamer.engine import Floats
from gossamer.engine.native import Engine
from gossamer.measures.functional.running import told

CHOOSING_SECONDS = 1.0
"""What `compress` may take to choose."""


@dataclass(frozen=True)
class Prepared:
    """One column, ready to be timed."""

    call: Callable[[], Any]
    """Computes the outputs of one batch."""
    remark: str = ""
    """What is run, where that was a choice."""


Maker = Callable[[nn.Module, Floats, int], Prepared]
"""Takes the network, inputs [batch, ...] and threads; raises `InputError` where it cannot run."""


def prepare(column: str, network: nn.Module, inputs: Floats, threads: int) -> Prepared:
    """Return one column, ready to be timed on this batch by so many threads.

    Raises
    ------
    InputError
        If it cannot run here, with the reason.
    """
    try:
        return MAKERS[column](network, inputs, threads)
    except InputError:
        raise
    except Exception as error:  # what a rival fails with is its own business
        raise InputError(f"it fails ({told(error)[:200]})") from error


def _calling(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.inference_mode():
            return network(inputs)

    return call


def _eager(network: nn.Module, inputs: Floats, _threads: int) -> Prepared:
    return Prepared(_calling(network, torch.from_numpy(inputs)))


def _channels_last(network: nn.Module, inputs: Floats, _threads: int) -> Prepared:
    if not _has_convolutions(network):
        raise InputError("the network has no convolution")
    return Prepared(_calling(*_with_channels_last(network, torch.from_numpy(inputs))))


def _bf16(network: nn.Module, inputs: Floats, _threads: int) -> Prepared:
    halved = copy.deepcopy(network).to(torch.bfloat16)
    values = torch.from_numpy(inputs).to(torch.bfloat16)
    if _has_convolutions(network):
        return Prepared(_calling(*_with_channels_last(halved, values)), "channels_last")
    return Prepared(_calling(halved, values))


def _compiled(network: nn.Module, inputs: Floats, _threads: int) -> Prepared:
    """Compile with the weights as constants, as inference allows; once, for this batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about parts of itself
        compiled = torch.compile(network, dynamic=False, options={"freezing": True})
        call = _calling(compiled, torch.from_numpy(inputs))
        call()
    return Prepared(call)


def _onnxruntime(network: nn.Module, inputs: Floats, threads: int) -> Prepared:
    content = _as_onnx(network, inputs.shape[1:])
    session = open_session(content, threads, batch=len(inputs))
    return Prepared(lambda: session.run(None, {"input": inputs})[0])


@lru_cache(maxsize=1)
def _as_onnx(network: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """Return a network as ONNX; kept, as several rows of the tables have the same one."""
    example = torch.from_numpy(random_inputs((2, *input_shape)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # told below
            report = export_report(network, example, path)
        if report.batch is not None:
            raise InputError(f"its ONNX file would take batches of {report.batch} only")
        return path.read_bytes()


def _csr(network: nn.Module, inputs: Floats, _threads: int) -> Prepared:
    if _has_convolutions(network):
        raise InputError("PyTorch has no convolution with weights in CSR")
    sparse = copy.deepcopy(network)
    for name, layer in list(sparse.named_modules()):
        if isinstance(layer, nn.Linear):
            sparse.set_submodule(name, _CsrLinear(layer))
        elif next(layer.parameters(recurse=False), None) is not None:
            raise InputError(f"only linear layers can have weights in CSR, not {name}")
    return Prepared(_calling(sparse, torch.from_numpy(inputs)))


class _CsrLinear(nn.Module):
    """A linear layer that multiplies by its non-zero weights only."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls CSR a beta feature
            self.weight = layer.weight.detach().to_sparse_csr()
        self.bias = None if layer.bias is None else layer.bias.detach()[:, None]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, outputs] for inputs [batch, features]."""
        products = self.weight @ inputs.T
        return (products if self.bias is None else products + self.bias).T


def _has_convolutions(network: nn.Module) -> bool:
    return any(isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) for layer in network.modules())


def _with_channels_last(network: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    if inputs.dim() != 4:
        raise InputError("its inputs are no images")
    moved = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved, inputs.contiguous(memory_format=torch.channels_last)


def _sparse(network: nn.Module, inputs: Floats, threads: int) -> Prepared:
    """Run gossamer's engine on arrays, as `gossamer.load` does."""
    compressed = _compressed(network, inputs.shape, threads)
    if compressed.network is None:
        stays = compressed.remaining[0] if compressed.remaining else "a part of it"
        raise InputError(f"the network cannot be lowered as a whole: {stays} stays in PyTorch")
    engine = Engine(compressed.network)
    return Prepared(
        lambda: engine(inputs, threads=threads), f"{layouts_in_words(compressed.network)} layers"
    )


def _chosen(network: nn.Module, inputs: Floats, threads: int) -> Prepared:
    compressed = _compressed(network, inputs.shape, threads)
    values = torch.from_numpy(inputs)
    return Prepared(lambda: compressed(values), compressed.choice)


@lru_cache(maxsize=1)
def _compressed(network: nn.Module, shape: tuple[int, ...], threads: int) -> Compressed:
    """Compress for one batch; kept, as both columns of gossamer's have the same."""
    example = torch.from_numpy(random_inputs(shape))
    with shown_already():
        return compress(network, example, threads=threads, seconds=CHOOSING_SECONDS)


MAKERS: Mapping[str, Maker] = {
    "eager": _eager,
    "channels_last": _channels_last,
    "bf16": _bf16,
    "compile": _compiled,
    "onnxruntime": _onnxruntime,
    "csr": _csr,
    "gossamer": _sparse,
    "gossamer_chosen": _chosen,
}
