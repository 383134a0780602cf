"""Intervals, paired comparisons, verdicts on claims, and power."""
