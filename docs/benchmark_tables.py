"""Tables of what benchmarks measured, from benchmarks/results."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from gossamer.core.formats import counted, decimal
from gossamer.leakage.attacks import ATTACKS
from gossamer.reporting.glossary import spread
from gossamer.stats.intervals import mean_interval

BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "results"


def measured_table() -> str:
    """Return what the benchmarks measured, with where and how."""
    training, engine, audit = (
        json.loads((BENCHMARKS / f"{name}.json").read_text())
        for name in ("training-speed", "engine-overhead", "leakage-speed")
    )
    environment = training["environment"]
    lines = [
        f"Training the FashionMNIST CNN, batch {training['batch']}, {environment['threads']} "
        f"threads of {environment['processor']}, median of {training['repeats']} "
        "(`python -m benchmarks.training_speed`):",
        "",
        "| loop | images/s | against the tutorial's | against the strongest by hand |",
        "|---|---:|---:|---:|",
    ]
    loops = training["training"]
    strongest = max(
        row["images_per_second"] for name, row in loops.items() if not name.startswith("gossamer")
    )
    lines += [
        f"| {name} | {row['images_per_second']:,} | {row['factor']:.2f}x | "
        f"{row['images_per_second'] / strongest:.2f}x |"
        for name, row in loops.items()
    ]
    accuracies = training["test_accuracy_after_2_epochs"]
    means = ", ".join(
        f"{name} {spread(mean_interval(values))}%" for name, values in accuracies.items()
    )
    seeds = len(next(iter(accuracies.values())))
    again = engine["seconds_to_type_it_again"]
    lines += [
        "",
        f"Test accuracy after two epochs, mean over {seeds} seeds ± half the width of the 95% "
        f"interval: {means}. {bf16_sentence(training)}",
        "",
        f"The engine, on a study of {engine['trials']:,} trials and {place(engine)} (`python -m "
        f"benchmarks.engine_overhead`): {engine['overhead_ms_per_trial']:.1f} ms a trial beside "
        f"training and measuring; typing the finished study again takes "
        f"{again[len(again) // 2]:.1f} s, its report {engine['seconds_for_the_report']:.1f} s.",
        "",
        "The whole audit of 16 models x 60,000 examples, self-tests included, on "
        f"{place(audit)} (`python -m benchmarks.leakage_speed`): {audit['audit_seconds']:.1f} s "
        f"and {audit['peak_gib_with_inputs']:.2f} GiB; the best of 70,000 thresholds "
        f"{audit['sklearn_roc_curve_ms'] / audit['best_threshold_ms']:.1f} times faster than "
        "scikit-learn's ROC curve, and "
        f"{audit['best_threshold_times_faster_than_scan']:,} times faster than a NumPy sum for "
        "each (extrapolated from some of them); the AUC "
        f"{audit['sklearn_roc_auc_score_ms'] / audit['auc_ms']:.1f} times faster than "
        "scikit-learn's.",
    ]
    return "\n".join(lines)


def place(result: Any) -> str:
    """Return where something was measured."""
    environment = result["environment"]
    return f"{counted(environment['threads'], 'thread')} of {environment['processor']}"


def bf16_sentence(training: Any) -> str:
    """Say whether training in bf16 pays, from what was measured and nothing else."""
    ours, theirs = (training["training"][f"gossamer {name}"] for name in ("bf16", "float32"))
    known = training.get("bf16_instructions", "bf16" in training["environment"]["processor"])
    has = "has" if known else "has no"
    factor = ours["images_per_second"] / theirs["images_per_second"]
    verdict = (
        "it pays"
        if ours["slowest"] > theirs["fastest"]
        else "it does not pay"
        if ours["fastest"] < theirs["slowest"]
        else "the repeats cannot tell whether it pays"
    )
    return (
        f"bf16 is {factor:.2f}x as fast as float32 on this processor, which {has} instructions for "
        f"it: {verdict}."
    )


NETWORKS = {
    "fashion-cnn": "FashionMNIST CNN",
    "mlp": "MNIST MLP",
    "cifar-dropout-cnn": "CIFAR-10 CNN",
    "wide-head": "head 8192-2048-512-128-32-10",
}


def speed_table() -> str:
    """Return how fast 90% sparse networks are on one thread, beside the dense ones."""
    speed = json.loads((BENCHMARKS / "sparse-speed.json").read_text())
    options = f"--seconds {speed['seconds_a_row']:g} --networks {' '.join(speed['networks'])}"
    lines = [
        f"90% of the weights zero, one thread of {speed['environment']['processor']}, milliseconds "
        f"a batch, medians (`python -m benchmarks.sparse_speed {options}`):",
        "",
        "| network | batch | PyTorch | PyTorch bf16 | PyTorch CSR | ONNX Runtime | gossamer | "
        "faster than ONNX Runtime | than the best of all | 4×1 blocks, than ONNX Runtime | "
        "than the best of all |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in speed["networks"].items():
        blocks = {(row["threads"], row["batch"]): row for row in found["blocks"]}
        lines += [
            speed_line(NETWORKS[name], row, blocks[1, row["batch"]])
            for row in found["scattered"]
            if row["threads"] == 1
        ]
    gains = json.loads((BENCHMARKS / "thread-gain.json").read_text())
    other = json.loads((BENCHMARKS / "sparse-speed-avx2.json").read_text())
    remarks = (
        *speed_remarks(speed["networks"], gains["networks"]),
        on_another_machine(other),
    )
    lines += ["", *(f"- {line}" for line in remarks)]
    return "\n".join(lines)


def faster_table() -> str:
    """Return how many times faster 90% sparse networks are than the fastest dense way."""
    speed = json.loads((BENCHMARKS / "sparse-speed.json").read_text())
    lines = [
        f"90% of the weights zero, one thread of {speed['environment']['processor']}, times faster "
        "than the dense network in ONNX Runtime, and in brackets than the fastest of ONNX Runtime "
        "and PyTorch, bf16 included; [every number](docs/speed.md):",
        "",
        "| network | batch 1 | batch 64 | batch 64, zeros in 4×1 blocks |",
        "|---|---:|---:|---:|",
    ]
    for name, found in speed["networks"].items():
        cells = [
            next(
                f"{row['times_faster']['onnxruntime']:.1f}x "
                f"({min(row['times_faster'].values()):.1f}x)"
                for row in found[pattern]
                if (row["threads"], row["batch"]) == (1, batch)
            )
            for pattern, batch in (("scattered", 1), ("scattered", 64), ("blocks", 64))
        ]
        lines.append(f"| {NETWORKS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def coverage_table() -> str:
    """Return how often intervals held in simulated studies."""
    result = json.loads((BENCHMARKS / "interval-coverage.json").read_text())
    lines = [
        f"{result['studies']:,} simulated studies a cell (`python -m "
        "benchmarks.interval_coverage`): how often one 95% interval held the mean, and how often "
        "all intervals of a study of ten comparisons did; with Student's alone, and as gossamer "
        "takes them.",
        "",
        "| values | seeds | one: Student's | taken | all of ten: Student's | taken | two groups |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, by_seeds in result["coverage"].items():
        for seeds, one in by_seeds.items():
            cells = (one[key] for key in ("student", "taken", "student_all", "taken_all"))
            shares = " | ".join("–" if cell is None else f"{cell:.1%}" for cell in cells)
            lines.append(f"| {name} | {seeds} | {shares} | {one['two_groups']:.1%} |")
    return "\n".join(lines)


def attack_coverage_table() -> str:
    """Return how often the intervals of each attack held, in simulated audits."""
    result = json.loads((BENCHMARKS / "attack-coverage.json").read_text())
    worlds = ("nothing leaks", "some are memorised", "a fifth learnt nothing")
    audits = result["audits"]
    expected = binomtest(round(0.95 * audits), audits).proportion_ci(0.95)
    lines = [
        f"Share of 95% intervals that hold the mean over all audits, in per cent; {audits} "
        f"simulated audits each of {result['examples']:,} examples, so that 95% comes out as "
        f"{100 * expected.low:.0f} to {100 * expected.high:.0f} "
        "(`python -m benchmarks.attack_coverage`). The first number is without leakage, the second "
        "where some examples are memorised, the third where a fifth of the models learnt nothing.",
        "",
        "| attack | models | AUC | balanced accuracy | TPR at 1% FPR |",
        "|---|---|---|---|---|",
    ]
    coverage = result["coverage"]
    for name in coverage[worlds[0]]["4 pairs"]:
        for models, found in coverage[worlds[0]].items():
            if name in found:
                held = [coverage[world][models][name] for world in worlds]
                cells = [
                    " / ".join(
                        "–" if h[reading] is None else f"{100 * h[reading]:.0f}" for h in held
                    )
                    for reading in ("auc", "balanced_accuracy", "tpr@0.01")
                ]
                lines.append(f"| {ATTACKS[name].label} | {models} | {' | '.join(cells)} |")
    return "\n".join(lines)


def attack_power_table() -> str:
    """Return how well each attack tells two arms apart, in simulated studies."""
    result = json.loads((BENCHMARKS / "attack-power.json").read_text())
    arms = result["arms"]
    lines = [
        f"{result['studies']} simulated studies a cell of {result['examples']:,} examples "
        "(`python -m benchmarks.attack_power`): difference of AUC between two arms in points, and "
        "in how many per cent of the studies its 95% interval lies below and above 0.",
        "",
        f"| pairs | attack | {' | '.join(arms)} |",
        f"|---|---|{'---:|' * len(arms)}",
    ]
    for pairs, found in next(iter(arms.values())).items():
        for name in found:
            told = [by_pairs[pairs][name] for by_pairs in arms.values()]
            cells = [
                f"{decimal(one['points'], 1, signed=True)}: "
                f"{100 * one['falls']:.0f}, {100 * one['rises']:.0f}"
                for one in told
            ]
            label = ATTACKS[name].label if name in ATTACKS else "*who knows how margins come about*"
            lines.append(f"| {pairs} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_line(network: str, row: Any, blocks: Any) -> str:
    """Return one line of the table of speeds."""
    taken, faster = row["milliseconds"], row["times_faster"]
    plain = min(taken["eager"], taken.get("channels_last", taken["eager"]))
    cells = [plain, taken["bf16"], taken.get("csr"), taken["onnxruntime"], taken["gossamer"]]
    factors = [
        faster["onnxruntime"],
        min(faster.values()),
        blocks["times_faster"]["onnxruntime"],
        min(blocks["times_faster"].values()),
    ]
    return (
        f"| {network} | {row['batch']} | {' | '.join(map(milliseconds, cells))} | "
        f"{' | '.join(f'{factor:.1f}x' for factor in factors)} |"
    )


def milliseconds(taken: float | None) -> str:
    """Return a time with three digits that count; None where there is no such way."""
    if taken is None:
        return "–"
    return f"{float(format(taken, '.3g')):,g}"


def speed_remarks(networks: Any, gains: Any) -> list[str]:
    """Return where it begins to pay, what a second thread and removed units bring, and how sure."""

    def listed(value: Callable[[Any], str]) -> str:
        return ", ".join(f"{NETWORKS[name]} {value(found)}" for name, found in networks.items())

    return [
        "The weights are untrained, pruned by magnitude layer by layer; units that are empty then "
        "are removed before the zeros are skipped.",
        "Faster than dense ONNX Runtime from this sparsity on, batch 64: "
        + listed(lambda found: found["break_even"]["ONNX Runtime, batch 64"])
        + "; batch 1: "
        + listed(lambda found: found["break_even"]["ONNX Runtime, batch 1"])
        + ".",
        "A second thread, batch 1024, and in brackets, for comparison, what two callers gain, each "
        "with one thread and half of the batch (`python -m benchmarks.thread_gain`): "
        + ", ".join(
            f"{NETWORKS[name]} {one['times_faster']:.2f}x ({one['callers_faster']:.2f}x)"
            for name, one in gains.items()
        )
        + ".",
        "75% of the units removed, and no sparse kernel at all, in ONNX Runtime, batch 64: "
        + listed(lambda found: f"{found['units_removed']['times_faster']:.1f}x")
        + ".",
        "The machine shares its host, and its speed drifts: the middle half of the repeats lies "
        f"within {100 * repeats_spread(networks):.0f}% of a row's median, in the median row.",
    ]


def on_another_machine(speed: Any) -> str:
    """Return how much faster the same measurement found networks with other instructions."""
    networks = speed["networks"]

    def listed(pattern: str, batch: int) -> str:
        return ", ".join(
            f"{NETWORKS[name]} {row['times_faster']['onnxruntime']:.1f}x "
            f"({min(row['times_faster'].values()):.1f}x)"
            for name, found in networks.items()
            for row in found[pattern]
            if (row["threads"], row["batch"]) == (1, batch)
        )

    even = ", ".join(
        f"{NETWORKS[name]} {found['break_even']['ONNX Runtime, batch 64']}"
        for name, found in networks.items()
    )
    return (
        f"The same, at revision {speed['environment']['revision']}, on a processor with "
        f"{speed['machine']['instruction_set'].upper()} at most "
        "(`benchmarks/results/sparse-speed-avx2.json`), faster than ONNX Runtime, in brackets than "
        f"the best of all: batch 64 {listed('scattered', 64)}; batch 1 {listed('scattered', 1)}; "
        f"4×1 blocks, batch 64: {listed('blocks', 64)}; break-even with ONNX Runtime: {even}."
    )


def repeats_spread(networks: Any) -> float:
    """Return half the distance of gossamer's quartiles, relative, in the median row."""
    spreads: list[float] = []
    for found in networks.values():
        for row in (*found["scattered"], *found["blocks"]):
            low, high = row["quartiles"]["gossamer"]
            spreads.append((high - low) / 2 / row["milliseconds"]["gossamer"])
    return statistics.median(spreads)


