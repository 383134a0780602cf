"""The page of a search: what was promised, found, tried and spent, without a network."""

import html
import re
from pathlib import Path

import pytest

from gossamer.records.leakage import Estimate
from gossamer.records.record import Environment
from gossamer.records.shrinking import (
    Bounded,
    LayerShare,
    Leaked,
    Shrinking,
    Timed,
    Tolerance,
    Tried,
    Weighed,
)
from gossamer.records.speed import Latency, Machine
from gossamer.reporting.rendering import pictures
from gossamer.reporting.shrinking import promise, promise_kept, write_shrinking
from gossamer.reporting.shrinking_figures import shrinking_figures
from gossamer.shrinking.result import trial_lines

LEVELS = (0.5, 0.9)
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def tried(number: int, drop: float, bound: float, *, chosen: bool = False) -> Tried:
    return Tried(
        number=number, pattern="unit", sparsity=0.5 + number / 10, cost=1e-3 / (number + 1),
        speed_up=number + 1.5, metric=0.9 - drop, drop=drop, bound=bound, changed=0.02,
        within=bound <= 0.005, chosen=chosen, epochs=2.0, seconds=1.0, losses=(0.5, 0.4),
    )  # fmt: skip


def timed(network: str, runner: str, batch: int, median: float) -> Timed:
    latency = Latency(median=median, low=median, high=median, fastest=median, repeats=9)
    return Timed.model_validate(
        {"network": network, "runner": runner, "batch": batch, "threads": 1, "latency": latency}
    )


def weighed(value: float, size: int) -> Weighed:
    metric = Bounded(value=value, low=value - 0.01, high=value + 0.01, examples=1000)
    return Weighed(metric=metric, bytes=size, parameters=size // 4, nonzero=size // 8,
                   multiply_adds=10 * size)  # fmt: skip


@pytest.fixture
def report() -> Shrinking:
    environment = Environment(
        gossamer="0.1", revision="", python="3.11", torch="2", device="cpu", processor="a chip",
        machine="x", threads=1, libraries={},
    )  # fmt: skip
    return Shrinking(
        model="Net<b>", task="accuracy", higher_is_better=True, target="latency", pattern="unit",
        batch=64, threads=1, max_drop=0.005, confidence=0.95, certified=True, part="test",
        validation_is_held_out=True, before=weighed(0.9, 80_000), after=weighed(0.898, 8_000),
        drop=Bounded(value=0.002, low=-0.001, high=0.0045, examples=1000),
        timed=(timed("dense", "PyTorch", 1, 0.004), timed("shrunk", "gossamer", 1, 0.001),
               timed("dense", "ONNX Runtime", 64, 0.02), timed("shrunk", "gossamer", 64, 0.008)),
        layers=(LayerShare(name="a.weight", weights=1000, kept=43),),
        sensitivity=(Tolerance(name="a.weight", sparsities=LEVELS, damage=(0.01, 1.5)),),
        measure="Divergence of the outputs.",
        tried=(tried(0, 0.001, 0.003), tried(1, 0.002, 0.0047, chosen=True), tried(2, 0.02, 0.03)),
        epochs=6.0, seconds=90.0, forecast=60.0, findings=("The answer <i>.", "And more."),
        warnings=("A warning.",), equality="The file gives the same classes.",
        loading="import gossamer", finished=True,
        machine=Machine(environment=environment, cores=2, caches={}, instruction_set="avx2",
                        versions={}),
    )  # fmt: skip


