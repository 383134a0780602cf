"""Membership inference on logits: what a network gives away about its training data."""

from gossamer.leakage.auditing import audit, audit_statistics
from gossamer.leakage.output_statistics import Statistics, statistics
from gossamer.leakage.two_versions import PairedChange, attack_versions, paired_change

__all__ = [
    "PairedChange",
    "Statistics",
    "attack_versions",
    "audit",
    "audit_statistics",
    "paired_change",
    "statistics",
]
