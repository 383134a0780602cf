"""What was measured of several networks together."""

from collections.abc import Mapping
from typing import Literal

from gossamer.records.leakage import AttackResult, Leakage, LeakageChange
from gossamer.records.record import Environment, Value
from gossamer.records.speed import Latency


class Timed(Value):
    """How a network was timed, and every way to run it that was."""

    batch: int
    threads: int
    instruction_set: str
    """What gossamer's engine used, such as "avx2"."""
    chosen: str
    """What `gossamer.compress` chose, such as "engine"."""
    own: Mapping[str, Latency]
    """Ways to run the network, in seconds a batch: "PyTorch", "compressed" and so on."""
    unpruned: Mapping[str, Latency]
    """The same of the unpruned network, timed in turn with it; empty if it is that one."""


class JointRecord(Value):
    """Numbers of networks that depend on other networks, too.

    Attacks on the networks of one arm and level are calibrated on those of the other seeds; the
    overlap of masks needs two networks, and a network is timed beside the unpruned one.
    """

    key: str
    """Hash of the records it rests on and of what was measured."""
    kind: Literal["leakage", "releases", "overlap", "latency"]
    """"leakage": attacks on one arm at one level; "releases": attackers who know of a second arm,
    too; "overlap": the masks of two arms, seed by seed; "latency": one network, beside the
    unpruned one of its seed."""
    records: tuple[str, ...]
    """Keys of the records that `measures` are about, in the order of the seeds."""
    others: tuple[str, ...] = ()
    """Keys of the records of the second arm, if there is one."""
    measures: Mapping[str, Mapping[str, float]]
    """Named numbers, by record: these count as measures of that record."""
    leakage: Leakage | None = None
    pictures: tuple[str, ...] = ()
    """The most leaking examples of `leakage`, as PNG data in base 64; empty if they are none."""
    joint: AttackResult | None = None
    """The attacker who sees a network of either arm."""
    foreign: AttackResult | None = None
    """The attacker whose own networks are those of the other arm."""
    change: LeakageChange | None = None
    """From the other arm to this one, example by example."""
    timed: Timed | None = None
    seconds: float
    environment: Environment

    @property
    def attacked(self) -> tuple[AttackResult, ...]:
        """What attacks found, of every kind."""
        alone = self.leakage.attacks if self.leakage else ()
        return (*alone, *(one for one in (self.joint, self.foreign) if one))
