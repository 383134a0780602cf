"""The page, the table and the figure of a comparison of speeds."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from gossamer.records.environment import describe_environment
from gossamer.records.speed import (
    BreakEven,
    Column,
    Latency,
    Machine,
    Row,
    Speed,
    break_evens,
)
from gossamer.reporting.speed import figure_rows, speed_figure, speed_lines, write_speed
from gossamer.reporting.speed_words import break_even_text, finding, machine_text


def row(sparsity: float, batch: int = 64, **medians: float) -> Row:
    columns = [
        Column(
            name=name,
            latency=Latency(
                median=value, low=0.9 * value, high=1.1 * value, fastest=0.8 * value, repeats=7
            ),
            remark="engine" if name == "gossamer_chosen" else "",
        )
        for name, value in medians.items()
    ]
    absent = Column(name="csr", absent="only <linear> layers can have weights in CSR")
    return Row(
        sparsity=sparsity, achieved=sparsity, threads=1, batch=batch, columns=(*columns, absent)
    )


def speed(*rows: Row, finished: bool = True) -> Speed:
    machine = Machine(
        environment=describe_environment(1, "cpu"),
        cores=2,
        caches={"L1d": 32768, "L2": 524288},
        instruction_set="avx2",
        versions={"onnx": "1.23", "onnxruntime": "1.31"},
    )
    return Speed(
        model="mine:net<b>", input_shape=(1, 28, 28), parameters=1000, weights="", pattern="weight",
        seconds=1.0, machine=machine, method="Alternately.", finished=finished, rows=rows,
        break_even=break_evens(rows), notes=("The machine was busy.",),
    )  # fmt: skip


USUAL = speed(
    row(0.5, eager=0.004, onnxruntime=0.001, gossamer=0.002, gossamer_chosen=0.001),
    row(0.9, eager=0.004, onnxruntime=0.001, gossamer=0.0005, gossamer_chosen=0.0005),
)


def test_the_finding_names_the_strongest_of_the_others_and_the_break_even() -> None:
    assert finding(USUAL) == (
        "At 90% zeros, batch 64, 1 thread: gossamer takes 0.500 ms and is 2.0× as fast as the "
        "fastest of the others (ONNX Runtime); break-even with it: 70%."
    )


def test_a_loss_is_said_as_plainly() -> None:
    text = finding(speed(row(0.9, eager=0.001, gossamer=0.002)))
    assert "slower than the fastest of the others (PyTorch), at 0.50× of its speed" in text


def test_nothing_measured_is_said() -> None:
    assert "not both timed" in finding(speed(row(0.9, eager=1.0)))


def test_break_even_at_any_sparsity() -> None:
    found = BreakEven(column="eager", threads=1, batch=1, side="below", sparsity=0.0)
    assert break_even_text(found) == "any"


def test_the_machine_in_words() -> None:
    assert "2 cores; L1d 32 KiB, L2 512 KiB; gossamer's kernels: avx2" in machine_text(
        USUAL.machine
    )


def test_csv_has_a_line_a_column_of_each_row_with_every_digit() -> None:
    lines = list(csv.DictReader(io.StringIO(speed_lines(USUAL))))
    assert len(lines) == 10
    found = {(float(line["sparsity"]), line["column"]): line for line in lines}
    assert float(found[0.9, "onnxruntime"]["speed_up"]) == 0.001 / 0.0005
    assert float(found[0.5, "onnxruntime"]["speed_up"]) == 0.5
    assert float(found[0.9, "gossamer"]["median_s"]) == 0.0005
    assert found[0.9, "gossamer"]["speed_up"] == ""
    assert found[0.9, "csr"]["absent"].startswith("only")


def test_the_figure_has_a_point_for_each_factor_with_its_spread() -> None:
    points = {(one["series"], one["zeros"]): one for one in figure_rows(USUAL.rows)}
    assert set(points) == {
        (series, zeros) for series in ("PyTorch", "ONNX Runtime") for zeros in (50.0, 90.0)
    }
    assert points["PyTorch", 90.0]["factor"] == pytest.approx(8)
    assert points["PyTorch", 90.0]["low"] == pytest.approx(8 * 0.9 / 1.1)
    assert points["PyTorch", 90.0]["reading"] == "8.0× [6.5×, 9.8×]"


def test_the_figure_holds_every_band_and_the_line_at_one() -> None:
    both = speed(
        row(0.9, batch=1, eager=0.009, gossamer=0.001),
        row(0.9, batch=64, eager=0.3, gossamer=0.01),
    )
    figure = speed_figure(both)
    assert figure is not None
    for panel in figure.panels:
        encodings = json.dumps(panel.specification)
        (low, high), = {tuple(map(float, ends)) for ends in re.findall(
            r'"domain": \[([\d.e-]+), ([\d.e-]+)\], "nice"', encodings)}  # fmt: skip
        for one in panel.all_rows:
            assert low < one.get("low", 1.0) <= one.get("high", 1.0) < high
    assert [panel.specification["title"] for panel in figure.panels] == [
        "Batch 1, 1 thread",
        "Batch 64, 1 thread",
    ]


def test_without_times_there_is_no_figure_but_a_page(tmp_path: Path) -> None:
    nothing = speed(row(0.9, eager=1.0))
    assert speed_figure(nothing) is None
    assert write_speed(nothing, tmp_path).is_file()
    assert not (tmp_path / "figures").exists()


def test_the_folder_holds_the_page_the_figure_and_every_number(tmp_path: Path) -> None:
    page = write_speed(USUAL, tmp_path / "new")
    written = {str(path.relative_to(page.parent)) for path in page.parent.rglob("*.*")}
    assert written == {
        "speed.html", "speed.json", "speed.csv", "figures/speed.svg", "figures/speed.png",
    }  # fmt: skip
    assert Speed.model_validate_json((page.parent / "speed.json").read_text()) == USUAL
    html = page.read_text()
    assert "mine:net&lt;b&gt;" in html
    assert "only &lt;linear&gt; layers" in html
    assert "2.0×" in html
    assert "The machine was busy." in html
    assert "Not finished" not in html
    own_part = html.partition("<noscript>")[0]  # what follows is the library that draws
    assert not any(outside in own_part for outside in ("src=", "href=", "@import", "url("))


def test_an_interrupted_page_says_so(tmp_path: Path) -> None:
    page = write_speed(speed(*USUAL.rows, finished=False), tmp_path)
    assert "Not finished" in page.read_text()
