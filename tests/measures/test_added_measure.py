"""A measure is added by one value: it alone is taken of what is measured, and all follows."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gossamer.measures import MEASUREMENTS, lacking, measure_named, register, versions
from gossamer.measures.measure import Measure, Measurement, Subject, Taken
from gossamer.measures.size import SIZE
from gossamer.records.record import BEFORE_VERSIONS, Phase, Record
from gossamer.records.store import Store
from gossamer.reporting.columns import column_of, results_table
from gossamer.reporting.glossary import label, unit_of
from gossamer.reporting.results import Results
from gossamer.studies.run import Request, prepare
from running_studies import run_all

SAMPLES = Path(__file__).parents[1] / "recipes" / "samples"
STUDY = SAMPLES / "records_without_versions.toml"
ASKS = '\n[measure]\nalso = ["one-hot attack"]\n'


def _largest(subject: Subject) -> Taken:
    taken.append(subject)
    sizes = subject.of(SIZE).numbers
    largest = max(float(p.detach().abs().max()) for p in subject.network.parameters())
    return Taken({"largest_weight": largest, "bytes_a_class": sizes["bytes_dense"] / 10})


taken: list[Subject] = []
LARGEST = Measurement(
    "largest",
    take=_largest,
    needs=(SIZE,),
    measures=(
        Measure("largest_weight", "Largest weight", "The largest of all.", "", better="lower"),
        Measure("bytes_a_class", "Bytes a class", "Bytes over classes.", "bytes"),
    ),
)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(MEASUREMENTS)
    taken.clear()
    yield
    MEASUREMENTS.clear()
    MEASUREMENTS.update(before)


def records(folder: Path) -> dict[str, Record]:
    with Store.open(folder) as store:
        return store.records([trial.key for trial in store.latest_study().trials])


def left(folder: Path) -> tuple[int, int, int]:
    """Return how many trainings, trials and joint measures are left."""
    with Store.create(folder) as store:
        prepared = prepare(Request(study=str(STUDY), folder=folder), store)
    return len(prepared.plan.trainings), prepared.plan.trials_left, len(prepared.joints_left)


def test_a_new_measure_alone_is_taken_of_what_is_measured_already(tmp_path: Path) -> None:
    run_all(STUDY, tmp_path)
    before = records(tmp_path)
    assert left(tmp_path) == (0, 0, 0)
    register(LARGEST)
    assert left(tmp_path) == (0, 4, 0)
    events = run_all(STUDY, tmp_path)
    made = [event for event in events if isinstance(event, Record)]
    assert not [event for event in events if isinstance(event, Phase)]
    assert {frozenset(record.measures) for record in made} == {
        frozenset({"largest_weight", "bytes_a_class"})
    }
    assert left(tmp_path) == (0, 0, 0)
    for key, record in records(tmp_path).items():
        new = {name: record.measures[name] for name in ("largest_weight", "bytes_a_class")}
        assert record.measures == {**before[key].measures, **new}
        assert new["bytes_a_class"] == record.measures["bytes_dense"] / 10
        assert record.layers == before[key].layers
        assert record.per_class == before[key].per_class
        assert record.versions == {**before[key].versions, "largest": 1}
    assert len(taken) == 4


@pytest.mark.parametrize("changed", ["work", "size"])
def test_a_change_takes_again_what_changed_and_what_needs_it(tmp_path: Path, changed: str) -> None:
    register(LARGEST)
    run_all(STUDY, tmp_path)
    before = records(tmp_path)
    newer = replace(MEASUREMENTS[changed], version=2)
    register(newer)
    if changed == "size":
        register(replace(LARGEST, needs=(newer,)))
        register(replace(MEASUREMENTS["connectivity"], needs=(newer,)))
    expected = {"work": {"work"}, "size": {"size", "largest", "connectivity"}}[changed]
    assert all(lacking(one.versions, leakage=True) == expected for one in before.values())
    made = [event for event in run_all(STUDY, tmp_path) if isinstance(event, Record)]
    assert [set(record.versions) for record in made] == [expected] * 4
    for key, record in records(tmp_path).items():
        assert record.measures == before[key].measures
        assert record.versions == versions(leakage=True)


def test_a_number_that_is_no_longer_found_goes(tmp_path: Path) -> None:
    register(LARGEST)
    run_all(STUDY, tmp_path)
    before = records(tmp_path)
    register(replace(LARGEST, version=2, take=lambda _: Taken({"bytes_a_class": 7.0})))
    run_all(STUDY, tmp_path)
    for key, record in records(tmp_path).items():
        expected = {**before[key].measures, "bytes_a_class": 7.0}
        del expected["largest_weight"]
        assert record.measures == expected


def test_what_a_measure_says_is_what_the_report_says(tmp_path: Path) -> None:
    register(LARGEST)
    run_all(STUDY, tmp_path)
    column = column_of("largest_weight")
    assert column is not None
    assert column.meaning == "The largest of all. Lower is better."
    assert label("largest_weight") == "Largest weight"
    assert unit_of("bytes_a_class").digits == 0
    with Store.open(tmp_path) as store:
        study = store.latest_study()
    results = Results(study, records(tmp_path))
    rows = list(csv.DictReader(results_table(results).splitlines()))
    assert all(float(row["largest_weight"]) > 0 for row in rows)
    text = STUDY.read_text() + (
        '[[claims]]\nname = "a"\ntext = "T."\nsays = "lower"\ncompare = "weight"\n'
        'against = "dense"\nmeasure = "largest_weigth"\nmargin = 0\n'
    )
    (tmp_path / "claim.toml").write_text(text)
    with pytest.raises(ValueError, match="did you mean 'largest_weight'"):
        prepare(Request(study=str(tmp_path / "claim.toml"), folder=tmp_path), None)


def sample() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(
        (SAMPLES / "records_without_versions.json").read_text()
    )
    return found


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as it was written before measurements had versions, less its trained states."""
    with Store.create(tmp_path) as store:
        for value in sample()["records"]:
            assert "versions" not in value
            store._database.put("records", value["key"], json.dumps(value))
            (tmp_path / "statistics" / f"{value['key']}.safetensors").touch()
        for value in sample()["phases"]:
            store.add_phase(Phase.model_validate(value))
    return tmp_path


