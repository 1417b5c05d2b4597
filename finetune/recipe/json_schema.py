"""The schema of recipes as JSON Schema, by which editors complete and check them; `load_recipe` checks more."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from finetune.metrics import HUB, METRICS
from finetune.recipe.blocks import check_interval
from finetune.recipe.layers import PARTS, check_freeze
from finetune.recipe.regularisation import BALANCED, check_weights
from finetune.recipe.schema import Recipe, check_known, check_run_length
from finetune.recipe.study import StudySettings
from finetune.schedules import SCHEDULES, as_schedule
from finetune.schedules.base import TELLING
from finetune.schedules.durations import DURATION_SCHEMA
from finetune.schedules.phases import Phase
from finetune.schedules.settings import json_schema
from finetune.tasks import TASKS, as_task

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The one that editors' YAML extensions know best."""
SCHEDULE = {"$ref": "#/definitions/Schedule"}
_NAMES = re.compile(r"((?:`\w+`(?:, | and )?)+): ")


class RecipeFile(Recipe):
    """A recipe as it is written: what makes up one fine-tuning run, or with `study` a grid of them.

    `name`: the folder of its runs within `output`, the file's name unless given. `base`: the path of a recipe that this
    one changes. `task`: what is predicted. `model`: the pretrained model. `data`: the examples. `schedule`: the factor
    that multiplies the peak rate at each update. `optimizer`: the optimizer and the peak rate. `adapter`: LoRA; all
    weights are trained without it. `groups`: name ▶ parameters with a peak and a schedule of their own. `layers`: which
    layers are trained, at which share of the peak, and from when on. `regularisation`: what keeps the model from
    fitting the training examples too closely. `averaging`: averages of weights. `training`: how long, and by which
    batches. `evaluation`: how often, and by which metrics. `checkpoints`: how often, and how many are kept. `output`:
    where runs are written. `tracking`: services that are told of a run. `plugins`: Python files that register
    schedules, tasks and metrics, run only with --allow-plugins. `study`: the runs that are compared.
    """

    base: str | None = None
    study: StudySettings | None = None


def recipe_schema() -> dict[str, Any]:
    """Returns a JSON Schema of recipes: keys, types, ranges and choices, with what each means.

    Nothing but a model, data and an optimizer is required, and those not of a recipe with a base, as a base may have
    it. Schedules, tasks and metrics of plugins pass.
    """
    made = RecipeFile.model_json_schema(schema_generator=_Generator, ref_template="#/definitions/{model}")
    made["definitions"] = made.pop("$defs") | {"Schedule": _any_schedule()}
    _simplify(made)
    _complete(made)
    needed = [{"required": ["base"]}, {"required": ["model", "data", "optimizer"]}]
    return {"$schema": DIALECT, "title": "Recipe of finetune-schedules", **made, "anyOf": needed}


def described(kind: type) -> Iterator[tuple[str, str]]:
    """Yields what the docstrings of a class and its bases say of its settings: "`name`: text; `other`: text."."""
    for each in reversed(kind.__mro__):
        # Not of a docstring that dataclass makes of a signature.
        parts = _NAMES.split(" ".join((each.__dict__.get("__doc__") or "").split()))
        for names, text in zip(parts[1::2], parts[2::2], strict=True):
            for name in re.findall(r"\w+", names.replace(" and ", " ")):
                yield name, text.strip().rstrip(".;")


class _Generator(GenerateJsonSchema):
    """pydantic's, with what our own validators allow, and a description of each setting."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        return _with_descriptions(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return _with_descriptions(super().dataclass_schema(schema), schema["cls"])

    def function_plain_schema(self, schema: Any) -> JsonSchemaValue:
        return _ALLOWED[schema["function"]["function"]]()

    def function_after_schema(self, schema: Any) -> JsonSchemaValue:
        allowed = _ALLOWED.get(schema["function"]["function"])
        return super().function_after_schema(schema) if allowed is None else allowed()

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        default = schema.get("default")
        if isinstance(default, BaseModel) or dataclasses.is_dataclass(default):  # it is told of each of its settings
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def _with_descriptions(made: JsonSchemaValue, kind: type) -> JsonSchemaValue:
    for name, text in described(kind):
        if name in made.get("properties", {}):
            made["properties"][name]["description"] = text
    made["description"] = _first_paragraph(kind)
    made.pop("required", None)
    return made


def _first_paragraph(kind: type) -> str:
    first = _NAMES.split(" ".join((kind.__doc__ or "").split("\n\n")[0].split()))[0]
    return first.removesuffix("Settings. ").strip()


def _any_task() -> JsonSchemaValue:
    kinds = [TypeAdapter(kind).json_schema(schema_generator=_Generator) for kind in TASKS.values()]
    return {"anyOf": [{"enum": [*TASKS]}, *kinds, _of_a_plugin(TASKS)]}


def _any_schedule() -> JsonSchemaValue:
    kinds = [_schedule(name, kind) for name, kind in SCHEDULES.items()]
    return {"anyOf": [{"enum": [*SCHEDULES]}, *kinds, _of_a_plugin(SCHEDULES)]}


def _of_a_plugin(table: Any) -> JsonSchemaValue:
    name = {"type": "string", "not": {"enum": [*table]}}
    return {"anyOf": [name, {"type": "object", "properties": {"name": name}, "required": ["name"]}]}


def _schedule(name: str, kind: type) -> JsonSchemaValue:
    """Returns the schema of a schedule's block; one that is told by another key needs no name, nor does the default."""
    telling = [key for key, told in TELLING.items() if told == name]
    own = {"name": {"const": name}} | {field.name: _setting(field) for field in dataclasses.fields(kind)}
    made = {"type": "object", "description": _first_paragraph(kind), "properties": own, "additionalProperties": False}
    return made | ({"required": telling} if telling else {})


