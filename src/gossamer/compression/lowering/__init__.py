"""From what PyTorch records of a model to networks of the runtime."""
