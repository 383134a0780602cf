"""What is measured of several networks together: planned once, done last, never lost."""

import base64
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.data import complementary_halves, load, stratified_sample
from gossamer.leakage import (
    Statistics,
    attack_versions,
    audit_statistics,
    paired_change,
)
from gossamer.leakage.attacks import attack_of
from gossamer.measures import measure_named
from gossamer.recipes import KeyedTrial
from gossamer.recipes.state import load_state
from gossamer.recipes.statistics_files import read_statistics
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record, StudyRun
from gossamer.records.store import Store, state_path, statistics_path
from gossamer.studies.damage import without_damage
from gossamer.studies.joint_measures import joint_tasks
from gossamer.studies.pictures import png
from gossamer.studies.run import Prepared, Request, carry_out, describe_run, prepare
from gossamer.studies.tasks import Event, Failure, Pulse

WriteStudy = Callable[..., Path]
KINDS = [("leakage", "dense", 0.0), ("leakage", "weight", 0.5), ("releases", "weight", 0.5)]
KINDS += [("overlap", "weight", 0.5)]


def run(
    study: Path, folder: Path, stop: Callable[[list[Event]], bool] | None = None
) -> list[Event]:
    """Run a study in this process, until it stops, and return what came about."""
    events: list[Event] = []
    with Store.create(folder) as store:
        prepared = prepare(Request(study=str(study), folder=folder, jobs=1), store)
        prepared, _ = without_damage(prepared, store)
        carry_out(prepared, store, events.append, lambda: stop is not None and stop(events))
    return events


def made(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def planned(study: Path, seeds: int | None = None) -> Prepared:
    return prepare(Request(study=str(study), folder=study.parent, seeds=seeds), None)


def joints(folder: Path) -> list[JointRecord]:
    """Return what was measured together, in the order of the plan."""
    with Store.open(folder) as store:
        keys = store.latest_study().joints
        found = store.joints(keys)
    return [found[key] for key in keys]


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [joint.model_dump(exclude={"seconds", "environment"}) for joint in joints(folder)]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, leaky_text: str) -> Path:
    """A folder with the leaky study, run to its end as "out"."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "leaky.toml").write_text(leaky_text)
    events = run(folder / "leaky.toml", folder / "out")
    assert not made(events, Failure)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The study and a copy of its finished run, to be changed."""
    shutil.copytree(finished / "out", tmp_path / "out")
    return finished / "leaky.toml", tmp_path / "out"


def test_every_number_that_is_measured_has_a_known_name(finished: Path) -> None:
    with Store.open(finished / "out") as store:
        study = store.latest_study()
        records = store.records([trial.key for trial in study.trials])
        together = store.joints(study.joints).values()
    plain = {name for one in records.values() for name in one.measures}
    joint = {name for one in together for each in one.measures.values() for name in each}
    assert {"test_accuracy", "effective_sparsity", "gap_attack_accuracy"} <= plain
    assert {"mask_overlap", "lira_online_auc", "joint_tpr@0.01"} <= joint
    assert not [
        name for name in plain | joint if not measure_named(name) and attack_of(name) is None
    ]


# Planning


def test_each_is_planned_once(write_study: WriteStudy) -> None:
    prepared = planned(write_study(leaky=True))
    assert [(task.kind, task.arm, task.level) for task in prepared.joints] == KINDS
    assert len({task.key for task in prepared.joints}) == 4
    assert prepared.joints_left == prepared.joints
    by_arm: dict[str, list[KeyedTrial]] = {}
    for trial in prepared.plan.trials:
        by_arm.setdefault(trial.arm, []).append(trial.keyed)
    dense, weight, releases, overlap = prepared.joints
    assert dense.trials == tuple(by_arm["dense"])
    assert (weight.trials, weight.others) == (tuple(by_arm["weight"]), ())
    assert (releases.trials, releases.others) == (weight.trials, dense.trials)
    assert (overlap.trials, overlap.others) == (weight.trials, tuple(by_arm["lent"]))
    again = joint_tasks(prepared.spec, prepared.plan.trials)
    assert [task.key for task in again] == [task.key for task in prepared.joints]


def test_arms_of_the_same_recipe_share_what_is_measured(write_study: WriteStudy) -> None:
    twin = '[[arms]]\nname = "twin"\nlabel = "Twin"\nrecipe = ["training", "half"]\n\n[[claims]]'
    prepared = planned(write_study(("[[claims]]", twin), leaky=True))
    assert {trial.arm for trial in prepared.plan.trials} == {"dense", "weight", "lent", "twin"}
    assert [(task.kind, task.level) for task in prepared.joints] == [(k, at) for k, _, at in KINDS]