def architectures_table() -> str:
    """Return which architectures run whole, how exactly, and how far units are removed."""
    weights, units = (
        {row["name"]: row for row in json.loads((BENCHMARKS / f"{name}.json").read_text())["rows"]}
        for name in ("architectures", "unit-removal")
    )
    known = [{**units.get(name, {}), **row} for name, row in weights.items()]
    whole = [row for row in known if row.get("whole") and "error from file" in row]
    worst = max(max(row["error"], row["error from file"]) for row in whole)
    compared = [row for row in known if row.get("Torch-Pruning: error", 1) <= 1e-5]
    as_far = [
        row
        for row in compared
        if row["the same channels: parameters left"] <= row["Torch-Pruning: parameters left"]
    ]
    lines = [
        f"{len(whole)} of {len(known)} run whole in the engine and from a file with NumPy alone, "
        f"with an error of at most {worst:.1e} of the largest output. For "
        f"{len(compared)} Torch-Pruning gives a network that computes what the one with zeros "
        f"does; for {len(as_far)} of these `compact` leaves no more parameters.",
        "",
        "| architecture | whole | error, PyTorch's | from the file | parameters | half of the "
        "units pruned: left, error | Torch-Pruning: left, error | the same channels: left, error |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in known:
        told = "yes" if row.get("whole") else ", ".join(row.get("remaining", [])) or row["failed"]
        lines.append(
            f"| {row['name']} | {told} | {_size(row, 'error')}, {_size(row, 'error of PyTorch')} | "
            f"{_size(row, 'error from file')} | {_count(row)} | "
            f"{_left(row, 'parameters left', 'error of the small one')} | "
            f"{_left(row, 'Torch-Pruning: parameters left', 'Torch-Pruning: error')} | "
            f"{_left(row, 'the same channels: parameters left', 'the same channels: error')} |"
        )
    return "\n".join(lines)


def _count(row: Mapping[str, Any]) -> str:
    return f"{row['parameters']:,}" if "parameters" in row else "-"


def _size(row: Mapping[str, Any], column: str) -> str:
    return f"{row[column]:.1e}" if column in row else "-"


def _left(row: Mapping[str, Any], left: str, error: str) -> str:
    if left not in row:
        return "fails" if left.startswith("Torch") and "Torch-Pruning: failed" in row else "-"
    share = f"{row[left] / row['parameters']:.1%}"
    return f"{share}, {row[error]:.1e}" if error in row else f"{share}, does not run"
