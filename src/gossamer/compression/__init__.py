"""Pruned networks made really smaller and faster: `compact` and `compress`."""

from gossamer.compression.compacting.report import CompactedLayer, CompactionReport
from gossamer.compression.compaction import compact, compaction_report
from gossamer.compression.compressed import Compressed
from gossamer.compression.compressing import compress

__all__ = [
    "CompactedLayer",
    "CompactionReport",
    "Compressed",
    "compact",
    "compaction_report",
    "compress",
]
