"""At which corner of its point a label stands, so that it covers no other label and no point."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

LETTER, HEIGHT = 5.9, 11.0
"""Width of a digit and height of a line, in pixels at a font size of 10.5."""
WIDER = 4.0
"""By how much a percent sign is wider than a digit, with a little room."""
POINT = 4.5
"""Half the width of a mark, in pixels."""
ROOM = 0.07
"""What an axis shows beyond its data at either end, as a part of their range."""
SWEEPS = 4
"""How often each label is placed anew, now that others have moved."""


@dataclass(frozen=True)
class Frame:
    """What an axis shows, and how long it is in pixels."""

    low: float
    high: float
    size: float

    @classmethod
    def around(cls, values: Iterable[float], size: float) -> "Frame":
        """Return one with a little room at both ends, but none below zero.

        Examples
        --------
        >>> frame = Frame.around([50.0, 150.0, 75.0], 228)
        >>> frame.low, frame.high, frame.at(50.0), frame.at(100.0)
        (43.0, 157.0, 14.0, 114.0)
        >>> Frame.around([0.0, 1.0], 320).low
        0.0
        """
        shown = list(values)
        low, high = min(shown), max(shown)
        room = ROOM * (high - low) or 1.0
        return cls(max(low - room, min(low, 0.0)), high + room, size)

    def at(self, value: float) -> float:
        """Return how far a value is from the low end, in pixels."""
        return self.size * (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Corner:
    """Where a label begins, in pixels from its point; y grows downwards."""

    dx: float
    dy: float
    align: Literal["left", "right", "center"]


CORNERS = (
    Corner(7, -8, "left"),
    Corner(7, 9, "left"),
    Corner(-7, -8, "right"),
    Corner(-7, 9, "right"),
    Corner(0, -13, "center"),
    Corner(0, 14, "center"),
    Corner(9, 0, "left"),
    Corner(-9, 0, "right"),
)
FARTHER = (
    Corner(12, -18, "left"),
    Corner(12, 19, "left"),
    Corner(-12, -18, "right"),
    Corner(-12, 19, "right"),
    Corner(0, -24, "center"),
    Corner(0, 25, "center"),
    Corner(21, 0, "left"),
    Corner(-21, 0, "right"),
)
"""Where a label goes only if it hides much at all of `CORNERS`: less plainly that of its point."""
DISTANCE = 16.0
"""Area that must be gained by going farther, in square pixels."""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: "Box") -> float:
        """Return the area that two boxes share.

        Examples
        --------
        >>> Box(0, 0, 4, 2).shared(Box(3, 1, 9, 9)), Box(0, 0, 4, 2).shared(Box(4, 0, 9, 9))
        (1, 0)
        """
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0) * max(down, 0)


def label_box(x: float, y: float, text: str, corner: Corner) -> Box:
    """Return what a label takes beside the point at (x, y)."""
    width, middle = LETTER * len(text) + WIDER, y + corner.dy
    left = x + corner.dx - width * {"left": 0.0, "center": 0.5, "right": 1.0}[corner.align]
    return Box(left, middle - HEIGHT / 2, left + width, middle + HEIGHT / 2)


def point_box(x: float, y: float) -> Box:
    """Return what the mark of a point takes."""
    return Box(x - POINT, y - POINT, x + POINT, y + POINT)


def line_boxes(begin: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Return what a line between two points takes, as a row of small boxes.

    Examples
    --------
    >>> [box.left for box in line_boxes((0, 0), (6, 0))]
    [-1.0, 2.0, 5.0]
    """
    (left, top), (right, bottom) = begin, end
    steps = max(1, round(hypot(right - left, bottom - top) / 3))
    middles = [
        (left + (right - left) * step / steps, top + (bottom - top) * step / steps)
        for step in range(steps + 1)
    ]
    return [Box(x - 1, y - 1, x + 1, y + 1) for x, y in middles]


def label_corners(
    places: Sequence[tuple[float, float]], texts: Sequence[str], covered: Iterable[Box]
) -> list[Corner]:
    """Return a corner for each label, the first one where nothing speaks against it.

    Each label in turn takes the corner where it shares the least area with what is covered and
    with the other labels, near its point rather than farther off, until none would move.

    Parameters
    ----------
    places
        The points that have labels, in pixels.
    texts
        Their labels.
    covered
        What should not lie under a label: points, with those that have labels, bars and lines.

    Examples
    --------
    >>> here, below = (50.0, 50.0), (52.0, 53.0)
    >>> found = label_corners([here, below], ["30%", "50%"], [point_box(*here), point_box(*below)])
    >>> found[0] != found[1]
    True
    """
    fixed = tuple(covered)
    chosen = [CORNERS[0]] * len(places)
    for _ in range(SWEEPS):
        before = list(chosen)
        for number, (place, text) in enumerate(zip(places, texts, strict=True)):
            others = (
                label_box(*places[other], texts[other], chosen[other])
                for other in range(len(places))
                if other != number
            )
            chosen[number] = _freest(place, text, (*fixed, *others))
        if chosen == before:
            break
    return chosen


def _freest(place: tuple[float, float], text: str, covered: Sequence[Box]) -> Corner:
    def hidden(corner: Corner) -> float:
        box = label_box(*place, text, corner)
        area = sum(box.shared(other) for other in covered)
        return area + (DISTANCE if corner in FARTHER else 0)

    return min((*CORNERS, *FARTHER), key=hidden)
