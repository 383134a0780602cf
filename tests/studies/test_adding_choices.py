"""A score, a pattern and an allocation are each added by one value, and all that should follows."""

import importlib.util
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from jsonschema import Draft202012Validator
from pydantic import PositiveInt
from torch import Tensor, nn

from gossamer import InputError, find_mask
from gossamer.masks import Allocation, Pattern, PrunableWeight, Score, ScoreContext
from gossamer.masks.allocations import ALLOCATIONS
from gossamer.masks.choices import Choice
from gossamer.masks.patterns import PATTERNS
from gossamer.masks.scores import SCORES
from gossamer.recipes import Prune
from gossamer.recipes.spellings import options_of
from gossamer.studies.run import Request, prepare
from gossamer.studies.schema import study_schema
from gossamer.studies.spec import read_study

FAMILIES: tuple[Mapping[str, type[Choice]], ...] = (PATTERNS, ALLOCATIONS)
TABLES = Path(__file__).parents[2] / "docs" / "tables.py"


def docs_tables() -> Any:
    specification = importlib.util.spec_from_file_location("tables", TABLES)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def last_first(context: ScoreContext) -> Tensor:
    """Return the numbers of the weights from the back, so that the last go first."""
    count = context.weight.numel()
    return torch.arange(count, 0, -1).view(context.weight.shape)


@dataclass(frozen=True)
class Inputs(Pattern):
    """So many consecutive inputs of all units go together.

    Parameters
    ----------
    width
        Inputs of a group.
    """

    name: ClassVar[str] = "inputs"
    example: ClassVar[Mapping[str, Any]] = {"width": 2}
    width: PositiveInt

    def obstacle(self, layer: PrunableWeight) -> str:
        return "" if layer.weight.shape[1] % self.width == 0 else "has odd inputs"

    def groups(self, values: Tensor, layer: PrunableWeight) -> Tensor:
        return values.reshape(len(layer.weight), -1, self.width).transpose(0, 1)

    def spread(self, kept: Tensor, layer: PrunableWeight) -> Tensor:
        return kept.repeat_interleave(self.width).expand(layer.weight.shape)


@dataclass(frozen=True)
class FirstSpared(Allocation):
    """The first layer keeps one weight of so many, the others all.

    Parameters
    ----------
    one_of
        Of how many it keeps one.
    """

    name: ClassVar[str] = "first-spared"
    example: ClassVar[Mapping[str, Any]] = {"one_of": 4}
    fixes_sparsity: ClassVar[bool] = True
    one_of: PositiveInt

    def sparsities(self, layers: Sequence[PrunableWeight], sparsity: float) -> list[float]:
        return [1 - 1 / self.one_of, *[0.0] * (len(layers) - 1)]


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "last-first", Score(last_first, summary="the last go first"))
    monkeypatch.setitem(PATTERNS, "inputs", Inputs)
    monkeypatch.setitem(ALLOCATIONS, "first-spared", FirstSpared)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.usefixtures("added")
def test_python_takes_what_is_added() -> None:
    mask = find_mask(network(), score="last-first", allocation=FirstSpared(4))
    assert mask["0.weight"].flatten().tolist() == [True] * 6 + [False] * 18
    assert mask["2.weight"].all()
    assert mask.provenance["allocation"] == {"name": "first-spared", "one_of": 4}
    mask = find_mask(network(), 1 / 3, score="last-first", pattern=Inputs(2), allocation="uniform")
    assert mask["0.weight"].int().tolist() == [[1, 1, 1, 1, 0, 0]] * 4
    assert mask["2.weight"].int().tolist() == [[1, 1, 0, 0]] * 2
    with pytest.raises(InputError, match="width of Inputs must be a whole number from 1, not 0"):
        Inputs(0)
    with pytest.raises(InputError, match=r"unknown pattern 'cells': .* and Inputs\(width\)"):
        find_mask(network(), 0.5, pattern="cells")
    with pytest.raises(InputError, match="only ErdosRenyi, FixedFanIn, FirstSpared and NByM fix"):
        find_mask(network())


