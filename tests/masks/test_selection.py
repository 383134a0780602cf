import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.masks.selection import last_to_go, lowest, lowest_of_each, nearest_count

SCORES = st.lists(st.sampled_from([-float("inf"), -1.5, -0.0, 0.0, 0.1, 2.0, 7.0]), min_size=1)


def going(scores: list[float], count: int) -> list[bool]:
    """Decide by a stable sort over pairs of score and position."""
    order = sorted(range(len(scores)), key=lambda place: (scores[place], place))
    return [place in order[:count] for place in range(len(scores))]


@given(SCORES, st.data())
def test_lowest_takes_exactly_the_lowest_and_the_earlier_of_ties(
    scores: list[float], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(scores)))
    for dtype in (torch.float32, torch.float64):
        assert lowest(torch.tensor(scores, dtype=dtype), count).tolist() == going(
            torch.tensor(scores, dtype=dtype).tolist(), count
        )


@given(st.integers(1, 5), st.integers(1, 7), st.data())
def test_lowest_of_each_is_lowest_row_by_row(rows: int, length: int, data: st.DataObject) -> None:
    one = st.sampled_from([-float("inf"), -1.5, 0.0, 0.1, 7.0])
    scores = data.draw(st.lists(st.lists(one, min_size=length, max_size=length), min_size=rows))
    count = data.draw(st.integers(0, length))
    found = lowest_of_each(torch.tensor(scores), count).tolist()
    assert found == [going(row, count) for row in torch.tensor(scores).tolist()]


@given(SCORES)
def test_last_to_go_is_what_lowest_leaves(scores: list[float]) -> None:
    kept = ~lowest(torch.tensor(scores), len(scores) - 1)
    assert kept.nonzero().flatten().tolist() == [last_to_go(torch.tensor(scores))]


def test_lowest_leaves_its_input_alone() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0])
    lowest(scores, 2)
    assert scores.tolist() == [3.0, 1.0, 2.0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.floats(0, 90))
def test_nearest_count_is_nearest(sizes: list[int], target: float) -> None:
    reached = np.abs(np.cumsum([0, *sizes]) - target)
    count = nearest_count(torch.tensor(sizes), target)
    assert reached[count] == reached.min()
    if (reached == reached.min()).sum() > 1:
        assert count % 2 == 0
