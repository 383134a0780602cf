"""`gossamer predict`: a compressed network at work on a file of examples, with NumPy alone."""

import argparse
import os
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from gossamer.commands.ending import exit_code, say
from gossamer.core.errors import InputError
from gossamer.core.files import replacing
from gossamer.core.system import failure_reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gossamer.engine import Floats
    from gossamer.runtime import Predictor

Kind = Literal["logits", "labels", "probabilities"]

_PATIENCE = 2.0
"""Seconds between two lines that tell how far it is."""

_EXAMPLES = """\
examples:
  gossamer predict fashion.gsm images.npy
  gossamer predict fashion.gsm images.npy --out labels.npy --labels
  gossamer predict fashion.gsm images.npy --out probabilities.npy --probabilities --threads 4
  gossamer predict fashion.gsm test.npz:x --true test.npz:y
  gossamer predict tagger.gsm tokens.npz --out hidden.npz

INPUT.npy holds floating-point numbers of shape [examples, ...], scaled and normalised as in
training, or the tokens that the network takes; numpy.save writes it. So does an .npz file; where it
holds several arrays, the name of the one that is meant stands behind a colon, which only the true
classes can do without where a single array can be them. A network of several inputs takes an .npz
file with an array of the name of each, and several outputs are written to one.
Exit codes: 0 predicted, 1 the reader of the output left, 2
wrong input or no room for the output, 130 interrupted.
"""


def predict(arguments: list[str]) -> int:
    """Predict with a compressed network; needs NumPy alone.

    Parameters
    ----------
    arguments
        What stands behind `gossamer predict`.

    Returns
    -------
    int
        The exit code.
    """

    def work() -> None:
        for line in _predict(parser().parse_args(arguments)):
            print(line)

    return exit_code(work)


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `gossamer predict --help`.")


