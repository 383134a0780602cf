import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.compression import onnx as gossamer_onnx
from gossamer.compression.exporting import attempts
from gossamer.compression.exporting.recording import record_any_batch
from gossamer.compression.onnx import export_onnx, export_report, open_session
from gossamer.compression.outputs import comparable, leaves, output_names
from gossamer.core.errors import InputError, MissingPackageError
from gossamer.graph.arguments import Arguments
from gossamer.networks import cifar_cnn, mlp
from wrapped_outputs import WRAPPERS, Scores


def ready(network: nn.Module) -> nn.Module:
    """Give every batch normalisation statistics and scales that are far from their beginning."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return network


def given(path: Path, inputs: Tensor) -> list[Tensor]:
    found = open_session(path, threads=1).run(None, {"input": inputs.numpy()})
    return [torch.from_numpy(np.asarray(one)) for one in found]


def declared(path: Path) -> list[object]:
    """Return the shape of the input that a file declares."""
    (one,) = open_session(path, threads=1).get_inputs()
    return list(one.shape)


@pytest.mark.parametrize(
    ("network", "shape"), [(mlp(12, 3, (8,)), (12,)), (cifar_cnn((3, 8, 8), 4), (3, 8, 8))]
)
def test_the_file_computes_what_the_network_computes_for_any_batch(
    network: nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    network = ready(network).train()
    report = export_report(network, torch.randn(1, *shape), path)
    assert network.training
    assert report.difference < 1e-5
    assert (report.batch, report.checked, report.outputs) == (None, (1, 2, 3), ("output",))
    for batch in (1, 2, 7):
        inputs = torch.randn(batch, *shape)
        (found,) = given(path, inputs)
        with torch.no_grad():
            expected = network.eval()(inputs).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    session = open_session(path, threads=1)
    assert [one.name for one in session.get_outputs()] == ["output"]
    kept = session.get_modelmeta().custom_metadata_map
    assert kept == {"network": type(network).__name__, "batch": "any"}


def test_a_session_for_one_batch_gives_the_same(tmp_path: Path) -> None:
    network = mlp(6, 2, (4,)).eval()
    path = tmp_path / "network.onnx"
    export_onnx(network, torch.randn(3, 6), path)
    inputs = torch.randn(5, 6)
    (found,) = open_session(path.read_bytes(), 1, batch=5).run(None, {"input": inputs.numpy()})
    np.testing.assert_allclose(found, network(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_to_do(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install .*\[onnx\]"):
        export_onnx(mlp(4, 2, (3,)), torch.zeros(1, 4), tmp_path / "network.onnx")


def test_importing_the_module_imports_no_onnx() -> None:
    code = (
        "import sys, gossamer.compression.onnx;"
        "sys.exit(any(name in sys.modules for name in ('onnx', 'onnxscript', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Undecided(nn.Module):
    """Chooses by its input, which no graph can hold."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2 if inputs.sum() > 0 else inputs


def test_what_cannot_be_exported_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Undecided cannot be exported") as caught:
        export_onnx(Undecided(), torch.ones(2, 3), tmp_path / "network.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/network.onnx: cannot be written"):
        export_onnx(mlp(4, 2, (3,)), torch.zeros(1, 4), tmp_path / "gone" / "network.onnx")


def test_other_answers_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def run(self, _names: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.zeros((len(feed["input"]), 2), np.float32)]

    monkeypatch.setattr(gossamer_onnx, "open_session", lambda *_, **__: Wrong())
    before = tmp_path / "network.onnx"
    before.write_bytes(b"older")
    with pytest.raises(InputError, match=r"answers differ from those of Sequential \(for a batch"):
        gossamer_onnx.export_onnx(mlp(4, 2, (3,)), torch.ones(2, 4), before)
    assert before.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [before]


class Forward(nn.Module):
    """A linear layer, and what a function makes of its output and its input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.function = nn.Linear(6, 4), function

    def forward(self, inputs: Tensor) -> Any:
        return self.function(self.layer(inputs), inputs)


class Remembering(nn.Module):
    """A recurrent network whose state has the size of the batch as a plain number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 4, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        state = torch.zeros(1, len(inputs), 4)
        out: Tensor = self.layer(inputs[:, None].repeat(1, 3, 1), (state, state))[0][:, -1]
        return out


