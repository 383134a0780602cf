import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError, TrainingError
from gossamer.core.streams import stream, stream_seed
from gossamer.data.augmentation import epoch_maps, warp
from gossamer.data.resident import Resident
from gossamer.measures.functional import evaluate
from gossamer.networks import NetworkSpec, build
from gossamer.training import (
    Adadelta,
    Adam,
    AdamW,
    Augmentation,
    Constant,
    Cosine,
    EarlyStop,
    OptimizerOptions,
    Schedule,
    Sgd,
    StepDecay,
    TrainingOptions,
)
from gossamer.training.loop import Interrupted, Job, Standing, train
from gossamer.training.optimizers import make_optimizer

BATCH = 16
SEED = 5

Array = NDArray[np.float64]


def small_mlp() -> nn.Module:
    return build(NetworkSpec(name="mlp", hidden=(16,)), (6,), 3, seed=0)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def with_dropout() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3))
    )


def with_batch_norm() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    )


def job(network: nn.Module, data: Resident, options: TrainingOptions, **others: Any) -> Job:
    return Job(
        network=network,
        optimizer=make_optimizer(options.optimizer, network),
        data=data,
        options=options,
        **{"validation": None, "classes": 3, "precision": "float32", "seed": SEED, **others},
    )


def options(
    optimizer: OptimizerOptions | None = None,
    epochs: int = 3,
    schedule: Schedule | None = None,
    **others: Any,
) -> TrainingOptions:
    return TrainingOptions(
        epochs=epochs,
        batch=BATCH,
        optimizer=optimizer or Sgd(),
        schedule=schedule or Constant(),
        **others,
    )


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def plain_training(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Resident,
    rates: list[float],
    first_epoch: int = 0,
    augmentation: Augmentation | None = None,
) -> list[tuple[float, float]]:
    """The loop that everybody writes; returns mean loss and accuracy of each epoch."""
    history = []
    for number, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        order = stream(SEED, "shuffle", first_epoch + number).permutation(len(data))
        loss_sum, hits = 0.0, 0
        for begin in range(0, len(data), BATCH):
            rows = torch.from_numpy(order[begin : begin + BATCH])
            inputs, labels = data.inputs[rows], data.labels[rows]
            if inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            if augmentation is not None:
                maps = epoch_maps(
                    data.inputs.shape, SEED, first_epoch + number, **augmentation.model_dump()
                )
                inputs = warp(inputs, maps[rows])
            optimizer.zero_grad()
            logits = network(inputs)
            loss = functional.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            hits += int((logits.argmax(1) == labels).sum())
        history.append((loss_sum / len(data), hits / len(data)))
    return history


TORCH: list[tuple[OptimizerOptions, Callable[[Any], torch.optim.Optimizer]]] = [
    (Sgd(rate=0.2), lambda p: torch.optim.SGD(p, lr=0.2, fused=True)),
    (
        Sgd(rate=0.2, momentum=0.9, weight_decay=1e-2),
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=1e-2, fused=True),
    ),
    (
        Sgd(rate=0.2, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, nesterov=True, fused=True),
    ),
    (
        Adam(rate=0.01, weight_decay=1e-2),
        lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2, fused=True),
    ),
    (AdamW(rate=0.01), lambda p: torch.optim.AdamW(p, lr=0.01, fused=True)),
    (Adadelta(), lambda p: torch.optim.Adadelta(p)),
]


@pytest.mark.parametrize(("ours", "theirs"), TORCH)
def test_training_is_the_plain_torch_loop_bit_for_bit(
    ours: OptimizerOptions,
    theirs: Callable[[Any], torch.optim.Optimizer],
    points: Resident,
) -> None:
    network = small_mlp()
    plain = copy.deepcopy(network)
    asked = options(ours, schedule=StepDecay(every=2, gamma=0.5))
    ended = train(job(network, points, asked, first_epoch=4))
    rates = [ours.rate, ours.rate, ours.rate * 0.5]
    expected = plain_training(plain, theirs(plain.parameters()), points, rates, first_epoch=4)
    assert same(weights(network), weights(plain))
    assert [epoch.rate for epoch in ended.history] == rates
    assert [epoch.epoch for epoch in ended.history] == [5, 6, 7]
    assert [epoch.train_accuracy for epoch in ended.history] == [hits for _, hits in expected]
    losses = [loss for loss, _ in expected]
    assert [epoch.train_loss for epoch in ended.history] == pytest.approx(losses, rel=1e-6)
    assert ended.steps == 3 * math.ceil(50 / BATCH)


