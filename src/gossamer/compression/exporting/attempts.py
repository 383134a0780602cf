"""The ways to export a network, one after the other, until the file of one is right."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.compression.equal_numbers import that_order_equals
from gossamer.compression.exporting.answers import Answers
from gossamer.compression.exporting.judging import Answer, coarsest, judge
from gossamer.compression.exporting.recording import (
    NotRecordedError,
    Varying,
    check_conditions,
    check_draws_nothing,
    content_of,
    doubtful_sizes,
    doubtful_sizes_of,
    record_any_batch,
    record_one_batch,
)
from gossamer.compression.exporting.report import OnnxReport
from gossamer.compression.lengths import Declared
from gossamer.compression.outputs import (
    Leaf,
    check_output,
    giving,
    leaves,
    output_name,
    output_names,
)
from gossamer.core.errors import InputError
from gossamer.engine.fields import Shape
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run, told

Opening = Callable[[bytes], Any]
"""Returns a session of ONNX Runtime for the content of a file."""


class WrongFileError(Exception):
    """A file does not give what the network gives, for some inputs if these are known."""

    def __init__(self, problem: str, inputs: Arguments | None = None) -> None:
        super().__init__(problem)
        self.inputs = inputs


class UnusableFileError(WrongFileError):
    """A file cannot be opened or run."""


@dataclass(frozen=True, eq=False)
class _Task:
    """A network in evaluation mode, what it gives, and the names of the file's outputs.

    `chosen` are the leaves of the output that are tensors; empty if it is a tensor itself.
    """

    model: nn.Module
    example: Arguments
    answers: Answers
    chosen: Sequence[Leaf]
    names: Sequence[str]
    left_out: Sequence[str]
    opening: Opening
    asked: Declared | None

    @property
    def varying(self) -> Varying:
        """The axes behind the batch that vary."""
        given = () if self.asked is None else self.asked.axes
        return [{axis.dim: axis.name for axis in axes} for axes in given]


def exported(
    model: nn.Module,
    example: Arguments,
    path: Path,
    opening: Opening,
    asked: Declared | None = None,
) -> tuple[bytes, OnnxReport]:
    """Return the content of a file that gives what a network gives, and what there is to know.

    Parameters
    ----------
    model
        In evaluation mode. Its recording may leave traces in it.
    example
        Its inputs, [batch, ...].
    path
        Where the file will be, for messages.
    opening
        How a file is opened to check it.
    asked
        The lengths that are to vary.

    Raises
    ------
    InputError
        If the network cannot be exported, or the file would be wrong.
    """
    task = _task(model, example, opening, asked)
    name = type(model).__name__
    for ends in () if asked is None else (asked.least, asked.most):
        _answer_at(task, ends)
    try:
        try:
            return _for_any_batch(task)
        except (NotRecordedError, UnusableFileError) as error:
            why_one_batch = str(error)
        except WrongFileError as error:
            _check_is_matter_of_size(task, error)
            why_one_batch = str(error)
        return _for_one_batch(task, why_one_batch)
    except NotRecordedError as error:
        raise InputError(
            f"The network {name} cannot be exported to ONNX ({error}): give a network that "
            "torch.export takes."
        ) from error
    except UnusableFileError as error:
        raise InputError(
            f"{path}: ONNX Runtime cannot use what PyTorch's exporter makes of {name} ({error}), "
            f"so the file was not kept: {_advice(str(error))}."
        ) from error
    except WrongFileError as error:
        raise InputError(
            f"{path}: ONNX Runtime's answers differ from those of {name} ({error}), so the file "
            f"was not kept{_order_of_equals(model, error.inputs or example)}."
        ) from error


def _order_of_equals(model: nn.Module, inputs: Arguments) -> str:
    """Return why a file may be wrong of a network that orders equal numbers, and what to do."""
    names = " and ".join(map(repr, that_order_equals(model, inputs)))
    if not names:
        return ""
    return (
        f": {names} orders numbers there of which some are equal, in an order that PyTorch leaves "
        "open and a file cannot repeat; call sort(..., stable=True) in its place, which says that "
        "the first comes first"
    )


def _task(model: nn.Module, example: Arguments, opening: Opening, asked: Declared | None) -> _Task:
    with torch.no_grad():
        # A model may write into what it is given.
        check_output(model, example, lambda inputs: run(model, inputs.clone()))
        output = run(model, example.clone())
    held = leaves(output)
    tensors = [leaf for leaf in held if isinstance(leaf.value, Tensor)]
    others = [leaf for leaf in held if not isinstance(leaf.value, Tensor | None)]
    return _Task(
        model=model,
        example=example,
        answers=Answers(model, example),
        chosen=() if isinstance(output, Tensor) else tensors,
        names=output_names(tensors, example.names),
        left_out=[output_name(leaf, example.names) for leaf in others],
        opening=opening,
        asked=asked,
    )


def _for_any_batch(task: _Task) -> tuple[bytes, OnnxReport]:
    """Return a file for batches of any size that is right wherever that could be in doubt."""
    program = _recorded(record_any_batch, task)
    content = content_of(program, _metadata(task, "any"))
    count = len(task.example)
    sizes = sorted({1, 2, 3, count, count + 1, *doubtful_sizes(program, task.example)})
    known = task.answers.at(sizes)
    if len(known) == 1:
        known = task.answers.at([count, 2 * count])
    if len(known) == 1:
        raise NotRecordedError(f"it takes no batches of other sizes itself, such as {count + 1}")
    checked = tuple(len(answer.inputs) for answer in known)
    try:
        found = _checked(content, task, [*known, *task.answers.at_random(max(checked))])
    except WrongFileError as error:
        if error.inputs is not None:
            check_conditions(program, len(error.inputs))
        raise
    lengths = _checked_at_lengths(program, content, task)
    return content, _report(task, found, None, "", checked, lengths)


def _check_is_matter_of_size(task: _Task, error: WrongFileError) -> None:
    """Raise an error again if a file for the very size at which one is wrong is wrong as well."""
    if error.inputs is None:
        return
    other = replace(task, example=error.inputs)
    with suppress(NotRecordedError, UnusableFileError):
        content = content_of(_recorded(record_one_batch, other), {})
        _checked(content, other, [task.answers.to(error.inputs)])


def _for_one_batch(task: _Task, why: str) -> tuple[bytes, OnnxReport]:
    """Return a file for batches of the example's size only."""
    size = len(task.example)
    program = _recorded(record_one_batch, task)
    content = content_of(program, _metadata(task, f"{size}"))
    found = _checked(content, task, [*task.answers.at([size]), *task.answers.at_random(size)])
    lengths = _checked_at_lengths(program, content, task)
    return content, _report(task, found, size, why, (size,), lengths)


