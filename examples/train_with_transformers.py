"""Fine-tune with the Trainer of transformers: a callback keeps what is pruned at zero.

gossamer shrink nets.py:build --weights best.pt --data digits --train trainer.py:train
"""

from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

import gossamer
from gossamer.data import load


class KeepZeros(TrainerCallback):  # type: ignore[misc]  # of a package without types
    """Enforces a mask on the optimizer of a Trainer."""

    def __init__(self, model: nn.Module, mask: gossamer.Mask) -> None:
        self.model, self.mask = model, mask

    def on_train_begin(self, *_: Any, optimizer: Any = None, **__: Any) -> None:
        """Begin; the Trainer has made its optimizer."""
        self.mask.enforce(self.model, optimizer)


class Classifier(nn.Module):
    """Gives the loss beside the logits, as a Trainer wants it; models of transformers do so."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return loss and logits of a batch."""
        logits = self.network(inputs)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class Digits(Dataset[dict[str, Tensor]]):
    """Examples as a Trainer takes them: by the names of the arguments."""

    def __init__(self) -> None:
        digits = load("digits")
        self.images = torch.tensor(digits.x_train) / digits.scale
        self.labels = torch.tensor(digits.y_train)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.images[index], "labels": self.labels[index]}


def train(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
    """Train the network in place for so many epochs."""
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=64, learning_rate=1e-3,
            weight_decay=0.01, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
            logging_strategy="no",
        )  # fmt: skip
        Trainer(
            Classifier(model), arguments, train_dataset=Digits(), callbacks=[KeepZeros(model, mask)]
        ).train()
