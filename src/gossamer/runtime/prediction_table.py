"""Predictions as a reader wants them: the first ones, and how many fell to each class."""

from collections.abc import Iterator, Sequence

import numpy as np

from gossamer.engine import Floats, Network, Softmax
from gossamer.runtime.predictor import Predictor

_EXAMPLES_SHOWN = 10
_CLASSES_SHOWN = 20
_OUTPUTS_SHOWN = 6
_NAME_WIDTH = 40


def described(predictor: Predictor, outputs: Floats) -> Iterator[str]:
    """Yield lines that show predictions.

    Parameters
    ----------
    predictor
        What predicted. The list ``"classes"`` in its metadata names the classes, if there is one
        name for each.
    outputs
        [N, *output_shape].
    """
    if not len(outputs):
        yield "No examples."
    elif classifies(predictor):
        yield from _classes(predictor, outputs)
    else:
        yield from _numbers(outputs)


def classifies(predictor: Predictor) -> bool:
    """Return whether the outputs can be those of a classifier: one for each of several classes."""
    (first, *others) = predictor.signature.outputs
    return not others and first.type == "float32" and len(first.shape) == 1 and first.shape[0] > 1


def probabilities(network: Network, outputs: Floats) -> Floats:
    """Return the probability of each class, [N, classes].

    Parameters
    ----------
    network
        What gave the outputs; it may end in a softmax itself.
    outputs
        Logits, logarithms of probabilities, or probabilities, [N, classes].

    Examples
    --------
    >>> probabilities(Network((2,), (), 0), np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    place = network.outputs[0] - len(network.inputs)
    last = network.layers[place] if place >= 0 else None
    if isinstance(last, Softmax) and not last.logarithm:
        return outputs
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def _classes(predictor: Predictor, outputs: Floats) -> Iterator[str]:
    names = class_names(predictor)
    labels = outputs.argmax(axis=1)
    first = outputs[:_EXAMPLES_SHOWN]
    sure = probabilities(predictor.network, first).max(axis=1)
    rows = [(f"{i}", _percent(share), names[labels[i]]) for i, share in enumerate(sure.tolist())]
    yield from columns(("Example", "Probability", "Class"), rows)
    yield from _more(len(outputs) - len(first), "example", "examples")
    yield ""
    counts = np.bincount(labels, minlength=len(names))
    ranking = np.argsort(-counts, kind="stable")[:_CLASSES_SHOWN].tolist()
    rows = [(f"{counts[k]:,}", _percent(counts[k] / len(labels)), names[k]) for k in ranking]
    yield from columns(("Examples", "Share", "Class"), rows)
    yield from _more(len(names) - len(ranking), "class", "classes")


def _numbers(outputs: Floats) -> Iterator[str]:
    first = outputs.reshape(len(outputs), -1)[:_EXAMPLES_SHOWN]
    more = "  ..." if first.shape[1] > _OUTPUTS_SHOWN else ""
    rows = [
        (f"{i}", "  ".join(f"{number:11.5g}" for number in numbers[:_OUTPUTS_SHOWN]) + more)
        for i, numbers in enumerate(first)
    ]
    yield from columns(("Example", "Output"), rows)
    yield from _more(len(outputs) - len(first), "example", "examples")


def class_names(predictor: Predictor) -> list[str]:
    """Return names from the metadata, fit for a terminal, or else numbers."""
    names = predictor.metadata.get("classes")
    count = predictor.output_shape[0]
    if not isinstance(names, list) or len(names) != count:
        return [str(number) for number in range(count)]
    texts = [str(name) if isinstance(name, str | int) else "?" for name in names]
    return [(text if text.isprintable() else ascii(text))[:_NAME_WIDTH] for text in texts]


def columns(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows below their header: numbers to the right, and the last column, text, as it is."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        numbers = [text.rjust(width) for text, width in zip(row[:-1], widths[:-1], strict=True)]
        yield "  ".join([*numbers, row[-1]])


def _more(count: int, singular: str, plural: str) -> Iterator[str]:
    if count > 0:
        yield f"and {count:,} more {singular if count == 1 else plural}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
