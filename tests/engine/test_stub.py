"""The stub that mypy reads is what the compiled module says of itself."""

import importlib
from pathlib import Path

import pytest

import gossamer.kernels

STUB = Path(gossamer.kernels.__file__).with_name("_native.pyi")


def test_the_stub_is_up_to_date() -> None:
    stubgen = pytest.importorskip("nanobind.stubgen")
    native = pytest.importorskip("gossamer.kernels._native")
    generator = stubgen.StubGen(importlib.import_module(native.__name__))
    generator.put(native)
    assert generator.get() == STUB.read_text(), "make format writes it"
