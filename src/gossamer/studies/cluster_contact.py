"""Reaching the scheduler of a Dask cluster, and seeing which of its workers live."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gossamer.core.errors import GossamerError, InputError
from gossamer.core.installing import needing

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_SECONDS = 10.0
_FROZEN_SECONDS = 60.0
"""A worker that lives says so every few seconds, unless its machine is very busy."""
_LOGGERS = ("distributed", "tornado", "asyncio")
KEPT = "what was done is kept: run the same command again"


@contextmanager
def connected(url: str) -> Iterator["Client"]:
    """Connect to a scheduler; what Dask itself would say of a lost one is left out.

    Raises
    ------
    InputError
        If no scheduler answers.
    GossamerError
        If it is lost.
    """
    with needing("cluster", "--scheduler"):
        from distributed import Client
        from distributed.client import ClosedClientError
    with _without_its_words():
        try:
            client = Client(url, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--scheduler {url}: no Dask scheduler answers there within "
                f"{_CONNECT_SECONDS:g} s, expected an address such as tcp://host:8786"
            ) from error
        try:
            yield client
        except ClosedClientError as error:
            raise lost_scheduler(url) from error
        finally:
            with suppress(OSError, TimeoutError):  # the scheduler may be gone already
                client.close(timeout=_CONNECT_SECONDS)


@contextmanager
def _without_its_words() -> Iterator[None]:
    """Keep tracebacks of Dask's own threads away from a sentence that says the same.

    Dask gives some of its loggers levels of their own.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    loggers += [
        logging.getLogger(name)
        for name in tuple(logging.root.manager.loggerDict)
        if name.partition(".")[0] in _LOGGERS
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def lost_scheduler(url: str) -> GossamerError:
    """Return what to say where the scheduler is gone."""
    return GossamerError(f"--scheduler {url}: the scheduler is gone; {KEPT}")


class Attendance:
    """Which workers of a cluster live: those that say so again and again."""

    def __init__(self, client: "Client", url: str) -> None:
        self._client = client
        self._url = url
        self.frozen: set[str] = set()
        """Workers that the scheduler has not heard of for long, and does not yet hold for dead."""
        self.memory: dict[str, int] = {}
        """Bytes that the process of each worker holds, as it said last."""
        self._said: dict[str, tuple[float, float]] = {}
        """When the scheduler heard of a worker last, by its clock, and when that changed here."""

    def addresses(self) -> set[str]:
        """Return the addresses of the workers that live; a frozen one is not among them.

        Raises
        ------
        GossamerError
            If the scheduler is gone.
        """
        scheduler = self._client.scheduler
        try:
            if self._client.status != "running" or scheduler is None:
                raise lost_scheduler(self._url)
            found = self._client.sync(scheduler.identity, n_workers=-1)["workers"]
        except OSError as error:
            raise lost_scheduler(self._url) from error
        now = time.monotonic()
        self.memory = {one: of.get("metrics", {}).get("memory", 0) for one, of in found.items()}
        self._said = {
            address: self._said[address]
            if address in self._said and self._said[address][0] == worker["last_seen"]
            else (worker["last_seen"], now)
            for address, worker in found.items()
        }
        silent = {one for one, (_, heard) in self._said.items() if now - heard >= _FROZEN_SECONDS}
        self.frozen = silent
        return self._said.keys() - silent
