"""Write the tables of the texts: none is typed by hand.

They come from committed results (`benchmark_tables`, `study_tables`) and from the registries.

python docs/tables.py          # rewrites them
python docs/tables.py --check  # exits with 1 if one would change
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmark_tables import (
    architectures_table,
    attack_coverage_table,
    attack_power_table,
    coverage_table,
    faster_table,
    measured_table,
    speed_table,
)
from gossamer.masks.allocations import ALLOCATIONS
from gossamer.masks.choices import Choice
from gossamer.masks.patterns import PATTERNS
from gossamer.masks.scores import SCORES
from gossamer.training.updaters import UPDATERS
from network_tables import (
    known_networks_avx2_table,
    known_networks_short_table,
    known_networks_table,
)
from operator_tables import operators_table
from shrink_tables import compared_table, runs_table, shrunk_table
from study_tables import (
    agreement_table,
    claims_table,
    deciding_table,
    latency_table,
    study_table,
    verdicts_table,
)
from training_tables import end_to_end_table, sparse_training_table

ROOT = Path(__file__).parents[1]
TEXTS = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "architectures",
            "audit",
            "enforcement",
            "findings",
            "pruning",
            "shrink",
            "sparse-training",
            "speed",
            "statistics",
        )
    ),
)


def scores_table() -> str:
    """Return every score, by its name."""
    asked = {
        "nothing": "",
        "example": "`example` or `batches`",
        "gradients": "`batches` and labels",
        "inputs": "`batches`",
    }
    lines = ["| score | what is compared; the lowest go | needs |", "|---|---|---|"]
    for name, score in SCORES.items():
        said = score.summary.replace("|", r"\|")
        lines.append(f'| `"{name}"` | {said} | {asked[score.needs]} |')
    return "\n".join(lines)


def choices_table(family: dict[str, type[Choice]], kind: str) -> str:
    """Return every choice of a family, as Python and as a study file have it."""
    lines = [f"| {kind} | in a study file | |", "|---|---|---|"]
    for name, choice in family.items():
        options = ", ".join(f"{key} = {value}" for key, value in choice.example.items())
        table = f'{{ name = "{name}"{f", {options}" if options else ""} }}'
        call = f"{choice.__name__}({', '.join(map(str, choice.example.values()))})"
        python, written = (f'"{name}"',) * 2 if choice.is_word else (call, table)
        said = (choice.__doc__ or "").partition("\n")[0]
        lines.append(f"| `{python}` | `{written}` | {said} |")
    return "\n".join(lines)


def updaters_table() -> str:
    """Return every updater, as a loop of one's own and as a study file have it."""
    lines = ["| updater | what it does, and its options |", "|---|---|"]
    for name, kind in UPDATERS.items():
        said = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        options = [f"`{option}`" for option in kind.model_fields if option != "name"]
        lines.append(f'| `"{name}"` | {said} {", ".join(options)} |')
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return a text with every table written between its markers."""

    def block(marked: re.Match[str]) -> str:
        name = marked["name"]
        kind, _, study = name.partition(" ")
        tables: dict[str, Callable[[], str]] = {
            "table": study_table,
            "architectures": architectures_table,
            "measured": measured_table,
            "speed": speed_table,
            "faster": faster_table,
            "networks": known_networks_table,
            "networks-avx2": known_networks_avx2_table,
            "networks-short": known_networks_short_table,
            "operators": operators_table,
            "coverage": coverage_table,
            "attack-coverage": attack_coverage_table,
            "attack-power": attack_power_table,
            "sparse-training": sparse_training_table,
            "sparse-training-avx2": lambda: sparse_training_table("sparse-training-avx2"),
            "end-to-end": end_to_end_table,
            "shrunk": shrunk_table,
            "shrunk-runs": runs_table,
            "shrunk-compared": compared_table,
            "verdicts": verdicts_table,
            "deciding": deciding_table,
            "scores": scores_table,
            "updaters": updaters_table,
            "patterns": lambda: choices_table({**PATTERNS}, "pattern"),
            "allocations": lambda: choices_table({**ALLOCATIONS}, "allocation"),
        }
        of_study = {
            "claims": claims_table,
            "latency": latency_table,
            "agreement": agreement_table,
        }
        content = tables[kind]() if kind in tables else of_study[kind](study)
        return f"<!-- {name}:begin -->\n{content}\n<!-- {name}:end -->"

    return re.sub(
        r"<!-- (?P<name>[\w -]+):begin -->.*?<!-- (?P=name):end -->", block, text, flags=re.DOTALL
    )


def main() -> None:
    """Rewrite the texts, or check that nothing would change."""
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        wanted = filled(text)
        if "--check" not in sys.argv[1:]:
            path.write_text(wanted, encoding="utf-8")
        elif text != wanted:
            sys.exit(f"{path.name} is not up to date: python docs/tables.py")


if __name__ == "__main__":
    main()
