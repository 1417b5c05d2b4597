"""Writes what follows from the schema of recipes: recipes/recipe.schema.json, for editors, and docs/recipe.md.

    .venv/bin/python scripts/write_reference.py [--check]

With --check it writes nothing, and fails where one of them isn't as it would be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from written_files import ROOT, main

from finetune.recipe.json_schema import recipe_schema

DURATION, UPDATES = "a duration", "a whole number from 0"
LONGEST_CHOICE = 12
FEWEST_IN_COMMON = 4
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
LARGEST = 2**31
"""A bound so far out goes without saying."""
INTRODUCTION = """# The recipe

Every setting of a recipe, from the schema by which recipes are checked; this page is written by
`scripts/write_reference.py`. A recipe needs `model`, `data` and `optimizer`, or a `base` that has them. A duration is a
number of updates (`200`), a share of the run (`10%`), epochs (`0.5ep`), `64000 samples` or `2M tokens`.

Editors complete and check recipes by `recipes/recipe.schema.json`, where a comment of a recipe names it:

    # yaml-language-server: $schema=recipe.schema.json
"""

Schema = Mapping[str, Any]


def written() -> dict[Path, str]:
    """Returns each file that follows from the schema, and its text."""
    schema = recipe_schema()
    return {
        ROOT / "recipes" / "recipe.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        ROOT / "docs" / "recipe.md": "\n".join([INTRODUCTION, *Page(schema).lines()]) + "\n",
    }


class Page:
    """The reference as lines of Markdown."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def lines(self) -> Iterator[str]:
        for name, setting in self._schema["properties"].items():
            yield f"## {name}\n"
            yield f"{_sentence(setting.get('description', ''))}\n"
            of_all = self._schema["definitions"]["Schedule"] if name == "schedule" else setting
            blocks = list(self._blocks(of_all))
            if not blocks:
                yield f"{self._kind(setting).capitalize()}{_default(setting)}.\n"
            for block in blocks:
                yield from self._block(block, first=blocks[0] if len(blocks) > 1 else None)

    def _block(self, block: Schema, first: Schema | None = None) -> Iterator[str]:
        """Yields a block's table; of several, that which it has in common with the `first` is told there alone."""
        own = dict(block["properties"])
        kind = own.pop("name", {}).get("const")
        if first and kind:
            yield f"### {kind}\n"
        if block.get("description"):
            yield f"{block['description']}\n"
        if first and block is not first:
            common = [name for name, setting in own.items() if first["properties"].get(name) == setting]
            if len(common) >= FEWEST_IN_COMMON:
                own = {name: setting for name, setting in own.items() if name not in common}
                shared = ", ".join(f"`{name}`" for name in common)
                yield f"{shared} as above{', and:' if own else '.'}\n"
        if own:
            yield from self._table(own)
        for name, setting in own.items():
            for nested in self._blocks(setting):
                yield f"`{name}`:\n"
                yield from self._block(nested)

    def _table(self, own: Schema) -> Iterator[str]:
        yield "| setting | what it can be | default | |"
        yield "|---|---|---|---|"
        for name, setting in own.items():
            shown = json.dumps(setting["default"], ensure_ascii=False) if "default" in setting else ""
            yield f"| `{name}` | {self._kind(setting)} | {f'`{shown}`' if shown else ''} | {_cell(setting)} |"
        yield ""

    def _resolved(self, setting: Schema) -> Schema:
        if "$ref" in setting:
            found: Schema = self._schema["definitions"][setting["$ref"].rpartition("/")[2]]
            return found
        return setting

    def _blocks(self, setting: Schema) -> Iterator[Schema]:
        """Yields what has settings of its own, of all that a setting can be but a schedule."""
        if _is_schedule(setting):
            return
        setting = self._resolved(setting)
        if setting.get("properties") and len(setting["properties"]) > 1:
            yield setting
        for each in [*setting.get("anyOf", ()), *setting.get("allOf", ())]:
            yield from self._blocks(each)
        for key in ("items", "additionalProperties"):
            if isinstance(setting.get(key), Mapping):
                yield from self._blocks(setting[key])

    def _kind(self, setting: Schema) -> str:
        if _is_schedule(setting):
            return "a schedule"
        setting = self._resolved(setting)
        if "anyOf" in setting or "allOf" in setting:
            kinds = list(dict.fromkeys(map(self._kind, setting.get("anyOf") or setting["allOf"])))
            return " or ".join(kind for kind in kinds if DURATION not in kinds or kind != UPDATES)
        if "enum" in setting:
            some = setting["enum"][:LONGEST_CHOICE]
            return ", ".join(f"`{each}`" for each in some) + (", …" if len(setting["enum"]) > LONGEST_CHOICE else "")
        if "const" in setting:
            return f"`{setting['const']}`"
        return self._of_type(setting)

    def _of_type(self, setting: Schema) -> str:
        match setting.get("type"):
            case "integer" | "number" as kind:
                return ("a whole number" if kind == "integer" else "a number") + _bounds(setting)
            case "string":
                return DURATION if "samples" in setting.get("pattern", "") else "text"
            case "array":
                items = setting.get("items") or {}
                return f"a list of {self._kind(items)}" if isinstance(items, Mapping) and items else "a list"
            case "boolean":
                return "true or false"
            case "null":
                return "null"
            case "object":
                return "a block"
            case _:
                return "anything"


def _is_schedule(setting: Schema) -> bool:
    each = [setting, *setting.get("anyOf", ()), *setting.get("allOf", ())]
    return any(str(one.get("$ref")).endswith("/Schedule") for one in each)


def _bounds(setting: Schema) -> str:
    told = [f" {word} {setting[key]:g}" for key, word in BOUNDS.items() if abs(setting.get(key, LARGEST)) < LARGEST]
    return "".join(told)


def _cell(setting: Schema) -> str:
    text: str = setting.get("description", "")
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _default(setting: Schema) -> str:
    return f"; unless given `{json.dumps(setting['default'])}`" if "default" in setting else ""


if __name__ == "__main__":
    main("scripts/write_reference.py", str(__doc__), written)
