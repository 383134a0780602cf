"""`gossamer bench` as a user meets it: what it prints, what it exits with, what it refuses."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.benchmarking import files, measuring
from gossamer.benchmarking.subjects import Case
from gossamer.core.errors import GossamerError
from gossamer.engine import Linear, Network, pack_weights
from gossamer.engine.gsm import write_network
from gossamer.masks import prune
from gossamer.measures.functional.latency import time_alternately
from gossamer.records.file_speed import FileSpeed
from gossamer.records.speed import Column, Latency, Row, Speed
from running_commands import Gossamer

TINY = """
from torch import nn

def tiny(width: int = 16, classes: int = 3):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, classes))
"""


def row(case: Case) -> Row:
    """Return a row in which gossamer's time falls with the zeros, and ONNX Runtime's does not."""
    medians = {
        "eager": 0.004, "onnxruntime": 0.002, "gossamer": 0.008 * (1 - case.sparsity),
        "gossamer_chosen": 0.001,
    }  # fmt: skip
    columns = [
        Column(
            name=name,
            latency=Latency(median=value, low=value, high=value, fastest=value, repeats=9),
            remark="engine" if name == "gossamer_chosen" else "",
        )
        for name, value in medians.items()
    ]
    absent = Column(name="csr", absent="the network has a convolution")
    return Row(
        sparsity=case.sparsity, achieved=case.sparsity, as_given=case.as_given,
        threads=case.threads, batch=case.batch,
        columns=(*columns, absent),
    )  # fmt: skip


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the measuring by known times; an exception ends it after the first row."""

    def replace(ends_with: BaseException | None = None) -> None:
        def rows(_: object, cases: tuple[Case, ...], **options: Any) -> Iterator[Row]:
            for case in cases:
                options["follow"]("timing")
                yield row(case)
                if ends_with is not None:
                    raise ends_with

        monkeypatch.setattr(measuring, "measured_rows", rows)

    return replace


SMALL = (
    "bench",
    "mlp",
    "--threads",
    "1",
    "--batch",
    "64",
    "--sparsity",
    "0.5",
    "--sparsity",
    "0.9",
)


def test_the_table_holds_times_factors_and_the_break_even(
    gossamer: Gossamer, measured: Callable[..., None]
) -> None:
    measured()
    found = gossamer(*SMALL)
    assert found.code == 0
    text = " ".join(found.out.split())
    assert "is 2.5× as fast as the fastest of the others (ONNX Runtime)" in text
    assert "50% 4.00 1.00 4.00 2.00 engine 1.0× 0.50×" in text
    assert "90% 0.800 1.00 4.00 2.00 engine 5.0× 2.5×" in text
    assert "even below 67% at 50%" in text
    assert "PyTorch CSR: not there: the network has a convolution" in text
    assert "halted" in text
    assert all(len(line) <= 80 for line in found.out.splitlines()[:-1])
    assert Path(found.out.splitlines()[-1]).is_file()


def test_the_page_lies_where_it_is_said(
    gossamer: Gossamer, measured: Callable[..., None], tmp_path: Path
) -> None:
    measured()
    gossamer(*SMALL, "--out", "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "speed.html", "speed.json", "speed.csv", "figures",
    }  # fmt: skip


def test_json_is_one_document_and_nothing_else(
    gossamer: Gossamer, measured: Callable[..., None]
) -> None:
    measured()
    found = gossamer(*SMALL, "--json")
    speed = Speed.model_validate_json(found.out)
    assert [one.sparsity for one in speed.rows] == [0.5, 0.9]
    (rival,) = [one for one in speed.break_even if one.column == "onnxruntime"]
    # ln(0.5) at 50%, ln(2.5) at 90%: even at 0.5 + 0.4 ln 2 / (ln 2 + ln 2.5)
    assert rival.sparsity == pytest.approx(0.5 + 0.4 * 0.693147 / (0.693147 + 0.916291), abs=1e-5)
    assert speed.finished
    assert "speed.html" in found.err
    assert json.loads(Path("runs/bench-mlp/speed.json").read_text()) == json.loads(found.out)


def test_ctrl_c_keeps_what_was_measured(gossamer: Gossamer, measured: Callable[..., None]) -> None:
    measured(KeyboardInterrupt())
    found = gossamer(*SMALL, "--json")
    assert found.code == 130
    speed = Speed.model_validate_json(found.out)
    assert len(speed.rows) == 1
    assert not speed.finished
    assert "Interrupted after 1 row of 2" in found.err
    assert Path("runs/bench-mlp/speed.html").is_file()


def test_a_process_that_dies_while_it_is_timed_loses_nothing(
    gossamer: Gossamer, measured: Callable[..., None]
) -> None:
    measured(GossamerError("the process of bf16 died (killed, perhaps for want of memory)"))
    found = gossamer(*SMALL)
    assert found.code == 1
    assert "the process of bf16 died" in found.err
    assert "Batch 64, 1 thread" in found.out


