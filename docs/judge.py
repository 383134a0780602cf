"""Judge the claims of the committed results again, from their results.csv alone.

python docs/judge.py          # rewrites each claims.csv, and its figure where there is one
python docs/judge.py --check  # exits with 1 if one would change

So verdicts follow from the numbers that are committed beside them, and a change of how claims are
judged reaches every table that was written before it.
"""

import csv
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from gossamer.records.record import Arm, Environment, Record, StudyRun, TrialLabel
from gossamer.reporting.claims import judged_claims
from gossamer.reporting.claims_figure import claims_figure
from gossamer.reporting.files import claims_table
from gossamer.reporting.rendering import pictures
from gossamer.reporting.results import Results
from gossamer.studies.plan import arms_at
from gossamer.studies.spec import Scale, StudySpec, read_study

RESULTS = Path(__file__).parent / "results"
RUNS: Mapping[str, Scale] = {
    "weight-vs-unit": "paper",
    "sparsity-leakage": "medium",
    "dense-sparse-dense": "medium",
    "random-sparse-layers": "medium",
    "mask-transfer": "medium",
}
"""The built-in studies of which results are committed, and the scale of each."""

NOWHERE = Environment(
    gossamer="", python="", torch="", libraries={}, processor="", machine="", threads=1,
    device="cpu", revision=None,
)  # fmt: skip


def results_of(study: str) -> Results:
    """Return what the results.csv of a study holds."""
    spec, _ = read_study(study)
    with (RESULTS / study / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    records = {row["key"]: record(row) for row in rows if row["test_accuracy"]}
    return Results(study_run(spec, RUNS[study], rows), records)


def record(row: Mapping[str, str]) -> Record:
    """Return what a line of results.csv says of a network."""
    name = {"arm", "dataset", "seed", "level", "key"}
    classes = [column for column in row if "_accuracy_class_" in column]
    return Record(
        key=row["key"],
        identity={},
        phases=(),
        measures={
            column: float(value)
            for column, value in row.items()
            if value and column not in name and column not in classes
        },
        per_class={
            part: tuple(
                float(row[c]) if row[c] else math.nan for c in classes if c.startswith(part)
            )
            for part in ("test", "train")
        },
        layers=(),
        seconds=0,
        environment=NOWHERE,
    )


def study_run(spec: StudySpec, scale: Scale, rows: list[dict[str, str]]) -> StudyRun:
    """Return what was asked for: the study's claims about the trials that the rows are of."""
    datasets = {row["arm"]: row["dataset"] for row in rows}
    return StudyRun(
        name=spec.name,
        title=spec.title,
        question=spec.question,
        scale=scale,
        axis=spec.axis,
        dataset="",
        network=spec.network.shown,
        notes=(),
        arms=tuple(
            Arm(
                name=arm.name,
                label=arm.label,
                role=arm.role,
                recipe=tuple(one.step for one in spec.steps_of(arm)),
                dataset=datasets[arm.name],
                network=(arm.network or spec.network).shown,
                pool=spec.data_of(arm, scale).pool,
            )
            for arm in arms_at(spec, scale)
        ),
        published=None,
        trials=tuple(
            TrialLabel(
                arm=row["arm"],
                seed=int(row["seed"]),
                level=float(row["level"]),
                key=row["key"],
                phases=(),
                optimizer_steps=0,
            )
            for row in rows
        ),
        paired=spec.leakage == "paired-halves",
        claims=spec.claims_at(scale),
        command="",
        file="",
    )


def main() -> None:
    """Rewrite the tables and the figures of them, or check that no table would change."""
    for study in RUNS:
        results = results_of(study)
        judged = judged_claims(results)
        path, wanted = RESULTS / study / "claims.csv", claims_table(judged)
        if "--check" not in sys.argv[1:]:
            path.write_text(wanted, encoding="utf-8")
            figure, drawn = path.with_suffix(".svg"), claims_figure(results, judged)
            if figure.exists() and drawn:
                figure.write_bytes(pictures(drawn.file_spec(results.study.title))[0])
        elif path.read_text(encoding="utf-8") != wanted:
            sys.exit(f"{study}/claims.csv is not up to date: python docs/judge.py")


if __name__ == "__main__":
    main()
