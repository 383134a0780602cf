"""Damage ``.gsm`` files in every way, load and run each: an answer or an InputError, nothing else.

    python tests/fuzz/fuzz_gsm.py --count 10000 --seed 0

A mutated file that loads must give results of the right shape that agree with the NumPy reference,
on every instruction set of the machine, for small batches and large ones. The same seed makes the
same files; a failure prints the number of the mutation and keeps its file.

`make sanitize` does it with kernels built with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import argparse
import json
import math
import struct
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine import (
    OPERATORS,
    Activation,
    ActivationName,
    Concatenate,
    Convolution,
    Embedding,
    Epilogue,
    Layout,
    Linear,
    Network,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Signature,
    Softmax,
    Weights,
    check_network,
    pack_weights,
    run_portable_all,
)
from gossamer.engine.fitting import fitted
from gossamer.engine.gsm import read_network, write_network
from gossamer.engine.gsm.header import Precision
from gossamer.engine.lengths import at_lengths
from gossamer.engine.native import Engine, available_instruction_sets
from gossamer.engine.ops.gather import Gather
from gossamer.engine.ops.scatter import Scatter
from gossamer.runtime import load

Generator = np.random.Generator
Mutation = Callable[[bytes, bytes, Generator], bytes]

PREAMBLE = 64
EXTREMES: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**16, 2**28, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63,
    -(2**31), -(2**63), 10**30, 0.5, -1.5, 1e30, 1e308, True, False, None, "", "csr", "block",
    "dense", "max", "average", "gelu", "é", [], {}, [0], [1, 1], [2**31, 2**31], [0, 0, 0], [[]],
)  # fmt: skip
SIZES = tuple(
    bound + more for bound in (8, 32, 1024, 4096, 2**14, 2**16, 2**22, 2**24, 2**26, 2**28)
    for more in (-1, 0, 1)
)  # fmt: skip
"""Near the bounds of what a file may claim."""
RAW_EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\x7f")
RUNS = ((1, 1), (3, 2), (17, 1))
"""Examples and threads: small batches and large ones take different ways through the kernels."""
MEMORY = 48
SOME_MEMORY = 2**19
"""What reading may take: so many times the file, and some for Python's own sake."""
MOST_NUMBERS_RUN = 2**20
"""Networks whose values hold more are loaded, not run."""


def networks() -> dict[str, tuple[Network, str]]:
    """Return small networks with every kind of layer and weights, and the precision to store."""
    generator = np.random.default_rng(0)
    drawn = {name: operator.sampled(generator) for name, operator in OPERATORS.items()}
    alone = {
        f"{name} alone": (Network(shape, (one,), 1), "float32")
        for name, (shape, one) in drawn.items()
    }
    return {
        **alone,
        "mlp": (mlp(generator), "float32"),
        "convolutions": (convolutions(generator), "float32"),
        "branches": (branches(generator), "bfloat16"),
        "wide": (wide(generator), "float32"),
        "several": (several(generator), "float32"),
    }


def weights(generator: Generator, rows: int, columns: int, kind: Layout, density: float) -> Weights:
    matrix = generator.standard_normal((rows, columns)) * (
        generator.random((rows, columns)) < density
    )
    return pack_weights(matrix, kind)


def numbers(generator: Generator, *shape: int) -> NDArray[np.float32]:
    return generator.standard_normal(shape).astype(np.float32)


def mlp(generator: Generator) -> Network:
    relu = Epilogue(activation=Activation("relu"))
    return Network(
        (20,),
        (
            Linear(0, weights(generator, 13, 20, "csr", 0.3), numbers(generator, 13), relu),
            Linear(1, weights(generator, 10, 13, "block", 0.3)),
            Pointwise(2, Epilogue(2, Activation("elu", 0.5), *numbers(generator, 2, 10))),
            Linear(3, weights(generator, 5, 10, "dense", 0.2), numbers(generator, 5)),
            Softmax(4),
        ),
        5,
    )


