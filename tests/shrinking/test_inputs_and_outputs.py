"""Networks of tokens, of several inputs and outputs, from their data to the file that runs."""

import importlib.util
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.core.errors import InputError
from gossamer.shrinking import Shrunk
from gossamer.shrinking.equality import NotComparedError, compared
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification, task_of
from gossamer.shrinking.weighing import session_call

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS: dict[str, Any] = {
    "max_drop": 0.1, "target": "flops", "pattern": "weight", "epochs": 2, "threads": 1, "batch": 4,
    "seconds": 0.02,
}  # fmt: skip


class Tokens(nn.Module):
    """Attention among tokens of a text, some of which are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        inside = self.embedding(tokens)
        query, key, value = (
            one(inside).unflatten(2, (2, 4)).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, kept[:, None, None, :])
        inside = self.norm(inside + self.out(seen.transpose(1, 2).flatten(2)))
        weights = kept.float().unsqueeze(2)
        found: Tensor = self.head((inside * weights).sum(1) / weights.sum(1))
        return found


class Pair(nn.Module):
    """Two named inputs and two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 12), nn.Linear(3, 12)
        self.head, self.other = nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        both = torch.relu(self.left(left) + self.right(right))
        return {"logits": self.head(both), "size": self.other(both)}


def of_tokens(count: int, seed: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 10, (count, 6), generator=random)
    kept = torch.arange(6) < torch.randint(2, 7, (count, 1), generator=random)
    return (tokens * kept, kept), ((tokens < 5) & kept).sum(1).gt(kept.sum(1) / 2).long()


def of_pairs(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    random = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(count, width, generator=random) for width in (5, 3))
    return {"left": left, "right": right}, (left[:, 0] + right[:, 0] > 0).long()


def parts(make: Any) -> dict[str, Any]:
    counts = {"train": 400, "validation": 300, "test": 50}
    return {name: make(count, seed) for seed, (name, count) in enumerate(counts.items())}


def trained(network: nn.Module, data: dict[str, Any]) -> nn.Module:
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for epoch in range(5):
        for inputs, targets in Split(*data["train"]).batches(40, seed=0, epoch=epoch):
            outputs = network(**inputs) if isinstance(inputs, dict) else network(*inputs)
            optimizer.zero_grad()
            loss = functional.cross_entropy(
                outputs["logits"] if isinstance(outputs, dict) else outputs, targets
            )
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def shrunk(network: nn.Module, data: dict[str, Any], **more: Any) -> Shrunk:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        patch.setattr("gossamer.shrinking.weighing.onnx_session", lambda *_: nullcontext())
        patch.setattr("gossamer.shrinking.result.export_onnx", lambda *_: 0.0)
        patch.setattr("gossamer.shrinking.result.write_page", lambda *_: None)
        return gossamer.shrink(network, data, **{**OPTIONS, **more})


@pytest.mark.slow
def test_tokens_and_their_padding_are_positional_inputs() -> None:
    torch.manual_seed(0)
    data = parts(of_tokens)
    found = shrunk(trained(Tokens(), data), data)
    assert found.before.metric.value > 0.85
    assert found.sparsity > 0.2
    assert found.after.metric.value > found.before.metric.value - 0.15
    assert found.report.equality.startswith("the same class on 50 of 50")
    (tokens, kept), _ = data["test"]
    with torch.no_grad():
        wanted = found.masked(tokens, kept)
    torch.testing.assert_close(found.network(tokens, kept), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.model(tokens, kept), wanted, rtol=1e-4, atol=1e-4)
    tokens[:, -1] = 9  # what is padding has no say
    hidden = kept.clone()
    hidden[:, -1] = False
    before = found.network(tokens * hidden, hidden)
    torch.testing.assert_close(found.network(tokens, hidden), before)


def test_named_inputs_and_outputs_go_into_the_file_by_their_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = parts(of_pairs)
    network = trained(Pair(), data)
    found = shrunk(network, data, target="latency", out=tmp_path)
    assert found.report.equality.startswith("the same class on 50 of 50")
    inputs, _ = data["test"]
    with torch.no_grad():
        wanted = found.masked(**inputs)
    predicted = gossamer.load(tmp_path / "network.gsm")(
        left=inputs["left"].numpy(), right=inputs["right"].numpy()
    )
    assert list(predicted) == ["logits", "size"]
    for name, value in wanted.items():
        np.testing.assert_allclose(predicted[name], value, rtol=1e-4, atol=1e-5)
    assert {(one.network, one.batch) for one in found.report.timed} == {
        (name, batch) for name in ("dense", "shrunk") for batch in (1, 4)
    }


