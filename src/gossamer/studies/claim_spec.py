"""A claim as a study file says it."""

import unicodedata
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat

from gossamer.measures import is_fraction
from gossamer.recipes.spellings import plain_number
from gossamer.records.record import Claim, ControlComparison
from gossamer.training.options import Options


def _without_controls(text: str, allowed: str) -> str:
    for character in text:
        if unicodedata.category(character) == "Cc" and character not in allowed:
            raise ValueError(
                f"the text holds the control character U+{ord(character):04X}, which no figure or "
                "page can show: leave it out"
            )
    return text


Line = Annotated[str, AfterValidator(lambda text: _without_controls(text, ""))]
"""One line, without control characters."""

Paragraph = Annotated[str, AfterValidator(lambda text: _without_controls(text, "\n\r\t"))]
"""Text of several lines, without other control characters."""

Level = Annotated[float, BeforeValidator(plain_number)]
"""A value of the grid."""

ACCURACY_MARGIN = 0.005
ATTACK_MARGIN = 0.01
PAR_MARGIN = 0.02


class ControlSpec(ControlComparison):
    """The comparison that could explain a claim, as the file has it."""

    text: Line
    """What it means, in one sentence."""


class ClaimSpec(Options):
    """A claim as the file has it; see `gossamer.records.record.Claim`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9'-]*$")
    """What the report calls it, such as "a"."""
    text: Line
    """The claim in one sentence."""
    says: Literal["higher", "lower", "not-lower", "not-higher", "on-par"]
    """What it says of the difference `compare` - `against`: above the margin ("higher"), below
    minus the margin ("lower"), above minus the margin ("not-lower"), below the margin ("not-
    higher"), or between the two ("on-par")."""
    compare: str
    """The arm that the claim is about."""
    against: Annotated[tuple[str, ...], Field(min_length=1)] | str
    """The arm that it is compared to, or several."""
    measure: str = "test_accuracy"
    """A column of results.csv."""
    levels: tuple[Level, ...] = ()
    """Values of the grid at which it is judged; left out, everywhere that the arms are."""
    against_level: Level | None = None
    """Where on the grid the other arms are looked at; left out, at the same value."""
    over: Literal["each", "any", "mean"] = "each"
    """Whether every comparison must support the claim, "any" one is enough, or their "mean"
    counts."""
    matched_on: str | None = None
    """Compare where this measure is equal, and not at the same value of the grid: between the
    points of the other arms, in their order, where they first pass the value that `compare`
    has."""
    margin: NonNegativeFloat | None = None
    """The smallest difference that matters: "higher" says higher by more than this, "not-lower"
    lower by less. None for 0.005, half a point of accuracy, or 0.01 of an attack's; 0.02 for
    "on-par". What is no fraction has no margin but the one that is given."""
    control: ControlSpec | None = None
    """The comparison that could explain the claim away."""

    def resolved(self) -> Claim:
        """Return the claim with its defaults."""
        margin = self._default_margin() if self.margin is None else self.margin
        return Claim(**{**self.model_dump(), "against": self.others, "margin": margin})

    @property
    def others(self) -> tuple[str, ...]:
        """The arms that it is compared to."""
        return (self.against,) if isinstance(self.against, str) else self.against

    @property
    def lacks_margin(self) -> bool:
        """Whether it must state its margin, and does not."""
        return self.margin is None and not is_fraction(self.measure)

    def arms(self) -> Iterator[tuple[str, str]]:
        """Yield every arm that the claim is about, with the field that says so."""
        yield "compare", self.compare
        yield from (("against", arm) for arm in self.others)
        if self.control is not None:
            yield from (("control", self.control.compare), ("control", self.control.against))

    def measures(self) -> Iterator[tuple[str, str]]:
        """Yield every measure that the claim is about, with the field that says so."""
        yield "measure", self.measure
        if self.matched_on is not None:
            yield "matched_on", self.matched_on
        if self.control is not None and self.control.measure is not None:
            yield "control", self.control.measure

    def fixed_levels(self) -> Iterator[tuple[str, float]]:
        """Yield every level that the claim names, with the field that says so."""
        yield from (("levels", level) for level in self.levels)
        if self.against_level is not None:
            yield "against_level", self.against_level

    def _default_margin(self) -> float:
        if self.says == "on-par":
            return PAR_MARGIN
        accuracy = self.measure.startswith(("train_", "validation_", "test_"))
        return ACCURACY_MARGIN if accuracy else ATTACK_MARGIN
