"""Columns that are timed in processes of their own, one running while the others are halted.

Thread pools do not share a machine well: their idle threads spin for a while and take the cores
from whoever is timed next. On two cores, PyTorch took three times as long when ONNX Runtime was
timed in turn with it, in one process or in two, and each took as long as alone when the process of
the other was halted meanwhile. So each library has a process, all take turns, and the operating
system halts those whose turn it is not.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from gossamer.benchmarking.columns import Prepared, prepare
from gossamer.benchmarking.subjects import (
    Case,
    Subject,
    network_of,
    random_inputs,
    share_of_zeros,
)
from gossamer.core.errors import GossamerError, InputError
from gossamer.engine import Floats
from gossamer.measures.functional.latency import Block, block_of

CAN_HALT = hasattr(signal, "SIGSTOP")
_GOODBYE_SECONDS = 10.0
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


@dataclass(frozen=True)
class Ready:
    """What a process says of its columns in a case."""

    achieved: float
    """Share of zeros in the network that it has."""
    outputs: Mapping[str, Floats]
    """Of the columns that can be timed."""
    remarks: Mapping[str, str]
    absent: Mapping[str, str]
    """Why the other columns cannot."""


@dataclass(frozen=True)
class _Run:
    column: str
    calls: int


class Bench:
    """A process that prepares some columns and times them when asked; halted in between.

    Parameters
    ----------
    columns
        Names of the columns.
    chosen
        The network.
    begin
        Called first of all in the process, for settings that a library must not change.
    """

    def __init__(
        self, columns: Sequence[str], chosen: Subject, begin: Callable[[], None] | None = None
    ) -> None:
        self.columns = tuple(columns)
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self.columns, chosen, begin)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        with _deaf():
            self._process.start()
        theirs.close()

    def prepare(self, case: Case) -> Ready:
        """Prepare all columns for a case.

        Raises
        ------
        InputError
            If there is no such network, or it cannot be pruned so.
        GossamerError
            If the process died.
        """
        found = self._ask(case)
        if isinstance(found, GossamerError):
            raise found
        assert isinstance(found, Ready)
        return found

    def block(self, column: str) -> Block:
        """Return a function that makes so many calls of a column and returns their seconds."""
        return lambda calls: float(self._ask(_Run(column, calls)))

    def close(self) -> None:
        """End the process."""
        self._process.kill()  # a halted process hears nothing else
        self._process.join(_GOODBYE_SECONDS)
        self._connection.close()

    def _ask(self, question: Case | _Run) -> Any:
        self._signal("SIGCONT")
        try:
            self._connection.send(question)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        finally:
            self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        if CAN_HALT and self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, getattr(signal, name))

    def _died(self) -> GossamerError:
        self._process.join(_GOODBYE_SECONDS)
        code = self._process.exitcode
        killed = code is not None and code == -signal.SIGKILL
        why = "killed, perhaps for want of memory" if killed else f"exit code {code}"
        return GossamerError(f"the process of {', '.join(self.columns)} died ({why})")


@contextmanager
def _deaf() -> Iterator[None]:
    """Have processes that start in the block ignore Ctrl-C: the driving process decides."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(
    connection: Connection,
    columns: Sequence[str],
    chosen: Subject,
    begin: Callable[[], None] | None,
) -> None:
    """Answer questions until the driving process is gone; the life of a process."""
    _die_with_parent()
    if begin is not None:
        begin()
    networks = _Networks(chosen)
    prepared: dict[str, Prepared] = {}
    while True:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(question, _Run):
            connection.send(block_of(prepared[question.column].call)(question.calls))
        else:
            connection.send(_answer(networks, columns, question, prepared))


class _Networks:
    """The network of the row that was asked for last."""

    def __init__(self, chosen: Subject) -> None:
        self.chosen = chosen
        self._last: tuple[tuple[float, bool], torch.nn.Module] | None = None

    def of(self, case: Case) -> torch.nn.Module:
        level = case.sparsity, case.as_given
        if self._last is None or self._last[0] != level:
            self._last = level, network_of(self.chosen, case)
        return self._last[1]


def _answer(
    networks: _Networks, columns: Sequence[str], case: Case, prepared: dict[str, Prepared]
) -> Ready | GossamerError:
    torch.set_num_threads(case.threads)
    prepared.clear()
    gc.enable()
    try:
        network = networks.of(case)
    except GossamerError as error:
        return error
    inputs = random_inputs((case.batch, *networks.chosen.input_shape))
    outputs: dict[str, Floats] = {}
    absent: dict[str, str] = {}
    for column in columns:
        try:
            one = prepare(column, network, inputs, case.threads)
            outputs[column] = _as_array(one.call())
            prepared[column] = one
        except InputError as error:
            absent[column] = str(error).rstrip(".")
    gc.collect()
    gc.disable()
    remarks = {column: one.remark for column, one in prepared.items()}
    return Ready(share_of_zeros(network, networks.chosen), outputs, remarks, absent)


def _as_array(outputs: Any) -> Floats:
    values = outputs.float().numpy() if isinstance(outputs, torch.Tensor) else outputs
    return np.asarray(values, np.float32)


def _die_with_parent() -> None:
    """Have Linux end this process with the driving one, even while it is halted."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
