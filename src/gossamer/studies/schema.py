"""The JSON Schema of a study file, for editors that complete and check as one types."""

from typing import Any

from gossamer.recipes.steps import STEPS, any_step
from gossamer.studies.spec import StudySpec

_MENTION = {
    "type": "string",
    "pattern": r"^\$",
    "description": "A value of the grid or of the scale, by name.",
}


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a study file, its steps included.

    Examples
    --------
    >>> schema = study_schema()
    >>> sorted(schema["required"])
    ['arms', 'data', 'name', 'network', 'question', 'scales', 'title']
    >>> "ErdosRenyi" in schema["$defs"]
    True
    """
    schema = StudySpec.model_json_schema()
    steps = any_step().json_schema(ref_template="#/$defs/{model}")
    for name, definition in steps.pop("$defs").items():
        schema["$defs"].setdefault(name, _with_mentions(definition))
    # In a file a step names its source, which the file defines once for all arms.
    named = {"type": "string", "description": "A recipe of [sources]."}
    for kind in STEPS.values():
        if "source" in kind.model_fields:
            schema["$defs"][kind.__name__]["properties"]["source"] = named
    del schema["$defs"]["Source"]
    schema["$defs"]["Step"] = steps
    step, part = {"$ref": "#/$defs/Step"}, {"type": "string", "description": "A part, by name."}
    for owner in ("ArmSpec", "SourceSpec"):
        schema["$defs"][owner]["properties"]["recipe"]["items"] = {"anyOf": [step, part]}
    schema["properties"]["parts"]["additionalProperties"]["items"] = step
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _with_mentions(definition: dict[str, Any]) -> dict[str, Any]:
    """Let every option of a step be a mention, too, but for what tells its kind."""
    properties = definition.get("properties", {})
    allowed = {
        name: value if "const" in value else _or_mention(value)
        for name, value in properties.items()
    }
    return {**definition, "properties": allowed} if properties else definition


def _or_mention(field: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {
        name: field[name] for name in ("description", "default") if name in field
    }
    return {**about, "anyOf": [{k: field[k] for k in field if k not in about}, _MENTION]}
