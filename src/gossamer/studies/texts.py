"""Texts of a study file that a reader sees: what may stand in them."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator


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
