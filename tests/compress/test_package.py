"""`gossamer.compress` is a function and a package, whichever is asked for first."""

import inspect
import subprocess
import sys

import pytest
import torch

import gossamer
from gossamer.compress import Compressed, compress

CALL = """
import torch
model = torch.nn.Linear(3, 2)
small = gossamer.compress(model, torch.ones(1, 3), choose="engine")
assert torch.allclose(small(torch.ones(4, 3)), model(torch.ones(4, 3)), atol=1e-6)
"""


@pytest.mark.parametrize("before", ["", "import gossamer.compress.onnx", "gossamer.compress"])
def test_it_is_called_whatever_was_imported_before(before: str) -> None:
    code = f"import gossamer\n{before}\n{CALL}{CALL}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_the_package_has_the_signature_of_the_function() -> None:
    assert inspect.signature(sys.modules["gossamer.compress"]) == inspect.signature(compress)  # type: ignore[arg-type]


def test_calling_gives_what_the_function_gives() -> None:
    found = gossamer.compress(torch.nn.Linear(3, 2), torch.ones(1, 3), choose="engine")
    assert isinstance(found, Compressed)
