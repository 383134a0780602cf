"""From a program to a network that computes the same in fewer steps."""
