"""Benchmarks: run as `python -m benchmarks.NAME` on an idle machine."""
