"""ONNX files for inputs of several lengths, checked at other ones than were recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.onnx import export_onnx, export_report, open_session
from gossamer.core.errors import InputError

TOKENS = torch.export.Dim("tokens", max=40)


class Tagger(nn.Module):
    """Tokens at their places, which look at each other where they are not masked."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 8), nn.Embedding(40, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        found: Tensor = self.attention(x, x, x, key_padding_mask=mask)[0]
        return found


def test_tokens_and_masks_of_every_length(tmp_path: Path) -> None:
    model, path = Tagger().eval(), tmp_path / "n.onnx"
    example = (torch.randint(0, 30, (2, 7)), torch.zeros(2, 7, dtype=torch.bool))
    shapes = {"input_ids": {1: TOKENS}, "mask": {1: TOKENS}}
    report = export_report(model, example, path, dynamic_shapes=shapes)
    assert {(1,), (7,), (40,)} < set(report.lengths)
    session = open_session(path, threads=1)
    assert [one.shape for one in session.get_inputs()] == [["batch", "tokens"]] * 2
    for length in (1, 3, 16, 29, 40):
        tokens, mask = torch.randint(0, 30, (3, length)), torch.rand(3, length) < 0.3
        mask[:, 0] = False
        (found,) = session.run(None, {"input_ids": tokens.numpy(), "mask": mask.numpy()})
        np.testing.assert_allclose(found, model(tokens, mask).detach(), rtol=1e-5, atol=1e-6)


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.layer(x), x.shape[2:], mode="bilinear")


def test_images_of_every_size(tmp_path: Path) -> None:
    height, width = (torch.export.Dim(name, min=4, max=20) for name in ("height", "width"))
    model, path = Doubled().eval(), tmp_path / "n.onnx"
    shapes = {"x": {2: height, 3: width}}
    assert export_onnx(model, torch.randn(2, 2, 8, 8), path, dynamic_shapes=shapes) < 1e-5
    session = open_session(path, threads=1)
    assert session.get_inputs()[0].shape == ["batch", 2, "height", "width"]
    for size in ((4, 19), (13, 6)):
        images = torch.randn(1, 2, *size)
        (found,) = session.run(None, {"input": images.numpy()})
        np.testing.assert_allclose(found, model(images).detach(), rtol=1e-5, atol=1e-5)


class AsksHowLong(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found.cumsum(1) if x.shape[1] > 20 else found


class OfOneLength(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.ones(7, 1)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (AsksHowLong, r"The length cannot vary in an ONNX file: at 21, .*asks how long its inputs"),
        (OfOneLength, r"The length cannot vary: at 40, The network OfOneLength fails on"),
    ],
)
def test_a_file_that_is_wrong_at_some_length_is_refused(
    kind: type[nn.Linear], complaint: str, tmp_path: Path
) -> None:
    shapes = {"x": {1: TOKENS}}
    with pytest.raises(InputError, match=complaint):
        export_onnx(kind(4, 4), torch.randn(2, 7, 4), tmp_path / "n.onnx", dynamic_shapes=shapes)
    assert not any(tmp_path.iterdir())
