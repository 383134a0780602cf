"""Write docs/study.schema.json and docs/study-file.md, or check that they are what the code says.

python docs/study_schema.py          # rewrites both
python docs/study_schema.py --check  # exits with 1 if one would change
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gossamer.studies.schema import study_schema

Schema = Mapping[str, Any]

SCHEMA = Path(__file__).parent / "study.schema.json"
PAGE = Path(__file__).parent / "study-file.md"
HEAD = """# The study file

Written by `docs/study_schema.py` from the types that read a file.

A study is written in TOML: fields of one value first, then tables in brackets. `gossamer studies
--show NAME` prints a built-in study to copy, and `gossamer studies --schema` the JSON Schema, by
which an editor completes and checks as one types. An option of a step may also be a text such as
`"$epochs"`: the value of that name of the scale, or of the grid.

A field without a default must be given; – stands for none, which is what a field that is left out
is where its description speaks of None.
"""
HEADINGS = {
    "DataSpec": "[data]",
    "NetworkSpec": "[network]",
    "SampleSpec": "[measure]",
    "ScaleSpec": "[scales.quick], [scales.medium], [scales.paper]",
    "SourceSpec": "[sources.NAME]",
    "ArmSpec": "[[arms]]",
    "ClaimSpec": "[[claims]]",
    "ControlSpec": "[claims.control]",
    "LatencySpec": "[latency]",
}
"""The tables of a file, in the order that one writes them in."""


def page(schema: Schema) -> str:
    """Return the reference of every field."""
    definitions: Schema = schema["$defs"]
    steps = [name for name, one in definitions.items() if "step" in one.get("properties", {})]
    others = [
        name
        for name, one in definitions.items()
        if "properties" in one and name not in (*HEADINGS, *steps)
    ]
    sections = [HEAD, section("The study", {**schema, "description": ""})]
    sections += [section(f"`{words}`", definitions[n]) for n, words in HEADINGS.items()]
    sections += ["## Steps of a recipe\n"]
    sections += [
        section(f'`step = "{constant(definitions[name], "step")}"`', definitions[name], "###")
        for name in steps
    ]
    sections += ["## Options of steps\n"]
    sections += [section(name, definitions[name], "###") for name in others]
    return "\n".join(sections)


def constant(table: Schema, field: str) -> str:
    """Return the one value that a field may have."""
    return str(table["properties"][field]["const"])


def section(heading: str, table: Schema, level: str = "##") -> str:
    """Return the fields of one table."""
    required = table.get("required", ())
    rows = [
        f"| `{name}` | {kind(field)} | {default(name, field, required)} | {in_a_cell(field)} |"
        for name, field in table["properties"].items()
        if not (name == "step" and "const" in field)
    ]
    fields = ["| field | value | default | |", "|---|---|---|---|", *rows] if rows else []
    said = table.get("description", "")
    # Examples and longer explanations are for those who read the code.
    first = re.split(r"\n\n(?:Examples\n|Attributes\n)", said)[0]
    return "\n".join([f"{level} {heading}\n", *([first + "\n"] if first else []), *fields, ""])


def in_a_cell(field: Schema) -> str:
    """Return what a field is, on one line."""
    return " ".join(field.get("description", "").replace("``", "`").split()).replace("|", r"\|")


def default(name: str, field: Schema, required: Any) -> str:
    """Return what stands where a field is left out; nothing if that cannot be."""
    if name in required:
        return ""
    value = field.get("default")
    if isinstance(value, Mapping):
        value = value.get("name")
    return "–" if value in (None, []) else f"`{json.dumps(value)}`"


def kind(field: Schema) -> str:
    """Return in words what may stand in a field."""
    return " or ".join(dict.fromkeys(kinds(field)))


def kinds(field: Schema) -> Iterator[str]:
    """Yield every kind of value that a field may have, mentions and absence left out."""
    if "$ref" in field:
        yield reference(field["$ref"])
    elif "const" in field:
        yield f"`{json.dumps(field['const'])}`"
    elif "enum" in field:
        yield from (f"`{json.dumps(value)}`" for value in field["enum"])
    elif "anyOf" in field or "oneOf" in field:
        for one in field.get("anyOf", field.get("oneOf")):
            if one.get("type") != "null" and one.get("pattern") != r"^\$":
                yield from kinds(one)
    elif field.get("type") == "array":
        yield f"array of {kind(field.get('items') or field['prefixItems'][0])}"
    elif field.get("type") == "object":
        values = field.get("additionalProperties")
        yield f"table of {kind(values)}" if isinstance(values, Mapping) and values else "table"
    else:
        yield TYPES.get(field.get("type", ""), "any") + bounds(field)


TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}


def bounds(field: Schema) -> str:
    """Return the range of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(
        f" {sign} {field[name]:g}"
        for name, sign in signs.items()
        if isinstance(field.get(name), int | float)
    )


def reference(target: str) -> str:
    """Return a link to another table of the page."""
    name = target.removeprefix("#/$defs/")
    if name == "Step":
        return "[step](#steps-of-a-recipe)"
    heading = HEADINGS.get(name)
    if heading is None:
        return f"[{name}](#{name.lower()})"
    anchor = re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
    return f"[{heading.partition(',')[0].strip('[]')}](#{anchor})"


def main() -> None:
    """Write the files; with ``--check`` compare them."""
    schema = study_schema()
    wanted = {SCHEMA: json.dumps(schema, indent=2) + "\n", PAGE: page(schema)}
    for path, text in wanted.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is out of date: run python docs/study_schema.py")


if __name__ == "__main__":
    main()
