"""Pruned networks made really smaller and faster: `compact` and `compress`."""

from gossamer.compression.compaction import (
    CompactedLayer,
    CompactionReport,
    compact,
    compaction_report,
)
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
