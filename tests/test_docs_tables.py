"""Sentences of the README that are written from what benchmarks measured follow the numbers."""

from typing import Any

import pytest

import tables
from benchmark_tables import bf16_sentence
from study_tables import speed_up


def training(bf16: tuple[int, int, int], processor: str = "Some avx2") -> dict[str, Any]:
    """Return a result in which float32 trains 3,900 to 4,100 images a second."""
    speeds = {"gossamer float32": (3900, 4000, 4100), "gossamer bf16": bf16}
    return {
        "environment": {"processor": processor, "threads": 2},
        "training": {
            name: {"slowest": slowest, "images_per_second": median, "fastest": fastest}
            for name, (slowest, median, fastest) in speeds.items()
        },
    }


@pytest.mark.parametrize(
    ("bf16", "processor", "expected"),
    [
        ((310, 320, 330), "Some avx2", "0.08x as fast as float32 on this processor, which has no "
         "instructions for it: it does not pay."),
        ((11_000, 12_000, 13_000), "Some avx512_bf16", "3.00x as fast as float32 on this "
         "processor, which has instructions for it: it pays."),
        ((4000, 4200, 4300), "Some avx512_bf16", "1.05x as fast as float32 on this processor, "
         "which has instructions for it: the repeats cannot tell whether it pays."),
        ((2000, 2100, 2200), "Some avx512_bf16", "0.53x as fast as float32 on this processor, "
         "which has instructions for it: it does not pay."),
    ],
)  # fmt: skip
def test_whether_bf16_pays_is_read_off_the_numbers(
    bf16: tuple[int, int, int], processor: str, expected: str
) -> None:
    assert bf16_sentence(training(bf16, processor)) == f"bf16 is {expected}"


def test_what_the_benchmark_knows_of_the_processor_counts() -> None:
    result = training((310, 320, 330), "Something") | {"bf16_instructions": True}
    assert "which has instructions for it" in bf16_sentence(result)


def test_speed_ups_are_geometric_means() -> None:
    assert speed_up([0.5, 0.5]) == "2.00× [2.00, 2.00]"
    assert speed_up([0.1, 10.0]).startswith("1.00× [")
    assert speed_up([0.05]) == "20.0×"


def test_every_marked_block_of_the_pages_is_up_to_date() -> None:
    for path in tables.TEXTS:
        text = path.read_text(encoding="utf-8")
        assert tables.filled(text) == text