def parser() -> argparse.ArgumentParser:
    """Return what reads the options of the command."""
    found = _Parser(
        prog="gossamer predict",
        description="Predict from a compressed network. Without --out, print a table of the first\n"
        "predictions and how many examples fell to each class.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("network", metavar="NET.gsm", type=Path, help="what to predict with")
    found.add_argument("input", metavar="INPUT.npy", type=Path, help="what to predict from")
    found.add_argument(
        "--true", metavar="LABELS.npy", type=Path,
        help="the number of the true class of each example; print how many predictions are right",
    )  # fmt: skip
    found.add_argument("--out", metavar="FILE.npy", type=Path, help="write the predictions there")
    kinds = found.add_mutually_exclusive_group()
    for kind, text in (("labels", "the number of the class"), ("probabilities", "the softmax")):
        kinds.add_argument(
            f"--{kind}", dest="kind", action="store_const", const=kind, default="logits",
            help=f"write {text} of each example, not what the network gives",
        )  # fmt: skip
    found.add_argument(
        "--threads", metavar="N", type=_positive, help="threads to use (default: one a core)"
    )
    found.add_argument(
        "--batch", metavar="N", type=_positive, default=1024,
        help="examples computed at once (default: 1024)",
    )  # fmt: skip
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _predict(options: argparse.Namespace) -> list[str]:
    """Return what is to be printed."""
    import numpy as np

    from gossamer.runtime.examples import open_inputs, signature_of_file
    from gossamer.runtime.prediction_table import described
    from gossamer.runtime.true_labels import accuracy_lines, read_true_labels

    if options.out is None and options.kind != "logits":
        raise InputError(f"--{options.kind}: says what a file is to hold; give --out FILE.npy.")
    predictor = _loaded(options.network)
    if options.kind != "logits":
        _check_classes(options.network, options.kind, predictor)
    if options.true is not None:
        _check_classes(options.network, "true", predictor)
    signature = signature_of_file(options.input, predictor.plans)
    inputs = open_inputs(options.input, signature.inputs)
    labels = None
    if options.true is not None:
        labels = read_true_labels(options.true, len(inputs[0]), predictor.output_shape[0])
    names = [spec.name for spec in predictor.signature.outputs]
    if options.out is not None:
        _check_out(options.out, (options.network, options.input, options.true))
        if len(names) > 1 and options.out.suffix != ".npz":
            raise InputError(f"--out {options.out}: is no .npz file, expected one for the outputs "
                             f"{', '.join(names)}.")  # fmt: skip
    outputs = [np.empty((len(inputs[0]), *spec.shape), spec.type) for spec in signature.outputs]
    _fill(outputs, predictor, options, inputs)
    accuracy = [] if labels is None else list(accuracy_lines(predictor, outputs[0], labels))
    if options.out is None:
        table = list(described(predictor, outputs[0]))
        for name, output in zip(names[1:], outputs[1:], strict=True):
            table += ["", f"{name}:", *described(predictor, output)]
        return [*table, "", *accuracy] if accuracy and len(inputs[0]) else table
    results = [_converted(predictor, outputs[0], options.kind), *outputs[1:]]
    _write(options.out, dict(zip(names, results, strict=True)))
    return [_written(options, names, results), *accuracy]


def _written(options: argparse.Namespace, names: list[str], results: "list[NDArray[Any]]") -> str:
    """Say what a file holds."""
    shapes = [" x ".join(f"{length:,}" for length in result.shape) for result in results]
    if len(results) == 1:
        return f"{options.out}: {options.kind}, {shapes[0]} {results[0].dtype}"
    kinds = zip(names, shapes, results, strict=True)
    return f"{options.out}: " + "; ".join(f"{n}, {shape} {one.dtype}" for n, shape, one in kinds)


def _loaded(path: Path) -> "Predictor":
    """Load a network; what the library warns of becomes a line."""
    from gossamer.runtime import load

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor = load(path)
    for warning in caught:
        say(f"gossamer: {warning.message}")
    return predictor


def _fill(
    outputs: "list[NDArray[Any]]",
    predictor: "Predictor",
    options: argparse.Namespace,
    inputs: "list[NDArray[Any]]",
) -> None:
    """Predict batch by batch, and tell on stderr how far it is if it takes its time."""
    import numpy as np

    from gossamer.runtime.examples import check_finite

    count, batch = len(inputs[0]), options.batch
    told = time.monotonic()
    for start in range(0, count, batch):
        parts = [np.asarray(examples[start : start + batch]) for examples in inputs]
        for part in parts:
            check_finite(options.input, part, start)
        found = predictor(*parts, threads=options.threads)
        several = found.values() if isinstance(found, dict) else found
        for output, one in zip(
            outputs, (found,) if isinstance(found, np.ndarray) else several, strict=True
        ):
            output[start : start + batch] = one
        if time.monotonic() - told > _PATIENCE and start + batch < count:
            told = time.monotonic()
            say(f"{start + batch:,} of {count:,} examples")


def _check_classes(path: Path, option: str, predictor: "Predictor") -> None:
    from gossamer.runtime.prediction_table import classifies

    if not classifies(predictor):
        raise InputError(
            f"{path}: gives {_shapes(predictor)} for each example, expected two classes or more "
            f"for --{option}; leave it out."
        )


def _shapes(predictor: "Predictor") -> str:
    return " and ".join(str(list(spec.shape)) for spec in predictor.signature.outputs)


def _check_out(path: Path, read: Iterable[Path | None]) -> None:
    """Find out before the work, not after it, that the result cannot be written there."""
    from gossamer.runtime.array_files import file_of

    folder = path.absolute().parent
    for given in (file_of(one) for one in read if one is not None):
        if path.exists() and path.samefile(given):
            raise InputError(f"--out {path}: is {given}, which is read; give another name.")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder, expected a file to write.")
    if not folder.is_dir():
        raise InputError(f"--out {path}: there is no folder {folder}; make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out {path}: nothing can be written to the folder {folder}.")


def _write(path: Path, results: "dict[str, NDArray[Any]]") -> None:
    from zipfile import ZipFile

    from numpy import save
    from numpy.lib.format import write_array

    first, *others = results.values()
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            if not others:
                save(file, first, allow_pickle=False)
                return
            with ZipFile(file, "w") as archive:  # savez takes no array of every name
                for name, result in results.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                        write_array(part, result, allow_pickle=False)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({failure_reason(error)}).") from error


def _converted(predictor: "Predictor", outputs: "Floats", kind: Kind) -> "NDArray[Any]":
    from gossamer.runtime.prediction_table import probabilities

    if kind == "labels":
        labels: NDArray[Any] = outputs.argmax(axis=1)
        return labels
    return probabilities(predictor.network, outputs) if kind == "probabilities" else outputs
