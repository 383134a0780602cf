"""Prediction from a compressed file, with NumPy alone."""

from gossamer.runtime.predictor import Predictor, load

__all__ = ["Predictor", "load"]
