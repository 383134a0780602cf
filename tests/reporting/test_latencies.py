"""Speed of predictions on the page: every number is worked out here again."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gossamer.records.joint import JointRecord, Timed
from gossamer.records.record import Claim, ControlComparison
from gossamer.records.speed import Latency
from gossamer.reporting.claims import judged_claims
from gossamer.reporting.columns import results_table
from gossamer.reporting.latencies import (
    RATIO_MASKED,
    faster_from,
    latency_figure,
    latency_section,
    latency_table,
    speed_up,
    timed_arms,
)
from gossamer.reporting.page import report_page
from gossamer.reporting.results import Results
from gossamer.reporting.write import write_report

RATIOS = {
    ("weight", 0.25): (1.14, 1.15, 1.16),
    ("weight", 0.5): (0.6, 0.62, 0.64),
    ("weight", 0.9): (0.1, 0.11, 0.12),
    ("unit", 0.25): (0.7, 0.71, 0.72),
    ("unit", 0.5): (0.3, 0.31, 0.32),
    ("unit", 0.9): (0.02, 0.021, 0.022),
}
MASKED = (0.98, 1.0, 1.03)
DENSE = 0.004
Cells = Mapping[tuple[str, float], Sequence[float]]


def timed_run(make_run: Any, ratios: Cells = RATIOS, **changes: Any) -> Results:
    """Make a study whose networks take the given shares of the unpruned network's 4 ms."""
    seeds = len(next(iter(ratios.values())))
    accuracies = {("dense", 0.0): [0.98] * seeds, **{cell: [0.9] * seeds for cell in ratios}}
    made = make_run(accuracies, keep=("dense", "weight", "unit"), **changes)
    joints = []
    for trial in made.study.trials:
        dense = trial.arm == "dense"
        ratio = 1.0 if dense else ratios[trial.arm, trial.level][trial.seed]
        masked = 1.0 if dense else MASKED[trial.seed % 3]
        record = made.records[trial.key]
        joints.append(joint(record, trial, ratio, masked))
    return Results(made.study, made.records, tuple(joints), made.phases)


def joint(record: Any, trial: Any, ratio: float, masked: float) -> JointRecord:
    one = Latency(median=DENSE, low=DENSE, high=DENSE, fastest=DENSE, repeats=9)
    return JointRecord(
        key=f"latency {trial.key}",
        kind="latency",
        records=(trial.key,),
        measures={
            trial.key: {
                "latency": DENSE * ratio,
                "latency_masked": 0.005 * masked,
                "latency_dense": DENSE,
                "latency_ratio": ratio,
                "latency_ratio_masked": masked,
            }
        },
        timed=Timed(
            batch=64,
            threads=1,
            instruction_set="avx2",
            chosen="engine",
            own={"PyTorch": one, "compressed": one},
            unpruned={},
        ),
        seconds=2.0,
        environment=record.environment,
    )


def claim(compare: str, **changes: Any) -> Claim:
    given: dict[str, Any] = {
        "name": "e",
        "text": "Pruning makes prediction faster.",
        "says": "lower",
        "measure": "latency_ratio",
        "compare": compare,
        "against": ("dense",),
        "margin": 0.1,
    }
    return Claim(**{**given, **changes})


# Numbers


def test_a_speed_up_is_the_geometric_mean_of_the_seeds(make_run: Any) -> None:
    results = timed_run(make_run)
    logs = [-math.log(ratio) for ratio in RATIOS["weight", 0.5]]
    error = 4.302652729911275 * statistics.stdev(logs) / math.sqrt(3)  # Student's t, 2 degrees
    found = speed_up(results, "weight", 0.5)
    assert found is not None
    assert found.mean == pytest.approx(1 / math.prod(RATIOS["weight", 0.5]) ** (1 / 3))
    assert found.low == pytest.approx(math.exp(statistics.fmean(logs) - error))
    assert found.high == pytest.approx(math.exp(statistics.fmean(logs) + error))
    assert found.count == 3
    kept = speed_up(results, "weight", 0.5, RATIO_MASKED)
    assert kept is not None
    assert kept.mean == pytest.approx(math.prod(MASKED) ** (-1 / 3))


def test_pairs_of_seeds_are_one_unit_each(make_run: Any) -> None:
    ratios = {("weight", 0.9): (0.1, 0.4, 0.2, 0.2)}
    found = speed_up(timed_run(make_run, ratios, paired=True), "weight", 0.9)
    assert found is not None
    assert found.mean == pytest.approx(5.0)
    assert found.count == 2


