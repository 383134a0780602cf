"""Write docs/results-columns.md, or check that it is what the code says.

python docs/results_columns.py          # rewrites it
python docs/results_columns.py --check  # exits with 1 if it would change
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from gossamer.leakage.attacks import ATTACKS, attack_measures
from gossamer.reporting.columns import (
    IN_ATTACKS,
    IN_CLAIMS,
    STANDS_FOR,
    TRIAL,
    Column,
    column_row,
    columns,
)

FILE = Path(__file__).parent / "results-columns.md"


def page() -> str:
    """Return the whole text."""
    taken = dict.fromkeys(measure.removesuffix("_auc") for measure in attack_measures())
    attacks = "\n".join(
        f"| `{name}` | {attack.phrase} | {attack.meaning} | {attack.source} |"
        for name, attack in ATTACKS.items()
        if name in taken
    )
    place = (column for column in TRIAL if column.name in ("arm", "level"))
    return f"""# The tables of a report

Written by `docs/results_columns.py` from `gossamer.reporting.columns`, which documents them.

## results.csv

A line a trial, also of those that are not done: then everything but its name is empty. Numbers
are in full precision; a fraction of 0.97 is 97%. A column is there if any trial of the study has a
value for it.

{STANDS_FOR}

{table(columns())}

Attacks are called

| ATTACK | | | from |
|---|---|---|---|
{attacks}

The threshold of `best_threshold` is fixed for no false-positive rate, so that it has an AUC and a
balanced accuracy alone.

## claims.csv

A line a comparison of a claim, and one for its control. There is none for a study without claims.

{table(IN_CLAIMS)}

## leakage.csv

A line a number of an attack, the mean over the networks of an arm at a level. The same without the
first two columns is the `audit.csv` of `gossamer audit`.

{table((*place, *IN_ATTACKS))}
"""


def table(columns: Iterable[Column]) -> str:
    """Return a table with a line a column."""
    rows = (
        f"| `{name}` | {unit} | {meaning} | {empty} |"
        for name, unit, meaning, empty in map(column_row, columns)
    )
    return "\n".join(
        ["| column | unit | what it holds | empty where |", "|---|---|---|---|", *rows]
    )


def main() -> None:
    """Write the file; with ``--check`` compare it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        FILE.write_text(text, encoding="utf-8")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"{FILE.name} is out of date: run python docs/results_columns.py")


if __name__ == "__main__":
    main()