def words(page: Path) -> str:
    text = re.sub(r"<(style|script)\b.*?</\1>", " ", page.read_text(), flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_the_page_holds_all_numbers_and_needs_no_network(report: Shrinking, tmp_path: Path) -> None:
    page = write_shrinking(report, tmp_path)
    text = words(page)
    for part in (
        "The answer &lt;i&gt;.", "And more.", "A warning.", "90.00% [89.00, 91.00]",
        "89.80% [88.80, 90.80]", "−0.20 points", "80.0 kB 8.00 kB 10×", "PyTorch, dense 4.00 4.0×",
        "ONNX Runtime, dense – – 20.0 2.5×", "2 60% 2.5× 0.20 0.47 2.0% 2 chosen",
        "3 70% 3.5× 2.00 3.00 2.0% 2 not within", "a.weight 1,000 43 95.7%", "1 min 30 s",
        "1 min 0 s were foretold", "The file gives the same classes.", "import gossamer",
    ):  # fmt: skip
        assert part in text, part
    source = page.read_text()
    assert "<i>." not in source
    assert not re.search(r'(?:src|href)=["\']?(?:https?:)?//', source)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"trade-off.png", "kept.svg", "tolerance.png", "curves.svg"} <= names


def test_the_promise_is_told_by_its_bound_and_by_the_test(report: Shrinking) -> None:
    assert "at most 0.47 points: the budget is kept by that bound" in promise(report)
    assert promise_kept(report).endswith("to 0.45 points): within the budget.")
    estimated = report.model_copy(update={"certified": False})
    assert "by the estimate alone, which the choice flatters" in promise(estimated)
    for low, high, told in (
        (0.001, 0.02, "lies inside that interval"),
        (0.006, 0.02, "beyond the"),
    ):
        drop = Bounded(value=0.01, low=low, high=high, examples=10)
        assert told in promise_kept(report.model_copy(update={"drop": drop}))
    assert "There was no test data" in promise_kept(
        report.model_copy(update={"part": "validation"})
    )


def test_a_search_that_found_nothing_has_a_page(report: Shrinking, tmp_path: Path) -> None:
    empty = report.model_copy(
        update={"tried": (), "layers": (), "sensitivity": (), "timed": (), "finished": False}
    )
    text = words(write_shrinking(empty, tmp_path))
    assert "Not finished" in text
    assert "None that was tried is shown to keep that" in text
    assert "Figure" not in text


def test_a_metric_of_ones_own_is_no_percentage(report: Shrinking, tmp_path: Path) -> None:
    own = report.model_copy(update={"task": "squared error"})
    text = words(write_shrinking(own, tmp_path))
    assert "0.005 of squared error" in text
    assert "points" not in text
    assert "Squared error on test data 0.9 [0.89, 0.91]" in text


def test_what_members_give_away_is_a_table(report: Shrinking, tmp_path: Path) -> None:
    one = Leaked(attack="Loss", before=Estimate(value=0.61, low=0.58, high=0.64),
                 after=Estimate(value=0.55), members=500, others=500, is_headline=True)  # fmt: skip
    text = words(write_shrinking(report.model_copy(update={"leakage": (one,)}), tmp_path))
    assert "Loss * 0.610 [0.580, 0.640] 0.550" in text
    assert "On 500 examples that the network was trained on and 500 test examples" in text


def test_the_chosen_one_is_marked_and_lies_below_the_budget(report: Shrinking) -> None:
    figure = {one.name: one for one in shrinking_figures(report)}["trade-off"]
    rows = [row for row in figure.panels[0].all_rows if "name" in row]
    by_name = {row["name"]: row for row in rows}
    assert by_name["candidate 2"]["series"] == "chosen"
    assert by_name["candidate 2"]["bound"] == pytest.approx(0.47)
    assert by_name["candidate 3"]["series"] == "not within the budget"
    svg, _ = pictures(figure.file_spec("Net"))
    assert b"budget" in svg


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("shrink-*")), ids=lambda one: one.name)
def test_a_committed_page_holds_the_numbers_beside_it(folder: Path) -> None:
    report = Shrinking.model_validate_json((folder / "shrinking.json").read_text())
    page = html.unescape(words(folder / "report.html"))
    assert all(" ".join(said.split()) in page for said in report.findings)
    assert (folder / "trials.csv").read_text() == trial_lines(report.tried)
    assert report.finished
