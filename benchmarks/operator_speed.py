"""What single operators cost in the engine, beside its rivals, behind a small sparse layer.

    python -m benchmarks.operator_speed [--only softmax mean] [--write]

A network is only as fast as the slowest of its operators: each stands here behind one 1x1
convolution of 32 channels, or one linear layer of 64, of which 90% are zeros. The engine and every
float32 rival that runs it take turns, with one thread; the layer itself, which all have, is the row
`nothing`. Rows in which the engine takes longer than the fastest of them are what to mend next.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._common import alternate, write_result
from benchmarks._rivals import FLOAT32, rivals
from gossamer.compression import compress
from gossamer.core.errors import InputError
from gossamer.measures.functional.machine import machine
from gossamer.studies.process_settings import tune_process

BATCHES = (1, 16)
REPEATS = 41
SPARSITY = 0.9


class Behind(nn.Module):
    """An operator behind a sparse layer."""

    def __init__(self, layer: nn.Module, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.operator = layer, operator

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the operator gives for the outputs of the layer."""
        return self.operator(self.layer(inputs))


class Turned(nn.Module):
    """A module of channels before tokens, on tokens before channels."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, channels, tokens]."""
        found: Tensor = self.module(inputs.transpose(1, 2))
        return found


class Sequence(nn.Module):
    """The outputs of a recurrent network at all steps."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, steps, units]."""
        found: Tensor = self.module(inputs)[0]
        return found


class Attention(nn.Module):
    """Four heads among the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, tokens, 64]."""
        found: Tensor = self.module(inputs, inputs, inputs, need_weights=False)[0]
        return found


Operators = Mapping[str, Callable[[Tensor], Any]]

IMAGES: Operators = {
    "nothing": lambda x: x,
    "batch norm": nn.BatchNorm2d(32), "group norm": nn.GroupNorm(4, 32),
    "instance norm": nn.InstanceNorm2d(32, affine=True), "layer norm": nn.LayerNorm([32, 32, 32]),
    "RMS over channels": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6),
    "mean over pixels": lambda x: x.mean((2, 3)), "maximum over pixels": lambda x: x.amax((2, 3)),
    "mean over channels": lambda x: x.mean(1, keepdim=True),
    "maximum over channels": lambda x: x.amax(1, keepdim=True),
    "variance over pixels": lambda x: x.var((2, 3)), "argmax over channels": lambda x: x.argmax(1),
    "unit length over channels": lambda x: functional.normalize(x, dim=1),
    "softmax over channels": lambda x: x.softmax(1),
    "softmax over pixels": lambda x: x.flatten(2).softmax(-1),
    "logsumexp over channels": lambda x: x.logsumexp(1),
    "gate of each channel": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "square": lambda x: x * x, "cube": lambda x: x**3, "quotient": lambda x: x / (x.abs() + 1),
    "exp": torch.exp, "log": lambda x: torch.log(x.abs() + 1), "sqrt": lambda x: x.abs().sqrt(),
    "sin": torch.sin, "erf": torch.erf, "tanh": torch.tanh, "GELU": functional.gelu,
    "SiLU": functional.silu, "softplus": functional.softplus, "mish": functional.mish,
    "ELU": functional.elu, "PReLU": nn.PReLU(32), "log-sigmoid": functional.logsigmoid,
    "clamp": lambda x: x.clamp(-0.3, 0.4), "where": lambda x: torch.where(x > 0, x, x * 2),
    "round": torch.round,
    "max pooling": nn.MaxPool2d(2), "average pooling": nn.AvgPool2d(2),
    "adaptive pooling": nn.AdaptiveAvgPool2d(3),
    "nearest upsampling": nn.Upsample(scale_factor=2),
    "bilinear upsampling": nn.Upsample(scale_factor=2, mode="bilinear"),
    "pixel shuffle": nn.PixelShuffle(2), "channel shuffle": nn.ChannelShuffle(4),
    "reflection padding": nn.ReflectionPad2d(2), "replication padding": nn.ReplicationPad2d(2),
    "flip": lambda x: x.flip(3), "transpose": lambda x: x.transpose(2, 3),
    "concatenation": lambda x: torch.cat([x, x * 2], 1), "repeat": lambda x: x.repeat(1, 1, 2, 2),
    "unfold": lambda x: functional.unfold(x, 3, padding=1), "running sum": lambda x: x.cumsum(3),
    "depthwise convolution": nn.Conv2d(32, 32, 3, padding=1, groups=32),
    "transposed convolution": nn.ConvTranspose2d(32, 16, 2, 2),
    "median over channels": lambda x: x.median(1)[0], "sort of channels": lambda x: x.sort(1)[0],
    "Gram matrix": lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
}  # fmt: skip

