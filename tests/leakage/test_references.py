import numpy as np
import pytest

from gossamer.leakage.design import Design, find_design
from gossamer.leakage.references import gather


def designs(models: int, examples: int) -> list[Design]:
    generator = np.random.default_rng(0)
    halves = generator.random((models // 2, examples)) < 0.5
    paired = np.stack([halves, ~halves], axis=1).reshape(models, examples)
    balanced = generator.random((models, examples)).argsort(axis=0) < models // 3
    independent = generator.random((models, examples)) < 0.4
    return [find_design(members) for members in (paired, balanced, independent)]


@pytest.mark.parametrize("design", designs(9 + 1, 40), ids=lambda design: design.kind)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_sums_give_what_counting_gives(design: Design, offset: float) -> None:
    values = np.random.default_rng(1).normal(size=design.members.shape) + offset
    references = gather(values, design)
    tolerance = 1e-9 if offset == 0 else 1e-4
    for target in range(design.models):
        for inside in (True, False):
            side = references.side(target, inside=inside)
            residuals = freedom = 0.0
            for example in range(values.shape[1]):
                left_out = {target}
                if design.mates is not None:
                    mate = design.mates[target]
                    left_out.add(int(mate[example] if mate.ndim else mate))
                there = [
                    values[model, example]
                    for model in range(design.models)
                    if model not in left_out and design.members[model, example] == inside
                ]
                assert side.count[example] == len(there)
                if there:
                    mean = side.mean[example] + references.centre[example]
                    assert mean == pytest.approx(np.mean(there), abs=tolerance)
                if len(there) > 1:
                    variance = np.var(there, ddof=1)
                    assert side.variance[example] == pytest.approx(variance, abs=tolerance)
                    residuals += variance * (len(there) - 1)
                    freedom += len(there) - 1
            assert side.pooled_variance == pytest.approx(residuals / freedom, abs=tolerance)


def test_the_pooled_variance_is_unbiased_for_two_references() -> None:
    generator = np.random.default_rng(0)
    halves = generator.random((3, 20_000)) < 0.5
    members = np.stack([halves, ~halves], axis=1).reshape(6, -1)
    # Examples differ far more than models do; only the latter may count.
    values = 100 * generator.normal(size=20_000) + 2 * generator.normal(size=(6, 20_000))
    side = gather(values, find_design(members)).side(0, inside=True)
    assert (side.count == 2).all()
    assert side.pooled_variance == pytest.approx(4.0, rel=0.05)


def test_other_targets_face_the_same_references() -> None:
    design = designs(10, 30)[0]
    values = np.random.default_rng(0).normal(size=design.members.shape)
    references = gather(values, design)
    other = references.facing(values + 1)
    np.testing.assert_allclose(other.targets, references.targets + 1, atol=1e-12)
    np.testing.assert_array_equal(
        other.side(0, inside=True).mean, references.side(0, inside=True).mean
    )