def test_records_from_before_there_were_versions_lack_nothing(old: Path) -> None:
    # Whichever changes, a key or what such records hold, all that was measured is taken again.
    held = ("accuracy", "size", "connectivity", "work", "optimistic attacks", "one-hot attack")
    assert dict.fromkeys(held, 1) == BEFORE_VERSIONS
    for name in set(MEASUREMENTS) - set(BEFORE_VERSIONS):
        if MEASUREMENTS[name].take:  # measurements that came later
            del MEASUREMENTS[name]
    assert lacking(BEFORE_VERSIONS, leakage=True, also=("one-hot attack",)) == set()
    assert left(old)[:2] == (0, 0)
    with Store.open(old) as store:
        found = store.records([value["key"] for value in sample()["records"]])
        assert {len(record.measures) for record in found.values()} == {23}
        assert all(record.versions == BEFORE_VERSIONS for record in found.values())


def test_what_was_one_measurement_is_not_taken_again_as_two(tmp_path: Path) -> None:
    study = tmp_path / "asks.toml"
    study.write_text(STUDY.read_text() + ASKS)
    run_all(study, tmp_path / "out")
    before = dict.fromkeys(("accuracy", "size", "connectivity", "work", "published attacks"), 1)
    with Store.create(tmp_path / "out") as store:
        for key, record in records(tmp_path / "out").items():
            text = json.dumps({**json.loads(record.model_dump_json()), "versions": before})
            store._database.put("records", key, text)
        assert all(one["one-hot attack"] == 1 for one in store.measured().values())
    assert run_all(study, tmp_path / "out") == []


def test_what_a_study_asks_for_later_is_taken_alone(tmp_path: Path) -> None:
    run_all(STUDY, tmp_path / "out")
    found = records(tmp_path / "out")
    assert not any("one_hot_attack_accuracy" in one.measures for one in found.values())
    study = tmp_path / "asks.toml"
    study.write_text(STUDY.read_text() + ASKS)
    events = run_all(study, tmp_path / "out")
    made = [event for event in events if isinstance(event, Record)]
    assert not [event for event in events if isinstance(event, Phase)]
    assert [set(record.measures) for record in made] == [{"one_hot_attack_accuracy"}] * 4
    assert set(records(tmp_path / "out")) == set(found)  # the keys are the same


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (ASKS.replace("one-hot", "one-hit"), "did you mean 'one-hot attack'"),
        (
            '[[claims]]\nname = "a"\ntext = "T."\nsays = "lower"\ncompare = "weight"\n'
            'against = "dense"\nmeasure = "one_hot_attack_accuracy"\n',
            'add "one-hot attack" to also in [measure]',
        ),
    ],
)
def test_what_a_study_does_not_ask_for_is_said(change: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.read_text() + change)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        prepare(Request(study=str(tmp_path / "study.toml"), folder=tmp_path), None)


def test_records_from_before_there_were_versions_are_completed(old: Path) -> None:
    register(LARGEST)
    made = [event for event in run_all(STUDY, old) if isinstance(event, Record)]
    assert {frozenset(record.measures) for record in made} == {
        frozenset({"largest_weight", "bytes_a_class"})
    }
    for value in sample()["records"]:
        record = records(old)[value["key"]]
        assert value["measures"].items() <= record.measures.items()
        assert record.versions == {**BEFORE_VERSIONS, "largest": 1}


def test_the_sample_holds_the_numbers_that_are_measured_today(tmp_path: Path) -> None:
    study = tmp_path / "asks.toml"
    study.write_text(STUDY.read_text() + ASKS)
    run_all(study, tmp_path)
    for value in sample()["records"]:
        record = records(tmp_path)[value["key"]]
        assert record.identity == value["identity"]
        assert list(record.phases) == value["phases"]  # keys of trained states
        assert record.measures == pytest.approx(value["measures"], rel=1e-3, abs=0.05)


def test_a_measure_is_named_once() -> None:
    assert measure_named("largest_weight") is None
