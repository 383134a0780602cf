"""What is refused in a study file: the sentence, the field and the line."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.core.errors import InputError
from gossamer.studies.remarks import remarks
from gossamer.studies.run import Request, preflight_study, prepare
from gossamer.studies.spec import read_study

WriteStudy = Callable[..., Path]
NEWLINE = "\n"


def refusal(study: Path) -> str:
    """Return how a file is refused, by reading or by planning."""
    with pytest.raises(InputError) as caught:
        prepare(Request(study=str(study), folder=study.parent), None)
    return str(caught.value)


# What is changed in the small or the leaky study; the text that stands on the line complained of;
# and the sentence.
SMALL = [
    (
        'name = "small"',
        'name = "small"\ncolour = "red"',
        "colour",
        "colour: there is no such key; the keys are arms, claims, data, ",
    ),
    (
        "seeds = 2",
        "seeds = 0",
        "seeds = 0",
        "scales.quick.seeds: must be greater than 0 (given: 0)",
    ),
    (
        'notes = ["Small on purpose."]',
        "levels = [0.5, 0.6]",
        "levels",
        "scales.quick.levels: 0.6 is not in the grid",
    ),
    ("seeds = 3", "seeds = 3\nlevels = []", "levels", "scales.paper.levels: "),
    (
        "seeds = 3",
        "seeds = 3\ndata = { exampels = 9 }",
        "exampels",
        "scales.paper.data.exampels: there is no such key: did you mean 'examples'?",
    ),
    (
        "seeds = 3",
        "seeds = 3\ndata.examples = 0",
        "examples = 0",
        "scales.paper.data.examples: must be greater than 0 (given: 0)",
    ),
    (
        'role = "control"',
        'role = "control"\ndata = { pool = "third" }',
        "third",
        "arms.4.data.pool: must be 'all' or 'half' (given: 'third')",
    ),
    (
        'sparsity = "$sparsity" }]',
        "sparsity = 1.5 }]",
        "sparsity = 1.5",
        "arm weight, step 2 (prune), sparsity: must be at most 1 (given: 1.5)",
    ),
    (
        'sparsity = "$sparsity" }]',
        'sparsity = "$rate" }]',
        "$rate",
        "arm weight, step 2: it mentions $rate, which is no value of the grid or of the scale; "
        "these are epochs, sparsity",
    ),
    (
        '  { step = "rewind" },',
        '  { step = "rewind", to = 9 },',
        '{ step = "rewind", to = 9 }',
        "arm rewound: step 3 of the recipe (rewind) goes back to after step 9, but only 2",
    ),
    (
        "sparsity = [0.5, 0.9]",
        "sparsity = []",
        "sparsity = []",
        "grid.sparsity: it is empty, but arm weight needs it",
    ),
    (
        "sparsity = [0.5, 0.9]",
        "sparsity = [0.5, 0.5]",
        "sparsity = [",
        "grid.sparsity: 0.5 is given twice",
    ),
    (
        'role = "control"',
        'role = "baseline"',
        "[[arms]]4",
        "arms.4: there can be one baseline, not",
    ),
    ('name = "weight"', 'name = "dense"', "[[arms]]2", "arms.2: arm 'dense' is given twice"),
    ('label = "Weights"', 'label = "Unpruned"', "[[arms]]2", "arms.2: label 'Unpruned' is given"),
    (
        'recipe = ["training"]',
        'recipe = ["trianing"]',
        "trianing",
        "arms.1.recipe.1: arm dense has 'trianing', which is no part: did you mean 'training'?",
    ),
    (
        'recipe = ["training"]',
        'recipe = [{ step = "transfer", source = "none" }]',
        'source = "none"',
        "arms.1.recipe.1: arm dense borrows from 'none', which is no source (none)",
    ),
    ("hidden = [16, 8]", "hidden = [16,\n0]", "0]", "network.hidden.2: must be greater"),
]


CLAIM = """
[[claims]]
name = "a"
text = "T."
says = "higher"
compare = "weight"
against = "dense"
"""


def claiming(*lines: str) -> tuple[str, str]:
    """Put a claim with more lines before the last arm of the small study."""
    last = '[[arms]]\nname = "rewound"'
    return last, f"{CLAIM}{NEWLINE.join(lines)}\n\n{last}"


def titled(title: str) -> tuple[str, str]:
    return 'title = "A small study"', f"title = {title}"


SMALL += [
    (*claiming('measure = "test_acuracy"'), "test_acuracy",
     "claims.1.measure: claim a is about 'test_acuracy', which is no measure: did you mean "
     "'test_accuracy'?"),
    (*claiming('measure = "zebra"'), "zebra",
     "claims.1.measure: claim a is about 'zebra', which is no measure"),
    (*claiming('matched_on = "effective_parameter"'), "effective_parameter",
     "claims.1.matched_on: claim a is about 'effective_parameter', which is no measure: did you "
     "mean 'effective_parameters'?"),
    (*claiming('control = { compare = "weight", against = "dense", measure = "loss", text = "" }'),
     "control", "claims.1.control: claim a is about 'loss', which is no measure"),
    (*claiming('measure = "lira_online_auc"'), "lira_online_auc",
     "claims.1.measure: claim a is about 'lira_online_auc', which is measured with leakage = "
     '"paired-halves" only'),
    (*claiming('measure = "mask_overlap"'), "mask_overlap",
     "claims.1.measure: claim a is about 'mask_overlap', which is measured of the first arms of "
     "overlaps only: add weight to them"),
    (*claiming('measure = "test_loss"'), "[[claims]]",
     "claims.1: claim a must state its margin, the smallest difference that matters: for "
     "'test_loss', which is no fraction, there is none that suits everyone"),
    (*claiming("levels = [0.5, 0.5]"), "levels = [0.5, 0.5]",
     "claims.1.levels: 0.5 is given twice"),
    (*claiming('text = "x"')[:1], CLAIM.replace("T.", r"\u0007") + '[[arms]]\nname = "rewound"',
     "\\u0007", "claims.1.text: the text holds the control character U+0007"),
    (*titled(r'"A \u0000 study"'), "title",
     "title: the text holds the control character U+0000, which no figure or page can show: "
     "leave it out"),
    (*titled('"""A\nstudy"""'), "title", "title: the text holds the control character U+000A"),
    ('label = "Weights"', r'label = "Wei\u001bghts"', "Wei",
     "arms.2.label: the text holds the control character U+001B"),
    ('notes = ["Small on purpose."]', r'notes = ["Small \u009f."]', "notes",
     "scales.quick.notes.1: the text holds the control character U+009F"),
    ("sparsity = [0.5, 0.9]", "sparsity = [0.9, 0.5, 0.90000001]", "sparsity = [",
     "grid.sparsity: 0.9 and 0.90000001 are too near to be told apart"),
    ("seeds = 3", "seeds = 3\nlevels = [0.9, 0.5, 0.9]", "levels",
     "scales.paper.levels: 0.9 is given twice"),
    ("epochs = 4 }", "epochs = 4, sparsity = 0.5 }", "epochs = 4",
     "scales.paper.values.sparsity: 'sparsity' is the grid's variable, which has its values "
     "there: leave it out"),
    ('role = "control"', 'role = "control"\nscales = []', "scales = []",
     "arms.4.scales: arm rewound is run at no scale, but the study has quick and paper: it would "
     "never be run"),
    ('role = "control"', 'role = "control"\nscales = ["paper", "paper"]', "scales = [",
     "arms.4.scales: arm rewound has a scale twice"),
    ('question = "Does it run?"', 'question = "?"\noverlaps = [["weight", "weight"]]', "overlaps",
     "overlaps.1: 'weight' is compared with itself"),
    ('question = "Does it run?"',
     'question = "?"\noverlaps = [["weight", "rewound"], ["weight", "dense"]]', "overlaps",
     "overlaps compares the masks of arms, but dense ends without one"),
    ('name = "digits"', 'name = "digts"', "digts", "digts: no such dataset, expected digits, "),
    ("validation = 0.2", "validation = 0.2\nexamples = 5000", "examples = 5000",
     "examples asks for a pool of 5,000, but digits has 1,438 training examples"),
    ("seeds = 2", "seeds = 2\ndata = { examples = 5000 }", "data = { examples",
     "examples asks for a pool of 5,000"),
    ('role = "control"', 'role = "control"\ndata = { name = "mnits" }', "mnits",
     "mnits: no such dataset"),
    ("seeds = 2", "seds = 2", "seds",
     "scales.quick.seds: there is no such key: did you mean 'seeds'?"),
    ('label = "Weights"', 'lable = "Weights"', "lable",
     "arms.2.lable: there is no such key: did you mean 'label'?"),
    ("optimizer = { name = \"sgd\", rate", "optimizer = { name = \"sgd\", rte", "rte",
     "arm rewound, step 4 (train), optimizer.rte: there is no such key: did you mean 'rate'?"),
    ('optimizer = { name = "sgd"', 'optimizer = { name = "sdg"', "sdg",
     "arm rewound, step 4 (train), optimizer: must be one of 'sgd', 'adam', 'adamw', 'adadelta', "
     "not 'sdg': did you mean 'sgd'?"),
    ('allocation = "uniform", pattern', 'allocation = { name = "erk", a = 1 }, pattern', "erk",
     "arm rewound, step 2 (prune), allocation.a: there is no such key; the keys are name"),
    ('pattern = "unit"', 'pattern = "rows"', "rows",
     "arm rewound, step 2 (prune), pattern: must be 'weight' or 'unit' (given: 'rows')"),
    ('{ step = "rewind" }', '{ stp = "rewind" }', "stp",
     "arm rewound, step 3: needs a 'step', which says what it is"),
    ('{ step = "rewind" }', '{ step = "rewnd" }', "rewnd",
     "arm rewound, step 3 (rewnd): must be one of 'train', 'prune', 'regrow', 'rewind', 'pack', "
     "'transfer', not 'rewnd': did you mean 'rewind'?"),
    ('epochs = "$epochs"', 'epochs = "$epoch"', "$epoch",
     "arm dense, step 1: it mentions $epoch, which is no value of the grid or of the scale: did "
     "you mean 'epochs'?"),
    ('name = "mlp"\nhidden = [16, 8]', 'name = "mpl"', "mpl",
     "There is no network 'mpl' (did you mean 'mlp'?)"),
]  # fmt: skip


def timing(lines: str) -> tuple[str, str]:
    return "[[arms]]", f"[latency]\n{lines}\n\n[[arms]]"


SMALL += [
    (*timing('arms = ["wieght"]'), '"wieght"',
     "latency.arms.1: 'wieght' is no arm: did you mean 'weight'?"),
    (*timing('arms = ["weight", "dense"]'), '"dense"]',
     "latency.arms.2: 'dense' is the baseline, which is timed in any case: leave it out"),
    (*timing('arms = ["weight", "weight"]'), '"weight", "weight"',
     "latency.arms.2: 'weight' is given twice"),
    (*timing("arms = []"), "arms = []", "latency.arms: must not be empty"),
    (*timing('arms = ["weight"]\nlevels = [0.5, 0.6]'), "levels = [0.5, 0.6]",
     "latency.levels: 0.6 is not in the grid"),
    (*timing('arms = ["weight"]\nlevels = [0.5, 0.5]'), "levels = [0.5, 0.5]",
     "latency.levels: 0.5 is given twice"),
    (*timing('arms = ["weight"]\nbatch = 0'), "batch = 0",
     "latency.batch: must be greater than 0 (given: 0)"),
    (*timing('arms = ["weight"]\nthreads = 0'), "threads = 0",
     "latency.threads: must be greater than 0 (given: 0)"),
    (*claiming('measure = "latency_ratio"', "margin = 0.1"), "latency_ratio",
     "claims.1.measure: claim a is about 'latency_ratio', which is measured of arms that "
     "[latency] names only: add weight to its arms"),
]  # fmt: skip

LEAKY = [
    (
        "seeds = 6",
        "seeds = 5",
        "seeds = 5",
        "scales.quick.seeds: seeds train in pairs, on complementary halves of the data, so their "
        "number must be even, not 5",
    ),
    (
        'against = "dense"',
        'against = "dense"\nmeasure = "validation_accuracy"',
        "validation_accuracy",
        "claims.1.measure: claim a is about 'validation_accuracy', which is measured where part "
        "of the data is held out only: set validation in [data]",
    ),
    (
        'recipe = ["training", "half"]\n\n[[arms]]\nname = "dense"',
        'recipe = [{ step = "transfer", source = "again" }, "half"]\n\n[[arms]]\nname = "dense"',
        'source = "again"',
        "sources.again.recipe.1: sources borrow in a circle: again from again",
    ),
    (
        "[sources.again]",
        '[sources.other]\nrecipe = ["thirds"]\n[sources.again]',
        "thirds",
        "sources.other.recipe.1: source other has 'thirds', which is no part (training, half)",
    ),
    (
        "[sources.again]",
        "[sources.again]\nseed_offset = -1",
        "seed_offset",
        "sources.again.seed_offset: must be at least 0 (given: -1)",
    ),
    (
        'compare = "weight"',
        'compare = "wieght"',
        "wieght",
        "claims.1.compare: claim a is about 'wieght', which is no arm: did you mean 'weight'?",
    ),
    (
        'data = { pool = "all" }\n',
        "",
        'recipe = [{ step = "transfer", source = "again" }',
        "arms.3.recipe: with leakage a mask cannot come from another seed's half of the same data",
    ),
    (
        'against = "dense"',
        'against = "weight"',
        "against",
        "claims.1.against: claim a compares 'weight' with itself",
    ),
    (
        'against = "dense"',
        "against = []",
        "against",
        "claims.1.against: must not be empty",
    ),
    (
        'against = "dense"',
        'against = ["dense", "dens"]',
        '"dens"',
        "claims.1.against: claim a is about 'dens', which is no arm",
    ),
    (
        'against = "dense"',
        'against = "dense"\ncontrol = { compare = "lent", against = "land", text = "" }',
        '"land"',
        "claims.1.control: claim a is about 'land', which is no arm",
    ),
    (
        'against = "dense"',
        'against = "dense"\nlevels = [0.5, 0.6]',
        "levels = [0.5, 0.6]",
        "claims.1.levels: claim a looks at 0.6, which is not in the grid",
    ),
    (
        'against = "dense"',
        'against = "dense"\nagainst_level = 0.4',
        "against_level",
        "claims.1.against_level: claim a looks at 0.4, which is not in the grid",
    ),
    (
        'against = "dense"',
        'against = "dense"\nmargin = -1',
        "margin = -1",
        "claims.1.margin: must be at least 0 (given: -1)",
    ),
    (
        'says = "not-lower"',
        'says = "greater"',
        "greater",
        "claims.1.says: must be 'higher', 'lower', 'not-lower', 'not-higher' or 'on-par'",
    ),
    (
        "[[claims]]",
        '[[claims]]\nname = "a"\ntext = ""\nsays = "lower"\ncompare = "lent"\n'
        'against = "dense"\n\n[[claims]]',
        "[[claims]]2",
        "claims.2: claim 'a' is given twice",
    ),
    (
        'overlaps = [["weight", "lent"]]',
        'overlaps = [["weight", "lend"]]',
        "overlaps",
        "overlaps.1: 'lend' is no arm: did you mean 'lent'?",
    ),
    (
        '"paired-halves"',
        '"halves"',
        "leakage =",
        "leakage: must be 'paired-halves' (given: 'halves')",
    ),
    (
        "examples = 300",
        "examples = 300\nvalidation = 0.1",
        "validation",
        "data.validation: arm dense trains on complementary halves of the pool, and what is held "
        'out would be missing: use validation_from = "test", or 0',
    ),
]


@pytest.mark.parametrize(
    ("leaky", "old", "new", "at", "message"),
    [(leaky, *case) for leaky, cases in ((False, SMALL), (True, LEAKY)) for case in cases],
)
def test_a_complaint_names_line_and_field(
    write_study: WriteStudy, leaky: bool, old: str, new: str, at: str, message: str
) -> None:
    path = write_study((old, new), leaky=leaky)
    text, said = path.read_text(), refusal(path)
    start = text.index(at) if at in text else nth(text, at[:-1], int(at[-1]))
    assert said.startswith(f"the study {path}, line ")
    assert f", line {1 + text[:start].count(NEWLINE)}: {message}" in said
    assert NEWLINE not in said


def test_a_circle_of_sources_is_told_wherever_it_can_be_cut(write_study: WriteStudy) -> None:
    circle = (
        '[sources.other]\nrecipe = [\n{ step = "transfer", source = "more" }]\n'
        '[sources.more]\nrecipe = [{ step = "transfer", source = "other" }]\n[sources.again]'
    )
    said = refusal(write_study(("[sources.again]", circle), leaky=True))
    assert "line 29: sources.other.recipe.1: sources borrow in a circle: more from other" in said
    assert "line 31: sources.more.recipe.1: sources borrow in a circle: other from more" in said


def nth(text: str, part: str, number: int) -> int:
    """Return where a part stands in a text for the n-th time."""
    at = -1
    for _ in range(number):
        at = text.index(part, at + 1)
    return at


def test_what_is_held_out_of_the_test_set_leaves_halves_complementary(
    write_study: WriteStudy,
) -> None:
    held_out = 'examples = 300\nvalidation = 0.1\nvalidation_from = "test"'
    spec, _ = read_study(str(write_study(("examples = 300", held_out), leaky=True)))
    assert spec.data_of(spec.arms[0], "quick").validation == 0.1


JARGON = ("Input should", "Field required", "Extra inputs", "Tuple", "Dictionary", "valid string",
          "input_value", "tag", "validation, not")  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seeds = 2", 'seeds = "two"'),
        ("seeds = 2", "seeds = 0.5"),
        ('title = "A small study"', "title = 3"),
        ("validation = 0.2", "validation = nan"),
        ("validation = 0.2", 'validation = "some"'),
        ("validation = 0.2", "validation = -1"),
        ("values = { epochs = 2 }", "values = 3"),
        ("[data]\nname", "data = 3\n[dta]\nname"),
        ('name = "mlp"', "name = 3"),
        ('recipe = ["training"]', "recipe = 3"),
        ('recipe = ["training"]', "recipe = [3]"),
        ("sparsity = [0.5, 0.9]", 'sparsity = ["half"]'),
        ("sparsity = [0.5, 0.9]", "sparsity = 0.5"),
        ('{ step = "rewind" }', '{ step = "rewind", to = "first" }'),
        ('{ step = "rewind" }', '{ step = "prune", sparsity = 0.5, enforce = "maybe" }'),
        ('question = "Does it run?"', 'question = "?"\noverlaps = [["dense"]]'),
        ('question = "Does it run?"', 'question = "?"\noverlaps = [["a", "b", "c"]]'),
        ('question = "Does it run?"', 'question = "?"\noverlaps = 3'),
    ],
)
def test_no_complaint_speaks_as_a_library_does(write_study: WriteStudy, old: str, new: str) -> None:
    said = refusal(write_study((old, new)))
    assert re.search(r"\bline \d+: ", said)
    assert not any(word in said for word in JARGON)


def test_a_question_may_have_several_lines(write_study: WriteStudy) -> None:
    several = ('question = "Does it run?"', 'question = """Does it\n\trun?"""')
    spec, _ = read_study(str(write_study(several)))
    assert spec.question == "Does it\n\trun?"


def test_a_pruning_that_the_network_cannot_take_is_refused_with_its_line(
    write_study: WriteStudy,
) -> None:
    study = write_study(('exclude = ["output layer"]', 'exclude = ["no such layer"]'))
    prepared = prepare(Request(study=str(study), folder=study.parent), None)
    with pytest.raises(InputError) as caught:
        preflight_study(prepared)
    text = study.read_text()
    line = 1 + text[: text.index("no such layer")].count(NEWLINE)
    assert str(caught.value).startswith(f"the study {study}, line {line}: arm retrained, prune: ")


def test_seeds_asked_for_come_in_pairs(write_study: WriteStudy) -> None:
    study = write_study(leaky=True)
    with pytest.raises(InputError, match="--seeds: the study leaky trains seeds in pairs"):
        prepare(Request(study=str(study), folder=study.parent, seeds=3), None)


NO_BASELINE = (
    'role = "baseline"',
    'role = "control"',
    'arms = ["weight"]',
    "[latency]",
    'latency: networks are timed beside those of the baseline, but no arm has role = "baseline"',
)
OTHER_NETWORK = (
    'role = "control"',
    'network = { name = "mlp", hidden = [4] }',
    'arms = ["weight", "rewound"]',
    '"rewound"]',
    "latency.arms.2: 'rewound' has another network or other data than the baseline 'dense', so "
    "that their times say nothing about pruning",
)


@pytest.mark.parametrize(("old", "new", "arms", "at", "message"), [NO_BASELINE, OTHER_NETWORK])
def test_what_is_timed_needs_an_unpruned_network_of_its_kind(
    write_study: WriteStudy, old: str, new: str, arms: str, at: str, message: str
) -> None:
    path = write_study((old, new), timing(arms))
    line = 1 + path.read_text()[: path.read_text().index(at)].count(NEWLINE)
    assert f", line {line}: {message}" in refusal(path)


def test_a_claim_about_one_of_several_overlaps_is_refused(write_study: WriteStudy) -> None:
    asked = 'question = "Does it run?"'
    one = 'question = "?"\noverlaps = [["weight", "rewound"]]'
    two = 'question = "?"\noverlaps = [["weight", "rewound"], ["weight", "retrained"]]'
    claimed = claiming('measure = "mask_overlap"')
    read_study(str(write_study((asked, one), claimed)))
    assert refusal(write_study((asked, two), claimed)).endswith(
        "claims.1.measure: claim a is about 'mask_overlap', which is not one number of weight, "
        "whose mask overlaps compares with several: keep one"
    )


OWN = """from torch import nn
def make(width: int = 4, act="relu"):
    assert width != 13
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))
"""


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ("width = 3\nwdth = 3", "line 14: The network 'argued.py:make' has no parameter 'wdth'"),
        ('act = "x"\nwidth = "wide"', "line 14: The network 'argued.py:make' takes width as int"),
        ("act = 1\nwidth = 1979-05-27", "line 14: network.args.width: args: width = "),
        ("width = 13", "line 12: The network 'argued.py:make' fails when it is called as"),
    ],
)
def test_an_argument_of_a_network_is_told_at_its_line(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch, args: str, told: str
) -> None:
    path = write_study(
        ('name = "mlp"\nhidden = [16, 8]', f'name = "argued.py:make"\n[network.args]\n{args}')
    )
    (path.parent / "argued.py").write_text(OWN)
    monkeypatch.chdir(path.parent)
    monkeypatch.delitem(sys.modules, "argued", raising=False)
    with pytest.raises(InputError) as caught:
        prepare(Request(study=str(path), folder=path.parent), None)
    assert str(caught.value).startswith(f"the study {path}, {told}")


def test_arguments_where_there_can_be_none_are_told_at_theirs(write_study: WriteStudy) -> None:
    path = write_study(("hidden = [16, 8]", "args = { width = 3 }"))
    with pytest.raises(InputError, match=r"line 12: network.args: 'args' was given for"):
        read_study(str(path))
    path = write_study(('name = "mlp"\nhidden', 'name = "mnist-cnn"\nhidden'))
    with pytest.raises(InputError, match=r"line 12: network.hidden: 'hidden' was given for"):
        read_study(str(path))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "validation = 0.2",
            "validation = 0.999",
            "line 8: it leaves 1 example to train on",
        ),
        ("validation = 0.2", "validation = 0.994", "line 8: it leaves 9 examples to train on for"),
        ("validation = 0.2", "examples = 9", "line 8: it leaves 9 examples to train on for 10"),
        ("validation = 0.2", "validation = 0.993", ""),
    ],
)
def test_fewer_examples_than_classes_are_refused(
    write_study: WriteStudy, old: str, new: str, told: str
) -> None:
    path = write_study((old, new))
    request = Request(study=str(path), folder=path.parent)
    if told:
        with pytest.raises(InputError, match=re.escape(f"the study {path}, {told}")):
            prepare(request, None)
        return
    (few, *_) = [text for text in remarks(prepare(request, None)) if "less than a batch" in text]
    assert few == (
        "There are 10 examples to train on, less than a batch of 64, in dense, weight, retrained "
        "and rewound: an epoch is one step."
    )
