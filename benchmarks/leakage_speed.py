"""How long a leakage audit takes, and what it holds in memory, on one core.

    python -m benchmarks.leakage_speed

Measured: the whole audit of 16 models x 60,000 examples x 10 classes (every attack, intervals and
self-tests) with its peak memory; the best threshold over 70,000 scores against scanning every
score as a threshold with NumPy sums, and against scikit-learn's ROC curve; the area under the
curve against scikit-learn's. What is compared must agree.
"""

import os
import resource
import time

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from benchmarks._common import alternate, write_result
from gossamer.leakage import audit
from gossamer.leakage.ranking import auc, best_threshold, rank

MODELS, EXAMPLES, CLASSES = 16, 60_000, 10
SCORES = 70_000
SCANNED = 500
"""Thresholds that are really scanned; each takes as long as any other."""

REPEATS = 9


def main() -> None:
    """Measure, print, write the result."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    result = {**audit_whole(), **compare_scores()}
    for key, value in result.items():
        print(f"{key:45} {value}")
    print(write_result("leakage-speed", 1, result))


def audit_whole() -> dict[str, float]:
    """Audit models that leak a little; return seconds and the process's peak memory."""
    logits, labels, members = outputs()
    before = _peak_gib()
    started = time.perf_counter()
    found = audit(logits, labels, members)
    seconds = time.perf_counter() - started
    assert found.passed, found.checks
    return {
        "audit_seconds": round(seconds, 2),
        "audit_attacks": len(found.attacks),
        "peak_gib_with_inputs": round(_peak_gib(), 2),
        "peak_gib_of_inputs": round(before, 2),
    }


def outputs() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Logits of paired models that are somewhat surer of what they were trained on."""
    generator = np.random.default_rng(0)
    labels = np.asarray(generator.integers(0, CLASSES, EXAMPLES), dtype=np.int64)
    halves = generator.random((MODELS // 2, EXAMPLES)) < 0.5
    members = np.stack([halves, ~halves], axis=1).reshape(MODELS, EXAMPLES)
    logits = generator.standard_normal((MODELS, EXAMPLES, CLASSES), dtype=np.float32)
    gain = np.exp(generator.normal(-1, 1, EXAMPLES))
    raised = generator.normal(3, 3, EXAMPLES) + gain * members
    logits[:, np.arange(EXAMPLES), labels] += raised.astype(np.float32)
    return logits, labels, members


def compare_scores() -> dict[str, float]:
    """Time the best threshold and the area against the other ways to find them."""
    generator = np.random.default_rng(1)
    members = generator.random(SCORES) < 6 / 7
    scores = generator.normal(size=SCORES) + 0.3 * members
    candidates = generator.choice(scores, SCANNED, replace=False)
    assert np.isclose(best_threshold(scores, members).balanced_accuracy, _by_curve(scores, members))
    assert np.isclose(auc(rank(scores, members)), metrics.roc_auc_score(members, scores))
    timings = alternate(
        {
            "best": lambda: _drop(best_threshold(scores, members)),
            "scan": lambda: _drop(_scan(scores, members, candidates)),
            "roc_curve": lambda: _drop(_by_curve(scores, members)),
            "auc": lambda: _drop(auc(rank(scores, members))),
            "roc_auc_score": lambda: _drop(metrics.roc_auc_score(members, scores)),
        },
        REPEATS,
    )
    median = {name: timing.median for name, timing in timings.items()}
    scan = median["scan"] * SCORES / SCANNED
    return {
        "best_threshold_ms": round(1000 * median["best"], 2),
        "scan_of_all_thresholds_s_extrapolated": round(scan, 2),
        "best_threshold_times_faster_than_scan": round(scan / median["best"]),
        "sklearn_roc_curve_ms": round(1000 * median["roc_curve"], 2),
        "auc_ms": round(1000 * median["auc"], 2),
        "sklearn_roc_auc_score_ms": round(1000 * median["roc_auc_score"], 2),
    }


def _scan(
    scores: NDArray[np.float64], members: NDArray[np.bool_], candidates: NDArray[np.float64]
) -> float:
    """Return the best balanced accuracy, with two sums a threshold."""
    inside, outside = scores[members], scores[~members]
    return max(
        float(np.sum(inside >= t) / len(inside) + np.sum(outside < t) / len(outside)) / 2
        for t in candidates
    )


def _by_curve(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
    wrongly, caught, _ = metrics.roc_curve(members, scores, drop_intermediate=False)
    return float(((1 + caught - wrongly) / 2).max())


def _drop(value: object) -> None:
    """Take a result, so that a timed function returns nothing."""


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # given in KiB


if __name__ == "__main__":
    main()
