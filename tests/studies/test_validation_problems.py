from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gossamer.studies.validation_problems import problems


class Square(BaseModel):
    model_config = ConfigDict(extra="forbid")
    shape: Literal["square"] = "square"
    side: float


class Circle(BaseModel):
    model_config = ConfigDict(extra="forbid")
    shape: Literal["circle"] = "circle"
    radius: Annotated[float, Field(gt=0)]


Shape = Annotated[Square | Circle, Field(discriminator="shape")]


class Drawing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    shapes: tuple[Shape, ...] = Field(min_length=1)
    frame: Literal["none", "wide"] | Shape = "none"


def refused(given: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(given)
    return caught.value


SQUARE = {"shape": "square", "side": 1}


@pytest.mark.parametrize(
    ("given", "place", "text"),
    [
        (
            {"tilte": "x", "shapes": [SQUARE]},
            ("tilte",),
            "there is no such key: did you mean 'title'?",
        ),
        ({"shapes": [SQUARE]}, ("title",), "it is missing"),
        (
            {"title": "x", "shapes": [{"shape": "circle", "radius": 0}]},
            ("shapes", 0, "radius"),
            "must be greater than 0 (given: 0)",
        ),
        (
            {"title": "x", "shapes": [{"shape": "circle", "side": 1}]},
            ("shapes", 0, "side"),
            "there is no such key; the keys are radius, shape",
        ),
        (
            {"title": "x", "shapes": [{"shape": "cirle"}]},
            ("shapes", 0),
            "must be one of 'square', 'circle', not 'cirle': did you mean 'circle'?",
        ),
        ({"title": "x", "shapes": []}, ("shapes",), "must not be empty"),
        (
            {"title": "x", "shapes": [SQUARE], "frame": "thin"},
            ("frame",),
            "must be 'none' or 'wide' (given: 'thin')",
        ),
        (
            {"title": "x", "shapes": [SQUARE], "frame": {"shape": "square", "side": "wide"}},
            ("frame", "side"),
            "must be a number (given: 'wide')",
        ),
    ],
)
def test_the_cause_is_said_in_plain_words(
    given: object, place: tuple[str | int, ...], text: str
) -> None:
    first, *_ = problems(refused(given), (Drawing,))
    assert (first.place, first.text) == (place, text)


def test_what_is_missing_comes_last_unless_it_is_there_misspelt() -> None:
    found = problems(refused({"tilte": "x", "shapes": 3}), (Drawing,))
    assert [one.place for one in found] == [("tilte",), ("shapes",)]
    found = problems(refused({"zebra": "x", "shapes": 3}), (Drawing,))
    assert [one.place for one in found] == [("zebra",), ("shapes",), ("title",)]


def test_all_problems_of_the_alternative_that_was_meant_are_told() -> None:
    frame = {"shape": "circle", "radius": -1, "side": 1}
    found = problems(refused({"title": "x", "shapes": [SQUARE], "frame": frame}), (Drawing,))
    assert [one.place for one in found] == [("frame", "side"), ("frame", "radius")]