def test_interrupted_before_the_first_row(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> Iterator[Row]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(measuring, "measured_rows", nothing)
    assert gossamer(*SMALL).code == 130
    assert not Path("runs").exists()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(measuring, "measured_rows")
    found = gossamer(*SMALL, "--dry-run")
    assert found.code == 0
    text = " ".join(found.out.split())
    assert "mlp: 2 rows, of 50% and 90% zeros, batch 64, 1 thread; about" in text
    assert "torch.compile at 90% zeros, batch 64, 1 thread" in text
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("mlp", "--sparsity", "1"), "--sparsity 1: a share of zeros from 0 to below 1"),
        (("mlp", "--sparsity", "90"), "90% is 0.9"),
        (("mlp", "--sparsity", "nan"), "--sparsity nan"),
        (("mlp", "--threads", "5000"), "--threads 5000: there"),
        (("mlp", "--seconds", "0"), "--seconds 0: a positive time"),
        (("mlp", "--input-shape", "1,x"), "--input-shape 1,x: sizes of one example"),
        (("mlp", "--input-shape", "0"), "--input-shape 0: sizes of one example"),
        (("mpl",), "There is no network 'mpl' (did you mean 'mlp'?)"),
        (("my.networks:small",), "--input-shape 3,224,224"),
        (("my.networks:five",), "gossamer: my.networks:five: the shape of its input"),
        (("gone_module:small", "--input-shape", "3"), "no module 'gone_module'"),
        (("mlp", "--weights", "gone.safetensors"), "gone.safetensors: cannot be read"),
        (("mlp", "--network-arg", "width"), "--network-arg 'width': expected name=value"),
        (("mlp", "--network-arg", "width=3"), "--network-arg width: mlp has no such parameter"),
        (("nope",), "mnist-cnn, wide-head, package.module:callable or file.py:callable for your"),
        (("nope",), "or FILE.gsm, a compressed one"),
        (
            ("mlp", "--batch", "1000000000"),
            "--batch 1000000000: timing it takes about 31,113.7 GiB",
        ),
        (("mlp", "--batch", "1000000000", "--dry-run"), "are available; give at most "),
        (
            ("small.gsm", "--batch", "100000000000"),
            "--batch 100000000000: timing it takes about 2,607.7",
        ),
        (("gone.gsm",), "gone.gsm: is not there"),
        (("gone.gsm", "--dry-run"), "gone.gsm: is not there"),
        (("torn.gsm", "--dry-run"), "torn.gsm: "),
        (("small.gsm", "--sparsity", "0.5"), "--sparsity: small.gsm is compressed already"),
        (("small.gsm", "--weights", "w.pt"), "--weights: small.gsm is compressed already"),
        (("mlp", "--json", "--dry-run"), "--json: a dry run has no numbers"),
        (("fashion-cnn", "--input-shape", "1,4,4"), "fashion-cnn"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: tuple[str, ...], complaint: str, gossamer: Gossamer
) -> None:
    compressed_file()
    Path("torn.gsm").write_bytes(Path("small.gsm").read_bytes()[:200])
    found = gossamer("bench", *arguments)
    assert found.code == 2
    assert complaint in found.err
    assert "is compressed already" not in found.err or "small.gsm" in arguments
    assert "Traceback" not in found.err
    assert found.out == ""


