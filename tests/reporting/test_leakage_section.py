import csv
import re
from pathlib import Path
from typing import Any

import pytest

from gossamer.reporting import write_report
from gossamer.reporting.leakage_figures import (
    accuracy_leakage_figure,
    leakage_figure,
    matched_rows,
    readings,
    roc_figure,
)
from gossamer.reporting.leakage_section import gallery, leakage_section
from gossamer.reporting.leakage_tables import (
    AUC,
    LOW_TPR,
    attack_table,
    audited,
    change_table,
    check_table,
    detailed,
    factor_over_loss,
    level_table,
    precision_table,
    rate_at,
    reading,
    version_table,
)
from gossamer.reporting.series import groups


def test_audits_are_found_by_arm_and_level(leaky: Any) -> None:
    found = audited(leaky.results)
    assert [(one.arm, one.level) for one in found] == [
        ("dense", 0.0),
        ("weight", 0.5),
        ("weight", 0.9),
        ("longer", 0.0),
    ]
    assert found[1].label == "Pruned, 50% sparsity"
    shown = detailed(leaky.results, groups(leaky.results)[0])
    assert [one.label for one in shown] == [
        "Dense",
        "Dense, longer",
        "Pruned, 50% sparsity",
        "Pruned, 90% sparsity",
    ]


def test_readings_are_those_of_the_headline_attack(leaky: Any) -> None:
    one = audited(leaky.results)[0]
    attack = one.leakage.attack(one.leakage.headline)
    area = reading(one, AUC)
    assert area is not None
    assert (area.mean, area.low, area.high) == (attack.auc.value, attack.auc.low, attack.auc.high)
    assert area.count == 3  # pairs, not networks
    low = reading(one, LOW_TPR)
    assert low is not None
    assert low.mean == attack.rate_at(0.001).tpr.value
    found = readings(leaky.results, AUC)
    assert found["weight", 0.5].mean > found["weight", 0.9].mean


def test_leakage_is_drawn_against_sparsity_and_accuracy(leaky: Any) -> None:
    assert leakage_figure(leaky.results) is not None
    rows = matched_rows(leaky.results, groups(leaky.results)[0], AUC)
    by_name = {(row["series"], row["level"]): row for row in rows}
    assert len(rows) == 4
    pruned = by_name["Pruned", 90]
    assert pruned["accuracy"] == pytest.approx(100 * (0.88 + 0.001))
    assert (pruned["fixed"], by_name["Dense", 0]["fixed"]) == (False, True)
    figure = accuracy_leakage_figure(leaky.results)
    assert figure is not None
    assert len(figure.panels) == 2
    for panel in figure.panels:
        layers = panel.specification["layer"]
        words = [layer for layer in layers if layer["mark"]["type"] == "text"]
        named = [row["place"] for layer in words for row in panel.rows[layer["data"]["name"]]]
        assert sorted(named) == ["50%", "90%"]
    curves = roc_figure(leaky.results)
    assert curves is not None
    assert {row.get("series") for row in curves.panels[0].all_rows} > {"Dense", "Dense, longer"}


def test_without_attacks_there_is_no_section(run: Any) -> None:
    assert leakage_section(run.results) is None
    assert leakage_figure(run.results) is None
    assert roc_figure(run.results) is None
    assert level_table(run.results) is None


def test_a_rate_that_was_not_kept_is_marked_in_the_table(make_leakage: Any) -> None:
    leakage = make_leakage(1.0)
    loss = leakage.attack("loss")
    texts = []
    for realised in (0.002, 0.0021):
        rates = (
            loss.tpr_at[0].model_copy(update={"realised_fpr": 0.01}),
            loss.tpr_at[1].model_copy(update={"realised_fpr": realised}),
        )
        marked = loss.model_copy(update={"tpr_at": rates})
        one = leakage.model_copy(update={"attacks": (marked,), "headline": "loss"})
        texts.append(attack_table([("", one)]).sections[0].rows[0])
    assert [" * [" in text[6] for text in texts] == [False, True]
    assert not any("*" in text[3] for text in texts)


def test_attack_table_prints_what_was_found(make_leakage: Any) -> None:
    leakage = make_leakage(1.0)
    table = attack_table([("x", leakage)])
    rows = {row[0].removesuffix(" †"): row for row in table.sections[0].rows}
    assert len(rows) == len(leakage.attacks)
    loss = leakage.attack("loss")
    auc = loss.auc
    assert rows["Loss"][2] == f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
    assert rows["Loss"][4] == f"{100 * loss.rate_at(0.01).realised_fpr:.3f}"
    marked = [row[0] for row in table.sections[0].rows if row[0].endswith("†")]
    assert marked == [f"{leakage.attack(leakage.headline).label} †"]
    curve = loss.rate_at(0.001).curve_tpr
    assert rows["Loss"][8].startswith(f"{100 * curve.value:.2f}")
    assert rows["Best threshold in sample (optimistic)"][3:] == ("–",) * 6


