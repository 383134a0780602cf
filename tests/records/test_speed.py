import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gossamer.records.environment import describe_environment
from gossamer.records.speed import (
    LABELS,
    RIVALS,
    SPARSE,
    BreakEven,
    Column,
    Latency,
    Machine,
    Row,
    Speed,
    break_evens,
    crossing,
    places,
    typical_spread,
)


def latency(median: float, spread: float = 0.1) -> Latency:
    low, high = median * (1 - spread), median * (1 + spread)
    return Latency(median=median, low=low, high=high, fastest=low, repeats=5)


def row(sparsity: float, threads: int = 1, batch: int = 64, **medians: float) -> Row:
    columns = tuple(Column(name=name, latency=latency(value)) for name, value in medians.items())
    return Row(sparsity=sparsity, achieved=sparsity, threads=threads, batch=batch, columns=columns)


def speed(*rows: Row) -> Speed:
    machine = Machine(
        environment=describe_environment(1, "cpu"),
        cores=2,
        caches={"L1d": 32768},
        instruction_set="avx2",
        versions={"onnxruntime": "1.31"},
    )
    return Speed(
        model="mlp", input_shape=(784,), parameters=10, weights="", pattern="weight", seconds=1.0,
        machine=machine, method="Alternately.", finished=True, rows=rows,
        break_even=break_evens(rows),
    )  # fmt: skip


@given(
    slope=st.floats(0.5, 10),
    even=st.floats(0.1, 0.8),
    levels=st.sets(st.floats(0.01, 0.99), min_size=2, max_size=8),
)
def test_break_even_of_times_that_fall_exponentially_is_exact(
    slope: float, even: float, levels: set[float]
) -> None:
    """A speed-up of exp(slope (s - even)) is 1 at `even`, wherever it was measured."""
    measured = sorted(levels)
    side, found = crossing([(s, math.exp(slope * (s - even))) for s in measured])
    if even <= measured[0]:
        assert (side, found) == ("below", measured[0])
    elif even > measured[-1]:
        assert (side, found) == ("above", measured[-1])
    else:
        assert side == "between"
        assert found == pytest.approx(even, abs=1e-6)


def test_of_several_crossings_the_last_counts() -> None:
    side, found = crossing([(0.5, 2.0), (0.6, 0.5), (0.7, 2.0), (0.8, 0.5), (0.9, 2.0)])
    assert side == "between"
    assert found == pytest.approx(0.85)


def test_a_speed_up_of_exactly_one_is_no_loss() -> None:
    assert crossing([(0.5, 1.0), (0.9, 2.0)]) == ("below", 0.5)


def test_speed_up_and_its_spread() -> None:
    found = row(0.9, eager=6.0, gossamer=2.0).speed_up("eager")
    assert found is not None
    assert found.value == 3.0
    assert found.low == pytest.approx(6.0 * 0.9 / (2.0 * 1.1))
    assert found.high == pytest.approx(6.0 * 1.1 / (2.0 * 0.9))


def test_what_was_not_timed_has_no_speed_up() -> None:
    one = row(0.9, eager=6.0)
    assert one.speed_up("eager") is None
    assert row(0.9, gossamer=1.0).speed_up("eager") is None
    assert row(0.9, gossamer=1.0).best_rival is None


def test_the_best_rival_is_never_gossamer_itself() -> None:
    one = row(0.9, eager=6.0, onnxruntime=4.0, gossamer=1.0, gossamer_chosen=2.0)
    assert one.best_rival == "onnxruntime"


def test_break_evens_are_found_for_each_place_and_column() -> None:
    rows = (
        row(0.5, 1, 1, eager=1.0, gossamer=2.0),
        row(0.9, 1, 1, eager=2.0, gossamer=1.0),
        row(0.5, 1, 64, eager=2.0, csr=1.0, gossamer=1.0),
        row(0.9, 1, 64, eager=2.0, gossamer=1.0),
    )
    at_one, at_64 = break_evens(rows)
    assert at_one.side == "between"
    assert at_one.sparsity == pytest.approx(0.7)
    expected = BreakEven(column="eager", threads=1, batch=64, side="below", sparsity=0.5)
    assert at_64 == expected  # CSR was timed at one sparsity only


def test_rows_are_found_by_place_and_rise_in_sparsity() -> None:
    rows = (row(0.9, 2, 64), row(0.5, 2, 64), row(0.5, 1, 64), row(0.5, 1, 1))
    assert places(rows) == ((1, 1), (1, 64), (2, 64))
    assert [one.sparsity for one in speed(*rows).rows_at(2, 64)] == [0.5, 0.9]


def test_only_columns_that_were_timed_nowhere_are_absent() -> None:
    gone = Column(name="csr", absent="the network has convolutions")
    sometimes = Column(name="compile", absent="no compiler")
    first = row(0.5, eager=1.0, gossamer=1.0)
    first = first.model_copy(update={"columns": (*first.columns, gone, sometimes)})
    found = speed(first, row(0.9, compile=1.0))
    assert found.absences() == {"csr": "the network has convolutions"}
    assert found.present() == ("eager", "compile", "gossamer")


def test_the_typical_spread_is_the_ratio_of_the_quartiles() -> None:
    assert typical_spread([row(0.9, eager=1.0, gossamer=3.0)]) == pytest.approx(1.1 / 0.9)
    assert typical_spread([]) == 1.0


def test_json_gives_back_the_same_value() -> None:
    before = speed(row(0.5, eager=1.0, gossamer=2.0), row(0.9, eager=2.0, gossamer=1.0))
    text = json.dumps(before.to_dict(), allow_nan=False)
    assert Speed.model_validate_json(text) == before
    assert json.loads(text)["break_even"][0]["column"] == "eager"


def test_json_with_an_unknown_field_is_refused() -> None:
    content = speed(row(0.5, eager=1.0)).to_dict()
    content["rows"][0]["columns"][0]["latency"]["mean"] = 1.0
    with pytest.raises(ValidationError, match="mean"):
        Speed.model_validate(content)


def test_gossamer_is_no_rival_of_its_own() -> None:
    assert SPARSE in LABELS
    assert SPARSE not in RIVALS