def test_convolutions_train_as_in_the_plain_torch_loop(images: Resident) -> None:
    network = build(NetworkSpec(name="fashion-cnn"), (1, 28, 28), 3, seed=0)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = copy.deepcopy(network)
    train(job(network, images, options(Adam(), epochs=2)))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=True)
    plain_training(plain, optimizer, images, [1e-3, 1e-3])
    assert same(weights(network), weights(plain))


def hand_gradient(first: Array, second: Array, x: Array, y: NDArray[Any]) -> tuple[Array, Array]:
    """Gradient of the mean cross-entropy of a network of one hidden layer without biases."""
    hidden = np.maximum(x @ first.T, 0)
    logits = hidden @ second.T
    odds = np.exp(logits - logits.max(1, keepdims=True))
    errors = (odds / odds.sum(1, keepdims=True) - np.eye(3)[y]) / len(y)
    return ((errors @ second) * (hidden > 0)).T @ x, errors.T @ hidden


Rule = Callable[[Array, Array, dict[str, Array], int], Array]


def sgd_rule(w: Array, g: Array, kept: dict[str, Array], t: int) -> Array:
    return w - 0.2 * g


def momentum_rule(w: Array, g: Array, kept: dict[str, Array], t: int) -> Array:
    kept["v"] = 0.9 * kept.get("v", np.zeros_like(w)) + g + 0.01 * w
    return w - 0.2 * kept["v"]


def nesterov_rule(w: Array, g: Array, kept: dict[str, Array], t: int) -> Array:
    kept["v"] = 0.9 * kept.get("v", np.zeros_like(w)) + g
    return w - 0.2 * (g + 0.9 * kept["v"])


def adam_rule(w: Array, g: Array, kept: dict[str, Array], t: int) -> Array:
    g = g + 0.01 * w
    return w - 0.01 * adam_direction(g, kept, t)


def adamw_rule(w: Array, g: Array, kept: dict[str, Array], t: int) -> Array:
    return w * (1 - 0.01 * 0.01) - 0.01 * adam_direction(g, kept, t)


def adam_direction(g: Array, kept: dict[str, Array], t: int) -> Array:
    kept["m"] = 0.9 * kept.get("m", np.zeros_like(g)) + 0.1 * g
    kept["v"] = 0.999 * kept.get("v", np.zeros_like(g)) + 0.001 * g**2
    direction = kept["m"] / (1 - 0.9**t) / (np.sqrt(kept["v"] / (1 - 0.999**t)) + 1e-8)
    return np.asarray(direction)


def adadelta_rule(w: Array, g: Array, kept: dict[str, Array], t: int) -> Array:
    kept["g2"] = 0.9 * kept.get("g2", np.zeros_like(g)) + 0.1 * g**2
    moved = kept.get("d2", np.zeros_like(g))
    delta = g * np.sqrt(moved + 1e-6) / np.sqrt(kept["g2"] + 1e-6)
    kept["d2"] = 0.9 * moved + 0.1 * delta**2
    return np.asarray(w - delta)


RULES: list[Rule] = [
    sgd_rule, momentum_rule, nesterov_rule, adam_rule, adamw_rule, adadelta_rule,
]  # fmt: skip


@pytest.mark.parametrize(("ours", "rule"), list(zip([o for o, _ in TORCH], RULES, strict=True)))
def test_training_follows_the_published_rule_in_float64(
    ours: OptimizerOptions, rule: Rule, points: Resident
) -> None:
    network = small_mlp()
    both = [value.double().numpy().copy() for value in network.state_dict().values()]
    kept: list[dict[str, Array]] = [{}, {}]
    x, y = points.inputs.double().numpy(), points.labels.numpy()
    steps = 0
    for epoch in range(2):
        order = stream(SEED, "shuffle", epoch).permutation(50)
        for begin in range(0, 50, BATCH):
            rows = order[begin : begin + BATCH]
            gradients = hand_gradient(both[0], both[1], x[rows], y[rows])
            steps += 1
            both = [rule(w, g, k, steps) for w, g, k in zip(both, gradients, kept, strict=True)]
    train(job(network, points, options(ours, epochs=2)))
    for expected, value in zip(both, network.state_dict().values(), strict=True):
        # Adam divides by the root of the squared gradient: float32 shows where both are tiny.
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-4, atol=2e-5)


