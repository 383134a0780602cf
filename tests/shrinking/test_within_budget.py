"""A search from its beginning to the files that it leaves."""

import csv
import json
import re
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.core.errors import InputError, TrainingError
from gossamer.shrinking import Shrunk, load_shrunk, shrink
from gossamer.shrinking.descent import MOST
from gossamer.shrinking.judging import Budget, Judged, judged
from gossamer.shrinking.ordering import early_of
from gossamer.shrinking.result import loading_lines
from gossamer.shrinking.searching import taken
from gossamer.shrinking.split import Split


class Net(nn.Module):
    """Small, with what makes shrinking hard: a normalisation, a sum of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 32)
        self.norm = nn.BatchNorm1d(32)
        self.left, self.right = nn.Linear(32, 24), nn.Linear(32, 24)
        self.last = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(self.norm(self.first(x)))
        found: Tensor = self.last(torch.relu(self.left(inside) + self.right(inside)))
        return found


def part(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0.4).long() + (x[:, 1] + x[:, 2] > 0).long()


DATA: dict[str, Any] = {
    "train": part(600, 0), "validation": part(1500, 1), "test": part(500, 2),
    "class_names": ("none", "one", "both"),
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "max_drop": 0.03, "target": "flops", "pattern": "weight", "epochs": 22, "threads": 1,
    "batch": 8, "seconds": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def dense() -> Net:
    torch.manual_seed(0)
    network = Net()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for epoch in range(12):
        for x, y in Split(*DATA["train"]).batches(50, seed=0, epoch=epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def found(dense: Net, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shrunk, Path]:
    folder = tmp_path_factory.mktemp("shrunk")
    with pytest.MonkeyPatch.context() as patch:  # the page has tests of its own
        patch.setattr("gossamer.shrinking.result.write_page", lambda *_: None)
        return shrink(dense, DATA, out=folder, **OPTIONS), folder


@pytest.fixture(autouse=True)
def no_rival(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out ONNX, which takes longest, but where a test is about it."""
    request.getfixturevalue("found")
    monkeypatch.setattr("gossamer.shrinking.weighing.onnx_session", lambda *_: nullcontext())
    monkeypatch.setattr("gossamer.shrinking.result.export_onnx", lambda *_: 0.0)
    monkeypatch.setattr("gossamer.shrinking.result.write_page", lambda *_: None)


def test_a_network_is_made_smaller_within_its_budget(
    dense: Net, found: tuple[Shrunk, Path]
) -> None:
    shrunk, _ = found
    chosen = shrunk.report.chosen
    assert chosen is not None
    assert shrunk.certified
    assert chosen.bound is not None
    assert chosen.bound <= 0.03
    assert shrunk.sparsity > 0.4
    assert shrunk.after.multiply_adds < 0.6 * shrunk.before.multiply_adds
    assert shrunk.after.metric.value > shrunk.before.metric.value - 0.05
    assert dense.first.weight.count_nonzero() == dense.first.weight.numel()
    assert not dense.training


def test_candidates_are_tested_in_order_up_to_the_first_that_fails(
    found: tuple[Shrunk, Path],
) -> None:
    tried = found[0].report.tried
    assert [one.number for one in tried] == list(range(len(tried)))
    sparsities = [one.sparsity for one in tried]
    assert sparsities == sorted(sparsities)
    early = early_of(MOST)
    assert all(one.within for one in tried[early:-1])
    late = 0.95 if all(one.within for one in tried[:early]) else 0.975
    sure = [one.confidence for one in tried]
    assert sure == pytest.approx([0.975] * early + [late] * (len(tried) - early))
    assert sum(one.chosen for one in tried) == 1


def test_the_answer_tells_the_drop_and_its_interval_in_points(found: tuple[Shrunk, Path]) -> None:
    drop = found[0].report.drop
    value, low, high = (f"{100 * one:.2f}" for one in (drop.value, drop.low, drop.high))
    said = found[0].report.findings[0]
    assert said.endswith(f"a drop of {value} points ({low} to {high}).")