def test_a_file_in_the_place_of_the_folder_is_said_before_the_work(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(measuring, "measured_rows")
    Path("taken").touch()
    found = gossamer(*SMALL, "--out", "taken")
    assert found.code == 2
    assert "--out taken: taken is no folder" in found.err


@pytest.mark.slow
def test_a_network_of_ones_own_from_end_to_end(gossamer: Gossamer) -> None:
    """Everything as it is, with processes of their own, on a tiny network for a tiny time."""
    Path("tiny_networks.py").write_text(TINY)
    found = gossamer(
        "bench", "tiny_networks:tiny", "--input-shape", "3,2,2", "--no-compile",
        "--network-arg", "width=24",
        "--sparsity", "0.8", "--batch", "4", "--threads", "1",
        "--seconds", "0.1", "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    speed = Speed.model_validate_json(found.out)
    assert speed.parameters == 12 * 24 + 24 + 24 * 3 + 3
    assert [(one.sparsity, one.batch) for one in speed.rows] == [(0.8, 4)]
    for one in speed.rows:
        timed = {column.name for column in one.columns if column.latency}
        assert timed == {"eager", "bf16", "onnxruntime", "csr", "gossamer", "gossamer_chosen"}
        assert one.achieved == pytest.approx(one.sparsity, abs=0.02)
        for column in one.columns:
            exact = column.name not in ("eager", "bf16") and column.difference is not None
            assert not exact or column.difference <= 1e-5  # type: ignore[operator]
    assert speed.absences() == {"channels_last": "the network has no convolution"}


def compressed_file() -> None:
    """Write a network of one layer, of twelve weights of which three are zero."""
    matrix = np.ones((4, 3))
    matrix[:, 2] = [1, 0, 0, 0]
    network = Network((3,), (Linear(0, pack_weights(matrix, "csr")),), 1)
    write_network("small.gsm", network, {})


def test_a_compressed_file_is_timed_as_it_is(gossamer: Gossamer) -> None:
    compressed_file()
    arguments = ("bench", "small.gsm", "--threads", "1", "--seconds", "0.02")
    found = gossamer(*arguments, "--batch", "3", "--batch", "1")
    assert found.code == 0
    text = " ".join(found.out.split())
    assert "small.gsm: " in text
    assert ", 3 -> 4, 12 weights, 25% of them zero." in text
    assert "linear 4 × 3 12 25% csr" in text
    assert re.search(r"Batch 1 thread 1 0\.\d+ \([\d.]+-[\d.]+\) 3 0\.\d+ \(", text)
    assert all(len(line) <= 80 for line in found.out.splitlines())
    assert not Path("runs").exists()
    speed = json.loads(gossamer(*arguments, "--batch", "2", "--json").out)
    assert speed["sparsity"] == 0.25
    assert speed["finished"]
    assert [(one["threads"], one["batch"]) for one in speed["times"]] == [(1, 2)]
    assert FileSpeed.model_validate({k: speed[k] for k in FileSpeed.model_fields}).weights == 12


def test_ctrl_c_keeps_the_times_of_a_compressed_file(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed_file()
    calls: list[int] = []

    def once(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return time_alternately(*given, **options)

    monkeypatch.setattr(files, "time_alternately", once)
    found = gossamer("bench", "small.gsm", "--threads", "1", "--seconds", "0.02", "--json")
    assert found.code == 130
    speed = json.loads(found.out)
    assert not speed["finished"]
    assert [one["batch"] for one in speed["times"]] == [1]


@pytest.mark.parametrize("columns", [80, 120])
def test_weights_with_zeros_are_timed_as_given_and_pruned_further(
    gossamer: Gossamer, measured: Callable[..., None], columns: int
) -> None:
    Path("given_networks.py").write_text(TINY)
    measured()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    prune(model, 0.75)
    torch.save({"epoch": 1, "model": model.state_dict()}, "ck.pt")
    arguments = ("bench", "given_networks:tiny", "--input-shape", "3,2,2", *SMALL[2:])
    found = gossamer(*arguments, "--weights", "ck.pt")
    assert found.code == 0, found.err
    text = " ".join(found.out.split())
    assert "the 75% zeros that it was given with; beyond these, single weights" in text
    assert "With the 75% zeros given, batch 64, 1 thread: gossamer takes 2.00 ms" in text
    assert "75% 2.00 1.00 4.00 2.00 as given engine 2.0× 1.0×" in text
    assert "90% 0.800 1.00 4.00 2.00 pruned engine 5.0× 2.5×" in text
    assert "Not pruned to 50%: the weights given have 75% zeros already." in text
    assert "even at" not in text  # one pruned row tells nothing of where gossamer breaks even
    assert all(len(line) <= columns for line in found.out.splitlines()[:-1])
    speed = Speed.model_validate_json(Path("runs/bench-given_networks-tiny/speed.json").read_text())
    assert [(row.sparsity, row.as_given) for row in speed.rows] == [(0.75, True), (0.9, False)]
    lines = Path("runs/bench-given_networks-tiny/speed.csv").read_text().splitlines()
    assert lines[1].startswith("1,64,0.75,0.75,True,")
    page = Path("runs/bench-given_networks-tiny/speed.html").read_text()
    assert "75% as given" in page
    assert "90% pruned" in page


def test_five_outputs_need_no_option(gossamer: Gossamer, measured: Callable[..., None]) -> None:
    measured()
    Path("five_networks.py").write_text(TINY.replace("int = 3", "int = 5"))
    arguments = ("bench", "five_networks:tiny", "--input-shape", "3,2,2", *SMALL[2:])
    assert gossamer(*arguments).code == 0
    found = gossamer(*arguments, "--classes", "3")
    assert found.code == 2
    assert "gives [5] for each example; leave --classes out" in found.err


def test_without_plotting_libraries_the_table_is_there_and_no_page(
    gossamer: Gossamer, measured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured()
    for name in [name for name in sys.modules if name.startswith("gossamer.reporting.speed")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "altair", None)
    found = gossamer(*SMALL)
    assert found.code == 0
    assert "Batch 64, 1 thread" in found.out
    assert "No page was written: the page of these numbers needs altair" in found.err
    assert "[studies]" in found.err
