"""The tables beside the page."""

import csv
import io
from typing import Any

import pytest

from gossamer.records.record import Claim, ControlComparison
from gossamer.reporting.claims import judged_claims
from gossamer.reporting.files import claims_table
from gossamer.reporting.results import Results

CLAIM = Claim(
    name="a",
    text="Pruning costs nothing.",
    says="not-lower",
    compare="weight",
    against=("dense",),
    levels=(0.5, 0.9),
    margin=0.005,
    control=ControlComparison(compare="unit", against="dense", text="Units cost more."),
)
CELLS = {
    ("dense", 0.0): [0.98, 0.99],
    ("weight", 0.5): [0.97, 0.99],
    ("weight", 0.9): [0.90, 0.80],
    ("unit", 0.5): [0.80, 0.85],
}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_claims_are_written_a_line_a_comparison(make_run: Any) -> None:
    made = make_run(CELLS, claims=(CLAIM,))
    (judged,) = judged_claims(Results(made.study, made.records))
    rows = rows_of(claims_table([judged]))
    assert [(row["role"], row["compare"], row["levels"]) for row in rows] == [
        ("claim", "weight", "0.5"),
        ("claim", "weight", "0.9"),
        ("control", "unit", "0.5"),
    ]
    assert [float(row["difference"]) for row in rows] == pytest.approx([-0.005, -0.135, -0.16])
    assert {row["verdict"] for row in rows} == {judged.verdict}
    interval = judged.comparisons[0].interval
    assert interval is not None
    assert (float(rows[0]["low"]), float(rows[0]["high"])) == (interval.low, interval.high)
    assert rows[0]["units"] == "2"


def test_one_seed_gives_a_difference_without_an_interval(make_run: Any) -> None:
    made = make_run({at: values[:1] for at, values in CELLS.items()}, claims=(CLAIM,))
    (row, *_) = rows_of(claims_table(judged_claims(Results(made.study, made.records))))
    assert (row["difference"] != "", row["low"], row["verdict"]) == (True, "", "undecided")


def test_a_study_without_claims_has_no_table_of_them(make_run: Any) -> None:
    made = make_run(CELLS)
    assert claims_table(judged_claims(Results(made.study, made.records))) == ""