OF_ANY_SIZE: dict[str, tuple[nn.Module, int]] = {
    "divided by the length": (Forward(lambda y, x: y / float(len(x))), 1),
    "state of the length": (Remembering(), 4),
    "over the batch": (Forward(lambda y, _: {"a": y.sum(), "b": y.mean(0), "c": y.softmax(0)}), 1),
    "squeezed": (Forward(lambda y, x: y.repeat(int(x.shape[0]) // len(x), 1).squeeze()), 3),
}
"""What uses the size of the batch, and the size of the example."""


@pytest.mark.parametrize("kind", OF_ANY_SIZE)
def test_the_size_of_the_batch_stays_open(kind: str, tmp_path: Path) -> None:
    network, size = OF_ANY_SIZE[kind]
    path = tmp_path / "network.onnx"
    report = export_report(network.eval(), torch.randn(size, 6), path)
    assert report.batch is None
    assert declared(path) == ["batch", 6]
    for batch in (1, 2, 5, 9):
        inputs = torch.randn(batch, 6)
        with torch.no_grad():
            output = network(inputs)
        expected = list(output.values()) if isinstance(output, dict) else [output]
        for one, other in zip(given(path, inputs), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_an_only_argument_may_be_a_dictionary(tmp_path: Path) -> None:
    class OfBatch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.layer(batch["x"]) * batch["scale"]  # type: ignore[no-any-return]

    example = {"batch": {"x": torch.randn(2, 6), "scale": torch.rand(2, 1)}}
    report = export_report(OfBatch().eval(), example, tmp_path / "network.onnx")
    assert report.batch is None
    assert report.difference < 1e-6


def test_attention_of_one_head_needs_no_axis_for_it(tmp_path: Path) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 12)

        def forward(self, x: Tensor) -> Tensor:
            keys, values = self.layer(x).chunk(2, -1)
            return nn.functional.scaled_dot_product_attention(x, keys, values)

    report = export_report(Attending().eval(), torch.randn(3, 4, 6), tmp_path / "network.onnx")
    assert report.batch is None
    assert report.difference < 1e-6


OF_ONE_SIZE: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "few": lambda y, x: y if x.shape[0] > 2 else -y,
    "far too many to be tried": lambda y, x: y if x.shape[0] <= 5000 else -y,
    "one in seven": lambda y, x: -y if len(x) % 7 == 6 else y,
    "hard-coded": lambda y, _: y.view(4, 4) * torch.arange(4.0)[:, None],
}
"""What computes something else for other sizes than 4."""


@pytest.mark.parametrize("kind", OF_ONE_SIZE)
def test_a_network_that_asks_for_the_size_gets_a_file_of_the_examples_size(
    kind: str, tmp_path: Path
) -> None:
    network, path = Forward(OF_ONE_SIZE[kind]).eval(), tmp_path / "network.onnx"
    with pytest.warns(RuntimeWarning, match=r"takes batches of 4 only, as Forward cannot be"):
        report = export_report(network, torch.randn(4, 6), path)
    assert report.batch == 4
    assert report.why_one_batch
    assert declared(path) == [4, 6]
    metadata = open_session(path, threads=1).get_modelmeta().custom_metadata_map
    assert metadata["batch"] == "4"
    inputs = torch.randn(4, 6)
    torch.testing.assert_close(given(path, inputs)[0], network(inputs), rtol=1e-5, atol=1e-6)


def test_sizes_that_the_network_itself_refuses_are_said(tmp_path: Path) -> None:
    network = Forward(lambda y, x: y.view(x.shape[0] // 3, 12)).eval()
    path = tmp_path / "network.onnx"
    with pytest.warns(RuntimeWarning, match=r"fails on batches of 1, 2 and 4 .* of 3 and 6 only"):
        report = export_report(network, torch.randn(3, 6), path)
    assert (report.batch, report.checked) == (None, (3, 6))
    assert sorted(report.refused) == [1, 2, 4]
    inputs = torch.randn(9, 6)
    torch.testing.assert_close(given(path, inputs)[0], network(inputs), rtol=1e-5, atol=1e-6)


def test_every_tensor_of_an_output_is_an_output_of_the_file(tmp_path: Path) -> None:
    def wrap(y: Tensor, _: Tensor) -> dict[str, Any]:
        return {kind.replace(" ", "-"): wrapper(y) for kind, wrapper in WRAPPERS.items()}

    network, path, inputs = Forward(wrap).eval(), tmp_path / "network.onnx", torch.randn(3, 6)
    with pytest.warns(RuntimeWarning, match="does not give .*'named-tuple_scale'"):
        report = export_report(network, inputs, path)
    assert report.left_out[:2] == ("frozen-dataclass_classes", "named-tuple_scale")
    assert report.outputs[:3] == (
        "dataclass_logits",
        "dataclass_hidden",
        "dataclass-with-None_logits",
    )
    names = [one.name for one in open_session(path, threads=1).get_outputs()]
    assert names == list(report.outputs)
    with torch.no_grad():
        _, *expected = comparable(network(inputs))
    for found, one in zip(given(path, inputs), expected, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-5, atol=1e-6)


def test_names_of_outputs_say_where_they_come_from() -> None:
    y = torch.ones(1)
    output = {"input": y, "x_0": y, "x": [y, None, (y,)], 3: y, "scores": Scores(y)}
    tensors = [leaf for leaf in leaves(output) if leaf.value is not None]
    assert output_names(tensors) == (
        "output_input", "x_0", "x_0_again", "x_2_0", "output_3", "scores_logits",
    )  # fmt: skip


def test_what_the_network_is_given_or_holds_may_be_an_output(tmp_path: Path) -> None:
    network, path = Forward(lambda y, x: (x, y, y, torch.arange(3))).eval(), tmp_path / "n.onnx"
    inputs = torch.randn(2, 6)
    assert export_report(network, inputs, path).outputs == tuple(f"output_{i}" for i in range(4))
    for found, one in zip(given(path, inputs), network(inputs), strict=True):
        torch.testing.assert_close(found, one, rtol=1e-5, atol=1e-6)


def deep(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(32, 32), nn.Tanh())]
    network = nn.Sequential(*layers, nn.Linear(32, 8)).eval()
    network.to(dtype)
    return network


PRECISIONS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_network_of_any_precision_is_exported(dtype: torch.dtype, tmp_path: Path) -> None:
    network, path = deep(dtype), tmp_path / "network.onnx"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        report = export_report(network, torch.randn(5, 32).to(dtype), path)
    assert report.difference < 4 * torch.finfo(dtype).eps
    assert path.is_file()
    said = [str(one.message) for one in caught if one.category is RuntimeWarning]
    assert bool(report.unsupported) == (dtype == torch.bfloat16) == any("CPU" in s for s in said)


@pytest.mark.parametrize("dtype", PRECISIONS[:3])
def test_a_wrong_file_is_caught_in_any_precision(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = copy.deepcopy(deep(dtype))
    error = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float32: 1e-4}[dtype]
    with torch.no_grad():
        wrong.get_parameter("12.bias")[3] += error

    inputs = torch.randn(5, 32).to(dtype)
    program = record_any_batch(wrong, Arguments.of(wrong, inputs), ["output"])
    for record in ("record_any_batch", "record_one_batch"):
        monkeypatch.setattr(attempts, record, lambda *_: program)
    with pytest.raises(InputError, match="'output' differs by"):
        export_onnx(deep(dtype), inputs, tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def seeded(y: Tensor, _: Tensor) -> Tensor:
    torch.manual_seed(0)
    return y + 0.03 * torch.randn_like(y)


def test_a_file_that_would_draw_random_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"draws random numbers \(randn_like\).*sets the seed"):
        export_onnx(Forward(seeded), torch.randn(3, 6), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


class Table(nn.Module):
    """Takes a category in its first column, and numbers of other sizes in the others."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.layer = nn.Embedding(4, 8), nn.Linear(10, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(
            torch.cat([self.kinds(inputs[:, 0].long()), inputs[:, 1:].float()], 1)
        )
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("size", [1, 4])
def test_numbers_stay_in_their_column(dtype: torch.dtype, size: int, tmp_path: Path) -> None:
    columns = [torch.tensor([3, 0, 1, 2]), torch.tensor([90, 80, -70, 60]), torch.arange(4) + 50]
    example = torch.stack(columns, 1)[:size].to(dtype)
    report = export_report(Table().eval(), example, tmp_path / "network.onnx")
    assert (report.batch, report.refused) == (None, {})
    assert report.checked == ((1, 2, 3) if size == 1 else (1, 2, 3, 4, 5))


class Paired(nn.Module):
    """Refuses inputs whose columns do not fit together."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and bool((inputs[:, 1] != inputs[:, 0] * 2).any()):
            raise ValueError("columns that do not fit")
        return inputs * 3


def test_a_size_is_refused_only_if_whole_examples_are(tmp_path: Path) -> None:
    example = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    report = export_report(Paired(), example, tmp_path / "network.onnx")
    assert (report.batch, report.checked, report.refused) == (None, (1, 2, 3, 4), {})


@pytest.mark.parametrize(
    ("function", "condition"),
    [
        (lambda y, x: y[:64] if x.shape[0] > 64 else y, "batch <= 64"),
        (lambda y, x: y if x.shape[0] % 2 else -y, "(batch % 2) == 0"),
        (lambda y, x: y if x.shape[0] <= 5000 else -y, "batch <= 5000"),
    ],
)
def test_the_condition_on_the_size_is_named(
    function: Callable[[Tensor, Tensor], Any], condition: str, tmp_path: Path
) -> None:
    with pytest.warns(RuntimeWarning, match="batches of 4 only"):
        report = export_report(Forward(function), torch.randn(4, 6), tmp_path / "network.onnx")
    assert f"its forward asks whether {condition}, and" in report.why_one_batch


def test_what_onnx_lacks_is_named_with_what_to_do(tmp_path: Path) -> None:
    network = Forward(lambda y, _: y.squeeze(0))
    with pytest.raises(InputError, match=r"cannot use .*must be 1 instead of 2.*leave out squeeze"):
        export_onnx(network, torch.randn(2, 6), tmp_path / "network.onnx")
    with pytest.warns(RuntimeWarning, match=r"fails on a batch of 2: Squeeze: Dimension of input"):
        export_onnx(network, torch.randn(1, 6), tmp_path / "network.onnx")


class Changing(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(inputs)


@pytest.mark.parametrize(
    ("network", "example", "message"),
    [
        (Changing(), torch.ones(2, 30), "different answers for the same inputs"),
        (nn.Linear(2, 2), torch.ones(0, 2), r"shape \(0, 2\), but a batch of at least one"),
        (nn.Linear(2, 2), torch.tensor(1.0), r"shape \(\), but a batch of at least one"),
        (nn.Linear(2, 2), torch.ones(2, 2).to_sparse(), "layout torch.sparse_coo"),
        (nn.Linear(2, 2), torch.ones(2, 2, device="meta"), "on meta"),
        (nn.Linear(2, 2, device="meta"), torch.ones(2, 2), "'weight' of Linear has no values yet"),
        (nn.LazyLinear(2), torch.ones(2, 2), "'weight' of LazyLinear has no values yet"),
        (nn.Linear(2, 2).half(), torch.ones(2, 2), "fails on torch.float32 input"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    network: nn.Module, example: Tensor, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(network, example, tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_network_stays_as_it_is(tmp_path: Path) -> None:
    class Keeping(nn.Module):
        kept: Tensor | None = None

        def forward(self, inputs: Tensor) -> Tensor:
            self.kept = inputs * 2
            return self.kept

    network, example = Keeping(), torch.ones(2, 3, requires_grad=True)
    export_onnx(network, example, tmp_path / "network.onnx")
    assert network.kept is None
    assert example.tolist() == [[1.0] * 3] * 2
