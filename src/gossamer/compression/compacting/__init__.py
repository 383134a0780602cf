"""How compaction works: following channels, finding what is needed, cutting layers."""