def _checked_at_lengths(program: Any, content: bytes, task: _Task) -> tuple[Shape, ...]:
    """Return the lengths at which a file gives what the network gives.

    Raises
    ------
    InputError
        If it gives something else at one, or the network takes it not itself.
    """
    if (asked := task.asked) is None:
        return ()
    own = asked.own(task.example)
    lengths = {own, *asked.checked_at(own)}
    for place, axes in enumerate(asked.axes):
        for axis in axes:
            ends = [axis.size(end[axis.length]) for end in (asked.least, asked.most)]
            for size in doubtful_sizes_of(program, place, axis.dim, *ends):
                length, rest = divmod(size - axis.offset, axis.slope)
                if not rest:
                    lengths.add((*own[: axis.length], length, *own[axis.length + 1 :]))
    for one in sorted(lengths):
        try:
            _checked(content, task, [_answer_at(task, one)])
        except WrongFileError as error:
            raise InputError(
                f"The length cannot vary in an ONNX file: at {_at(one)}, {error}, as where a "
                "forward asks how long its inputs are; declare lengths for which it computes the "
                "same."
            ) from error
    return tuple(sorted(lengths))


def _answer_at(task: _Task, lengths: Shape) -> Answer:
    """Return what a network gives for its example at other lengths.

    Raises
    ------
    InputError
        If it fails there.
    """
    assert task.asked is not None
    try:
        return task.answers.to(task.asked.example(task.example, lengths))
    except InputError as error:
        raise InputError(f"The length cannot vary: at {_at(lengths)}, {error}") from error


