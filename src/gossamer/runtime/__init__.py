"""The compressed file and prediction from it, with NumPy alone."""

from gossamer.runtime.file import read_network, write_network
from gossamer.runtime.predictor import Predictor, load

__all__ = ["Predictor", "load", "read_network", "write_network"]
