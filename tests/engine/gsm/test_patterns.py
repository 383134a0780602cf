import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst

from gossamer.core.errors import InputError
from gossamer.engine.gsm import patterns
from gossamer.engine.gsm.patterns import (
    Pattern,
    from_bitmap,
    from_columns,
    smallest_encoding,
    to_bitmap,
    to_columns,
)

masks = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=40))


def pattern_of(mask: np.ndarray) -> Pattern:
    starts = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)
    groups, columns = mask.shape
    return Pattern(groups, columns, starts, np.nonzero(mask)[1].astype(np.int32))


def assert_same(found: Pattern, expected: Pattern) -> None:
    assert (found.groups, found.columns) == (expected.groups, expected.columns)
    np.testing.assert_array_equal(found.starts, expected.starts, strict=True)
    np.testing.assert_array_equal(found.indices, expected.indices, strict=True)


@given(masks)
def test_a_bitmap_is_the_mask_bit_by_bit(mask: np.ndarray) -> None:
    pattern = pattern_of(mask)
    bitmap = to_bitmap(pattern)
    bits = [int(bitmap[i // 8]) >> (i % 8) & 1 for i in range(mask.size)]
    assert bits == mask.ravel().tolist()
    assert_same(from_bitmap(bitmap, len(mask), mask.shape[1], int(mask.sum())), pattern)


@given(masks)
def test_columns_come_back(mask: np.ndarray) -> None:
    pattern = pattern_of(mask)
    counts, indices = to_columns(pattern)
    assert_same(from_columns(counts[1], indices[1], len(mask), mask.shape[1]), pattern)


@given(masks)
def test_small_parts_make_no_difference(mask: np.ndarray) -> None:
    pattern = pattern_of(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_BITS", 1)
        bitmap = to_bitmap(pattern)
        assert_same(from_bitmap(bitmap, len(mask), mask.shape[1], int(mask.sum())), pattern)
    np.testing.assert_array_equal(bitmap, to_bitmap(pattern))


@given(masks)
def test_the_encoding_chosen_is_the_smaller(mask: np.ndarray) -> None:
    pattern = pattern_of(mask)
    columns = sum(array.nbytes for _, array in to_columns(pattern))
    bitmap = to_bitmap(pattern).nbytes
    few = mask.shape[1] < 8  # Readers refuse bitmaps of these.
    assert smallest_encoding(pattern) == ("columns" if few or columns < bitmap else "bitmap")


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")],
)
def test_columns_have_the_smallest_type_with_room(columns: int, dtype: str) -> None:
    mask = np.ones((2, columns), bool)
    counts, indices = to_columns(pattern_of(mask))
    assert counts[0] == indices[0] == dtype
    assert counts[1].tolist() == [columns, columns]
    assert_same(from_columns(counts[1], indices[1], 2, columns), pattern_of(mask))


@pytest.mark.parametrize(
    ("bits", "stored"), [([0b1, 0], 1), ([0b111], 2), ([0b1111111], 6), ([0b11000000], 2)]
)
def test_bitmaps_that_do_not_fit_are_refused(bits: list[int], stored: int) -> None:
    with pytest.raises(InputError, match="bitmap has"):
        from_bitmap(np.array(bits, np.uint8), 2, 3, stored)


@pytest.mark.parametrize(
    ("counts", "indices", "complaint"),
    [
        ([1, 1, 1], [0, 1, 2], r"shape \[3\]"),
        ([[1], [1]], [0, 1], r"shape \[2, 1\]"),
        ([1, 2], [0, 1], "add up to 3, expected 2"),
        ([1, 1], [0, 3], "go up to 3, expected at most 2"),
        ([1, 1], [0, 2**32 - 1], "go up to 4294967295"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    counts: list[int], indices: list[int], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        from_columns(np.array(counts, np.uint32), np.array(indices, np.uint32), 2, 3)


def test_counts_that_would_overflow_are_added_up_rightly() -> None:
    counts = np.full(2**9, 255, np.uint8)
    with pytest.raises(InputError, match="add up to 130560"):
        from_columns(counts, np.zeros(0, np.uint8), 2**9, 255)
