from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gossamer.benchmarking import measuring
from gossamer.benchmarking.measuring import (
    differences_from_reference,
    measured_rows,
    wrong,
)
from gossamer.benchmarking.processes import Ready
from gossamer.benchmarking.subjects import Case, Subject
from gossamer.core.errors import GossamerError, InputError
from gossamer.measures.functional.latency import Block

SECONDS = {"eager": 4.0, "bf16": 8.0, "onnxruntime": 2.0, "gossamer": 1.0, "compile": 3.0}


class StandIn:
    """A process that answers at once, with known times; some columns misbehave."""

    started: list[tuple[str, ...]] = []  # noqa: RUF012
    closed: list[tuple[str, ...]] = []  # noqa: RUF012
    failures: Mapping[str, Exception] = {}
    outputs: Mapping[str, float] = {}

    def __init__(self, columns: tuple[str, ...], *_: Any) -> None:
        self.columns = columns
        self.started.append(columns)

    def prepare(self, case: Case) -> Ready:
        if self.columns[0] in self.failures:
            raise self.failures[self.columns[0]]
        timed = [name for name in self.columns if name in SECONDS]
        outputs = {name: np.full(2, self.outputs.get(name, 1.0), np.float32) for name in timed}
        absent = dict.fromkeys(set(self.columns) - set(timed), "not here")
        return Ready(case.sparsity, outputs, dict.fromkeys(timed, "as said"), absent)

    def block(self, column: str) -> Block:
        return lambda calls: SECONDS[column] * calls

    def close(self) -> None:
        self.closed.append(self.columns)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Fresh(StandIn):
        started, closed = [], []

    monkeypatch.setattr(measuring, "Bench", Fresh)
    return Fresh


CASES = (Case(0.5, 1, 1), Case(0.9, 1, 1))
SUBJECT = Subject("mlp", (2, 3))


def test_rows_hold_the_columns_of_all_processes(stand_in: type[StandIn]) -> None:
    first, second = measured_rows(SUBJECT, CASES, seconds=0.01, compiled=CASES[1])
    medians = {one.name: one.latency.median for one in second.columns if one.latency}
    assert medians == SECONDS
    assert {one.name: one.remark for one in first.columns}["gossamer"] == "as said"
    absent = {one.name for one in first.columns if one.absent == "not here"}
    assert absent == {"channels_last", "csr", "gossamer_chosen"}
    assert first.latency("compile") is None
    assert second.speed_up("onnxruntime").value == 2.0  # type: ignore[union-attr]


def test_compiling_has_a_process_for_its_row_alone(stand_in: type[StandIn]) -> None:
    rows = measured_rows(SUBJECT, (*CASES, Case(0.95, 1, 1)), seconds=0.01, compiled=CASES[1])
    next(rows)
    assert ("compile",) not in stand_in.started
    next(rows)
    next(rows)
    assert ("compile",) in stand_in.closed
    rows.close()  # type: ignore[attr-defined]
    assert sorted(stand_in.closed) == sorted(stand_in.started)


def test_a_column_with_other_answers_is_not_timed(stand_in: type[StandIn]) -> None:
    stand_in.outputs = {"onnxruntime": 1.01, "bf16": 1.01}
    (row,) = measured_rows(SUBJECT, CASES[:1], seconds=0.01)
    found = {one.name: one for one in row.columns}
    assert found["onnxruntime"].latency is None
    assert "differ by 0.01" in found["onnxruntime"].absent
    assert found["bf16"].latency is not None
    assert found["bf16"].difference == pytest.approx(0.01, rel=1e-3)


def test_answers_that_are_no_numbers_are_wrong() -> None:
    outputs = {"eager": np.ones(2, np.float32), "csr": np.array([1, np.nan], np.float32)}
    assert set(wrong(differences_from_reference(outputs))) == {"csr"}
    assert differences_from_reference({"csr": outputs["csr"]}) == {}


def test_a_process_that_dies_is_left_out_from_then_on(stand_in: type[StandIn]) -> None:
    stand_in.failures = {"onnxruntime": GossamerError("the process of onnxruntime died")}
    first, second = measured_rows(SUBJECT, CASES, seconds=0.01)
    for row in (first, second):
        found = {one.name: one for one in row.columns}
        assert found["onnxruntime"].absent == "the process of onnxruntime died"
        assert found["gossamer"].latency is not None


def test_a_network_that_cannot_be_ends_it_all(stand_in: type[StandIn]) -> None:
    stand_in.failures = {"eager": InputError("no such network")}
    with pytest.raises(InputError, match="no such network"):
        next(measured_rows(SUBJECT, CASES, seconds=0.01))
    assert sorted(stand_in.closed) == sorted(stand_in.started)
