"""Fine-tune with Lightning inside `gossamer.shrink`: a callback keeps what is pruned at zero.

gossamer shrink nets.py:build --weights best.pt --data digits --train trainer.py:train
"""

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import gossamer
from gossamer.data import load


class KeepZeros(lightning.Callback):  # type: ignore[misc]  # of a package without types
    """Enforces a mask on each optimizer that Lightning made."""

    def __init__(self, mask: gossamer.Mask) -> None:
        self.mask = mask

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin; the optimizers are there by now."""
        for optimizer in trainer.optimizers:
            self.mask.enforce(pl_module.get_submodule("network"), optimizer)


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    """Any module of yours that holds the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        del batch_idx
        inputs, labels = batch
        return functional.cross_entropy(self.network(inputs), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what trains it."""
        return torch.optim.AdamW(self.parameters(), 1e-3)


def train(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
    """Train the network in place for so many epochs."""
    digits = load("digits")
    images = torch.tensor(digits.x_train) / digits.scale
    examples = TensorDataset(images, torch.tensor(digits.y_train))
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[KeepZeros(mask)], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Classifier(model), DataLoader(examples, batch_size=64, shuffle=True))
