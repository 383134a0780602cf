"""Where the texts of a drawn figure stand, read off its SVG."""

import math
import re
from collections.abc import Iterator
from itertools import combinations
from xml.etree import ElementTree

from gossamer.reporting.charts import Figure
from gossamer.reporting.label_corners import Box
from gossamer.reporting.rendering import pictures

SVG = "{http://www.w3.org/2000/svg}"
LETTER, HEIGHT = 0.42, 0.7
"""Width of a letter and height of a line, in font sizes: a little less than they take."""
Matrix = tuple[float, float, float, float, float, float]


def drawn_texts(figure: Figure) -> tuple[list[tuple[str, Box]], Box]:
    """Return each line of text of a figure with its place, and the size of the picture."""
    svg, _ = pictures(figure.file_spec("of what"))
    root = ElementTree.fromstring(svg)
    size = Box(0, 0, float(root.attrib["width"]), float(root.attrib["height"]))
    return list(_texts(root, (1, 0, 0, 1, 0, 0))), size


def faults(figure: Figure) -> list[str]:
    """Say which texts of a figure lie on each other, or reach beyond the picture."""
    texts, whole = drawn_texts(figure)
    found = [
        f"{one!r} lies on {other!r}"
        for (one, box), (other, another) in combinations(texts, 2)
        if box.shared(another) > 0
    ]
    return found + [f"{text!r} is cut off" for text, box in texts if not _holds(whole, box)]


def _holds(outer: Box, inner: Box) -> bool:
    across = outer.left <= inner.left and inner.right <= outer.right
    return across and outer.top <= inner.top and inner.bottom <= outer.bottom


def _texts(element: ElementTree.Element, matrix: Matrix) -> Iterator[tuple[str, Box]]:
    matrix = _times(matrix, _matrix(element.attrib.get("transform", "")))
    if element.attrib.get("display") == "none" or element.attrib.get("opacity") == "0":
        return
    if element.tag == f"{SVG}text":
        down = 0.0
        for line in [element, *element.findall(f"{SVG}tspan")]:
            down += float(line.attrib.get("dy", 0)) if line is not element else 0.0
            if line.text:
                yield line.text, _box(element, line.text, down, matrix)
    for child in element:
        yield from _texts(child, matrix)


def _box(element: ElementTree.Element, text: str, down: float, matrix: Matrix) -> Box:
    size = float(element.attrib["font-size"].removesuffix("px"))
    width = LETTER * size * len(text)
    anchor = element.attrib.get("text-anchor", "start")
    left = -width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    a, b, c, d, e, f = matrix
    corners = [
        (a * x + c * y + e, b * x + d * y + f)
        for x in (left, left + width)
        for y in (down - HEIGHT * size, down)
    ]
    across, upright = zip(*corners, strict=True)
    return Box(min(across), min(upright), max(across), max(upright))


def _matrix(text: str) -> Matrix:
    matrix: Matrix = (1, 0, 0, 1, 0, 0)
    for name, inside in re.findall(r"(\w+)\(([^)]*)\)", text):
        given = [float(one) for one in re.split(r"[ ,]+", inside.strip())]
        if name == "translate":
            matrix = _times(matrix, (1, 0, 0, 1, given[0], given[1] if len(given) > 1 else 0))
        elif name == "rotate":
            cosine, sine = math.cos(math.radians(given[0])), math.sin(math.radians(given[0]))
            matrix = _times(matrix, (cosine, sine, -sine, cosine, 0, 0))
        else:
            assert name == "scale", text
            matrix = _times(matrix, (given[0], 0, 0, given[-1], 0, 0))
    return matrix


def _times(one: Matrix, other: Matrix) -> Matrix:
    a, b, c, d, e, f = one
    p, q, r, s, t, u = other
    return (
        *(a * p + c * q, b * p + d * q, a * r + c * s, b * r + d * s),
        *(a * t + c * u + e, b * t + d * u + f),
    )
