from typing import Any

from gossamer.records.record import Claim
from gossamer.reporting.glossary import definitions, label
from gossamer.reporting.results import Results


def test_every_attack_number_has_a_name(leaky: Any) -> None:
    measures = {name for joint in leaky.joints for some in joint.measures.values() for name in some}
    names = {label(name) for name in measures}
    assert len(names) == len(measures)
    assert not any("_" in name for name in names)
    assert (
        label("lira_offline_curve_tpr@0.001") == "TPR on the ROC curve at 0.1% FPR of LiRA offline"
    )
    assert label("modified_entropy_auc") == "AUC of modified entropy attack by class"


def test_terms_are_those_that_the_page_uses(run: Any, leaky: Any) -> None:
    plain = dict(definitions(run.results))
    assert "Effective sparsity" in plain
    assert "TPR, FPR" not in plain
    assert "Pair of seeds" not in plain
    attacked = dict(definitions(leaky.results))
    assert {"TPR, FPR", "LiRA, online", "Pair of seeds"} <= attacked.keys()
    assert definitions(Results(run.study, {})) == []


def test_verdicts_are_explained_where_something_is_claimed(make_run: Any) -> None:
    given = Claim(name="a", text="", says="higher", compare="weight", against=("dense",), margin=0)
    cells = {("dense", 0.0): [0.9], ("weight", 0.5): [0.8]}
    assert "Margin" not in dict(definitions(make_run(cells).results))
    explained = dict(definitions(make_run(cells, claims=(given,)).results))
    assert {"Margin", "Supported, refuted, undecided"} <= explained.keys()
