import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.errors import InputError
from gossamer.leakage import audit
from gossamer.records.leakage import Leakage
from gossamer.report.audit_page import drawn_attacks, write_audit


@pytest.fixture(scope="module")
def written(make_leakage: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Leakage, Path]:
    leakage = make_leakage(1.0)
    folder = tmp_path_factory.mktemp("audit") / "new"
    assert write_audit(leakage, folder, "Audit of <models>.npz") == folder / "audit.html"
    return leakage, folder


def test_files_are_there(written: tuple[Leakage, Path]) -> None:
    _, folder = written
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"audit.html", "audit.json", "audit.csv", "figures/roc.png", "figures/roc.svg"}
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
    names = [attack.name for attack in drawn_attacks(leakage)]
    assert names[0] == leakage.headline
    assert set(names) == {"modified_entropy", "loss"}


def test_folder_that_cannot_be_written_is_one_sentence(make_leakage: Any, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write_audit(make_leakage(1.0), taken, "x")
