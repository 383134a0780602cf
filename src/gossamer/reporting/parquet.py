"""The table of every number as Parquet, for programs that read columns."""

import io
from typing import Any

from gossamer.core.installing import needing
from gossamer.reporting.columns import KEY, results_table
from gossamer.reporting.results import Results

_TEXT = ("arm", "dataset", KEY.name)


def parquet_of(results: Results) -> bytes:
    """Return `results_table` as Parquet: the same columns, with types; empty is null.

    Raises
    ------
    MissingPackageError
        If pyarrow is not installed.
    """
    with needing("parquet", "Parquet"):
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    arrow: Any = pyarrow
    types = dict.fromkeys(_TEXT, arrow.string())
    options = arrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    text = io.BytesIO(results_table(results).encode())
    table = arrow.csv.read_csv(text, convert_options=options)
    found = io.BytesIO()
    arrow.parquet.write_table(table, found)
    return found.getvalue()