def test_faster_means_at_every_level_from_there_on(make_run: Any) -> None:
    results = timed_run(make_run)
    assert [arm.name for arm in timed_arms(results)] == ["weight", "unit"]
    assert faster_from(results, "weight") == 0.5
    assert faster_from(results, "unit") == 0.25
    dips = {
        ("weight", 0.25): (0.5, 0.5),
        ("weight", 0.5): (1.1, 1.2),
        ("weight", 0.9): (0.5, 0.501),
    }
    assert faster_from(timed_run(make_run, dips), "weight") == 0.9
    noisy = {("weight", 0.9): (0.5, 1.1)}
    assert faster_from(timed_run(make_run, noisy), "weight") is None


# Claims


def test_claims_are_judged_by_the_ratios(make_run: Any) -> None:
    claims = (
        claim("weight", levels=(0.5, 0.9)),
        claim("unit", name="u"),
        claim("weight", name="low", levels=(0.25,)),
    )
    half, units, quarter = judged_claims(timed_run(make_run, claims=claims))
    assert (half.verdict, units.verdict, quarter.verdict) == ("supported", "supported", "refuted")
    differences = [row.interval.mean for row in half.comparisons if row.interval]
    assert differences == pytest.approx([0.62 - 1, 0.11 - 1])
    assert half.evidence.startswith(
        "Supported: at 50 and 90% sparsity the relative latency of weight pruning is 38.0 to "
        "89.0% below that of"
    )
    assert half.evidence.endswith("more than the margin of 10%.")


def test_a_gain_within_the_margin_refutes_the_claim(make_run: Any) -> None:
    ratios = {("weight", 0.5): (0.95, 0.951, 0.952)}
    (found,) = judged_claims(timed_run(make_run, ratios, claims=(claim("weight"),)))
    assert found.verdict == "refuted"


def test_the_control_shows_that_zeros_alone_save_nothing(make_run: Any) -> None:
    control = ControlComparison(
        compare="weight", against="dense", measure="latency_ratio_masked", text="Zeros kept."
    )
    made = timed_run(make_run, claims=(claim("weight", levels=(0.5, 0.9), control=control),))
    (found,) = judged_claims(made)
    beside = found.control_comparison
    assert beside is not None
    assert beside.interval is not None
    assert beside.interval.mean == pytest.approx(statistics.fmean(MASKED) - 1)
    assert "relative latency with zeros kept" in found.control
    assert found.control.endswith("which cannot be told from none. Zeros kept.")


# The page


def test_the_table_has_every_time_and_speed_up(make_run: Any) -> None:
    table = latency_table(timed_run(make_run))
    assert [section.title for section in table.sections] == [
        "Dense", "Weight pruning", "Unit pruning",
    ]  # fmt: skip
    dense, weight, _ = table.sections
    assert dense.rows[0][2:4] == ("4.000 ± 0.000", "5.000 ± 0.000")
    assert [row[0] for row in weight.rows] == ["25%", "50%", "90%"]
    half = 1000 * DENSE * 4.302652729911275 * 0.02 / math.sqrt(3)
    row = weight.rows[1]
    assert row[1].startswith("90.00 ± ")
    assert row[2] == "4.000 ± 0.000"
    assert row[4] == f"2.480 ± {half:.3f}"
    assert row[5].startswith("1.00× [")
    assert row[6] == "1.61× [1.49, 1.75]"
    assert len({len(row) for section in table.sections for row in section.rows}) == 1
    assert len(table.columns) == 7 == 1 + sum(span for _, span in table.groups)


def test_the_sentences_say_from_where_on_it_is_faster(make_run: Any) -> None:
    section = latency_section(timed_run(make_run))
    assert section is not None
    weight, unit, kept, conditions = section.sentences
    assert weight == (
        "Weight pruning, compressed, is faster than the unpruned network in its fastest way from "
        "50% sparsity on: 1.61× [1.49, 1.75] as fast there, 9.12× [7.27, 11.43] at 90%. Below "
        "that, it is 0.87× [0.85, 0.89] as fast at 25%."
    )
    assert unit.startswith(
        "Unit pruning, compressed, is faster than the unpruned network in its fastest way from 25% "
        "sparsity on: 1.41× ["
    )
    assert "Below" not in unit
    assert kept.startswith("With their zeros kept, in PyTorch, the same networks are 1.00× [")
    assert kept.endswith(" sparsity) as fast as the unpruned network in PyTorch.")
    assert (
        "AMD EPYC 9575F (avx2 in gossamer's engine) with 1 thread and batches of 64" in conditions
    )