def test_precision_is_bayes_rule_at_the_realised_rates(make_leakage: Any) -> None:
    leakage = make_leakage(1.5)
    table = precision_table([("", leakage)])
    assert table is not None
    assert table.columns == ("", "members are 1%", "members are 10%", "members are 50%")
    at = leakage.attack(leakage.headline).rate_at(0.01)
    cells = table.sections[0].rows[0][1:]
    for cell, prior in zip(cells, (0.01, 0.1, 0.5), strict=True):
        accused = prior * at.tpr.value + (1 - prior) * at.realised_fpr
        assert float(cell) == pytest.approx(100 * prior * at.tpr.value / accused, abs=0.06)


def test_factor_is_a_ratio_of_rates_on_the_curves(make_leakage: Any) -> None:
    leakage = make_leakage(1.5)
    ours = leakage.attack(leakage.headline).rate_at(0.001).curve_tpr.value
    theirs = leakage.attack("loss").rate_at(0.001).curve_tpr.value
    assert factor_over_loss(leakage) == pytest.approx(ours / theirs)
    alone = tuple(attack for attack in leakage.attacks if attack.name != "loss")
    assert factor_over_loss(leakage.model_copy(update={"attacks": alone})) is None


def test_two_versions_are_compared_with_the_network_alone(leaky: Any) -> None:
    shown = detailed(leaky.results, groups(leaky.results)[0])
    table = version_table(leaky.results, shown)
    assert table is not None
    first = table.sections[0].rows[0]
    assert first[0] == "Pruned, 50% sparsity"
    joint = leaky.results.joint("weight", 0.5, "releases")
    assert joint is not None
    assert first[3].startswith(f"{joint.joint.auc.value:.3f} [")
    assert first[5].startswith(f"{joint.foreign.auc.value:.3f} [")
    change = change_table(leaky.results, shown)
    assert change is not None
    assert change.sections[0].rows[0][1] == "−0.020 [−0.030, −0.010]"
    assert change.sections[0].rows[0][2] == "−2.00 [−3.00, −1.00]"
    assert change.sections[0].rows[0][6:] == ("3.0", "25.0")


def test_failed_self_tests_are_in_the_open(make_leakage: Any) -> None:
    good = make_leakage(1.0)
    table = check_table([good])
    assert {row[1] for row in table.sections[0].rows} == {"yes"}
    broken = good.checks[0].model_copy(update={"passed": False, "detail": "mean AUC 0.7"})
    bad = good.model_copy(update={"checks": (broken, *good.checks[1:])})
    row = check_table([good, bad]).sections[0].rows[0]
    assert row == (broken.name, "1 of 2", "mean AUC 0.7")


def test_examples_that_leak_most_are_shown_with_their_pictures(make_leakage: Any) -> None:
    leakage = make_leakage(1.0)
    pictures = tuple(f"p{i}" for i in range(len(leakage.exposed)))
    shown = gallery(leakage, pictures)
    assert [one.picture for one in shown] == [f"p{i}" for i in range(10)]
    assert [one.example for one in shown] == [one.example for one in leakage.exposed[:10]]
    assert {one.picture for one in gallery(leakage, ())} == {""}


def test_page_of_a_leakage_study(leaky: Any, tmp_path: Path) -> None:
    page = write_report(leaky.study, leaky.records, leaky.phases, leaky.joints, tmp_path)
    text = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    for words in (
        "Recipe trained on half the pool",
        "An attacker who may accuse 1 in 1,000 innocents",
        "Attackers who know of the unpruned networks",
        "Which examples leak most",
        "Does the audit work?",
        "4 of 4",
        "Pair of seeds",
    ):
        assert words in text
    sources = set(re.findall(r'src="([^"]{0,22})', text))
    assert sources == {"data:image/png;base64,"}
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"leakage", "leakage-accuracy", "roc"} <= names


def test_csv_holds_joint_measures_and_every_attack(leaky: Any, tmp_path: Path) -> None:
    write_report(leaky.study, leaky.records, leaky.phases, leaky.joints, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    joint = next(one for one in leaky.joints if one.kind == "leakage")
    for row in results:
        if row["key"] in joint.records:
            assert float(row["lira_online_auc"]) == joint.measures[row["key"]]["lira_online_auc"]
    with (tmp_path / "leakage.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = [
        line
        for line in lines
        if (line["arm"], line["attack"], line["measure"], line["fpr"])
        == ("dense", "loss", "tpr", "0.01")
    ]
    leakage = leaky.results.leakage("dense", 0.0)
    assert leakage is not None
    at = rate_at(leakage.attack("loss"), 0.01)
    assert at is not None
    assert [float(line["value"]) for line in found] == [at.tpr.value]
    assert {line["attack"] for line in lines if line["arm"] == "weight"} >= {"joint", "foreign"}


def test_the_finding_says_what_both_attacks_find_with_intervals(leaky: Any) -> None:
    section = leakage_section(leaky.results)
    assert section is not None
    for label, text in section.sentences:
        leakage = next(one.leakage for one in audited(leaky.results) if one.label == label)
        ours, theirs = (
            leakage.attack(name).rate_at(0.001).curve_tpr for name in (leakage.headline, "loss")
        )
        assert f"finds {ours.value / theirs.value:.1f} times as many members" in text
        for one in (ours, theirs):
            assert one.low is not None
            assert f" {100 * one.value:.2f} [{100 * one.low:.2f}, " in text
