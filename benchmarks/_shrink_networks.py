"""Networks to shrink, each with the data that it is trained, judged and tested on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data.catalog import load
from gossamer.networks import NetworkSpec, build
from gossamer.shrinking.split import Split

Parts = Mapping[str, Any]
"""Of each part a pair of tensors, or a dataset of such pairs."""
_EXAMPLES = Path(__file__).parents[1] / "examples"
_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """A network, how it is trained while dense, and how it is shrunk."""

    make: Callable[[], nn.Module]
    """After the seed is set."""
    dataset: str
    ready: Callable[[Tensor], Tensor]
    """From images [examples, channels, height, width] from 0 to 1 to what the network takes."""
    examples: int
    """To train on."""
    validation: int
    training: int
    """Epochs of the dense network; all candidates of a search share half as many again."""
    max_drop: float
    varied: bool = False
    """Whether training images are mirrored and shifted at random, as the example does it."""

    @property
    def epochs(self) -> int:
        """Of fine-tuning, of all candidates together."""
        return self.training + self.training // 2


def _normal(images: Tensor, mean: float = 0.3, deviation: float = 0.35) -> Tensor:
    return (images - mean) / deviation


def _rows(images: Tensor) -> Tensor:
    return images[:, 0]


def _published(name: str, shape: tuple[int, ...]) -> nn.Module:
    return build(NetworkSpec(name=name), shape, 10, torch.initial_seed())


def _transformer() -> nn.Module:
    made = run_path(str(_EXAMPLES / "shrink_tokens.py"))
    found: nn.Module = made["Tokens"](nn.Linear(28, made["WIDTH"]), 28, 10, 2)
    return found


def _own() -> dict[str, Any]:
    """Return what the example of networks of one's own defines."""
    return run_path(str(_EXAMPLES / "shrink_from_weights.py"))


def _resnet() -> nn.Module:
    found: nn.Module = _own()["resnet20"]()
    return found


CASES: Mapping[str, Case] = {
    "fashion-cnn": Case(
        partial(_published, "fashion-cnn", (1, 28, 28)), "fashion-mnist", _normal,
        examples=20_000, validation=20_000, training=8, max_drop=0.005,
    ),
    "mlp": Case(
        partial(_published, "mlp", (1, 28, 28)), "mnist", _normal,
        examples=20_000, validation=20_000, training=8, max_drop=0.005,
    ),
    "digits-cnn": Case(
        partial(_published, "mnist-cnn", (1, 8, 8)), "digits", _normal,
        examples=700, validation=700, training=60, max_drop=0.02,
    ),
    "rows-transformer": Case(
        _transformer, "fashion-mnist", _rows,
        examples=20_000, validation=20_000, training=8, max_drop=0.01,
    ),
    "resnet20": Case(
        _resnet, "cifar10", partial(_normal, mean=0.473, deviation=0.251),
        examples=40_000, validation=10_000, training=20, max_drop=0.01, varied=True,
    ),
}  # fmt: skip


def data_of(case: Case, seed: int) -> dict[str, Any]:
    """Return training, validation and test examples, the first two drawn anew by each seed."""
    found = load(case.dataset)
    x, y = torch.tensor(found.x_train) / found.scale, torch.tensor(found.y_train)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, validation = order[: case.examples], order[-case.validation :]
    assert case.examples + case.validation <= len(x)
    test = torch.tensor(found.x_test) / found.scale
    learnt = (case.ready(x[train]), y[train])
    return {
        "train": _own()["Varied"](*learnt) if case.varied else learnt,
        "validation": (case.ready(x[validation]), y[validation]),
        "test": (case.ready(test), torch.tensor(found.y_test)),
    }


def trained(case: Case, data: Parts, seed: int, kept: Path) -> nn.Module:
    """Return a dense network, from the file where an earlier call kept it."""
    torch.manual_seed(seed)
    network = case.make()
    if kept.is_file():
        network.load_state_dict(load_file(kept))
        return network.eval()
    if case.varied:
        _own()["train"](network, data, case.training)
    else:
        _train(network, case, seed, *data["train"])
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, kept)
    return network.eval()


def _train(network: nn.Module, case: Case, seed: int, inputs: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    for epoch in range(case.training):
        print(f"  dense, epoch {epoch + 1} of {case.training}", flush=True)
        optimizer.param_groups[0]["lr"] = _RATE * (1 - epoch / case.training)
        for some, wanted in Split(inputs, targets).batches(100, seed=seed, epoch=epoch):
            optimizer.zero_grad()
            functional.cross_entropy(network(some), wanted).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def told(case: Case) -> dict[str, Any]:
    """Return what a result says of a case."""
    return {
        "dataset": case.dataset,
        "examples": case.examples,
        "validation": case.validation,
        "training": case.training,
        "epochs": case.epochs,
        "max_drop": case.max_drop,
    }