def _setting(field: dataclasses.Field[Any]) -> JsonSchemaValue:
    shown = {} if field.default is dataclasses.MISSING else {"default": _plain(field.default)}
    return {
        **_NESTED.get(field.name, json_schema(field.metadata["rule"])),
        "description": field.metadata["about"],
        **shown,
    }


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _phase() -> JsonSchemaValue:
    own = {field.name: _setting(field) for field in dataclasses.fields(Phase)}
    return {"type": "object", "properties": own, "additionalProperties": False, "required": ["schedule"]}


_NESTED: dict[str, JsonSchemaValue] = {
    "schedule": SCHEDULE,
    "of": {"type": "array", "minItems": 2, "items": SCHEDULE},
    "points": {
        "type": "array",
        "minItems": 2,
        "items": {"type": "array", "items": [DURATION_SCHEMA, {"type": "number"}], "minItems": 2, "maxItems": 2},
    },
}
_NESTED["phases"] = {"type": "array", "minItems": 1, "items": _phase()}

_ALLOWED: dict[Callable[..., Any], Callable[[], JsonSchemaValue]] = {
    as_schedule: dict,  # refers to itself, so it is put in its places afterwards
    as_task: _any_task,
    check_interval: DURATION_SCHEMA.copy,
    check_run_length: DURATION_SCHEMA.copy,
    # The names of ours are for completion: no schema knows those of the Hub and of plugins.
    check_known: lambda: {"anyOf": [{"enum": [*METRICS, HUB]}, {"type": "string"}]},
    check_freeze: lambda: {
        "anyOf": [
            {"enum": [*PARTS]},
            {"type": "integer", "minimum": 1},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ]
    },
    check_weights: lambda: {
        "anyOf": [
            {"const": BALANCED},
            {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}},
        ]
    },
}
"""What each of our validators lets through."""


def _simplify(made: Any) -> None:
    """Leaves out titles, and which of a union's members a name decides: one may be inherited from a base."""
    if isinstance(made, list):
        for item in made:
            _simplify(item)
    if isinstance(made, dict):
        if isinstance(made.get("title"), str):
            del made["title"]
        if "oneOf" in made:
            made["anyOf"] = made.pop("oneOf")
        made.pop("discriminator", None)
        if "$ref" in made:  # in this draft nothing beside it counts
            beside = {key: made.pop(key) for key in [*made] if key != "$ref"}
            made.update({"allOf": [{"$ref": made.pop("$ref")}], **beside} if beside else {})
        for item in [*made.values()]:
            _simplify(item)


def _complete(made: dict[str, Any]) -> None:
    """Adds schedules, and what `normalized` of merging.py writes out: a name for a block, an item for a list of one."""
    text, own, blocks = {"type": "string"}, made["properties"], made["definitions"]
    own["schedule"]["allOf"] = [SCHEDULE]
    blocks["ParameterGroup"]["properties"]["schedule"]["anyOf"] = [SCHEDULE, {"type": "object"}, {"type": "null"}]
    for key in ("model", "adapter", "optimizer", "plugins"):
        own[key] = {"description": own[key].pop("description"), "anyOf": [text, own[key]]}
    files, targets = blocks["FileData"]["properties"]["files"], blocks["Adapter"]["properties"]["targets"]
    files["additionalProperties"] = {"anyOf": [text, files["additionalProperties"]]}
    targets["anyOf"].append(text)
    blocks["StudySettings"]["properties"]["grid"]["additionalProperties"] = {"type": ["array", "object"]}
