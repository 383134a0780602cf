"""Tables of what studies found, from docs/results."""

import csv
import math

from gossamer.reporting.claims import JudgedClaim, judged_claims
from gossamer.reporting.latencies import times
from gossamer.reporting.results import Results
from gossamer.stats.intervals import Interval, mean_interval
from gossamer.stats.power import MOST_UNITS
from gossamer.studies.published_tables import published_figures
from judge import RESULTS, results_of


def study_table() -> str:
    """Return published and measured accuracies side by side."""
    published = published_figures("weight-vs-unit")
    assert published is not None
    before = {(figure.arm, figure.level): 100 * figure.value for figure in published.figures}
    results = results_of("weight-vs-unit")
    lines = [
        "| sparsity | weights, published | measured | units, published | measured |",
        "|---:|---:|---:|---:|---:|",
    ]
    for level in sorted({level for _, level in before}):
        cells = [f"{level:.0%}"]
        for arm in ("weight", "unit"):
            found = results.interval(arm, level)
            assert found is not None
            cells += [f"{before[arm, level]:.2f}", with_ends(found)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


STUDIES = {
    "weight-vs-unit": "pruning single weights against whole units",
    "sparsity-leakage": "sparsity against accuracy and membership leakage",
    "dense-sparse-dense": "training dense again after a sparse phase",
    "random-sparse-layers": "random sparse layers instead of dense ones",
    "mask-transfer": "a mask found on one dataset, used on another",
}


def with_ends(interval: Interval) -> str:
    """Return a mean in percent with the ends of its interval."""
    assert interval.low is not None
    assert interval.high is not None
    return f"{100 * interval.mean:.2f} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def verdicts_table() -> str:
    """Return which claims of each study hold, by their letters."""
    verdicts = ("supported", "refuted", "undecided")
    lines = [f"| study | | {' | '.join(verdicts)} |", "|---|---|---|---|---|"]
    for study, words in STUDIES.items():
        with (RESULTS / study / "claims.csv").open(newline="") as file:
            found = {row["claim"]: row["verdict"] for row in csv.DictReader(file)}
        cells = [
            ", ".join(claim for claim, judged in found.items() if judged == verdict) or "–"
            for verdict in verdicts
        ]
        lines.append(f"| `{study}` | {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def claims_table(study: str) -> str:
    """Return the claims of a study with their verdicts and evidence."""
    with (RESULTS / study / "claims.csv").open(newline="") as file:
        rows = {row["claim"]: row for row in csv.DictReader(file)}
    lines = ["| claim | verdict | evidence |", "|---|---|---|"]
    for row in rows.values():
        evidence = row["evidence"].removeprefix(f"{row['verdict'].capitalize()}: ")
        lines.append(
            f"| ({row['claim']}) {row['text']} | **{row['verdict']}** | "
            f"{evidence[:1].upper()}{evidence[1:]} |"
        )
    return "\n".join(lines)


MINUTES_A_SEED = {
    "weight-vs-unit": 15.6,
    "sparsity-leakage": 4.8,
    "dense-sparse-dense": 6.1,
    "random-sparse-layers": 37.0,
    "mask-transfer": 36.0,
}
"""What a seed takes on one core of an AMD EPYC with AVX-512, as a dry run tells."""


def deciding_table() -> str:
    """Return what it would take to decide each claim that is undecided."""
    lines = ["| study | claim | it takes | hours on one core |", "|---|---|---|---:|"]
    for study, minutes in MINUTES_A_SEED.items():
        results = results_of(study)
        for judged in judged_claims(results):
            if judged.verdict != "undecided":
                continue
            takes, hours = _what_it_takes(results, judged), "–"
            need = judged.units_to_decide
            if need is not None and need <= MOST_UNITS:
                hours = f"{need * (2 if results.study.paired else 1) * minutes / 60:.1f}"
            lines.append(f"| `{study}` | ({judged.claim.name}) | {takes} | {hours} |")
    return "\n".join(lines)


def _what_it_takes(results: Results, judged: JudgedClaim) -> str:
    need = judged.units_to_decide
    if need is None:
        if any(row.gap == "not learnt" for row in judged.comparisons):
            return "longer training, not more seeds: an arm has not learnt"
        return "networks that can be compared"
    if need > MOST_UNITS:
        return f"more than {results.counted_units(MOST_UNITS)}: it lies at its margin"
    return results.counted_units(need)


ATTACKS = {"lira_online": "LiRA online", "rmia": "RMIA", "base": "BASE", "loss": "loss"}
CONTRASTS: dict[str, tuple[tuple[str, tuple[str, float], tuple[str, float]], ...]] = {
    "sparsity-leakage": (
        ("dense, trained on, over dense", ("dense-longer", 0.0), ("dense", 0.0)),
        *(
            (
                f"{level:.0%} pruned, over dense, trained on",
                ("weight", level),
                ("dense-longer", 0.0),
            )
            for level in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
        ),
    ),
    "dense-sparse-dense": (
        *(
            (f"re-dense after {level:.0%}, over sparse", ("redense", level), ("sparse", level))
            for level in (0.3, 0.5, 0.7, 0.9)
        ),
        ("dense, third phase over second", ("dense-same-phases", 0.0), ("dense-longer", 0.0)),
    ),
}
"""Which arms are compared by every attack, by study."""


def agreement_table(study: str) -> str:
    """Return how far the AUC of several attacks moves from one arm to another, in points."""
    results = results_of(study)
    lines = [
        f"| difference of AUC, points | {' | '.join(ATTACKS.values())} |",
        f"|---|{'---:|' * len(ATTACKS)}",
    ]
    for words, first, second in CONTRASTS[study]:
        found = (results.paired(first, second, measure=f"{attack}_auc") for attack in ATTACKS)
        lines.append(f"| {words} | {' | '.join(signed(one) for one in found if one)} |")
    return "\n".join(lines)


def signed(interval: Interval) -> str:
    """Return a difference in points with its interval."""
    ends = [f"{100 * end:+.1f}" for end in (interval.low, interval.high) if end is not None]
    return f"{100 * interval.mean:+.1f} [{', '.join(ends)}]".replace("-", "−")


def latency_table(study: str) -> str:
    """Return how many times faster pruned networks predict, beside their accuracy."""
    results = results_of(study)
    lines = [
        "| arm | sparsity | test accuracy, % | times faster, compressed | zeros kept, in PyTorch |",
        "|---|---:|---:|---:|---:|",
    ]
    for arm in ("weight", "unit"):
        for level in results.own_levels(arm):
            faster = (
                speed_up([*results.values(arm, level, f"latency_ratio{way}").values()])
                for way in ("", "_masked")
            )
            accuracy = results.interval(arm, level)
            assert accuracy is not None
            lines.append(f"| {arm} | {level:.0%} | {with_ends(accuracy)} | {' | '.join(faster)} |")
    return "\n".join(lines)


def speed_up(ratios: list[float]) -> str:
    """Return the geometric mean of the reciprocals of relative latencies, with its interval.

    Student's interval of the logarithms, as `gossamer.reporting.latencies.speed_up` has it.
    """
    interval = mean_interval([-math.log(ratio) for ratio in ratios])
    low, high = (None if end is None else math.exp(end) for end in (interval.low, interval.high))
    return times(Interval(math.exp(interval.mean), low, high, interval.count))
