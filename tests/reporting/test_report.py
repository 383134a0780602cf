import csv
import json
import re
import time
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from gossamer.core.errors import InputError, UnwritableError
from gossamer.records.record import Claim, Published
from gossamer.reporting import write_report
from gossamer.reporting.results import Results
from gossamer.reporting.series import groups
from gossamer.reporting.size_figures import accuracy_rows
from gossamer.reporting.tables import published_tables, size_table, training_table
from gossamer.reporting.write import figures

NAMES = ["accuracy", "classes", "curves", "effective", "layers", "size"]


@pytest.fixture(scope="session")
def written(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new"
    assert write_report(run.study, run.records, run.phases, (), folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="session")
def html(written: Path) -> str:
    return (written / "report.html").read_text()


def own_text(html: str) -> str:
    """The page without the drawing library."""
    return re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)


def specifications(html: str) -> list[Any]:
    found = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', html)
    return [json.loads(text) for text in found]


def test_every_file_is_there_and_nothing_else(written: Path) -> None:
    files = sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file())
    pictures = [f"figures/{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
    assert files == sorted([*pictures, "report.html", "results.csv"])


@pytest.mark.parametrize("name", NAMES)
def test_pictures(written: Path, name: str) -> None:
    png = (written / "figures" / f"{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(png[16:20]) > 1500  # drawn at twice its size
    svg = (written / "figures" / f"{name}.svg").read_text()
    assert svg.startswith("<svg")
    assert "Weight pruning against unit pruning" in svg


def test_axes_of_the_main_picture_have_units(written: Path) -> None:
    svg = (written / "figures" / "accuracy.svg").read_text()
    for text in ("Sparsity (%)", "Test accuracy (%)", "Unit pruning, published"):
        assert f">{text}</text>" in svg


def test_page_loads_nothing(html: str) -> None:
    text = own_text(html)
    for forbidden in ("src=", "href=", "@import", "url(", "fetch(", "<link", "<iframe", "<img"):
        assert forbidden not in text
    outside = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert outside == {"https://vega.github.io/schema/vega-lite/v6.4.1.json"}
    assert "default-src 'none'" in html
    library = html[html.index("<script>") :]
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", library)
    assert "@import" not in library
    assert not re.search(r"""(fetch|import)\(\s*["'`]https?:""", library)


def test_page_holds_one_drawing_library_and_every_chart(html: str) -> None:
    assert html.count("window.vegaEmbed") == 1
    assert html.lower().count("<script") == html.lower().count("</script")
    charts = specifications(html)
    assert len(charts) == 1 + 1 + 1 + 3 + 2 + 2
    assert html.count("data-chart=") == len(charts)
    assert all(chart["width"] == "container" for chart in charts)


def test_page_says_the_answer_first(html: str) -> None:
    order = [
        "<h1>Weight pruning against unit pruning</h1>",
        "How many weights, and how many whole units",
        "The unpruned network reaches 98.18 ± 0.02% on the test set",
        "<b>Figure 1.</b>",
        "Control arms in numbers",
        "What to know about this scale",
        "Known defects",
        "published and measured",
        "Size and work",
        "<b>Figure 2.</b>",
        "Where the weights are",
        "Training",
        "Class by class",
        "Is the evaluation fair?",
        "The recipe",
        "sharing saved a factor 55",
        "AMD EPYC 9575F",
        "Glossary",
    ]
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    assert "trials are done" not in html


def test_claims_come_before_everything_else(make_run: Any, tmp_path: Path) -> None:
    claims = tuple(
        Claim(name=name, text=text, says=says, compare="weight", against=("dense",), margin=0.005)
        for name, text, says in (
            ("a", "Pruning costs nothing.", "not-lower"),
            ("b", "Pruning helps.", "higher"),
        )
    )
    made = make_run(
        {("dense", 0.0): [0.98, 0.981, 0.979], ("weight", 0.5): [0.9801, 0.981, 0.9791]},
        claims=claims,
    )
    html = write_report(made.study, made.records, made.phases, (), tmp_path).read_text()
    text = own_text(html)
    assert "2 claims: 1 supported, 1 refuted." in text
    assert text.index("(a) Pruning costs nothing.") < text.index("(b) Pruning helps.")
    assert text.index("(b) Pruning helps.") < text.index("The unpruned network reaches")
    assert text.count('data-chart="claims-') == 2
    assert (tmp_path / "figures" / "claims.png").exists()


def test_one_seed_gives_no_verdict(make_run: Any, tmp_path: Path) -> None:
    claim = Claim(
        name="a", text="Costs.", says="lower", compare="weight", against=("dense",), margin=0.005
    )
    made = make_run({("dense", 0.0): [0.98], ("weight", 0.5): [0.5]}, claims=(claim,))
    html = write_report(made.study, made.records, made.phases, (), tmp_path).read_text()
    assert "1 claim: 1 undecided." in html
    assert "one seed gives a number, never a verdict" in html.lower()
    assert re.findall(r'class="claim (\w+)', html) == ["undecided"]


def test_published_table_has_both_numbers_and_their_difference(run: Any, html: str) -> None:
    (table,) = published_tables(Results(run.study, run.records))
    assert table.columns == ("Sparsity", *("published", "measured", "difference (points)") * 2)
    (section,) = table.sections
    zero = section.rows[0]
    assert (zero[0], zero[1], zero[4]) == ("0%", "97.09", "97.09")
    assert zero[2] == zero[5]
    for row in section.rows:
        for published, measured, difference in (row[1:4], row[4:7]):
            mean, half = map(float, measured.split(" ± "))
            assert half >= 0
            assert float(difference.replace("−", "-")) == pytest.approx(
                mean - float(published), abs=0.011
            )
            assert f"<td>{measured}</td>" in html


def test_main_figure_draws_what_the_table_says(run: Any, html: str) -> None:
    rows, across = accuracy_rows(run.results, groups(run.results)[0])
    datasets = specifications(html)[0]["datasets"]
    assert rows in datasets.values()
    assert across in datasets.values()
    assert [row["series"] for row in across] == ["Dense"]
    row = next(r for r in rows if r["series"] == "Weight pruning" and r["level"] == 60)
    values = [
        run.records[t.key].measures["test_accuracy"]
        for t in run.study.trials
        if t.arm == "weight" and t.level == 0.6
    ]
    assert row["mean"] == pytest.approx(100 * sum(values) / 5, abs=1e-3)
    assert row["low"] < row["mean"] < row["high"]
    hollow = [r["mean"] for r in rows if r["series"] == "Unit pruning, published"]
    assert hollow == pytest.approx([97.09, 82.53, 22.2, 12.68, 11.74, 9.88, 9.85, 9.66, 8.64, 6.47])


def test_sizes_have_readable_units(run: Any) -> None:
    table = size_table(run.results)
    assert table is not None
    assert [section.title for section in table.sections[:3]] == [
        "Dense",
        "Weight pruning",
        "Unit pruning",
    ]
    assert table.sections[2].rows[1] == (
        "50%",
        "50.00",
        "50.00",
        "49.96",
        "66.78",
        "1.19 M",
        "7.16 MB",
        "2.39 M",
        "1.19 M",
    )
    assert table.starts == (1, 5, 7)


def test_csv_gives_every_number_back(run: Any, written: Path) -> None:
    with (written / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(run.study.trials)
    for trial, row in zip(run.study.trials, rows, strict=True):
        found = run.records[trial.key]
        assert (row["arm"], int(row["seed"]), float(row["level"]), row["key"]) == (
            trial.arm,
            trial.seed,
            trial.level,
            trial.key,
        )
        assert {name: float(row[name]) for name in found.measures} == dict(found.measures)
        classes = tuple(float(row[f"test_accuracy_class_{i}"]) for i in range(10))
        assert classes == found.per_class["test"]


def test_text_from_outside_is_text(make_run: Any, make_arm: Any, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><b>bold</b>"
    arms = (
        make_arm(name="dense", label="dense", role="baseline", recipe=()),
        make_arm(name="weight", label=evil, role="main", recipe=({"step": evil},)),
    )
    made = make_run(
        {("dense", 0.0): [0.98, 0.97], ("weight", 0.5): [0.9, 0.91]},
        arms=arms,
        title=evil,
        question=evil,
        notes=(evil,),
        command=evil,
        file=evil,
        dataset=evil,
        published=Published(source=evil, defects=(evil,)),
    )
    html = write_report(made.study, made.records, made.phases, (), tmp_path).read_text()
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "<b>bold" not in html
    assert specifications(html)[0]["datasets"]["accuracy-0"][1]["series"] == evil


def test_half_finished_run_says_so(run: Any, tmp_path: Path) -> None:
    some = {t.key: run.records[t.key] for t in run.study.trials if t.seed < 2 and t.level <= 0.5}
    html = write_report(run.study, some, {}, (), tmp_path).read_text()
    assert f"<b>{len(some)} of 275 trials are done</b>; everything below is from these." in html
    assert "mean over 2 seeds" in html
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["test_accuracy"] == "" for row in rows) == 275 - len(some)
    assert not (tmp_path / "figures" / "curves.png").exists()


def test_run_without_a_record_is_a_page_too(run: Any, tmp_path: Path) -> None:
    html = write_report(run.study, {}, {}, (), tmp_path).read_text()
    assert "<b>0 of 275 trials are done</b>; there is nothing to show yet." in html
    assert "No trial is done yet, so there is nothing to say." in html
    assert html.rstrip().endswith("</html>")
    assert "vegaEmbed" not in html
    assert "gossamer run weight-vs-unit" in html


def test_one_seed_is_said_to_be_one(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.98], ("weight", 0.5): [0.97]})
    results = made.results
    assert "one seed, without intervals" in figures(results)[0].caption
    assert results.basis == "one seed"


def test_resolved_training_steps_are_listed_once(run: Any) -> None:
    table = training_table(Results(run.study, run.records), run.phases)
    assert table is not None
    rows = {row[0]: row[1] for row in table.sections[0].rows}
    assert (rows["optimizer"], rows["optimizer: rate"]) == ("sgd", "0.1")
    assert rows["augmentation"] == "none"
    assert rows["optimizer steps"] == "6,000"
    assert rows["times done"] == "5"


def test_unknown_connectivity_leaves_gaps(make_run: Any, forget: Any, tmp_path: Path) -> None:
    made = make_run(
        {("dense", 0.0): [0.98, 0.97], ("weight", 0.5): [0.9, 0.8], ("unit", 0.5): [0.5, 0.6]}
    )
    none = {key: forget(one) for key, one in made.records.items()}
    table = size_table(Results(made.study, none))
    assert table is not None
    assert {section.rows[0][4] for section in table.sections} == {"–"}
    html = write_report(made.study, none, made.phases, (), tmp_path).read_text()
    assert "at equal effective size" not in html
    assert "Effective:" not in own_text(html)
    assert "Effective sparsity" not in own_text(html)


def test_folder_that_is_a_file_is_one_sentence(run: Any, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(InputError, match=r"cannot be written \(.+\)") as caught:
        write_report(run.study, {}, {}, (), taken)
    assert "\n" not in str(caught.value)
    assert str(taken) in str(caught.value)
    assert taken.read_text() == "mine"


def test_full_disk_leaves_the_old_page_and_no_rubbish(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_report(run.study, {}, {}, (), tmp_path)
    before = page.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UnwritableError, match="is full: free some space"):
        write_report(run.study, {}, {}, (), tmp_path)
    assert page.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.csv"]


def test_same_records_give_the_same_page(
    run: Any, written: Path, html: str, tmp_path: Path
) -> None:
    again = write_report(run.study, run.records, run.phases, (), tmp_path)
    assert again.read_text() == html
    svg = "figures/accuracy.svg"
    assert (tmp_path / svg).read_bytes() == (written / svg).read_bytes()


def few_rows(spec: Any) -> Any:
    """Return a chart with the first rows of its data: the grammar looks at each of thousands."""
    if isinstance(spec, dict):
        return {
            name: part[:3] if name == "values" and isinstance(part, list) else few_rows(part)
            for name, part in spec.items()
        }
    return [few_rows(part) for part in spec] if isinstance(spec, list) else spec


@pytest.mark.parametrize(
    "name", ["run", pytest.param("leaky", marks=pytest.mark.slow), "retrained"]
)
def test_every_chart_is_valid_vega_lite(name: str, request: pytest.FixtureRequest) -> None:
    drawn = figures(request.getfixturevalue(name).results)
    specifications = [spec for one in drawn for spec in (*one.page_specs(), one.file_spec("x"))]
    assert len(specifications) > len(drawn)
    for spec in specifications:
        alt.Chart.from_dict(few_rows(spec))  # raises an error that names what the grammar lacks


def test_figures_of_a_thousand_records_take_seconds(make_full: Any) -> None:
    made = make_full(18)
    assert len(made.records) == 990
    start = time.perf_counter()
    drawn = figures(made.results)
    for figure in drawn:
        json.dumps(figure.page_specs())
    assert time.perf_counter() - start < 10