TOKENS: Operators = {
    "nothing": lambda x: x, "layer norm": nn.LayerNorm(64), "RMS norm": nn.RMSNorm(64),
    "softmax of each token": lambda x: x.softmax(-1), "softmax over tokens": lambda x: x.softmax(1),
    "mean over tokens": lambda x: x.mean(1), "maximum over tokens": lambda x: x.amax(1),
    "sum of each token": lambda x: x.sum(-1), "spread of each token": lambda x: x.std(-1),
    "unit length": lambda x: functional.normalize(x, dim=-1),
    "products of tokens": lambda x: x @ x.transpose(1, 2), "attention": Attention(),
    "LSTM": Sequence(nn.LSTM(64, 64, batch_first=True)),
    "GRU": Sequence(nn.GRU(64, 64, batch_first=True)),
    "convolution over tokens": Turned(nn.Conv1d(64, 64, 3, padding=1)),
    "group norm over tokens": Turned(nn.GroupNorm(4, 64)),
    "gated linear unit": functional.glu, "running sum": lambda x: x.cumsum(1),
    "running maximum": lambda x: x.cummax(1)[0],
    "outer products": lambda x: x[:, :16, :, None] * x[:, :16, None, :],
    "differences of tokens": lambda x: ((x[:, :16, None] - x[:, None, :16]) ** 2).sum(-1),
}  # fmt: skip

Layer = nn.Conv2d | nn.Linear
KINDS: dict[str, tuple[Callable[[], Layer], tuple[int, ...], Operators]] = {
    "images [32, 32, 32]": (lambda: nn.Conv2d(32, 32, 1), (32, 32, 32), IMAGES),
    "tokens [128, 64]": (lambda: nn.Linear(64, 64), (128, 64), TOKENS),
}


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    tune_process(1)
    warnings.simplefilter("ignore")
    rows = [
        row
        for kind, (layer, shape, operators) in KINDS.items()
        for name, operator in operators.items()
        if not arguments.only or any(part in name for part in arguments.only)
        for batch in BATCHES
        for row in measured(kind, name, Behind(sparse(layer()), operator), (batch, *shape))
    ]
    if arguments.write:
        about = machine(1).model_dump(mode="json", exclude={"environment"})
        print(write_result("operator-speed", 1, {"machine": about, "operators": rows}))


def sparse(layer: Layer) -> nn.Module:
    """Return a layer of which nine weights of ten are zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        layer.weight.mul_(torch.rand_like(layer.weight) > SPARSITY)
    return layer


def measured(kind: str, name: str, network: Behind, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return a row of all times in milliseconds; none where the engine does not run it whole."""
    inputs = torch.randn(shape)
    try:
        small = compress(network.eval(), inputs, threads=1, choose="engine")
    except InputError as error:
        print(f"{kind}, {name}: {error}", flush=True)
        return []
    calls: dict[str, Callable[[], Any]] = {"engine": lambda: small(inputs)}
    try:
        found = rivals(network, [inputs], 1, compiled=False)
        calls |= {rival: call for rival, call in found if rival in FLOAT32}
    except torch.onnx.OnnxExporterError:
        calls["PyTorch"] = lambda: network(inputs)
    with torch.inference_mode():
        times = {who: 1e3 * one.median for who, one in alternate(calls, REPEATS).items()}
    engine = times.pop("engine")
    fastest = min(times, key=times.__getitem__)
    print(
        f"{kind:20} {name:26} batch {shape[0]:2}: engine {engine:7.3f} ms, {fastest} "
        f"{times[fastest]:7.3f} ms, {times[fastest] / engine:5.2f} times as fast",
        flush=True,
    )
    return [{"inputs": kind, "operator": name, "batch": shape[0], "engine_ms": engine,
             "float32_ms": times}]  # fmt: skip


if __name__ == "__main__":
    main()
