"""The compiled kernels, `_native`, where they were built."""