def convolutions(generator: Generator) -> Network:
    pooled = Epilogue(None, Activation("relu"), None, None, Pooling("max", (2, 2), (2, 2)))
    return Network(
        (2, 9, 9),
        (
            Convolution(
                0, weights(generator, 8, 18, "csr", 0.4), (3, 3), padding=(1, 1),
                bias=numbers(generator, 8, 9, 9), epilogue=pooled,
            ),
            Convolution(
                1, weights(generator, 8, 36, "block", 0.4), (3, 3), padding=(2, 2),
                dilation=(2, 2), groups=2, bias=numbers(generator, 8),
                epilogue=Epilogue(1, Activation("gelu"), *numbers(generator, 2, 8)),
            ),
            Convolution(2, weights(generator, 4, 8, "dense", 1), (1, 1), stride=(2, 1)),
            Pool(3, Pooling("average", (2, 2), (1, 2), (1, 0), ceil=True, counts_padding=False)),
            Reshape(4, (24,)),
            Linear(5, weights(generator, 3, 24, "csr", 0.2)),
        ),
        6,
    )  # fmt: skip


def branches(generator: Generator) -> Network:
    return Network(
        (4, 6, 6),
        (
            Convolution(0, weights(generator, 4, 9, "csr", 0.6), (3, 3), padding=(1, 1), groups=4),
            Pool(0, Pooling("max", (3, 3), (1, 1), (1, 1))),
            Concatenate((1, 2, 0)),
            Pointwise(3, Epilogue(activation=Activation("hardswish"))),
            Convolution(4, weights(generator, 6, 12, "block", 0.3), (1, 1)),
            Softmax(5, logarithm=True),
        ),
        6,
    )


def several(generator: Generator) -> Network:
    """Return a network of three inputs and outputs, images and features."""
    return Network(
        ((4, 3, 3), (5,), (4,)),
        (
            Convolution(0, weights(generator, 4, 36, "csr", 0.4), (3, 3)),
            Reshape(3, (4,)),
            Pointwise(4, Epilogue(2, Activation("tanh"))),
            Concatenate((1, 5)),
            Linear(6, weights(generator, 6, 9, "block", 0.4)),
        ),
        (7, 0, 5),
    )


def varying() -> tuple[Network, dict[str, str], Precision, Signature]:
    """Return a network of several lengths, as it is written."""
    found: dict[tuple[int, ...], tuple[Network, Signature]] = {}
    for length in (2, 3, 5):
        shift = np.arange(6 * length, dtype=np.float32)
        table = Embedding(0, pack_weights(np.arange(24.0).reshape(4, 6), "csr"))
        affine = Pointwise(2, Epilogue(scale=shift, shift=shift))
        layers = (table, Reshape(1, (6 * length,)), affine)
        signature = Signature.of_shapes((length,), (length, 6))
        found[length,] = (Network((length,), layers, 3), signature)
    network, signature = fitted(found, (1,))
    return network, {"name": "lengths"}, "float32", signature


def wide(generator: Generator) -> Network:
    """Return a network of which columns are stored, not a bitmap."""
    return Network(
        (3000,),
        (
            Linear(0, weights(generator, 9, 3000, "csr", 0.002), numbers(generator, 9)),
            Linear(1, weights(generator, 9, 9, "block", 0.0)),
        ),
        2,
    )


def sealed(start: bytes, rest: bytes) -> bytes:
    """Return a file whose checksum is right."""
    digest = sha256(start[:24] + start[56:PREAMBLE] + rest).digest()
    return start[:24] + digest + start[56:PREAMBLE] + rest


