"""Sparse networks as plain arrays, and what runs them: compiled kernels, or NumPy alone."""