def test_one_seed_is_no_verdict(make_run: Any) -> None:
    results = timed_run(make_run, {("weight", 0.5): (0.5,), ("weight", 0.9): (0.1,)})
    section = latency_section(results)
    assert section is not None
    assert section.sentences[0] == (
        "Weight pruning, compressed, is 2.00× as fast at 50% and 10.0× as fast at 90% as the "
        "unpruned network in its fastest way."
    )
    assert section.table.sections[1].rows[0][6] == "2.00×"
    figure = latency_figure(results)
    assert figure is not None


def test_what_is_slower_everywhere_is_said(make_run: Any) -> None:
    section = latency_section(timed_run(make_run, {("weight", 0.5): (1.2, 1.3, 1.25)}))
    assert section is not None
    assert section.sentences[0].startswith(
        "Weight pruning, compressed, is not shown to be faster than the unpruned network in its "
        "fastest way at 50% sparsity: it is 0.80× [0.72, 0.88] as fast at 50%."
    )


def test_the_figure_has_both_ways_of_each_arm(make_run: Any) -> None:
    figure = latency_figure(timed_run(make_run))
    assert figure is not None
    rows = [row for row in figure.panels[0].all_rows if "series" in row]
    lines = {row["series"] for row in rows}
    assert lines == {
        *("Weight pruning", "Weight pruning, zeros kept"),
        *("Unit pruning", "Unit pruning, zeros kept"),
    }
    by_place = {(row["series"], row["level"]): row for row in rows}
    assert len(by_place) == 12
    assert by_place["Weight pruning", 90]["mean"] == pytest.approx(9.12, abs=0.01)
    assert by_place["Unit pruning, zeros kept", 50]["mean"] == pytest.approx(1.0, abs=0.01)
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)
    encoded = figure.panels[0].specification
    scales = [
        layer["encoding"]["y"]["scale"]
        for layer in encoded["layer"]
        if "scale" in layer["encoding"].get("y", {})
    ]
    assert {scale["type"] for scale in scales} == {"log"}
    low, high = scales[0]["domain"]
    assert low < min(row["low"] for row in rows) < 1
    assert high > max(row["high"] for row in rows)


def test_a_study_that_times_nothing_says_nothing(run: Any) -> None:
    assert latency_section(run.results) is None
    assert latency_figure(run.results) is None
    assert "Speed of prediction" not in report_page(run.results, (), ())


def test_everything_is_written(make_run: Any, tmp_path: Path) -> None:
    results = timed_run(make_run, claims=(claim("weight", levels=(0.5, 0.9)),))
    page = write_report(
        results.study, results.records, results.phases, results.joints, tmp_path
    ).read_text()
    assert "<h2>Speed of prediction</h2>" in page
    assert 'id="latency"' in page
    assert "Relative latency" in page
    assert (tmp_path / "figures" / "latency.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "figures" / "latency.svg").is_file()
    lines = list(csv.DictReader(io.StringIO(results_table(results))))
    found = {(row["arm"], float(row["level"]), int(row["seed"])): row for row in lines}
    assert float(found["weight", 0.5, 1]["latency_ratio"]) == 0.62
    assert float(found["weight", 0.5, 1]["latency"]) == DENSE * 0.62
    assert float(found["dense", 0.0, 2]["latency_ratio"]) == 1.0


def test_an_unfinished_timing_shows_what_there_is(make_run: Any) -> None:
    results = timed_run(make_run)
    some = Results(results.study, results.records, results.joints[:7], results.phases)
    table = latency_table(some)
    assert [len(section.rows) for section in table.sections] == [1, 2]
    none = Results(results.study, results.records, results.joints[:3], results.phases)
    assert latency_section(none) is None


def test_no_network_is_said_to_take_less_time_than_none(make_run: Any) -> None:
    ratios = {("weight", 0.5): (0.05, 0.9, 0.1), ("unit", 0.5): (0.9, 0.1, 0.2)}
    against_dense, against_unit = claim("weight"), claim("weight", name="f", against=("unit",))
    results = timed_run(make_run, ratios, claims=(against_dense, against_unit))
    first, second = judged_claims(results)
    assert first.comparisons[0].interval is not None
    assert first.comparisons[0].interval.low == -1.0
    assert "reaches from −100.0 to +" in first.evidence
    assert second.comparisons[0].interval is not None
    assert second.comparisons[0].interval.low is not None
    assert second.comparisons[0].interval.low < -1.0  # the other may take any time
