"""Texts of drawn figures lie on no other text and within the picture, in random layouts."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from drawn_texts import drawn_texts, faults
from gossamer.records.record import Claim, ControlComparison
from gossamer.reporting.charts import CONFIG, Figure
from gossamer.reporting.claims import judged_claims
from gossamer.reporting.claims_figure import claims_figure
from gossamer.reporting.heat_figures import class_figure, layer_figure
from gossamer.reporting.results import Results
from gossamer.reporting.size_figures import accuracy_figure
from gossamer.reporting.write import figures

WORDS = [
    "mask",
    "from",
    "random",
    "weights",
    "units,",
    "shuffled",
    "trained",
    "pruned",
    "on",
    "MNIST",
    "short",
    "early",
]


def random_results(seed: int, make_run: Any, make_arm: Any, *, levels: int) -> Results:
    """Make a study of arms with labels and accuracies of any length and place."""
    stream = random.Random(seed)
    numbers = [0.05, 0.3, 0.5, 0.875, 0.9, 0.95, 0.975, 0.995]
    chosen = sorted(stream.sample(numbers, levels))
    names = [f"arm-{number}" for number in range(stream.randint(1, 6))]
    arms = [make_arm(name="dense", label="Dense", role="baseline", recipe=({"step": "train"},))]
    for name in names:
        words = " ".join(stream.choices(WORDS, k=stream.randint(1, 8)))
        recipe = ({"step": "train"}, {"step": "prune", "sparsity": "$sparsity"})
        label = f"{words.capitalize()} {name}"
        arms.append(make_arm(name=name, label=label, role="main", recipe=recipe))
    width = 10 ** stream.uniform(-4, -1)

    def accuracies() -> list[float]:
        mean = stream.uniform(0.05, 0.99)
        return [min(1.0, max(0.0, stream.gauss(mean, width))) for _ in range(4)]

    cells = {("dense", 0.0): accuracies()}
    cells |= {(name, level): accuracies() for name in names for level in chosen}
    says = stream.choice(["higher", "lower", "not-lower", "on-par"])
    claims = tuple(
        Claim(
            name=stream.choice("abc") + "-matched" * stream.randint(0, 1) + str(number),
            text="So.",
            says=says,
            compare=name,
            against=("dense", *(other for other in names if other != name))[: stream.randint(1, 3)],
            margin=10 ** stream.uniform(-4, 0),
            control=stream.choice(
                [None, ControlComparison(compare=name, against="dense", text="So.")]
            ),
        )
        for number, name in enumerate(names[:3])
    )
    results: Results = make_run(cells, arms=tuple(arms), claims=claims).results
    return results


def drawn(results: Results) -> Iterator[Figure]:
    for figure in (
        claims_figure(results, judged_claims(results)),
        accuracy_figure(results),
        class_figure(results),
        layer_figure(results),
    ):
        if figure is not None:
            yield figure


@pytest.mark.parametrize("seed", range(6))
def test_no_text_lies_on_another(seed: int, make_run: Any, make_arm: Any) -> None:
    results = random_results(seed, make_run, make_arm, levels=1 + seed % 3)
    found = {figure.name: faults(figure) for figure in drawn(results)}
    assert {"claims", "accuracy", "classes", "layers"} <= found.keys()
    assert {name: some for name, some in found.items() if some} == {}


def test_figures_of_leakage_keep_their_texts_apart(leaky: Any) -> None:
    for figure in figures(leaky.results, judged_claims(leaky.results)):
        assert faults(figure) == [], figure.name


def test_what_lies_on_a_text_is_found(
    make_run: Any, make_arm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = "Mask from MNIST, shuffled within units, after a short training"
    arms = (make_arm(name="weight", label=label, role="main", recipe=({"step": "train"},)),)
    figure = class_figure(make_run({("weight", 0.9): [0.9, 0.8]}, arms=arms).results)
    assert figure is not None
    texts, whole = drawn_texts(figure)
    (title,) = (box for text, box in texts if text == figure.title)
    (arm,) = (box for text, box in texts if text == "Arm")
    assert title.left == pytest.approx(20.0, abs=1)
    assert whole.left == 0
    assert arm.bottom - arm.top > arm.right - arm.left  # written upwards
    assert faults(figure) == []
    monkeypatch.setitem(CONFIG["axis"], "maxExtent", 200)  # that of Vega
    assert faults(figure) == [f"'{label}, 90% sparsity' lies on 'Arm'"]
