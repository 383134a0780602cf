"""Studies: a grid of trials as a file, its plan, and running it."""
