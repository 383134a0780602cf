"""The report of a study: one offline page, its figures and a table of every number."""

from gossamer.report.write import write_report

__all__ = ["write_report"]
