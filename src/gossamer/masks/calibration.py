"""What batches tell of the weights of a network: their gradients, and the inputs they multiply."""

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gossamer.core.errors import InputError
from gossamer.graph.examples import Example, arguments_of, described, told
from gossamer.graph.keeping import unchanged
from gossamer.graph.recording import uncompiled
from gossamer.masks.batches import EXAMPLE, PAIRS, Batch, Batches, read_batch
from gossamer.masks.inputs import InputSquares, InputSums
from gossamer.masks.layers import PrunableWeight
from gossamer.masks.mask import Mask
from gossamer.masks.names import parameters_by_name
from gossamer.masks.products import InputProducts
from gossamer.masks.storages import added_up, first_names
from gossamer.masks.synaptic_flow import synaptic_flow
from gossamer.masks.values import clear, fill, wide

Loss = Callable[[Any, Any], Tensor]
"""From what the network gives for a batch and its labels to the mean over its examples."""

Sums = TypeVar("Sums", bound=InputSums)


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of one weight, each of its shape, in float32 at least."""

    mean: Tensor
    """The gradient of the mean loss over all examples."""
    second_moment: Tensor
    """The mean square of the gradients of single batches, each as often as it has examples."""


class Calibration:
    """What batches tell of the weights of a network, worked out once, when it is first asked for.

    The network runs in evaluation mode. Its modes, buffers, gradients, hooks and the random state
    are as before afterwards.

    Parameters
    ----------
    network
        Any module, out of its wrappers.
    weights
        Those that are asked about.
    batches
        See `Batches`; what can be gone through only once is kept. None if there are none.
    loss
        See `Loss`; None for cross entropy, where labels are class indices.
    example
        What the network takes, for what needs no more than that.
    mask
        What is pruned of the network for as long as it is looked at; None for nothing.
    temperature
        What outputs are divided by before their cross entropy.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: Sequence[PrunableWeight],
        batches: Batches | None,
        loss: Loss | None,
        example: Example | None = None,
        mask: Mask | None = None,
        temperature: float = 1.0,
    ) -> None:
        if batches is not None and not isinstance(batches, Iterable):
            raise InputError(f"batches must be {PAIRS}, not {type(batches).__name__}")
        if loss is not None and not callable(loss):
            raise InputError(
                f"loss must be a function of outputs and labels, not {type(loss).__name__}"
            )
        self._network = network
        self._weights = weights
        self._given = list(batches) if isinstance(batches, Iterator) else batches
        self._loss = loss
        self._example = example
        self._temperature = temperature
        self.mask = mask
        """What is pruned for as long as the network is looked at; None if nothing is."""
        self.examples: int | None = None
        """How many examples the batches have; None as long as nothing was asked of them."""

    def pruned_by(self, mask: Mask) -> "Calibration":
        """Return what is to be told of the network where a mask has pruned it."""
        given = (self._network, self._weights, self._given, self._loss, self._example)
        return Calibration(*given, mask, self._temperature)

    @cached_property
    def gradients(self) -> Mapping[str, Gradients]:
        """The gradients of the loss over all batches, by name; see `gradients_by_batch`."""
        means: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        for examples, gradients in self.gradients_by_batch():
            for name, gradient in gradients.items():
                _add(means, name, examples * gradient)
                _add(squares, name, examples * gradient.square())
        total = self.examples or 1
        return {name: Gradients(means[name] / total, squares[name] / total) for name in means}

    def gradients_by_batch(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield how many examples a batch has, and the gradients of its mean loss, by name.

        A weight that a batch does not reach is left out of its gradients.

        Raises
        ------
        InputError
            If there are no batches, the network or the loss fails on one, or a gradient is not
            finite or reaches a weight in none of them.
        """
        parts = self._parts()
        reached: dict[str, bool] = {}
        with self._looking(), _requiring_gradients(parts.values()):
            for batch in self._batches("gradients"):
                gradients = added_up(self._gradients_of(batch, parts), parts)
                for name, gradient in gradients.items():
                    reached[name] = reached.get(name, False) or bool(gradient.any())
                yield batch.examples, gradients
        for one in self._weights:
            _check_reached(one, reached.get(one.name))

    @cached_property
    def hessian_gradients(self) -> Mapping[str, Tensor]:
        """The Hessian of the mean loss over all examples times its gradient, by name.

        Of each batch the derivative of its gradient along that of all batches (Wang et al. 2020,
        algorithm 2), over the weights that are asked about.

        Raises
        ------
        InputError
            As `gradients_by_batch`, or if the network has no second derivatives.
        """
        along = {name: one.mean for name, one in self.gradients.items()}
        sums = {name: torch.zeros_like(gradient) for name, gradient in along.items()}
        parts = self._parts()
        with self._looking(), _requiring_gradients(parts.values()), sdpa_kernel(SDPBackend.MATH):
            for batch in self._batches("gradients"):
                for name, product in self._hessian_product(batch, parts, along).items():
                    sums[name] += batch.examples * product
        return {name: total / (self.examples or 1) for name, total in sums.items()}

    def _parts(self) -> dict[str, nn.Parameter]:
        """Return the weights that are asked about, and all parameters over the same memory."""
        parameters = parameters_by_name(self._network)
        names = {one.name for one in self._weights}
        firsts = first_names(parameters)
        return {name: one for name, one in parameters.items() if firsts[name] in names}

    def _hessian_product(
        self, batch: Batch, parts: Mapping[str, nn.Parameter], along: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the Hessian of the mean loss of a batch times a vector, by name."""
        with torch.enable_grad():
            slopes = added_up(self._gradients_of(batch, parts, twice=True), parts)
            slope = sum((one * along[name]).sum() for name, one in slopes.items())
            if not isinstance(slope, Tensor) or not slope.requires_grad:
                return {}  # the loss is linear
            if _hides_derivatives(slope):
                raise InputError(
                    "the score needs second derivatives, but the network or the loss has a "
                    "function that can be differentiated once only: choose another score"
                )
            found = self._derivatives(slope, batch, parts)
        return added_up(found, parts)

    @cached_property
    def input_squares(self) -> InputSquares:
        """The squares of the inputs that each weight multiplies, summed over all its uses.

        Raises
        ------
        InputError
            If there are no batches, the network fails on one, a weight is not reached by them, or
            what it multiplies cannot be told.
        """
        return self._summed(InputSquares)

    @cached_property
    def input_products(self) -> InputProducts:
        """The products of the inputs that each output's weights multiply, over all uses.

        Those of all weights are in memory at once.

        Raises
        ------
        InputError
            As `input_squares`.
        """
        return self._summed(InputProducts)

    def _summed(self, kind: type[Sums]) -> Sums:
        sums = kind({one.name: one.weight for one in self._weights})
        with self._looking(), torch.no_grad():
            for batch in self._batches("the inputs of layers", "the score or the allocation"):
                with sums:
                    self._run(batch)
        sums.check()
        return sums

    @cached_property
    def synaptic_flows(self) -> Mapping[str, Tensor]:
        """The derivative of the synaptic flow by the magnitude of each weight, by name.

        Raises
        ------
        InputError
            If there is neither an example nor a batch, or as `synaptic_flow`.
        """
        with self._looking():
            if self._example is not None:
                args, kwargs = arguments_of(self._example)
            elif self._given is not None:
                first = next(self._batches("the inputs of the network"))
                args, kwargs = first.args, first.kwargs
            else:
                raise InputError(
                    "the score needs to know what the network takes: pass example=, of which "
                    "the types and shapes count"
                )
            names = [one.name for one in self._weights]
            return synaptic_flow(self._network, names, args, kwargs)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Run the network as it would be used, and leave everything as it was."""
        recurrent = any(isinstance(module, nn.RNNBase) for module in self._network.modules())
        fused = torch.backends.mha.get_fastpath_enabled()
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(unchanged(self._network))
            stack.enter_context(uncompiled())
            if recurrent:  # fused ones hide their weights, and have no gradients in evaluation
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
            torch.backends.mha.set_fastpath_enabled(False)
            self._network.eval()
            if self.mask is not None:
                stack.enter_context(_zeroed(self.mask.placed(self._network).values()))
            yield

    def _batches(self, what: str, who: str = "the score") -> Iterator[Batch]:
        """Yield the batches, each copied to where the network is.

        Raises
        ------
        InputError
            If there are none, or one is no pair of inputs and labels.
        """
        if self._given is None:
            raise InputError(f"{who} needs {what}: pass batches={EXAMPLE}")
        devices = {parameter.device for parameter in self._network.parameters()}
        device = devices.pop() if len(devices) == 1 else None
        examples = 0
        for number, given in enumerate(self._given, start=1):
            batch = read_batch(number, given, device)
            examples += batch.examples
            yield batch
        if not examples:
            raise InputError(f"batches is empty, but {who} needs {what}: pass {EXAMPLE}")
        self.examples = examples

    def _run(self, batch: Batch) -> Any:
        try:
            return self._network(*batch.args, **batch.kwargs)
        except InputError:
            raise
        except Exception as error:
            given = described((*batch.args, batch.kwargs))
            raise InputError(
                f"the network {type(self._network).__name__} fails on batch {batch.number} of "
                f"batches ({given}; {told(error)}): give pairs of inputs that it takes, and labels"
            ) from error

    def _gradients_of(
        self, batch: Batch, parameters: Mapping[str, nn.Parameter], twice: bool = False
    ) -> dict[str, Tensor]:
        """Return the gradients of the mean loss of a batch, of those parameters that it reaches."""
        with torch.enable_grad():
            return self._derivatives(self._loss_of(batch), batch, parameters, twice)

    def _derivatives(
        self,
        of: Tensor,
        batch: Batch,
        parameters: Mapping[str, nn.Parameter],
        twice: bool = False,
    ) -> dict[str, Tensor]:
        """Return the derivatives of a number; with `twice`, such as can be derived again."""
        try:
            found = torch.autograd.grad(
                of, list(parameters.values()), allow_unused=True, create_graph=twice
            )
        except RuntimeError as error:
            raise InputError(
                f"the gradients of batch {batch.number} cannot be computed ({told(error)})"
            ) from error
        reached = zip(parameters, found, strict=True)
        return {name: _full(one, name, batch) for name, one in reached if one is not None}

    def _loss_of(self, batch: Batch) -> Tensor:
        """Return the mean loss over the examples of a batch."""
        output = self._run(batch)
        if self._loss is None:
            return _finite(_cross_entropy(output, batch, self._temperature), batch)
        try:
            loss = self._loss(output, batch.labels)
        except Exception as error:
            raise InputError(
                f"the loss fails on batch {batch.number} of batches ({told(error)}): give a "
                "function of what the network gives and the labels"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            given = "a detached tensor" if isinstance(loss, Tensor) else type(loss).__name__
            if isinstance(loss, Tensor) and loss.numel() != 1:
                given = f"a tensor of shape {list(loss.shape)}"
            raise InputError(
                f"the loss of batch {batch.number} must be one number that depends on the weights, "
                f"the mean over the batch's examples, not {given}"
            )
        return _finite(loss, batch)


def _cross_entropy(output: Any, batch: Batch, temperature: float) -> Tensor:
    labels = batch.labels
    classes = output.shape[1] if isinstance(output, Tensor) and output.dim() == 2 else 0
    indices = isinstance(labels, Tensor) and not labels.is_floating_point()
    fits = classes and indices and labels.dtype != torch.bool and labels.shape == output.shape[:1]
    if not fits:
        kinds = [
            f"{one.dtype} {list(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
            for one in (output, labels)
        ]
        raise InputError(
            "without a loss, cross entropy is taken of outputs [examples, classes] and labels "
            f"[examples] that are class indices, but batch {batch.number} has outputs {kinds[0]} "
            f"and labels {kinds[1]}: pass loss=, a function of both"
        )
    if not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise InputError(
            f"the labels of batch {batch.number} go from {int(labels.min())} to "
            f"{int(labels.max())}, but the network gives {classes} classes, counted from 0"
        )
    return functional.cross_entropy(wide(output) / temperature, labels.long())


def _finite(loss: Tensor, batch: Batch) -> Tensor:
    if not math.isfinite(loss.item()):
        raise InputError(
            f"the loss of batch {batch.number} is {loss.item()}, so there are no gradients: look "
            "for values that are not finite in the batch or the network"
        )
    return loss


def _full(gradient: Tensor, name: str, batch: Batch) -> Tensor:
    """Return a gradient as a dense tensor of float32 at least."""
    dense = gradient.to_dense() if gradient.layout != torch.strided else gradient
    if not dense.isfinite().all():
        short = dense.dtype == torch.float16
        how = "turn the network into float32 or bfloat16 first" if short else "exclude the layer"
        raise InputError(
            f"the gradient of {name} is not finite for batch {batch.number}: {how}, or mend the "
            "batch"
        )
    return wide(dense)


def _hides_derivatives(of: Tensor) -> bool:
    """Tell whether a number depends on something that can be differentiated once only.

    Autograd takes its derivative for zero where only others are asked for.
    """
    seen, left = set(), [of.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        left.extend(following for following, _ in node.next_functions)
    return False


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _check_reached(one: PrunableWeight, reached: bool | None) -> None:
    """Refuse a weight without a gradient (None), or with none but zeros where those are told."""
    if reached is None:
        raise InputError(
            f"no gradient reaches {one.name}: the loss of these batches does not depend on it, or "
            "the network cuts it off; exclude it, or give batches and a loss that use it"
        )
    if not reached and one.weight.dtype == torch.float16:
        raise InputError(
            f"all gradients of {one.name} are too small for float16: turn the network into "
            "float32 or bfloat16 first"
        )


@contextmanager
def _zeroed(placed: Collection[tuple[nn.Parameter, Tensor]]) -> Iterator[None]:
    """Set to zero what is not kept of parameters, for a while."""
    before = [(parameter, parameter.detach().clone()) for parameter, _ in placed]
    try:
        for parameter, kept in placed:
            clear(parameter, ~kept)
        yield
    finally:
        for parameter, values in before:
            fill(parameter, values)


@contextmanager
def _requiring_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let frozen weights have gradients, too, for a while."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