def parts(data: bytes) -> tuple[bytes, bytes]:
    """Return the header and what follows it."""
    length = struct.unpack_from("<I", data, 12)[0]
    return data[PREAMBLE : PREAMBLE + length], data[PREAMBLE + -(-length // 64) * 64 :]


def assembled(header: bytes, body: bytes) -> bytes:
    rest = header + bytes(-len(header) % 64) + body
    start = struct.pack("<8sIIQ", b"\x89GSM\r\n\x1a\n", 2, len(header), PREAMBLE + len(rest))
    return sealed(start + bytes(40), rest)


def flipped(data: bytes, other: bytes, generator: Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.integers(1, 9)):
        changed[generator.integers(len(changed))] ^= 1 << generator.integers(8)
    return bytes(changed)


def truncated(data: bytes, other: bytes, generator: Generator) -> bytes:
    return data[: generator.integers(len(data))]


def extended(data: bytes, other: bytes, generator: Generator) -> bytes:
    return data + generator.bytes(int(generator.integers(1, 200)))


def spliced(data: bytes, other: bytes, generator: Generator) -> bytes:
    whole = data[: generator.integers(len(data))] + other[generator.integers(len(other)) :]
    return sealed(whole[:PREAMBLE], whole[PREAMBLE:]) if len(whole) >= PREAMBLE else whole


def misdeclared(data: bytes, other: bytes, generator: Generator) -> bytes:
    start = bytearray(data[:PREAMBLE])
    struct.pack_into(
        "<I", start, 8 + 4 * int(generator.integers(4)), int(generator.integers(2**32))
    )
    return sealed(bytes(start), data[PREAMBLE:])


def renumbered(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Change one to three places of the header, keep it JSON, and make the checksum right."""
    text, body = parts(data)
    header = json.loads(text)
    for _ in range(generator.integers(1, 4)):
        places = _some_places(header, generator)
        if not places:
            break
        holder, key = places[generator.integers(len(places))]
        _change(holder, key, generator)
    return assembled(json.dumps(header, separators=(",", ":")).encode(), body)


def resized(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Claim sizes near the bounds: of paddings, or of a matrix and the arrays that bear it out."""
    text, body = parts(data)
    header = json.loads(text)
    layers = header["network"]["layers"]
    layer = layers[-1 if generator.random() < 0.3 else generator.integers(len(layers))]
    if "padding" in layer and generator.random() < 0.5:
        layer["padding"] = generator.choice(SIZES, 2).tolist()
    elif "inputs" in layer:
        layer["inputs"] *= int(generator.choice(SIZES[:15]))
    elif "weights" in layer:
        body = _stretched(header, layer["weights"], body, generator)
    else:
        shape = generator.choice(SIZES, generator.choice([1, 3])).tolist()
        if "inputs" in header:
            header["inputs"][-1]["shape"] = shape
        else:
            header["input_shape"] = shape
        if "input_shapes" in header["network"]:
            header["network"]["input_shapes"][-1] = shape
        else:
            header["network"]["input_shape"] = shape
    return assembled(json.dumps(header, separators=(",", ":")).encode(), body)


def reshaped(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Give arrays other shapes of as many numbers, or other types of as many bytes."""
    text, body = parts(data)
    header = json.loads(text)
    for _ in range(generator.integers(1, 3)):
        if not header["arrays"]:
            break
        entry = header["arrays"][generator.integers(len(header["arrays"]))]
        size = math.prod(entry["shape"])
        shapes = [[1, size], [size, 1], [1, 1, size], [size, 1, 1], entry["shape"][::-1], [size]]
        if size % 2 == 0:
            shapes += [[2, size // 2], [size // 2, 2]]
        width = entry["length"] // size if size else 1
        if generator.random() < 0.8:
            entry["shape"] = shapes[generator.integers(len(shapes))]
        else:
            types = {1: ["uint8"], 2: ["uint16", "bfloat16"], 4: ["float32", "uint32"]}[width]
            entry["dtype"] = generator.choice(types).item()
    return assembled(json.dumps(header, separators=(",", ":")).encode(), body)


def _stretched(header: Any, claimed: Any, body: bytes, generator: Generator) -> bytes:
    """Give a matrix another number of rows and a first array of its pattern to match, of zeros."""
    claimed["rows"] = int(generator.choice(SIZES[:21]))
    ends = header["outputs"][0] if "outputs" in header else header
    ends["shape" if "outputs" in header else "output_shape"] = [claimed["rows"]]  # if it is last
    if not claimed["pattern"]:
        return body
    number = claimed["pattern"][0]
    groups = -(-claimed["rows"] // 4) if claimed["layout"] == "block" else claimed["rows"]
    bits = claimed["encoding"] == "bitmap"
    entry = header["arrays"][number]
    size = -(-groups * claimed["columns"] // 8) if bits else groups
    more = size * (1 if bits else int(entry["dtype"].removeprefix("uint")) // 8)
    begin, end = entry["offset"], entry["offset"] + -(-entry["length"] // 64) * 64
    moved = -(-more // 64) * 64 - (end - begin)
    for later in header["arrays"][number + 1 :]:
        later["offset"] += moved
    entry["shape"], entry["length"] = [size], more
    return body[:begin] + bytes(end - begin + moved) + body[end:]


def scribbled(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Change bytes of the header's text and make the checksum right."""
    text, body = parts(data)
    changed = bytearray(text)
    for _ in range(generator.integers(1, 4)):
        place = generator.integers(len(changed))
        changed[place : place + generator.integers(2)] = generator.choice(
            np.frombuffer(b'0123456789-.eE[]{},:"ntf\\ \xff\0', "S1")
        )
    return assembled(bytes(changed), body)


def revalued(data: bytes, other: bytes, generator: Generator) -> bytes:
    """Put extremes and noise in the arrays and make the checksum right."""
    text, body = parts(data)
    changed = bytearray(body)
    for _ in range(generator.integers(1, 4) if body else 0):
        place = int(generator.integers(len(changed)))
        noise = RAW_EXTREMES[generator.integers(len(RAW_EXTREMES))]
        if generator.random() < 0.5:
            noise = generator.bytes(int(generator.integers(1, 9)))
        changed[place : place + len(noise)] = noise[: len(changed) - place]
    return assembled(text, bytes(changed))


MUTATIONS: tuple[tuple[Mutation, float], ...] = (
    (flipped, 0.05), (truncated, 0.05), (extended, 0.02), (spliced, 0.08), (misdeclared, 0.05),
    (renumbered, 0.35), (resized, 0.1), (reshaped, 0.15), (scribbled, 0.1), (revalued, 0.05),
)  # fmt: skip


def _some_places(header: Any, generator: Generator) -> list[tuple[Any, Any]]:
    """Return the places of one layer, which more often leave a sound network, or all places."""
    places = list(_places(header))
    layers = [value for holder, key in places if isinstance(value := holder[key], dict)]
    layers = [value for value in layers if "type" in value]
    if layers and generator.random() < 0.7:
        return list(_places(layers[generator.integers(len(layers))]))
    return places


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of nested JSON as what holds it and the key there."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _change(holder: Any, key: Any, generator: Generator) -> None:
    value, chance = holder[key], generator.random()
    if chance < 0.08:
        del holder[key]
    elif chance < 0.16 and isinstance(holder, list):
        holder.insert(key, deepcopy(value))
    elif chance < 0.8 and type(value) is bool:
        holder[key] = not value
    elif chance < 0.8 and key == "name":
        holder[key] = generator.choice(get_args(ActivationName)).item()
    elif chance < 0.8 and type(value) is int:
        holder[key] = value + int(generator.integers(-3, 4))
    else:
        # A copy, as what is put there may be changed next.
        holder[key] = deepcopy(EXTREMES[generator.integers(len(EXTREMES))])


def tried(path: Path) -> str:
    """Load and run a file; return what came of it, and raise if that must not be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what has no kernels runs on NumPy
        return _tried(path)


def _tried(path: Path) -> str:
    _check_memory(path)
    try:
        predictor = load(path)
    except InputError as error:
        text = str(error)
        if not text.startswith(f"{path}: ") or "\n" in text or not text.endswith("."):
            raise AssertionError(f"not one sentence that names the file: {text!r}") from error
        return "refused"
    found = _run(predictor.network)
    if found == "ran" and (lengths := predictor.signature.lengths):
        return _run(at_lengths(predictor.network, predictor.signature, lengths.least)[0])
    return found


def _run(network: Network) -> str:
    """Run a sound network in every way."""
    shapes = check_network(network)
    if sum(map(math.prod, shapes)) > MOST_NUMBERS_RUN:
        return "too large to run"
    for name in available_instruction_sets():
        engine = Engine(network, name)
        for examples, threads in RUNS:
            random = np.random.default_rng(0)
            inputs = [_drawn(network, random, (examples, *shape)) for shape in network.inputs]
            try:
                outputs = engine.run(inputs, threads)
            except InputError as error:
                if "as an embedding has" in str(error):
                    return "counts no row"
                if str(error).startswith("a computed place is"):
                    return "counts no place"
                raise
            _compare(network, outputs, inputs)
    return "ran"


def _drawn(network: Network, random: Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return examples, small whole numbers where they may be looked up."""
    numbers = random.standard_normal(shape, np.float32)
    rows = [layer.weights.rows for layer in network.layers if isinstance(layer, Embedding)]
    if any(isinstance(layer, Gather | Scatter) for layer in network.layers):
        rows.append(min(shape[1:]))
    return np.floor(np.abs(numbers)).clip(0, min(2, *rows) - 1) if rows else numbers


def _check_memory(path: Path) -> None:
    """Compare the memory that reading takes with what `gossamer.engine.gsm.file` promises."""
    tracemalloc.start()
    with suppress(InputError):
        read_network(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    most = MEMORY * path.stat().st_size + SOME_MEMORY
    if peak > most:
        raise AssertionError(f"reading took {peak} bytes, expected at most {most}")


def _compare(
    network: Network, outputs: Sequence[NDArray[np.float32]], inputs: Sequence[NDArray[np.float32]]
) -> None:
    expected = run_portable_all(network, inputs, np.float64)
    for found, exact in zip(outputs, expected, strict=True):
        if found.shape != exact.shape or found.dtype != np.float32:
            raise AssertionError(f"{found.dtype} {found.shape}, expected {exact.shape}")
        # Sums of huge numbers of both signs may come to anything in float32.
        if _largest(network) < 100 and np.isfinite(exact).all():
            error = np.abs(found - exact).max() / (1 + np.abs(exact).max())
            if not error < 1e-3:
                raise AssertionError(f"relative error {error}")


def _largest(value: Any) -> float:
    """Return the largest number in the arrays of a network."""
    if isinstance(value, np.ndarray):
        return float(np.abs(value).max(initial=0)) if value.dtype == np.float32 else 0
    if isinstance(value, tuple):
        return max(map(_largest, value), default=0)
    if isinstance(value, float):
        return abs(value)
    if is_dataclass(value):
        return max(_largest(getattr(value, field.name)) for field in fields(value))
    return 0


def run(count: int, seed: int, folder: Path) -> Counter[str]:
    """Try so many mutated files; return how many came to what, by mutation."""
    originals = []
    for name, (network, precision) in networks().items():
        write_network(folder / f"{name}.gsm", network, {"name": name}, precision)  # type: ignore[arg-type]
        if tried(folder / f"{name}.gsm") != "ran":
            raise AssertionError(f"{name} does not run")
        originals.append((folder / f"{name}.gsm").read_bytes())
    write_network(folder / "lengths.gsm", *varying())
    originals.append((folder / "lengths.gsm").read_bytes())
    found: Counter[str] = Counter()
    mutations, chances = zip(*MUTATIONS, strict=True)
    for number in range(count):
        generator = np.random.default_rng((seed, number))
        first, second = generator.integers(len(originals), size=2)
        mutation = mutations[generator.choice(len(mutations), p=chances)]
        path = folder / "mutated.gsm"
        path.write_bytes(mutation(originals[first], originals[second], generator))
        try:
            found[f"{mutation.__name__}: {tried(path)}"] += 1
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"gossamer-fuzz-{seed}-{number}.gsm"
            kept.write_bytes(path.read_bytes())
            print(f"mutation {number} ({mutation.__name__}) of seed {seed}: {kept}")
            raise
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.count, options.seed, Path(folder))
    for outcome, times in sorted(found.items()):
        print(f"{times:7,}  {outcome}")
    print(f"{found.total():7,}  in {time.monotonic() - started:.0f} s, none wrong")


if __name__ == "__main__":
    main()
