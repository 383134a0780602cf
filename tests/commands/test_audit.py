"""`gossamer audit` as a user meets it: what it prints, what it exits with, what it refuses."""

import csv
import hashlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from gossamer.commands.audit_tables import _DESIGNS, described
from gossamer.core.progress import followed
from gossamer.leakage import audit
from gossamer.leakage.design import Kind
from gossamer.records.leakage import Leakage
from running_commands import Gossamer

SHIFT = 1.0
"""By how much margins of members lie above those of others, whose standard deviation is 1."""


def arrays(models: int = 4, examples: int = 200) -> dict[str, Any]:
    """Return pairs of models that leak by one standard deviation of the margin.

    With two classes, of which the other one has the logit 0, the margin is the true one's logit.
    """
    draws = np.random.default_rng(models)
    first = np.stack([draws.permutation(examples) < examples // 2 for _ in range(models // 2)])
    members = np.stack([first, ~first], axis=1).reshape(models, examples)
    labels = draws.integers(0, 2, examples)
    logits = np.zeros((models, examples, 2))
    logits[:, np.arange(examples), labels] = draws.normal(size=(models, examples)) + SHIFT * members
    return {"logits": logits.astype(np.float32), "labels": labels, "members": members}


def save(**changes: Any) -> str:
    merged = {**arrays(), **changes}
    np.savez("mine.npz", **{name: value for name, value in merged.items() if value is not None})
    return "mine.npz"


def test_known_leakage_is_found_and_written(gossamer: Gossamer) -> None:
    save(**arrays(models=8, examples=4000))
    seen = gossamer("audit", "mine.npz", "--json", "--attacks", "loss", "--out", "out")
    assert seen.code == 0, seen.err
    found = Leakage.model_validate(json.loads(seen.out))
    loss = found.attack("loss")
    # 16,000 members and others: four standard errors are about 0.012 of a rate near one half.
    assert loss.auc.value == pytest.approx(stats.norm.cdf(SHIFT / np.sqrt(2)), abs=0.012)
    assert loss.balanced_accuracy.value == pytest.approx(stats.norm.cdf(SHIFT / 2), abs=0.012)
    expected = stats.norm.sf(stats.norm.isf(0.01) - SHIFT)
    assert loss.rate_at(0.01).tpr.value == pytest.approx(expected, abs=0.02)
    assert found.paired
    assert Path(seen.err.splitlines()[-1]) == Path("out/audit.html").resolve()
    assert json.loads(Path("out/audit.json").read_text()) == json.loads(seen.out)
    made = found.provenance
    assert made is not None
    assert made.source.name == "mine.npz"
    assert made.source.sha256 == hashlib.sha256(Path("mine.npz").read_bytes()).hexdigest()
    with Path("out/scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 * 4000
    given = arrays(models=8, examples=4000)
    assert [line["member"] for line in lines] == [f"{int(m)}" for m in given["members"].ravel()]
    margins = given["logits"][:, np.arange(4000), given["labels"]]
    expected = [f"{value:.7g}" for value in margins.astype(np.float32).ravel().tolist()]
    assert [line["best_threshold"] for line in lines] == expected


def test_what_is_printed_fits_80_columns_and_ends_with_the_page(gossamer: Gossamer) -> None:
    seen = gossamer("audit", save())
    assert seen.code == 0, seen.err
    *lines, page = seen.out.splitlines()
    assert Path(page) == Path("runs/audit-mine/audit.html").resolve()
    assert Path(page).is_file()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "mine.npz: 4 models in 2 pairs, 200 examples, 2 classes."
    assert lines[2].startswith(
        "An attacker who means to accuse 1 in 1,000 innocents in fact accuses"
    )
    text = " ".join(seen.out.split())
    for part in ("Loss", "RMIA", "Self-tests: 6 of 6 passed", "Skipped", "Notes", "1% FPR"):
        assert part in text
    assert "lira_offline, lira_online: it needs 2 other models" in text
    assert seen.err == ""


def test_the_same_seed_prints_the_same(gossamer: Gossamer) -> None:
    command = ("audit", save(), "--attacks", "loss,rmia")
    first, again = gossamer(*command), gossamer(*command)
    assert first.out == again.out
    assert gossamer(*command, "--seed", "7").out != first.out
    folders = [Path(name) for name in ("one", "two")]
    for folder in folders:
        assert gossamer(*command, "--out", str(folder)).code == 0
    found, same = (json.loads((folder / "audit.json").read_text()) for folder in folders)
    assert Leakage.model_validate(found) == Leakage.model_validate(same)
    assert {**found["provenance"], "date": ""} == {**same["provenance"], "date": ""}
    for name in ("audit.csv", "scores.csv"):
        one, two = ((folder / name).read_bytes() for folder in folders)
        assert one == two


def test_brackets_in_a_name_are_printed_as_they_are(gossamer: Gossamer) -> None:
    Path(save()).rename("[b] [bold].npz")
    seen = gossamer("audit", "[b] [bold].npz", "--attacks", "loss")
    assert seen.code == 0, seen.err
    assert seen.out.startswith("[b] [bold].npz: 4 models")
    with followed(Console(file=io.StringIO(), force_terminal=True), "part") as follow:
        follow(0, 1, "Reading [b] [/x].npz")


def test_one_model_of_probabilities_can_be_audited(gossamer: Gossamer) -> None:
    given = arrays()
    logits = given["logits"][0].astype(np.float64)
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    members = given["members"][0].astype(int)
    save(logits=None, probabilities=rows.astype(np.float16), members=members)
    seen = gossamer("audit", "mine.npz")
    assert seen.code == 0, seen.err
    assert "mine.npz: 1 model, 200 examples, 2 classes." in seen.out
    assert "rmia" in seen.out.split("Skipped")[1]


def test_a_dry_run_says_what_is_there_and_writes_nothing(gossamer: Gossamer) -> None:
    seen = gossamer("audit", save(ids=np.arange(200)), "--dry-run")
    assert seen.code == 0, seen.err
    text = " ".join(seen.out.split())
    assert "logits 4 × 200 × 2 float32" in text
    assert "Not read: ids." in text
    assert "4 models, 200 examples of which 100 are members, 2 classes" in text
    assert "1 that trained on it, 1 that did not" in text
    assert "Attacks that can be run: gap, loss," in text
    assert "lira_offline, lira_online: it needs 2 other models" in text
    assert "Memory: about" in text
    assert [path.name for path in Path().iterdir()] == ["mine.npz"]


def test_a_model_whose_mate_is_missing_is_left_out_and_said_to_be(gossamer: Gossamer) -> None:
    given = arrays(models=8)
    save(**{**given, "logits": given["logits"][:7], "members": given["members"][:7]})
    seen = gossamer("audit", "mine.npz", "--attacks", "lira_online")
    assert seen.code == 0, seen.err
    text = " ".join(seen.out.split())
    assert "6 models in 3 pairs" in text
    assert "Model 6 has no mate among the others" in text
    foreseen = " ".join(gossamer("audit", "mine.npz", "--dry-run").out.split())
    assert "6 models, 200 examples" in foreseen
    assert "Left out, as their mates are missing: 6 (models, counted from 0)." in foreseen


def test_attacks_are_checked_before_the_file_is_opened(gossamer: Gossamer) -> None:
    seen = gossamer("audit", "none.npz", "--attacks", "loss,luck")
    assert seen.code == 2
    assert "no attack is called 'luck'" in seen.err


def with_nan() -> dict[str, Any]:
    logits = arrays()["logits"]
    logits[1, 3, 0] = np.nan
    return {"logits": logits}


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "nan": (with_nan, "logits: model 1, example 3 holds NaN or infinity"),
    "infinity": (
        lambda: {"logits": np.full((4, 200, 2), np.inf)},
        "logits: model 0, example 0 holds NaN or infinity",
    ),
    "negative probability": (
        lambda: {"logits": None, "probabilities": np.tile([1.5, -0.5], (4, 200, 1))},
        "probabilities: model 0, example 0 holds a negative number",
    ),
    "rows that do not sum to one": (
        lambda: {"logits": None, "probabilities": np.full((4, 200, 2), 0.4)},
        "does not sum to one (within 0.001)",
    ),
    "probabilities as logits": (
        lambda: {"logits": np.full((4, 200, 2), 0.5) + np.array([[[0.1, -0.1]]])},
        "rename the array to probabilities",
    ),
    "logits as probabilities": (
        lambda: {"logits": None, "probabilities": arrays()["logits"]},
        "rename the array to logits",
    ),
    "a model saved twice": (
        lambda: {"logits": arrays()["logits"][[0, 1, 0, 3]]},
        "models 0 and 2 have the same margin for every example",
    ),
    "labels of truth": (
        lambda: {"logits": np.zeros((4, 200, 3)), "labels": arrays()["labels"] > 0},
        "labels: are true and false, expected class numbers from 0 to 2",
    ),
    "one label": (lambda: {"labels": np.ones(200, int)}, "every example is of class 1, expected"),
    "labels out of range": (lambda: {"labels": np.full(200, 2)}, "class numbers from 0 to 1"),
    "labels as text": (lambda: {"labels": np.full(200, "cat")}, "expected whole numbers"),
    "labels too few": (lambda: {"labels": np.zeros(199, int)}, "each of the 200 examples"),
    "all in": (lambda: {"members": np.ones(200, bool)}, "has 200 members among 200"),
    "all out": (lambda: {"members": np.zeros((4, 200))}, "has 0 members among 200"),
    "members that are numbers": (
        lambda: {"members": np.full(200, 2)},
        "true and false, or 1 and 0",
    ),
    "members of other models": (lambda: {"members": np.ones((3, 200))}, "expected [4, 200]"),
    "one class": (lambda: {"logits": np.zeros((4, 200, 1))}, "at least two classes"),
    "no models": (lambda: {"logits": np.zeros((0, 200, 2))}, "logits: the shape is (0, 200, 2)"),
    "no examples": (lambda: {"logits": np.zeros((4, 0, 2))}, "logits: the shape is (4, 0, 2)"),
    "logits as text": (lambda: {"logits": np.full((4, 200, 2), "1")}, "expected real numbers"),
    "complex": (lambda: {"logits": np.full((4, 200, 2), 1j)}, "expected real numbers"),
    "objects": (lambda: {"labels": np.full(200, None)}, "labels holds Python objects"),
    "pairs of one": (lambda: {"pairs": np.arange(4)}, "each exactly twice"),
    "no members": (lambda: {"members": None}, "lacks members; it holds logits, labels."),
    "both": (lambda: {"probabilities": np.zeros(2)}, "holds both logits and probabilities"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arrays_are_one_sentence_and_leave_nothing(gossamer: Gossamer, case: str) -> None:
    make, message = REFUSED[case]
    save(**make())
    seen = gossamer("audit", "mine.npz")
    assert seen.code == 2
    assert message in seen.err
    assert seen.err.startswith("gossamer: mine.npz: ")
    assert len(seen.err.strip().splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["mine.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz"], "none.npz: is not there"),
        (["."], ".: is a folder"),
        (
            ["mine.npz", "--attacks", "luck"],
            "attacks: no attack is called 'luck', expected some of gap",
        ),
        (["mine.npz", "--attacks", ","], "attacks: no attack is named"),
        (["mine.npz", "--out", "mine.npz"], "is no folder, expected a folder for the page"),
        (["mine.npz", "--out", "mine.npz/deep"], "mine.npz is no folder, expected a folder"),
        (["mine.npz", "--out", "x" * 300], "File name too long"),
        (["mine.npz", "--attacks", "loss", "--out", "/proc/nowhere"], "cannot be written"),
    ],
)
def test_bad_arguments_are_one_sentence(
    gossamer: Gossamer, arguments: list[str], message: str
) -> None:
    save()
    seen = gossamer("audit", *arguments)
    assert seen.code == 2
    assert message in seen.err
    assert len(seen.err.strip().splitlines()) == 1


def test_a_full_disk_is_one_sentence_after_the_numbers(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    save()

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    seen = gossamer("audit", "mine.npz", "--attacks", "loss", "--out", "out")
    assert seen.code == 2
    assert seen.err == "gossamer: the disk of out is full: free some space\n"
    assert "correctly picks out" in " ".join(seen.out.split())
    assert [path for path in Path("out").rglob("*") if path.is_file()] == []


def test_an_interruption_leaves_no_half_written_file(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    save()

    def interrupted(self: Path, content: bytes) -> int:
        self.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    seen = gossamer("audit", "mine.npz", "--attacks", "loss", "--out", "out")
    assert seen.code == 130
    assert [path for path in Path("out").rglob("*") if path.is_file()] == []


def test_ctrl_c_during_the_attacks_exits_with_130_and_leaves_nothing(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gossamer.leakage as room

    def pressed(*given: Any, **more: Any) -> None:
        more["progress"](0, 3, "Loss")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(room, "audit", pressed)
    # Whatever runs the tests in the background has them start with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        seen = gossamer("audit", save(), "--out", "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen.code == 130
    assert "Traceback" not in seen.err
    assert not Path("out").exists()


def failing(leakage: Leakage) -> Leakage:
    null = leakage.checks[0].model_copy(update={"passed": False, "detail": "mean AUC 0.7"})
    return leakage.model_copy(update={"checks": (null, *leakage.checks[1:])})


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_failed_self_test_comes_first_and_exits_with_1(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    import gossamer.leakage as room

    monkeypatch.setattr(room, "audit", lambda *given, **more: failing(audit(*given, **more)))
    seen = gossamer("audit", save(), "--attacks", "loss", *options)
    assert seen.code == 1
    said = seen.err if options else seen.out
    assert said.startswith("SELF-TEST FAILED: null: mean AUC 0.7.\n")
    assert "No number of this audit can be relied on." in said
    if not options:
        assert "Self-tests: 3 of 4 passed" in said
        assert "FAILED null" in said


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_who_leaves_is_no_failed_self_test(tmp_path: Path, options: list[str]) -> None:
    np.savez(tmp_path / "mine.npz", **arrays())
    command = [
        sys.executable,
        "-c",
        "from gossamer.__main__ import main; main()",
        "audit",
        "mine.npz",
    ]
    seen, end = os.pipe()
    os.close(seen)
    done = subprocess.run(
        [*command, "--attacks", "loss", "--out", "out", *options],
        cwd=tmp_path, stdout=end, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(end)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "audit.html").is_file()


def test_a_dry_run_has_no_json(gossamer: Gossamer) -> None:
    seen = gossamer("audit", save(), "--dry-run", "--json")
    assert seen.code == 2
    assert "--json: a dry run has no numbers to print" in seen.err


def test_every_kind_of_design_has_words() -> None:
    assert set(_DESIGNS) == set(get_args(Kind))


def test_a_dry_run_of_models_of_the_same_examples(gossamer: Gossamer) -> None:
    given = arrays()
    seen = gossamer("audit", save(members=given["members"][0]), "--dry-run")
    assert seen.code == 0, seen.err
    text = " ".join(seen.out.split())
    assert "all trained on the same examples, so no references" in text
    assert "Attacks that can be run: gap, loss, confidence, entropy, modified_entropy." in text


def test_an_overlapping_design_is_foreseen_and_audited(gossamer: Gossamer) -> None:
    given = arrays(models=6)
    members = given["members"]
    members[[2, 4]] = members[0]
    save(**{**given, "members": members[[0, 1, 2, 4, 5]], "logits": given["logits"][:5]})
    foreseen = gossamer("audit", "mine.npz", "--dry-run")
    assert foreseen.code == 0, foreseen.err
    assert "memberships overlap otherwise than by chance" in " ".join(foreseen.out.split())
    seen = gossamer("audit", "mine.npz")
    assert seen.code == 0, seen.err
    assert "tells whether the target" in " ".join(seen.out.split("Skipped")[1].split())


def test_the_gap_attack_speaks_of_balanced_accuracy(gossamer: Gossamer) -> None:
    seen = gossamer("audit", save(), "--attacks", "gap")
    said = " ".join(seen.out.split())
    assert "Accusing whatever is classified correctly tells members from others" in said
    assert "1 in 1,000" not in said


def test_pairs_are_said_to_be_trained_on_half_of_the_pool(gossamer: Gossamer) -> None:
    seen = gossamer("audit", save(), "--attacks", "loss", "--out", "out")
    told = "the recipe trained on half the pool"
    assert told in " ".join(seen.out.split())
    assert told in Path("out/audit.html").read_text()


def printed(leakage: Leakage, width: int) -> str:
    console = Console(width=width, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    for part in described(leakage, "mine.npz", width):
        console.print(part)
    console.file.close()
    return console.export_text()


def test_a_rate_whose_threshold_accused_too_many_is_marked() -> None:
    given = arrays()
    found = audit(given["logits"], given["labels"], given["members"], attacks=["loss"])
    first, second = found.attacks[0].tpr_at
    as_asked = {"realised_fpr": 0.01}, {"realised_fpr": 0.001}
    too_many = {"realised_fpr": 0.01}, {"realised_fpr": 0.0021}
    texts = []
    for changes in (as_asked, too_many):
        rates = tuple(
            rate.model_copy(update=change)
            for rate, change in zip((first, second), changes, strict=True)
        )
        attack = found.attacks[0].model_copy(update={"tpr_at": rates})
        texts.append(printed(found.model_copy(update={"attacks": (attack,)}), 80))
    fine, marked = texts
    assert "*" not in fine
    assert f"{100 * second.tpr.value:.2f}*" in marked
    assert "* More than twice the FPR asked for" in " ".join(marked.split())


def test_on_a_wide_terminal_an_interval_stands_beside_its_number() -> None:
    given = arrays()
    found = audit(given["logits"], given["labels"], given["members"], attacks=["loss"])
    auc = found.attacks[0].auc
    assert auc.low is not None
    assert auc.high is not None
    cell = f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
    assert cell in printed(found, 120)
    assert cell not in printed(found, 80)
    assert max(map(len, printed(found, 80).splitlines())) <= 80


def test_help_names_the_arrays_and_has_examples(gossamer: Gossamer) -> None:
    seen = gossamer("audit", "--help")
    assert seen.code == 0
    for part in ("logits", "labels", "members", "pairs", "gossamer audit predictions.npz --json"):
        assert part in seen.out
    assert max(map(len, seen.out.splitlines())) <= 80


def test_the_command_is_known_without_loading_numpy() -> None:
    code = "import sys, gossamer.commands.audit; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_reads_logits_off_a_model_that_is_not_ours() -> None:
    from sklearn.neural_network import MLPClassifier

    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "audit_any_model.py"))
    draws = np.random.default_rng(0)
    images, labels = draws.random((60, 5)), np.arange(60) % 3
    network = MLPClassifier((7,), max_iter=1000, tol=0.01, random_state=0).fit(images, labels)
    outputs = example["logits"](network, images).astype(np.float64)
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, network.predict_proba(images), atol=1e-5)
    halves = example["complementary_halves"](labels, 0)
    assert (halves[0] ^ halves[1]).all()
    assert np.bincount(labels[halves[0]]).tolist() == [10, 10, 10]


def test_the_python_of_the_guide_writes_a_file_that_can_be_audited(
    gossamer: Gossamer, tmp_path: Path
) -> None:
    import torch
    from torch import nn

    guide = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    by_hand, in_pairs, in_python, in_limits = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(by_hand, arrays())
    first = gossamer("audit", "predictions.npz", "--dry-run")
    assert "4 models, 200 examples" in first.out
    draws = torch.Generator().manual_seed(0)
    given: dict[str, Any] = {
        "images": torch.rand(200, 5, generator=draws),
        "labels": torch.randint(3, (200,), generator=draws),
        "train": lambda *_: nn.Linear(5, 3),
    }
    exec(in_pairs, given)
    second = gossamer("audit", "predictions.npz", "--dry-run")
    assert "16 models, 200 examples of which 100 are members, 3 classes" in second.out
    assert "7 that trained on it, 7 that" in " ".join(second.out.split())
    said: list[Any] = []
    names: dict[str, Any] = {"print": lambda *what: said.extend(what)}
    exec(in_python, names)
    assert str(said[0]).startswith("An attacker who m")
    assert "1 in 1,000 innocents" in str(said[0])
    assert said[2] is True
    exec(in_limits, names)
    assert said[3] is ("Passed" in said[4])


def test_the_guide_says_rightly_which_attacks_need_how_many_models(
    gossamer: Gossamer,
) -> None:
    new = {2: "modified_entropy", 4: "rmia, base", 6: "lira_offline", 8: "quantile_regression"}
    for models, names in new.items():
        for count in (models - 2, models):
            if count:
                save(**arrays(models=count))
                seen = gossamer("audit", "mine.npz", "--dry-run")
                possible = " ".join(seen.out.split()).split("can be run: ")[1].split(".")[0]
                assert (names in possible) == (count == models), (count, possible)


# Limits


@pytest.mark.parametrize(
    ("limit", "code", "words"),
    [("0.9", 0, "Passed: more than 90.00%"), ("0.02", 3, "FAILED: more than 2.00%")],
)
def test_a_limit_decides_the_exit_code(
    gossamer: Gossamer, limit: str, code: int, words: str
) -> None:
    save(**arrays(models=8, examples=1000))
    asked = ("--attacks", "loss", "--max-tpr", limit, "--at-fpr", "0.01", "--out", "out")
    seen = gossamer("audit", "mine.npz", *asked)
    assert seen.code == code, seen.err
    assert words in " ".join(seen.out.split())
    found = Leakage.model_validate(json.loads(Path("out/audit.json").read_text()))
    assert found.judgement is not None
    assert found.judgement.passed is (code == 0)
    assert words in Path("out/audit.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--at-fpr", "0.01"], "--at-fpr: needs --max-tpr"),
        (["--max-tpr", "0.01", "--at-fpr", "0.02"], "expected a rate of the audit: 0.01 or 0.001"),
        (["--max-tpr", "0.0001"], "--max-tpr: is 0.0001, expected a share from 0.001"),
        (["--temperature", "0"], "temperature: is 0.0, expected a positive number such as 2"),
    ],
)
def test_limits_that_say_nothing_are_refused(
    gossamer: Gossamer, options: list[str], words: str
) -> None:
    save()
    seen = gossamer("audit", "mine.npz", *options)
    assert seen.code == 2
    assert words in " ".join(seen.err.split())


def test_the_temperature_is_reported(gossamer: Gossamer) -> None:
    save()
    seen = gossamer("audit", "mine.npz", "--attacks", "base", "--temperature", "2", "--json")
    assert json.loads(seen.out)["attacks"][0]["label"] == "BASE, temperature 2"
    assert json.loads(seen.out)["provenance"]["temperature"] == 2


def test_numbers_that_turn_out_damaged_name_their_file_once(gossamer: Gossamer) -> None:
    path = Path(save())
    content = bytearray(path.read_bytes())
    content[500:508] = bytes(8)  # among the numbers of the first array, the logits
    path.write_bytes(content)
    seen = gossamer("audit", str(path), "--out", "out")
    assert seen.code == 2
    assert seen.err.count("mine.npz") == 1
    assert "Bad CRC-32" in seen.err
