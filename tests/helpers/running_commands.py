"""What running the command in tests gives."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and what it exited with."""

    code: int
    out: str
    err: str


Gossamer = Callable[..., Outcome]
"""Runs the command with arguments, as the fixture `gossamer` does."""
