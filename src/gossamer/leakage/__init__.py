"""Membership inference on logits: what a network gives away about its training data."""

from gossamer.leakage.auditing import audit, audit_statistics
from gossamer.leakage.output_statistics import Statistics, statistics
from gossamer.leakage.releases import PairedChange, foreign_attack, joint_attack, paired_change

__all__ = [
    "PairedChange",
    "Statistics",
    "audit",
    "audit_statistics",
    "foreign_attack",
    "joint_attack",
    "paired_change",
    "statistics",
]