@pytest.mark.slow
def test_an_early_candidate_that_fails_does_not_end_the_search(
    dense: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = iter([False, True, False, True, True, True, False, True, True, True, True])

    def told(budget: Budget, after: Tensor, confidence: float) -> Judged:
        return replace(judged(budget, after, confidence), within=next(failing))

    monkeypatch.setattr("gossamer.shrinking.searching.judged", told)
    report = shrink(dense, DATA, **OPTIONS).report
    assert [one.within for one in report.tried] == [False] * 4 + [True, True, False]
    assert report.chosen is not None
    assert report.chosen.number == 5
    assert "candidate 7, the first after the 4 early ones" in report.findings[2]


def test_the_greatest_gain_is_taken_whatever_seconds_were_of_a_busy_moment(
    found: tuple[Shrunk, Path],
) -> None:
    one = found[0].report.tried[0].model_copy(update={"within": True, "speed_up": 2.0, "cost": 1.0})
    faster = one.model_copy(update={"number": 1, "speed_up": 3.0, "cost": 1.5})
    beyond = one.model_copy(update={"number": 2, "speed_up": 4.0, "within": False})
    assert taken([one, faster, beyond]) == faster
    assert taken([beyond, one.model_copy(update={"speed_up": 1.0})]) is None


def test_the_lines_that_load_name_the_users_own_class(dense: Net) -> None:
    lines = loading_lines(dense)
    assert f"from {Net.__module__} import Net" in lines
    put_together = loading_lines(nn.Sequential(nn.Linear(1, 1)))
    assert "load_shrunk(build()" in put_together
    assert "Sequential" not in put_together
    for text in (lines, put_together):
        compile(text, "lines", "exec")


def test_the_files_hold_what_the_masked_network_computes(
    dense: Net, found: tuple[Shrunk, Path], tmp_path: Path
) -> None:
    shrunk, folder = found
    inputs = DATA["test"][0]
    with torch.no_grad():
        wanted = shrunk.masked(inputs)
    scale = float(wanted.abs().max())
    predictor = gossamer.load(folder / "network.gsm")
    loaded = load_shrunk(Net(), folder / "model.safetensors")
    for answers in (torch.from_numpy(predictor(inputs.numpy())), loaded(inputs)):
        torch.testing.assert_close(answers.detach(), wanted, atol=1e-5 * scale, rtol=0)
    mask = gossamer.Mask.load(folder / "mask.safetensors")
    assert mask == shrunk.mask
    assert mask.violations(shrunk.masked) == {}
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [float(row["sparsity"]) for row in rows] == [one.sparsity for one in shrunk.report.tried]
    assert list(predictor.metadata["classes"]) == ["none", "one", "both"]


def test_the_onnx_file_gives_the_same(found: tuple[Shrunk, Path]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    shrunk, folder = found
    session = runtime.InferenceSession(str(folder / "model.onnx"))
    inputs = DATA["test"][0].numpy()
    with torch.no_grad():
        wanted = shrunk.masked(torch.from_numpy(inputs)).numpy()
    (answers,) = session.run(None, {"input": inputs})
    np.testing.assert_allclose(answers, wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_same_call_goes_on_where_it_was_left(
    dense: Net, found: tuple[Shrunk, Path], tmp_path: Path
) -> None:
    whole = found[0].report
    looks = iter(range(10_000))
    seen: list[str] = []

    def stop_at_the_third_candidate() -> bool:
        next(looks)
        return any(said.startswith("candidate 3") for said in seen)

    part_of_it = shrink(dense, DATA, out=tmp_path, follow=seen.append,
                        stop=stop_at_the_third_candidate, **OPTIONS)  # fmt: skip
    assert not part_of_it.report.finished
    assert len(part_of_it.report.tried) == 2
    assert part_of_it.report.chosen is not None  # the best so far
    spent = tmp_path / "state" / "spent.json"
    assert 0 < json.loads(spent.read_text()) < part_of_it.report.seconds
    spent.write_text("1000.0")
    rest = shrink(dense, DATA, out=tmp_path, **OPTIONS).report
    assert 1000 < rest.seconds < 2000  # of both calls
    assert rest.forecast == part_of_it.report.forecast
    for one, other in zip(rest.tried, whole.tried, strict=True):
        assert one.model_copy(update={"seconds": 0.0}) == other.model_copy(update={"seconds": 0.0})


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("block", marks=pytest.mark.slow),
        pytest.param("unit", marks=pytest.mark.slow),
        "unit+weight",
    ],
)
def test_every_pattern_makes_it_smaller(dense: Net, pattern: str) -> None:
    options = {**OPTIONS, "pattern": pattern, "epochs": 6, "max_drop": 0.1}
    shrunk = shrink(dense, DATA, **options)
    assert shrunk.report.chosen is not None
    assert shrunk.after.multiply_adds < 0.8 * shrunk.before.multiply_adds
    if pattern != "block":
        assert shrunk.after.parameters < shrunk.before.parameters
        model: Any = shrunk.model
        assert model.left.out_features == model.right.out_features == model.last.in_features < 24


@pytest.mark.slow
def test_layers_keep_a_multiple_of_units_where_that_is_asked_for(dense: Net) -> None:
    options = {**OPTIONS, "pattern": "unit", "epochs": 3, "max_drop": 0.2}
    model: Any = shrink(dense, DATA, keep_units_multiple_of=8, **options).model
    assert model.first.out_features % 8 == model.left.out_features % 8 == 0
    assert model.first.out_features + model.left.out_features < 56


@pytest.mark.slow
def test_patterns_are_tried_at_the_same_cost_and_one_is_taken(dense: Net) -> None:
    seen: list[str] = []
    options = {**OPTIONS, "pattern": "auto", "epochs": 8, "max_drop": 0.1}
    report = shrink(dense, DATA, follow=seen.append, **options).report
    tried = [said for said in seen if said.startswith("trying")]
    assert len(tried) >= 3
    assert len({said.partition(" at ")[2] for said in tried}) == 1
    assert report.pattern.split(" by ")[0] in (
        "weight",
        "weight evenly",
        "block",
        "unit",
        "unit+weight",
    )
    assert report.epochs <= 8


@pytest.mark.slow
def test_what_runs_fastest_is_timed(dense: Net) -> None:
    options = {**OPTIONS, "target": "latency", "epochs": 3, "max_drop": 0.2}
    report = shrink(dense, DATA, **options).report
    assert all(one.cost > 0 for one in report.tried)
    assert {(one.network, one.batch) for one in report.timed} == {
        (network, batch) for network in ("dense", "shrunk") for batch in (1, 8)
    }
    own, rival = (
        min(o.latency.median for o in report.timed if (o.network, o.batch) == (network, 8))
        for network in ("shrunk", "dense")
    )
    assert report.chosen is None or report.findings[0].startswith(
        f"{rival / own:.1f} times as fast"
    )
    size = shrink(dense, DATA, **{**options, "target": "size"}).report
    assert size.chosen is not None
    assert size.after.bytes < 0.8 * size.before.bytes
    assert size.chosen.cost == pytest.approx(size.after.bytes, rel=0.05)


@pytest.mark.slow
def test_a_short_time_is_kept_to(dense: Net) -> None:
    long = {**OPTIONS, "epochs": 5000, "max_drop": 0.2}
    started = time.monotonic()
    report = shrink(dense, DATA, time_limit=17.0, **long).report
    assert time.monotonic() - started < 60
    assert report.epochs < 5000
    assert report.forecast <= 17


def test_a_training_that_fails_ends_the_search_with_the_best_so_far(
    dense: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gossamer.shrinking import teaching

    def failing(*given: Any) -> tuple[float, ...]:
        if given[4] == 1:
            raise TrainingError("the loss is no longer a number")
        return fine_tune(*given)

    fine_tune = teaching.fine_tune  # type: ignore[attr-defined]
    monkeypatch.setattr(teaching, "fine_tune", failing)
    seen: list[str] = []
    report = shrink(dense, DATA, follow=seen.append, **{**OPTIONS, "epochs": 3}).report
    assert [one.chosen for one in report.tried] == [True]
    assert any("ended at candidate 2: the loss is no longer a number" in s for s in report.findings)
    assert any(re.match(r"candidate 1: \S+ times, drop -?\S+ points, at most", s) for s in seen)


def test_a_training_that_does_more_harm_than_good_is_undone(
    dense: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gossamer.shrinking import teaching

    def harming(network: nn.Module, *given: Any) -> tuple[float, ...]:
        losses = fine_tune(network, *given)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3.0)  # zeros stay zeros
        return losses

    fine_tune = teaching.fine_tune  # type: ignore[attr-defined]
    monkeypatch.setattr(teaching, "fine_tune", harming)
    report = shrink(dense, DATA, **{**OPTIONS, "epochs": 1, "max_drop": 0.3}).report
    assert report.tried[0].within
    assert report.tried[0].drop < 0.1


def test_another_search_is_not_mixed_with_what_a_folder_holds(
    dense: Net, found: tuple[Shrunk, Path]
) -> None:
    with pytest.raises(InputError, match="holds a search of another network"):
        shrink(dense, DATA, out=found[1], **{**OPTIONS, "seed": 1})


def test_too_few_validation_examples_are_told_in_numbers(dense: Net) -> None:
    few = {**DATA, "validation": part(60, 1)}
    with pytest.warns(RuntimeWarning, match="60 validation examples are too few .* 1,083 would do"):
        shrunk = shrink(dense, few, **{**OPTIONS, "max_drop": 0.005, "epochs": 1})
    assert not shrunk.certified


def test_a_network_that_cannot_be_smaller_stays_as_it_is(dense: Net) -> None:
    shuffled = DATA["train"][0], DATA["train"][1].roll(1)
    spoiling = {**DATA, "train": shuffled}
    options = {**OPTIONS, "max_drop": 0.002, "rate": 0.3, "epochs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        shrunk = shrink(dense, {**spoiling, "validation": part(4000, 1)}, **options)
    assert shrunk.report.chosen is None
    assert shrunk.sparsity == 0
    assert "The dense network stays" in str(shrunk)
    torch.testing.assert_close(shrunk.masked(DATA["test"][0]), dense(DATA["test"][0]))


def test_a_training_of_ones_own_is_called_and_checked(dense: Net) -> None:
    calls: list[int] = []

    def train(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        mask.enforce(model, optimizer)
        for x, y in Split(*DATA["train"]).batches(100, seed=len(calls)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        calls.append(epochs)

    shrunk = shrink(dense, DATA, train=train, **OPTIONS)
    assert len(calls) == len(shrunk.report.tried)
    assert shrunk.sparsity > 0

    def reviving(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
        for parameter in model.parameters():
            parameter.data.fill_(0.1)

    with pytest.raises(InputError, match="before the first step"):
        shrink(dense, DATA, train=reviving, **OPTIONS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_drop": 0}, "max_drop is 0"),
        ({"target": "speed"}, "one of latency, size, flops"),
        ({"pattern": "rows"}, "one of auto, weight"),
        ({"epochs": 0}, "epochs is 0"),
        ({"time_limit": -1}, "time_limit is -1"),
        ({"exclude": "nothing"}, "nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(dense: Net, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        shrink(dense, DATA, **{**OPTIONS, **wrong})


@pytest.mark.slow
def test_the_python_of_the_page_on_shrinking_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: Net
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "shrink.md").read_text()
    first, loading, own_task, own_loop = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    quick = partial(shrink, **{**OPTIONS, "epochs": 1})
    monkeypatch.setattr("gossamer.shrink", lambda *a, **k: quick(*a, **k))
    inputs = DATA["test"][0]
    names: dict[str, Any] = {"model": dense, "data": DATA, "images": inputs, "build": Net}
    exec(first, names)
    exec(loading, names)
    torch.testing.assert_close(names["logits"], names["found"].masked(inputs))
    names |= {"torch": torch, "loader": list(Split(*DATA["train"]).batches(100))}
    exec(own_loop, names)
    assert names["found"].report.epochs >= 1
    targets = {p: (x, x[:, :3].cumsum(1)) for p, (x, _) in parts().items()}
    exec(own_task, names | {"data": targets})


def parts() -> dict[str, tuple[Tensor, Tensor]]:
    return {name: DATA[name] for name in ("train", "validation", "test")}