def test_the_last_partial_batch_is_trained_on(points: Resident) -> None:
    whole = Resident(points.inputs[:48], points.labels[:48])
    for data, steps in ((points, 4), (whole, 3)):
        assert train(job(small_mlp(), data, options(epochs=1))).steps == steps


def test_validation_is_measured_after_each_epoch(points: Resident, held_out: Resident) -> None:
    network = small_mlp()
    ended = train(job(network, points, options(epochs=3), validation=held_out))
    for epochs in (1, 3):
        shorter = small_mlp()
        train(job(shorter, points, options(epochs=epochs)))
        expected = evaluate(shorter, held_out.inputs, held_out.labels, 3)
        row = ended.history[epochs - 1]
        assert (row.validation_loss, row.validation_accuracy) == (expected.loss, expected.accuracy)


def test_without_validation_there_are_no_validation_numbers(points: Resident) -> None:
    (row,) = train(job(small_mlp(), points, options(epochs=1))).history
    assert (row.validation_loss, row.validation_accuracy) == (None, None)


class Watched(nn.Module):
    """Notes in which mode it is run on how many examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.calls: list[tuple[bool, int]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls.append((self.training, len(inputs)))
        result: Tensor = self.layer(inputs)
        return result


def test_every_epoch_trains_in_training_mode_and_validates_in_evaluation_mode(
    points: Resident, held_out: Resident
) -> None:
    network = Watched().eval()
    train(job(network, points, options(epochs=3), validation=held_out))
    epoch = [(True, 16), (True, 16), (True, 16), (True, 2), (False, 30)]
    assert network.calls == epoch * 3


def test_batch_normalisation_learns_from_training_batches_only(
    points: Resident, held_out: Resident
) -> None:
    network, alone, plain = with_batch_norm(), with_batch_norm(), with_batch_norm()
    train(job(network, points, options(), validation=held_out))
    train(job(alone, points, options()))
    plain_training(plain, torch.optim.SGD(plain.parameters(), fused=True), points, [0.1] * 3)
    assert same(weights(network), weights(alone))
    assert same(weights(network), weights(plain))
    assert int(network.state_dict()["1.num_batches_tracked"]) == 12


def test_a_batch_that_the_network_cannot_train_on_is_a_sentence(points: Resident) -> None:
    odd = Resident(points.inputs[:33], points.labels[:33])
    with pytest.raises(InputError, match=r"shape \(1, 6\) .*more than 1 value per channel"):
        train(job(with_batch_norm(), odd, options()))


def test_dropout_depends_on_seed_and_epoch_alone(points: Resident) -> None:
    def trained(seed: int, first_epoch: int = 0, global_seed: int = 0) -> dict[str, Tensor]:
        network = with_dropout()
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            one = job(network, points, options(epochs=1), seed=seed, first_epoch=first_epoch)
            train(one)
        return weights(network)

    assert same(trained(1), trained(1, global_seed=9))
    assert not same(trained(1), trained(2))
    assert not same(trained(1), trained(1, first_epoch=1))


def test_dropout_draws_from_its_own_stream_in_each_epoch(points: Resident) -> None:
    network, plain = with_dropout(), with_dropout()
    train(job(network, points, options(epochs=2)))
    optimizer = torch.optim.SGD(plain.parameters(), fused=True)
    with torch.random.fork_rng():
        for epoch in (0, 1):
            torch.manual_seed(stream_seed(SEED, "dropout", epoch))
            plain_training(plain, optimizer, points, [0.1], first_epoch=epoch)
    assert same(weights(network), weights(plain))


def test_the_global_generator_is_left_alone(points: Resident, held_out: Resident) -> None:
    before = torch.get_rng_state()
    train(job(with_dropout(), points, options(), validation=held_out))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(Interrupted):
        train(job(with_dropout(), points, options(), pulse=bool, pulse_seconds=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("optimizer", [Sgd(rate=1e30), Adam(rate=1e30)])
def test_a_loss_that_is_no_number_ends_training_with_epoch_and_rate(
    optimizer: OptimizerOptions, points: Resident
) -> None:
    kept: list[Standing] = []
    with pytest.raises(TrainingError, match=r"epoch 3 \(learning rate 1e\+30, (sgd|adam)\)"):
        train(
            job(
                small_mlp(),
                points,
                options(optimizer),
                first_epoch=2,
                keep=kept.append,
                keep_seconds=0,
                pulse_seconds=0,
            )
        )
    assert all(math.isfinite(standing.loss) for standing in kept)


def test_the_epoch_in_which_the_loss_overflows_is_named(points: Resident) -> None:
    growing = TrainingOptions.model_validate(
        {
            "epochs": 3,
            "batch": BATCH,
            "optimizer": {"name": "sgd", "rate": 1e-3},
            "schedule": {"name": "exponential", "gamma": 1e33},
        }
    )
    with pytest.raises(TrainingError, match=r"training loss .* epoch 2 \(learning rate 1e\+30"):
        train(job(small_mlp(), points, growing))


def test_a_validation_loss_that_is_no_number_is_not_recorded(
    points: Resident, held_out: Resident
) -> None:
    one_batch = TrainingOptions(epochs=2, batch=50, optimizer=Sgd(rate=1e30))
    with pytest.raises(TrainingError, match=r"validation loss .* epoch 1 \(learning rate 1e\+30"):
        train(job(small_mlp(), points, one_batch, validation=held_out))


def test_bfloat16_trains_near_float32_and_keeps_float32_weights(
    points: Resident, held_out: Resident
) -> None:
    exact, rounded = small_mlp(), small_mlp()
    asked = options(epochs=5)
    expected = train(job(exact, points, asked, validation=held_out)).history
    found = train(job(rounded, points, asked, validation=held_out, precision="bf16")).history
    assert {value.dtype for value in rounded.state_dict().values()} == {torch.float32}
    assert not same(weights(exact), weights(rounded))
    assert [e.train_loss for e in found] == pytest.approx(
        [e.train_loss for e in expected], rel=0.02
    )
    assert found[-1].train_loss < found[0].train_loss


def test_training_learns(points: Resident, held_out: Resident) -> None:
    ended = train(job(small_mlp(), points, options(epochs=20), validation=held_out))
    assert ended.history[-1].train_loss < 0.5 * ended.history[0].train_loss
    assert (ended.history[-1].validation_accuracy or 0) > 0.5


def test_training_ends_once_the_target_is_reached(points: Resident) -> None:
    full = train(job(small_mlp(), points, options(epochs=8)))
    target = full.history[3].train_loss
    stop = EarlyStop(watch="train_loss", target=target)
    network, shorter = small_mlp(), small_mlp()
    ended = train(job(network, points, options(epochs=8, early_stop=stop)))
    train(job(shorter, points, options(epochs=4)))
    assert len(ended.history) == 4
    assert ended.stopped == f"train_loss reached {target:.4g}, the target {target:g}"
    assert same(weights(network), weights(shorter))


def test_training_ends_when_nothing_improves(points: Resident, held_out: Resident) -> None:
    stop = EarlyStop(watch="validation_accuracy", patience=2, min_delta=2.0)
    asked = options(epochs=8, early_stop=stop)
    ended = train(job(small_mlp(), points, asked, validation=held_out))
    assert len(ended.history) == 3
    assert ended.stopped == "validation_accuracy has not improved for 2 epochs"


def test_a_training_that_stops_at_its_last_epoch_was_not_stopped_early(points: Resident) -> None:
    stop = EarlyStop(watch="train_accuracy", patience=2, min_delta=2.0)
    ended = train(job(small_mlp(), points, options(epochs=3, early_stop=stop)))
    assert len(ended.history) == 3
    assert ended.stopped is None


def test_the_cosine_rate_is_used(points: Resident) -> None:
    network, plain = small_mlp(), small_mlp()
    asked = options(Sgd(rate=0.5), epochs=4, schedule=Cosine())
    train(job(network, points, asked))
    rates = [0.5 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    plain_training(plain, torch.optim.SGD(plain.parameters(), fused=True), points, rates)
    assert same(weights(network), weights(plain))


def test_pulse_and_keep_are_called_at_each_batch_if_asked_to(points: Resident) -> None:
    seen: list[Standing] = []
    kept: list[Standing] = []

    def pulse(standing: Standing) -> bool:
        seen.append(standing)
        return False

    ended = train(
        job(
            small_mlp(),
            points,
            options(epochs=2),
            pulse=pulse,
            keep=kept.append,
            pulse_seconds=0,
            keep_seconds=0,
        )
    )
    assert [(len(s.history), s.batch) for s in seen] == [
        (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4),
    ]  # fmt: skip
    assert [s.steps for s in seen] == [1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert kept == seen
    assert all(a.seconds <= b.seconds for a, b in zip(seen, [*seen[1:], ended], strict=True))
    assert sum(epoch.seconds for epoch in ended.history) == pytest.approx(ended.seconds, rel=0.01)


def test_a_training_that_is_asked_to_stop_keeps_where_it_stands(points: Resident) -> None:
    kept: list[Standing] = []
    stopping = job(
        small_mlp(),
        points,
        options(),
        pulse=lambda standing: standing.steps == 6,
        keep=kept.append,
        pulse_seconds=0,
    )
    with pytest.raises(Interrupted):
        train(stopping)
    (standing,) = kept
    assert (len(standing.history), standing.batch, standing.steps) == (1, 2, 6)


AUGMENTED = Augmentation(rotation=40, shift=0.2, shear=0.2, zoom=0.2, flip=True)


def fashion_cnn() -> nn.Module:
    network = build(NetworkSpec(name="fashion-cnn"), (1, 28, 28), 3, seed=0)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def test_every_epoch_trains_on_images_warped_anew(images: Resident) -> None:
    network = fashion_cnn()
    plain, unwarped = copy.deepcopy(network), copy.deepcopy(network)
    asked = options(Adam(), epochs=2, augmentation=AUGMENTED)
    ended = train(job(network, images, asked, first_epoch=4))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=True)
    expected = plain_training(
        plain, optimizer, images, [1e-3, 1e-3], first_epoch=4, augmentation=AUGMENTED
    )
    assert same(weights(network), weights(plain))
    assert [epoch.train_accuracy for epoch in ended.history] == [hits for _, hits in expected]
    train(job(unwarped, images, options(Adam(), epochs=2), first_epoch=4))
    assert not same(weights(network), weights(unwarped))


def test_images_are_validated_as_they_are(images: Resident) -> None:
    network = fashion_cnn()
    asked = options(epochs=1, augmentation=AUGMENTED)
    (row,) = train(job(network, images, asked, validation=images)).history
    assert row.validation_loss == evaluate(network, images.inputs, images.labels, 3).loss


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_augmented_training_goes_on_at_any_batch_with_the_same_bits(
    steps: int, images: Resident
) -> None:
    network = fashion_cnn()
    whole = copy.deepcopy(network)
    asked = options(Adam(), epochs=2, augmentation=AUGMENTED)
    kept: list[Standing] = []
    stopping = job(
        network,
        images,
        asked,
        pulse=lambda standing: standing.steps == steps,
        keep=kept.append,
        pulse_seconds=0,
    )
    with pytest.raises(Interrupted):
        train(stopping)
    ended = train(replace(stopping, pulse=lambda _: False), kept[-1])
    expected = train(job(whole, images, asked))
    assert same(weights(network), weights(whole))
    assert [e.train_loss for e in ended.history] == [e.train_loss for e in expected.history]


def test_features_cannot_be_augmented(points: Resident) -> None:
    with pytest.raises(InputError, match=r"augmentation needs images, .* shape \[50, 6\]"):
        train(job(small_mlp(), points, options(augmentation=AUGMENTED)))
