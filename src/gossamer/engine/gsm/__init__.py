"""The compressed file: networks written whole or not at all, and believed in nothing when read."""

from gossamer.engine.gsm.file import read_network, write_network

__all__ = ["read_network", "write_network"]