def test_keys_depend_on_what_is_measured_and_of_which_networks(write_study: WriteStudy) -> None:
    dense, weight, releases, overlap = planned(write_study(leaky=True)).joints
    others = [
        replace(weight, kind="overlap"),
        replace(weight, others=dense.trials),
        replace(releases, kind="overlap"),
        replace(releases, trials=releases.others, others=releases.trials),
        replace(weight, trials=weight.trials[:4]),
        replace(weight, trials=weight.trials[::-1]),
    ]
    keys = [task.key for task in (dense, weight, releases, overlap, *others)]
    assert len(set(keys)) == len(keys)
    renamed = replace(weight, arm="other", level=0.75)
    assert renamed.key == weight.key


def test_more_seeds_are_other_joint_measures_of_the_same_records(write_study: WriteStudy) -> None:
    study = write_study(leaky=True)
    six, eight = planned(study), planned(study, seeds=8)
    assert not {task.key for task in six.joints} & {task.key for task in eight.joints}
    assert eight.joints[0].trials[:6] == six.joints[0].trials


@pytest.mark.parametrize(("seeds", "kinds"), [(2, 3), (4, 3), (6, 4)])
def test_an_attack_on_two_releases_needs_three_pairs(
    write_study: WriteStudy, seeds: int, kinds: int
) -> None:
    found = [task.kind for task in planned(write_study(leaky=True), seeds).joints]
    assert len(found) == kinds
    assert ("releases" in found) == (seeds >= 6)


def test_without_halves_there_is_no_attack_with_other_seeds(write_study: WriteStudy) -> None:
    study = write_study(('leakage = "paired-halves"\n', ""), leaky=True)
    assert [task.kind for task in planned(study, seeds=3).joints] == ["overlap"]


@pytest.mark.parametrize("seeds", [1, 3, 7])
def test_an_odd_number_of_paired_seeds_is_refused(write_study: WriteStudy, seeds: int) -> None:
    with pytest.raises(InputError) as caught:
        planned(write_study(leaky=True), seeds)
    assert str(caught.value) == (
        "--seeds: the study leaky trains seeds in pairs, on complementary halves of the data, so "
        f"their number must be even, not {seeds}"
    )


def test_masks_that_will_not_be_there_are_not_compared(write_study: WriteStudy) -> None:
    study = write_study(('["weight", "lent"]', '["weight", "dense"]'), leaky=True)
    with pytest.raises(InputError, match="compares the masks of arms, but dense ends without one"):
        planned(study)


# Numbers


def networks(folder: Path, arm: str) -> list[KeyedTrial]:
    prepared = planned(folder / "leaky.toml")
    return [trial.keyed for trial in prepared.plan.trials if trial.arm == arm]


