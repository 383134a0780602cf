"""Sentences of the README that are written from what benchmarks measured follow the numbers."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "tables.py"


@pytest.fixture(scope="module")
def tables() -> Any:
    specification = importlib.util.spec_from_file_location("tables", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


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
    tables: Any, bf16: tuple[int, int, int], processor: str, expected: str
) -> None:
    assert tables.bf16_sentence(training(bf16, processor)) == f"bf16 is {expected}"


def test_what_the_benchmark_knows_of_the_processor_counts(tables: Any) -> None:
    result = training((310, 320, 330), "Something") | {"bf16_instructions": True}
    assert "which has instructions for it" in tables.bf16_sentence(result)


def test_speed_ups_are_geometric_means(tables: Any) -> None:
    assert tables.speed_up([0.5, 0.5]) == "2.00× [2.00, 2.00]"
    assert tables.speed_up([0.1, 10.0]).startswith("1.00× [")
    assert tables.speed_up([0.05]) == "20.0×"


def test_every_marked_block_of_the_pages_is_up_to_date(tables: Any) -> None:
    for path in tables.TEXTS:
        text = path.read_text(encoding="utf-8")
        assert tables.filled(text) == text
