"""A benchmark that looks into one architecture after the other, each in a process of its own."""

import argparse
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks._common import RESULTS, write_result
from benchmarks._zoo import ARCHITECTURES

Row = dict[str, Any]

LIMIT = 600
"""Seconds of the processor that one architecture may take, whatever else runs."""


def look_into_each(
    benchmark: str,
    description: str | None,
    one: Callable[[str], Row],
    table: Callable[[Sequence[Row]], str],
) -> None:
    """Look into all architectures, or those that the command line names, and write what is found.

    Parameters
    ----------
    benchmark
        The module in this folder, whose result is called so, with dashes.
    description
        What ``--help`` says.
    one
        Returns what is found of an architecture by its name; "failed" says why there is no more.
    table
        Returns rows as a table of Markdown.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--alone", action="store_true", help="here, without a process of its own")
    given = parser.parse_args()
    names = given.names or list(ARCHITECTURES)
    if unknown := [name for name in names if name not in ARCHITECTURES]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(ARCHITECTURES)}")
    if given.alone:
        print(json.dumps(one(names[0])))
        return
    result = benchmark.replace("_", "-")
    path = RESULTS / f"{result}.json"
    if not given.names:
        path.unlink(missing_ok=True)
    ordered: list[Row] = []
    for name in names:
        found = _in_process(benchmark, name)
        print(table([found]).splitlines()[-1], file=sys.stderr, flush=True)
        # Read again, as rows may be added meanwhile.
        known = json.loads(path.read_text())["rows"] if path.exists() else []
        rows = {row["name"]: row for row in (*known, found)}
        ordered = [rows[name] for name in ARCHITECTURES if name in rows]
        write_result(result, 1, {"rows": ordered})
    print(table(ordered))


def _in_process(benchmark: str, name: str) -> Row:
    """Return what a process of its own finds of an architecture."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--alone", name]
    limited = partial(resource.setrlimit, resource.RLIMIT_CPU, (LIMIT, LIMIT + 1))
    done = subprocess.run(command, capture_output=True, preexec_fn=limited, text=True, check=False)
    if done.returncode == -signal.SIGXCPU:
        return {"name": name, "failed": f"took more than {LIMIT} seconds"}
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        return {"name": name, "failed": done.stderr.strip()[-300:]}