def _at(lengths: Shape) -> str:
    return " x ".join(map(str, lengths))


def _recorded(record: Callable[..., Any], task: _Task) -> Any:
    with giving(task.model, task.chosen) if task.chosen else nullcontext():
        program = record(task.model, task.example, task.names, task.varying)
    check_draws_nothing(program, type(task.model).__name__)
    return program


def _metadata(task: _Task, batch: str) -> dict[str, str]:
    return {"network": type(task.model).__name__, "batch": batch}


def _report(
    task: _Task,
    found: tuple[float, str],
    batch: int | None,
    why: str,
    checked: tuple[int, ...],
    lengths: tuple[Shape, ...],
) -> OnnxReport:
    difference, unsupported = found
    return OnnxReport(
        difference=difference,
        batch=batch,
        why_one_batch=why,
        outputs=tuple(task.names),
        left_out=tuple(task.left_out),
        checked=checked,
        lengths=lengths,
        refused=dict(task.answers.refused),
        unsupported=unsupported,
    )


def _checked(content: bytes, task: _Task, answers: Sequence[Answer]) -> tuple[float, str]:
    """Return how far a file is from answers of the network, and why ONNX Runtime cannot run it.

    Raises
    ------
    WrongFileError
        If it gives something else.
    """
    run, unsupported = _opened(content, task)
    found = [_given(run, answer.inputs) for answer in answers]
    precision = coarsest(task.model, answers)
    verdict = judge(found, answers, task.names, precision)
    if verdict.problem:
        verdict = judge(found, task.answers.with_nearby(answers), task.names, precision)
    if verdict.problem:
        raise WrongFileError(verdict.problem, answers[verdict.place].inputs)
    return verdict.difference, unsupported


def _given(run: Callable[[Arguments], list[Tensor]], inputs: Arguments) -> list[Tensor]:
    try:
        return run(inputs)
    except Exception as error:
        raise UnusableFileError(
            f"it fails on a batch of {len(inputs)}: {_told(error)}", inputs
        ) from error


def _opened(content: bytes, task: _Task) -> tuple[Callable[[Arguments], list[Tensor]], str]:
    """Return how a file is run, and why not by ONNX Runtime, which lacks some types."""
    try:
        return _runtime(content, task), ""
    except Exception as error:
        if type(error).__name__ != "NotImplemented":
            raise UnusableFileError(f"it cannot be opened: {_told(error)}") from error
        return _reference(content), _told(error)


def _told(error: Exception) -> str:
    """Return what ONNX Runtime says of an error, without its codes and the lines of its source."""
    text = told(error)
    if (operator := re.search(r"while running (\S+) node", text)) is None:
        return text.rpartition(" : ")[2].partition(" Status Message: ")[0]
    why = text.partition("Status Message: ")[2]
    return f"{operator[1]}: {why.rpartition(' was false. ')[2].partition('. ')[0]}"


def _advice(problem: str) -> str:
    """Return what to do where ONNX Runtime cannot use a file."""
    if "Squeeze" in problem:
        return (
            "leave out squeeze of a dimension of another size than 1, which PyTorch lets pass and "
            "ONNX has not"
        )
    return "write that part of the forward with other operations"


def _runtime(content: bytes, task: _Task) -> Callable[[Arguments], list[Tensor]]:
    session = task.opening(content)

    def run(inputs: Arguments) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(one)) for one in session.run(None, _feed(inputs))]

    return run


def _reference(content: bytes) -> Callable[[Arguments], list[Tensor]]:
    """Return how a file runs in the reference implementation, which knows bfloat16."""
    loaded = import_module("onnx").load_model_from_string(content)
    evaluator = import_module("onnx.reference").ReferenceEvaluator(loaded)

    def run(inputs: Arguments) -> list[Tensor]:
        return [_tensor(np.asarray(one)) for one in evaluator.run(None, _feed(inputs))]

    return run


def _feed(inputs: Arguments) -> dict[str, Any]:
    return dict(zip(inputs.names, map(_fed, inputs), strict=True))


def _fed(tensor: Tensor) -> Any:
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    kind = import_module("ml_dtypes").bfloat16
    return tensor.contiguous().view(torch.int16).numpy().view(kind)


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
