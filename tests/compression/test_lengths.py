"""Networks that take inputs of several lengths: as the module gives it, from memory and files."""

import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.commands.predict import predict as main
from gossamer.compression import Compressed
from gossamer.core.errors import InputError
from gossamer.engine import Linear, Network, Reshape, Signature, pack_weights
from gossamer.engine.fitting import fitted
from gossamer.engine.gsm import read_network
from gossamer.engine.lengths import MOST_KEPT, Plans, at_lengths

TOKENS = torch.export.Dim("tokens", min=1, max=24)


class Tagger(nn.Module):
    """Tokens at their places, normalised; what is masked is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 6), nn.Embedding(24, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, input_ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        places = self.places(torch.arange(input_ids.shape[1]))
        found = self.norm(self.words(input_ids) + places)
        return {"hidden": torch.relu(found), "mask": 3.0 * mask.to(torch.float32)}


def given(length: int, examples: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(length)
    return torch.randint(0, 30, (examples, length)), torch.rand(examples, length) > 0.5


@pytest.fixture(scope="module")
def model() -> Tagger:
    torch.manual_seed(0)
    found = Tagger().eval()
    gossamer.prune(found, 0.5)
    return found


@pytest.fixture(scope="module")
def small(model: Tagger) -> Compressed:
    shapes = {"input_ids": {1: TOKENS}, "mask": {1: TOKENS}}
    return gossamer.compress(model, given(7), choose="engine", threads=1, dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def path(small: Compressed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("lengths") / "n.gsm"
    small.save(found)
    return found


def test_every_length_gives_what_the_module_gives(
    model: Tagger, small: Compressed, path: Path
) -> None:
    predictor = gossamer.load(path)
    for length in (*range(1, 25), 5, 1):
        inputs = given(length)
        expected = {name: one.detach() for name, one in model(*inputs).items()}
        arrays = [one.numpy() for one in inputs]
        for found in (small(*inputs), predictor(*arrays), small(*arrays)):
            assert list(found) == ["hidden", "mask"]
            for name, one in found.items():
                np.testing.assert_allclose(one, expected[name], rtol=1e-5, atol=1e-5)
    assert len(predictor.plans._kept) == MOST_KEPT


def test_other_lengths_are_refused(small: Compressed, path: Path) -> None:
    for network in (small, gossamer.load(path)):
        ids, mask = (np.asarray(one) for one in given(24))
        with pytest.raises(InputError, match=r"shape \[3, 25\], expected 1 to 24 along axis 1"):
            network(np.pad(ids, ((0, 0), (0, 1))), mask)
        with pytest.raises(InputError, match=r"mask: shape \[3, 24\], expected \[examples, 9\]"):
            network(ids[:, :9], mask)
        with pytest.raises(InputError, match=r"shape \[3, 0\], expected 1 to 24"):
            network(ids[:, :0], mask[:, :0])


def test_the_command_takes_them(
    model: Tagger, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, mask = given(11)
    np.savez(tmp_path / "x.npz", input_ids=ids.numpy(), mask=mask.numpy())
    out = tmp_path / "o.npz"
    assert main([str(path), str(tmp_path / "x.npz"), "--out", str(out)]) == 0
    with np.load(out) as found:
        expected = model(ids, mask)["hidden"].detach().numpy()
        np.testing.assert_allclose(found["hidden"], expected, rtol=1e-5, atol=1e-5)
    np.savez(tmp_path / "x.npz", input_ids=np.zeros((2, 30), int), mask=np.zeros((2, 30), bool))
    assert main([str(path), str(tmp_path / "x.npz")]) == 2
    assert "expected 1 to 24 along axis 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({}, "'dynamic_shapes' names no input"),
        (({1: TOKENS},), "'dynamic_shapes' is of type tuple, but a dict from the names of inputs"),
        ({"x": {1: TOKENS}}, "'dynamic_shapes' names 'x', but some of input_ids, mask"),
        ({"mask": {1: "t"}}, "holds {1: 't'}, but axes with their torch.export.Dim were expected"),
        ({"mask": {1: 24}}, "holds {1: 24}, but axes"),
        ({"mask": (1, TOKENS)}, "but axes with their torch.export.Dim were expected"),
        ({"mask": {0: TOKENS}}, "names the axes [0] of mask, but axes behind the batch"),
        ({"mask": {2: TOKENS}}, "names the axes [2] of mask"),
        ({"mask": {1: torch.export.Dim("t")}}, "says no largest t up to 65536"),
        ({"mask": {}}, "'dynamic_shapes' names no axis"),
        (
            {"mask": {1: 2 * TOKENS - 7}},
            "which is -5 for the least tokens, 1, but 1 or more was expected",
        ),
    ],
)
def test_what_is_declared_is_checked(model: Tagger, shapes: Any, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        gossamer.compress(model, given(7), choose="engine", dynamic_shapes=shapes)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["steps", "input"])
def test_a_tensor_by_itself_is_known_by_the_name_that_the_forward_gives_it(name: str) -> None:
    class Summed(nn.Linear):
        def forward(self, steps: Tensor) -> Tensor:
            return super().forward(steps).sum(1)

    network = Summed(4, 3).eval()
    shapes = {name: {1: torch.export.Dim("steps", min=2, max=9)}}
    small = gossamer.compress(
        network, torch.randn(3, 5, 4), choose="engine", threads=1, dynamic_shapes=shapes
    )
    longer = torch.randn(2, 8, 4)
    torch.testing.assert_close(small(longer), network(longer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (
            nn.Sequential(nn.Conv1d(4, 3, 1), nn.Flatten(), nn.Linear(15, 2)),
            "The length cannot vary",
        ),
        (nn.Sequential(nn.Conv1d(4, 3, 1), nn.LayerNorm(5)), "The length cannot vary"),
    ],
)
def test_a_module_of_one_length_is_refused(network: nn.Module, complaint: str) -> None:
    shapes = {"input": {2: torch.export.Dim("steps", min=2, max=9)}}
    with pytest.raises(InputError, match=complaint):
        gossamer.compress(
            network.eval(), torch.randn(3, 4, 5), choose="engine", dynamic_shapes=shapes
        )


def networks(*matrices: int) -> dict[tuple[int, ...], tuple[Network, Signature]]:
    found: dict[tuple[int, ...], tuple[Network, Signature]] = {}
    for length, columns in zip((2, 4, 8), matrices, strict=True):
        matrix = pack_weights(np.ones((3, columns)), "csr")
        network = Network((columns,), (Linear(0, matrix), Reshape(1, (3, 1, 1))), 2)
        found[length,] = (network, Signature.of_shapes((columns,), (3, 1, 1)))
    return found


def test_only_lines_are_fitted() -> None:
    assert at_lengths(*fitted(networks(5, 5, 5), (1,)), (3,))[0].inputs == ((5,),)
    with pytest.raises(InputError, match="depends on the length in a way that is no line"):
        fitted(networks(2, 4, 8), (1,))  # the weights of a linear layer grow with it
    with pytest.raises(InputError, match="no line"):
        fitted(networks(2, 4, 9), (1,))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"least": 0}, "lengths: 0 to 24, expected 1 to"),
        ({"most": 10**9}, "expected 1 to"),
        ({"varying": []}, "varying is [], expected a list"),
        ({"path": [0, "layers", 1, "__class__"]}, "is nothing that varies"),
        ({"path": [0, "layers", 0, "weights", "rows"]}, "is nothing that varies"),
        ({"path": [0, "layers", 99, "shape", 0]}, "is nothing that varies"),
        ({"path": [1, "inputs", 0, "name", 0]}, "expected a length of an input"),
        ({"path": [0]}, "expected names and places"),
        ({"slope": 1.5}, "slope and offset are (1.5, 0), expected integers"),
        ({"slope": 2}, "expected"),
        ({"axis": 7}, "is nothing that varies"),
        ({"of": [[99, 0]]}, "is nothing that varies"),
        ({"of": [[0]]}, "of is [[0]], expected pairs of a value and an axis"),
        ({"rule": "cubic"}, "is nothing that varies"),
        ({"rule": "magic"}, "rule is 'magic', expected one of linear"),
        ({"length": 1}, "length is 1, expected one below 1"),
        ({"least": [1, 1]}, "lengths: [1, 1] to 24, expected 1 to"),
        ({"axis": "0"}, "axis is '0', expected null or an axis"),
    ],
)
def test_damaged_files_are_refused(
    path: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[64 : 64 + length])
    holder = header["lengths"]
    (key,) = change
    (holder if key in holder else holder["varying"][-3]).update(change)
    text = json.dumps(header).encode()
    body = data[64 + -(-length // 64) * 64 :]
    rest = text + bytes(-len(text) % 64) + body
    start = struct.pack("<8sIIQ", data[:8], 2, len(text), 64 + len(rest)) + bytes(40)
    digest = sha256(start[:24] + start[56:] + rest).digest()
    (tmp_path / "n.gsm").write_bytes(start[:24] + digest + start[56:] + rest)
    with pytest.raises(InputError) as caught:
        read_network(tmp_path / "n.gsm")
    assert complaint in str(caught.value)


def test_plans_of_one_length_take_no_other() -> None:
    network = Network((2,), (), 0)
    plans = Plans(network, Signature.of_shapes((2,), (2,)))
    assert plans.for_shapes(()).network is network