@pytest.mark.usefixtures("added")
def test_recipes_take_what_is_added() -> None:
    step = Prune(score="last-first", allocation=FirstSpared(4))
    assert step.described()["allocation"] == {"name": "first-spared", "one_of": 4}
    assert Prune.model_validate_json(step.model_dump_json()) == step
    assert step.find_mask(network(), torch.zeros(2, 6)).sparsity == 18 / 32
    step = Prune.model_validate({"sparsity": 0.5, "pattern": {"name": "inputs", "width": 2}})
    assert step.pattern == Inputs(2)
    assert step.described()["pattern"] == {"name": "inputs", "width": 2}


PRUNING = '{ step = "prune", sparsity = "$sparsity" }]'


@pytest.mark.usefixtures("added")
def test_study_files_take_what_is_added(write_study: Callable[..., Path], tmp_path: Path) -> None:
    allocation = '{ name = "first-spared", one_of = 4 }'
    one = f'{{ step = "prune", score = "last-first", allocation = {allocation} }}]'
    other = '{ step = "prune", sparsity = "$sparsity", pattern = { name = "inputs", width = 2 } }]'
    for written, expected in (
        (one, Prune(score="last-first", allocation=FirstSpared(4))),
        (other, Prune(sparsity=0.5, pattern=Inputs(2))),
    ):
        spec, text = read_study(str(write_study((PRUNING, written))))
        assert spec.recipe_of(spec.arm("weight"), "quick", 0.5)[-1] == expected
        assert list(Draft202012Validator(study_schema()).iter_errors(tomllib.loads(text))) == []
    study = write_study((PRUNING, other.replace("inputs", "input")))
    with pytest.raises(InputError, match=r"no pattern of the name 'input', .*mean 'inputs'"):
        prepare(Request(study=str(study), folder=tmp_path), None)
    study = write_study((PRUNING, other.replace("width", "wide")))
    with pytest.raises(InputError, match=r'width is missing: write pattern = \{ name = "inp'):
        prepare(Request(study=str(study), folder=tmp_path), None)


@pytest.mark.usefixtures("added")
def test_schema_and_tables_follow() -> None:
    definitions = study_schema()["$defs"]
    width = definitions["Inputs"]["properties"]["width"]
    assert width["description"] == "Inputs of a group."
    assert definitions["FirstSpared"]["required"] == ["one_of"]
    assert "last-first" in str(definitions["Prune"]["properties"]["score"])
    tables = docs_tables()
    assert '| `"last-first"` | the last go first |  |' in tables.scores_table()
    patterns = tables.choices_table(PATTERNS, "pattern")
    assert '| `Inputs(2)` | `{ name = "inputs", width = 2 }` | So many consecutive' in patterns


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_whole(name: str) -> None:
    score = SCORES[name]
    assert score.summary
    assert inspect.getdoc(score.function)
    assert inspect.getdoc(score.reduce)
    assert score.called == name
    step = Prune(sparsity=0.5, score=name)
    assert (step.examples is not None) == (score.needs_batches)
    step.rehearse(network(), torch.zeros(2, 6))


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in FAMILIES for name in family]
)
def test_every_choice_is_whole(family: Mapping[str, type[Choice]], name: str) -> None:
    kind = family[name]
    assert kind.name == name
    value = kind(**kind.example)
    written = value.written()
    assert (written == name) if kind.is_word else (written == {"name": name, **kind.example})
    assert hash(value) == hash(kind(**kind.example))
    for option in fields(kind):
        assert options_of(cast("Any", kind)).model_fields[option.name].description, option.name
        with pytest.raises(InputError, match=f"{option.name} of {kind.__name__} must be"):
            kind(**{**kind.example, option.name: 0})
    field = "pattern" if family is PATTERNS else "allocation"
    assert isinstance(value, Pattern | Allocation)
    fixed = value.fixes_sparsity
    step = Prune.model_validate({"sparsity": None if fixed else 0.5, field: written})
    assert step.described()[field] == written
    by_value = Prune.model_validate({"sparsity": None if fixed else 0.5, field: value})
    assert by_value.described() == step.described()
    choices: Any = {"sparsity": None if fixed else 0.5, field: value}
    examples = torch.linspace(0, 1, 12).view(2, 6)
    found = step.find_mask(network(), examples, [(examples, torch.zeros(2).long())])
    assert found == find_mask(network(), **choices, batches=[(examples, None)])
