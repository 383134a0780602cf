"""What was given up: a training or a trial that cost its process, or went over a limit."""

from gossamer.records.record import Value


class Failed(Value):
    """A training or a measured trial that is not tried again unless that is asked for."""

    key: str
    """Key of the state that the training ends in, or of the trial's record."""
    reason: str
    """What happened, as a user is told: which trial, and the signal or the limit."""