@pytest.mark.parametrize("kind", [pytest.param("rows", marks=pytest.mark.slow), "words"])
def test_the_example_of_tokens_loses_units_beside_its_attention(kind: str) -> None:
    spec = importlib.util.spec_from_file_location("shrink_tokens", EXAMPLES / "shrink_tokens.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.manual_seed(0)
    network, data = example.rows("digits", 1) if kind == "rows" else example.words(900, 1)
    example.train(network, data, 1)
    found = shrunk(network, data, pattern="unit", max_drop=0.9, epochs=1)
    assert found.report.equality.startswith("the same class on")
    assert found.after.parameters < found.before.parameters
    assert found.network.network is not None  # it runs whole in the engine


def test_onnx_runtime_is_given_the_inputs_that_its_file_takes() -> None:
    class Session:
        def get_inputs(self) -> list[Any]:
            return [type("Input", (), {"name": "right"})]

        def run(self, outputs: None, given: dict[str, Any]) -> list[str]:
            return list(given)

    inputs, _ = of_pairs(4, 0)
    assert session_call(Session(), Pair(), inputs)() == ["right"]


def regressed() -> tuple[nn.Module, Split, Any]:
    torch.manual_seed(0)
    task = task_of(functional.mse_loss, lambda o, t: (o - t).abs().mean(1), higher_is_better=False)
    return nn.Linear(4, 3).eval(), Split(torch.randn(30, 4), torch.zeros(30, 3)), task


def test_answers_without_classes_are_held_to_rounding() -> None:
    model, split, task = regressed()
    small = gossamer.compress(model, split.example(4), choose="engine")
    found = compared(model, {"it": small}, split, task)
    assert str(found).startswith("the same up to rounding on 30 of 30 examples")

    def shifted(x: Tensor) -> Tensor:
        answers: Tensor = small(x) + torch.tensor([0.0, 0.0, 3e-6])
        return answers

    near = compared(model, {"it": shifted}, split, task)
    assert near.same < 30
    assert near.largest > 1
    with pytest.raises(InputError, match="it gives other answers than the masked network on 30"):
        compared(model, {"it": lambda x: small(x) + 0.01}, split, task)


@pytest.mark.parametrize("error", [0.0, 1e-2])
def test_outputs_of_one_number_an_example_without_an_axis_of_their_own_are_compared(
    error: float,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)).eval().requires_grad_(False)
    split = Split(torch.randn(12, 6), torch.randn(12))
    task = task_of(functional.mse_loss, lambda outputs, targets: (outputs - targets).abs(),
                   higher_is_better=False)  # fmt: skip
    forms = {"it": lambda inputs: model(inputs) + error * (torch.arange(12) == 3)}
    if error:
        with pytest.raises(InputError, match="other answers than the masked network on 1 "):
            compared(model, forms, split, task)
    else:
        assert compared(model, forms, split, task).same == 12


def test_numbers_without_an_axis_stand_beside_classes() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits, self.age = nn.Linear(6, 3), nn.Linear(6, 1)

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            return {"logits": self.logits(inputs), "age": self.age(inputs).squeeze(-1)}

    model = Both().eval().requires_grad_(False)
    split = Split(torch.randn(12, 6), torch.arange(12) % 3)
    assert compared(model, {"it": model}, split, classification()).same == 12


def test_every_form_of_the_network_is_held_to_the_masked_one() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).eval()
    split = Split(torch.randn(30, 4), torch.zeros(30, dtype=torch.long))
    right = gossamer.compress(model, split.example(4), choose="engine")
    with pytest.raises(InputError, match="the file gives another class"):
        compared(
            model, {"the network": right, "the file": lambda x: -right(x)}, split, classification()
        )


def test_a_network_that_has_no_float64_copy_is_not_compared() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer(x.float())
            return found

    split = Split(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))
    with pytest.raises(NotComparedError, match="it does not run in float64"):
        compared(Single().eval(), {}, split, classification())
