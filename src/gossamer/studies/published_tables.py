"""The published figures of the built-in studies, from the files in ``published/``."""

import tomllib
from collections.abc import Collection, Mapping
from importlib import resources

from gossamer.records.record import Published, PublishedFigure
from gossamer.training.options import Options


class _Table(Options):
    """One measure at several levels, a row for each arm."""

    measure: str
    percent: bool = False
    levels: tuple[float, ...]
    arms: Mapping[str, tuple[float, ...]]

    def figures(self) -> list[PublishedFigure]:
        """Return the table cell by cell, as fractions."""
        unit = 100 if self.percent else 1
        return [
            PublishedFigure(arm=arm, measure=self.measure, level=level, value=value / unit)
            for arm, row in self.arms.items()
            for level, value in zip(self.levels, row, strict=True)
        ]


class _File(Options):
    source: str
    defects: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = {}
    """By arm, the nearest one to show its figures beside where the arm itself is not run."""
    stand_in_note: str = ""
    tables: tuple[_Table, ...]


def published_figures(name: str, arms: Collection[str] | None = None) -> Published | None:
    """Return the published figures of a built-in study; None for a study that has none.

    Parameters
    ----------
    name
        The study.
    arms
        Those that are run; the others may have stand-ins. None for all.
    """
    file = resources.files("gossamer.studies") / "published" / f"{name}.toml"
    if not file.is_file():
        return None
    content = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    figures = [figure for table in content.tables for figure in table.figures()]
    stood_in = {
        arm: other
        for arm, other in content.stand_ins.items()
        if arms is not None and arm not in arms and other in arms
    }
    return Published(
        source=content.source,
        defects=content.defects,
        figures=tuple(
            figure.model_copy(update={"arm": stood_in.get(figure.arm, figure.arm)})
            for figure in figures
        ),
        note=content.stand_in_note if stood_in else "",
    )
