import csv
import errno
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError, UnwritableError
from gossamer.leakage import audit
from gossamer.records.example_scores import ExampleScores
from gossamer.records.leakage import Leakage
from gossamer.reporting import files
from gossamer.reporting.audit_page import drawn_attacks, write_audit
from gossamer.reporting.files import write_scores


def some_scores() -> ExampleScores:
    members = np.array([[True, False, True], [False, True, False]])
    scores = np.array([[1.5, -2.25, np.nan], [1e-9, 0.1, 12345678.0]], np.float32)
    return ExampleScores((0, 2), np.array([3, 1, 4]), members, {"loss": scores, "gap": -scores})


@pytest.fixture(scope="module")
def written(make_leakage: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Leakage, Path]:
    leakage = make_leakage(1.0)
    folder = tmp_path_factory.mktemp("audit") / "new"
    page = write_audit(leakage, folder, "Audit of <models>.npz", some_scores())
    assert page == folder / "audit.html"
    return leakage, folder


def test_files_are_there(written: tuple[Leakage, Path]) -> None:
    _, folder = written
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "audit.html", "audit.json", "audit.csv", "scores.csv", "figures/roc.png", "figures/roc.svg",
    }  # fmt: skip
    assert (folder / "figures" / "roc.png").read_bytes().startswith(b"\x89PNG")


def test_json_gives_the_audit_back(written: tuple[Leakage, Path]) -> None:
    leakage, folder = written
    assert Leakage.model_validate(json.loads((folder / "audit.json").read_text())) == leakage


def test_csv_has_every_attack(written: tuple[Leakage, Path]) -> None:
    leakage, folder = written
    with (folder / "audit.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    areas = {line["attack"]: float(line["value"]) for line in lines if line["measure"] == "auc"}
    assert areas == {attack.name: attack.auc.value for attack in leakage.attacks}
    assert [line["attack"] for line in lines if line["headline"] == "True"][:1] == [
        leakage.headline
    ]


def test_page_says_the_finding_first_and_loads_nothing(written: tuple[Leakage, Path]) -> None:
    leakage, folder = written
    text = re.sub(r"<script>.*?</script>", "", (folder / "audit.html").read_text(), flags=re.DOTALL)
    assert "<h1>Audit of &lt;models&gt;.npz</h1>" in text
    order = ["<h1>", "An attacker who may accuse", "Figure 1.", "Every attack", "Self-tests"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert leakage.sentence.split("(")[0] in text
    for forbidden in ("src=", "href=", "@import", "url("):
        assert forbidden not in text
    assert "A self-test of this audit failed" not in text


def test_scores_are_a_line_for_each_example_of_each_model(written: tuple[Leakage, Path]) -> None:
    assert (written[1] / "scores.csv").read_text().splitlines() == [
        "model,example,label,member,loss,gap",
        "0,0,3,1,1.5,-1.5",
        "0,1,1,0,-2.25,2.25",
        "0,2,4,1,,",
        "2,0,3,0,1e-09,-1e-09",
        "2,1,1,1,0.1,-0.1",
        "2,2,4,0,1.234568e+07,-1.234568e+07",
    ]


def test_many_scores_are_compressed_and_an_older_table_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write_scores(some_scores(), tmp_path).read_bytes()
    monkeypatch.setattr(files, "PLAIN_LINES", 5)
    monkeypatch.setattr(files, "_BLOCK", 2)
    path = write_scores(some_scores(), tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["scores.csv.gz"]
    assert gzip.decompress(path.read_bytes()) == plain
    first = path.read_bytes()
    assert write_scores(some_scores(), tmp_path).read_bytes() == first
    monkeypatch.undo()
    write_scores(some_scores(), tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["scores.csv"]


def test_a_table_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match=r"file .*taken/scores\.csv cannot be written"):
        write_scores(some_scores(), tmp_path / "taken")


def test_a_full_disk_leaves_the_older_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_scores(some_scores(), tmp_path).read_bytes()

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(files, "_blocks", full)
    for lines in (5, 100):
        monkeypatch.setattr(files, "PLAIN_LINES", lines)
        with pytest.raises(UnwritableError, match="is full"):
            write_scores(some_scores(), tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["scores.csv"]
    assert (tmp_path / "scores.csv").read_bytes() == before


def test_the_page_says_how_the_audit_was_made(written: tuple[Leakage, Path]) -> None:
    leakage, folder = written
    made = leakage.provenance
    assert made is not None
    text = (folder / "audit.html").read_text()
    for part in (made.source.sha256, made.date, f"gossamer {made.gossamer}", "scores.csv"):
        assert part in text
    assert f"<dt>Seed</dt><dd>{made.seed}</dd>" in text


def test_an_audit_without_provenance_has_a_page(make_leakage: Any, tmp_path: Path) -> None:
    leakage = make_leakage(1.0).model_copy(update={"provenance": None})
    text = write_audit(leakage, tmp_path, "x").read_text()
    assert "How this audit was made" not in text
    assert "scores.csv" not in text


def test_failed_self_test_is_a_warning_at_the_top(make_leakage: Any, tmp_path: Path) -> None:
    good = make_leakage(1.0)
    failed = good.checks[0].model_copy(update={"passed": False})
    bad = good.model_copy(update={"checks": (failed, *good.checks[1:])})
    text = write_audit(bad, tmp_path, "x").read_text()
    assert text.index("A self-test of this audit failed") < text.index("Every attack")


def test_one_model_is_audited_with_what_it_allows(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    members = generator.random((1, 400)) < 0.5
    labels = generator.integers(0, 3, 400)
    logits = generator.normal(size=(1, 400, 3))
    logits[0, members[0], labels[members[0]]] += 2.0
    leakage = audit(logits, labels, members)
    text = write_audit(leakage, tmp_path, "one").read_text()
    assert "Attacks that could not be run" in text
    assert text.count("because one model was given") == 1
    assert (
        "lira_offline, lira_online, quantile_regression, rmia, base: because one model was given"
        in text
    )
    names = [attack.name for attack in drawn_attacks(leakage)]
    assert names[0] == leakage.strongest
    assert set(names) == {"loss", "confidence", "entropy", "modified_entropy"}


def test_folder_that_cannot_be_written_is_one_sentence(make_leakage: Any, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write_audit(make_leakage(1.0), taken, "x")
