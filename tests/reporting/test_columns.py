"""What the page and the documentation say of the columns of its tables."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gossamer.leakage.attacks import attack_measures
from gossamer.measures import measures
from gossamer.reporting.claims import judged_claims
from gossamer.reporting.columns import (
    IN_ATTACKS,
    IN_CLAIMS,
    column_of,
    columns,
    columns_table,
    headers,
)
from gossamer.reporting.files import claims_table, leakage_lines
from gossamer.reporting.results import Results
from gossamer.reporting.write import write_report

ROOT = Path(__file__).parents[2]


def test_every_measure_is_a_column_that_is_explained() -> None:
    for measure in (*measures(), *attack_measures(), "mask_overlap:conv1.weight"):
        column = column_of(measure)
        assert column is not None, measure
        assert column.meaning.endswith(".")
        assert column.unit, measure
    assert len({column.name for column in columns()}) == len(columns())


@pytest.mark.parametrize(
    "header", ["", "accuracy", "fast_auc", "lira_online_tpr@0.1", "test_accuracy_class_x", "keys"]
)
def test_what_is_no_column_is_none(header: str) -> None:
    assert column_of(header) is None


def test_page_explains_the_columns_of_its_own_table(run: Any, leaky: Any, tmp_path: Path) -> None:
    table = columns_table(run.results)
    assert table is not None
    explained = [row[0] for section in table.sections for row in section.rows]
    assert {"test_accuracy", "test_accuracy_class_CLASS", "key"} <= set(explained)
    assert "latency" not in explained
    assert "ATTACK_auc" not in explained
    attacked = columns_table(leaky.results)
    assert attacked is not None
    assert "ATTACK_auc" in [row[0] for section in attacked.sections for row in section.rows]
    html = write_report(run.study, run.records, run.phases, (), tmp_path).read_text()
    assert "<summary>Columns of results.csv</summary>" in html
    with (tmp_path / "results.csv").open(newline="") as file:
        assert next(csv.reader(file)) == headers(run.results)


def test_a_run_without_records_explains_no_columns(run: Any) -> None:
    assert columns_table(Results(run.study, {})) is None


def test_other_tables_have_the_documented_columns(leaky: Any) -> None:
    (first, *_) = csv.reader(io.StringIO(leakage_lines(leaky.results)))
    assert first == ["arm", "level", *(column.name for column in IN_ATTACKS)]
    judged = judged_claims(leaky.results)
    if text := claims_table(judged):
        assert next(csv.reader(io.StringIO(text))) == [column.name for column in IN_CLAIMS]


def test_documentation_is_what_the_code_says() -> None:
    script = ROOT / "docs" / "results_columns.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)