def evidence(folder: Path, arm: str) -> tuple[Statistics, Any, Any]:
    """Return statistics, labels and memberships of an arm, worked out from the pairs anew."""
    digits = load("digits")
    trials = networks(folder, arm)
    parts = [read_statistics(statistics_path(folder / "out", trial.record)) for trial in trials]
    pool = stratified_sample(digits.y_train, 300, 0)
    labels = digits.y_train[pool]
    members = np.zeros((6, 300), dtype=bool)
    for seed in range(6):
        members[seed, complementary_halves(labels, seed // 2)[seed % 2]] = True
    return Statistics.stack(parts), labels, members


def test_the_attacks_are_those_of_an_audit_of_all_seeds(finished: Path) -> None:
    found = joints(finished / "out")
    for joint, arm in zip(found[:2], ("dense", "weight"), strict=True):
        statistics, labels, members = evidence(finished, arm)
        assert (members[0::2] ^ members[1::2]).all()
        pairs = np.arange(6) // 2
        expected = audit_statistics(statistics, labels, members, pairs=pairs, classes=10)
        assert joint.leakage is not None
        assert joint.leakage.to_dict() == expected.to_dict()
        assert joint.leakage.paired
        records = [trial.record for trial in networks(finished, arm)]
        assert joint.records == tuple(records)
        attack = expected.attack("lira_online")
        by_record = [joint.measures[record]["lira_online_auc"] for record in records]
        assert by_record == [target.measures["auc"] for target in attack.per_model]
        assert attack.auc.value == pytest.approx(float(np.mean(by_record)))


def test_the_attacks_with_two_releases_are_those_of_the_library(finished: Path) -> None:
    (found,) = [joint for joint in joints(finished / "out") if joint.kind == "releases"]
    first, _, members = evidence(finished, "dense")
    second, _, _ = evidence(finished, "weight")
    pairs = np.arange(6) // 2
    assert found.joint == attack_versions(first, second, members, pairs)["joint"]
    assert found.foreign == attack_versions(first, second, members, pairs)["foreign"]
    assert found.change == paired_change(first, second, members, pairs).summary
    assert found.others == tuple(trial.record for trial in networks(finished, "dense"))
    for record in found.records:
        assert {"joint_auc", "foreign_auc"} <= found.measures[record].keys()


def test_overlaps_are_those_of_brute_force(finished: Path) -> None:
    (found,) = [joint for joint in joints(finished / "out") if joint.kind == "overlap"]
    folder = finished / "out"
    for mine, other in zip(networks(finished, "weight"), networks(finished, "lent"), strict=True):
        dense, _ = load_state(state_path(folder, mine.states[1]))
        weights = np.concatenate([np.abs(v.numpy()).ravel() for v in dense.network.values()])
        kept = weights > np.sort(weights)[round(0.5 * weights.size) - 1]
        lent, _ = load_state(state_path(folder, other.states[-1]))
        assert lent.mask is not None
        theirs = np.concatenate([lent.mask[name].numpy().ravel() for name in dense.network])
        measures = found.measures[mine.record]
        jaccard = (kept & theirs).sum() / (kept | theirs).sum()
        assert measures["mask_overlap"] == pytest.approx(jaccard, abs=1e-12)
        sizes = np.cumsum([0, *(value.numel() for value in dense.network.values())])
        both = either = 0.0
        for name, start, end in zip(dense.network, sizes, sizes[1:], strict=False):
            a, b = kept[start:end], theirs[start:end]
            assert measures[f"mask_overlap:{name}"] == pytest.approx((a & b).sum() / (a | b).sum())
            expected = a.mean() * b.mean() * a.size
            both, either = both + expected, either + a.sum() + b.sum() - expected
        assert measures["mask_overlap_by_chance"] == pytest.approx(both / either)
        assert 0 < measures["mask_overlap_by_chance"] < 1
    assert found.leakage is None
    assert found.pictures == ()


def test_pictures_are_those_of_the_most_exposed_examples(finished: Path) -> None:
    found = joints(finished / "out")[0]
    digits = load("digits")
    pool = stratified_sample(digits.y_train, 300, 0)
    assert found.leakage is not None
    assert len(found.pictures) == len(found.leakage.exposed) > 0
    for picture, exposed in zip(found.pictures, found.leakage.exposed, strict=True):
        image = digits.x_train[pool[exposed.example]]
        assert image.dtype == np.uint8
        assert picture == png(image)
        assert base64.b64decode(picture)[:4] == b"\x89PNG"


def test_a_study_and_its_joint_records_come_back_from_json(finished: Path) -> None:
    with Store.open(finished / "out") as store:
        study = store.latest_study()
    assert StudyRun.model_validate_json(study.model_dump_json()) == study
    described = describe_run(planned(finished / "leaky.toml"))
    assert described.model_copy(update={"command": study.command}) == study
    assert study.paired
    assert len(study.joints) == 4
    assert [claim.name for claim in study.claims] == ["a"]
    assert {arm.name: (arm.dataset, arm.pool) for arm in study.arms} == {
        "dense": ("digits", "half"),
        "weight": ("digits", "half"),
        "lent": ("digits", "all"),
    }
    assert set(study.sources) == {"again"}
    for joint in joints(finished / "out"):
        assert JointRecord.model_validate_json(joint.model_dump_json()) == joint


# Doing


def test_a_finished_study_has_nothing_left(copied: tuple[Path, Path]) -> None:
    assert run(*copied) == []


def test_a_run_that_was_stopped_ends_with_the_same_joint_numbers(
    copied: tuple[Path, Path], tmp_path: Path
) -> None:
    study, whole = copied
    out = tmp_path / "stopped"
    first = run(study, out, lambda events: len(made(events, Record)) >= 4)
    assert not made(first, JointRecord)
    rest = run(study, out)
    assert [joint.kind for joint in made(rest, JointRecord)] == [kind for kind, _, _ in KINDS]
    assert len(made(first, Record)) + len(made(rest, Record)) == 18
    assert numbers(out) == numbers(whole)


@pytest.mark.parametrize("after", [1, 3])
def test_ctrl_c_between_joint_measures_loses_none(copied: tuple[Path, Path], after: int) -> None:
    study, out = copied
    whole = numbers(out)
    forget(out, "joints")
    first = run(study, out, lambda events: len(made(events, JointRecord)) >= after)
    assert len(first) == after
    rest = run(study, out)
    assert len(rest) == 4 - after
    assert len(made(rest, JointRecord)) == 4 - after
    assert numbers(out) == whole


def forget(folder: Path, table: str, keys: list[str] | None = None) -> None:
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection, connection:
        if keys is None:
            connection.execute(f"DELETE FROM {table}")
        for key in keys or []:
            connection.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
    connection.close()


def test_networks_without_their_statistics_are_measured_again(copied: tuple[Path, Path]) -> None:
    study, out = copied
    (first, *_), whole = networks(study.parent, "weight"), numbers(out)
    statistics_path(out, first.record).unlink()
    again = run(study, out)
    assert [type(event) for event in again] == [Record]
    assert again[0].key == first.record
    statistics_path(out, first.record).unlink()
    forget(out, "joints")
    again = run(study, out)
    assert [type(event) for event in again] == [Record, *[JointRecord] * 4]
    assert numbers(out) == whole


def test_damaged_statistics_are_set_aside_and_made_again(copied: tuple[Path, Path]) -> None:
    study, out = copied
    whole = numbers(out)
    path = statistics_path(out, networks(study.parent, "dense")[2].record)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    forget(out, "joints")
    events = run(study, out)
    assert [type(event) for event in events] == [Record, *[JointRecord] * 4]
    assert numbers(out) == whole
    assert [kept.name for kept in (out / "damaged").iterdir()] == [f"statistics-{path.name}"]
    assert (out / "damaged" / f"statistics-{path.name}").read_bytes() == content


def test_statistics_of_two_networks_that_changed_places_are_made_again(
    copied: tuple[Path, Path],
) -> None:
    study, out = copied
    whole = numbers(out)
    one, other = (statistics_path(out, each.record) for each in networks(study.parent, "dense")[:2])
    one.rename(out / "meanwhile")
    other.rename(one)
    (out / "meanwhile").rename(other)
    forget(out, "joints")
    events = run(study, out)
    assert [type(event) for event in events] == [Record, Record, *[JointRecord] * 4]
    assert numbers(out) == whole


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_state_that_only_an_overlap_needs_is_made_again(
    copied: tuple[Path, Path], how: str
) -> None:
    study, out = copied
    whole = numbers(out)
    path = state_path(out, networks(study.parent, "weight")[1].states[1])
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    forget(out, "joints")
    events = run(study, out)
    assert [type(event) for event in events if not isinstance(event, Pulse)] == [
        Phase, *[JointRecord] * 4,
    ]  # fmt: skip
    assert numbers(out) == whole


def test_what_needs_a_network_that_failed_is_not_measured(
    write_study: WriteStudy, tmp_path: Path
) -> None:
    change = '"again" }, { step = "train", epochs = 1, optimizer = { name = "sgd", rate = 1e30 } }]'
    study = write_study(
        ('"again" }, "training"]', change),
        ("epochs = 3", "epochs = 1"),
        ("seeds = 6", "seeds = 2"),
        leaky=True,
    )
    events = run(study, tmp_path / "out")
    failures = made(events, Failure)
    assert failures
    assert all(failure.reason.startswith("lent, sparsity 0.5, seed") for failure in failures)
    assert [joint.kind for joint in made(events, JointRecord)] == ["leakage", "leakage"]
    with Store.open(tmp_path / "out") as store:
        left = prepare(Request(study=str(study), folder=tmp_path), store).joints_left
    assert [task.kind for task in left] == ["overlap"]


def test_a_mask_is_borrowed_by_many_and_its_source_trained_once(copied: tuple[Path, Path]) -> None:
    study, out = copied
    with Store.open(out) as store:
        run_ = store.latest_study()
        phases = store.phases({key for trial in run_.trials for key in trial.phases})
    sources = [trial.sources[0] for trial in networks(study.parent, "lent")]
    assert [source.trial.seed for source in sources] == [1000, 1001, 1002, 1003, 1004, 1005]
    assert {source.states[1] for source in sources} <= phases.keys()
    assert len(phases) == 6 + 6 + 6
    read = partial(state_path, out)
    for trial, source in zip(networks(study.parent, "lent"), sources, strict=True):
        lent, _ = load_state(read(trial.states[-1]))
        trained, _ = load_state(read(source.states[1]))
        assert lent.mask is not None
        assert lent.mask.sparsity == 0.5
        weights = {name: value.abs() for name, value in trained.network.items()}
        kept = min(float(value[lent.mask[name]].min()) for name, value in weights.items())
        gone = max(float(value[~lent.mask[name]].max()) for name, value in weights.items())
        assert gone <= kept


def test_a_training_of_which_nothing_is_known_is_done_again(copied: tuple[Path, Path]) -> None:
    study, out = copied
    lost = networks(study.parent, "dense")[0].states[1]
    forget(out, "phases", [lost])  # reports tell how it went
    assert [phase.key for phase in made(run(study, out), Phase)] == [lost]
