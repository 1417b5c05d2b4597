"""YAML as a tree in which every value knows where it was written.

Only what a recipe needs is read: mappings, lists and scalars. A plain scalar is null, true, false, an integer or a
number (2e-5 included) where it looks like one, as YAML 1.2 has it, and text otherwise; a quoted one is always text.
Tags, anchors, aliases and merge keys are refused, and so is what is nested deeper than any recipe; a key given twice is
a problem, and so is a text that holds a control character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MOST_LEVELS = 30
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")  # more digits than that make a number, lest arithmetic takes for ever
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq")}


@dataclass(frozen=True)
class Place:
    """Where something was written: a line of a file, or an override on the command line."""

    file: str
    line: int = 0
    override: str | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong at a place: `path` is the dotted key, "" for the whole."""

    place: Place
    path: str
    message: str


@dataclass(frozen=True)
class Node:
    """A value and where its key was written; `value` is a scalar, a list of nodes or a dict of nodes."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """Returns the value without the places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def nearest(self, path: tuple[str | int, ...]) -> Node:
        """Returns the node at `path`, or the last one on the way there."""
        node = self
        for part in path:
            inside = dict(enumerate(node.value)) if isinstance(node.value, list) else node.value
            if not isinstance(inside, dict) or part not in inside:
                break
            node = inside[part]
        return node


def read_scalar(text: str) -> Any:
    """Returns what an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if text.casefold() in _SPECIAL:
        return _SPECIAL[text.casefold()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


class _Loader(yaml.SafeLoader):
    """Composes without guessing types, and refuses anchors, aliases and deep nesting."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol
    level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases aren't read; write the value out", problem_mark=event.start_mark
            )
        if self.level == MOST_LEVELS:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {MOST_LEVELS} levels deep, which no recipe is", problem_mark=event.start_mark
            )
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


def parse(text: str, place: Place) -> tuple[Node, list[Problem]]:
    """Returns the tree of one YAML document, and the problems found in it.

    Lines count from `place.line` + 1; where `place` is an override, it is the place of everything.
    """
    problems: list[Problem] = []
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            return Node(None, place), problems
        return Node(_convert(root, place, (), problems), place), problems
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        if "'\\t'" in reason:
            reason = "a tab, where YAML is set in by spaces: put spaces in its place"
        where = place if mark is None else _at(place, mark)
        return Node(None, place), [Problem(where, "", f"not YAML: {reason}")]
    except (ValueError, OverflowError) as error:  # PyYAML's own, of an escape such as \UFFFFFFFF
        return Node(None, place), [Problem(place, "", f"not YAML: {error}")]


def _at(place: Place, mark: yaml.Mark) -> Place:
    return place if place.override else Place(place.file, place.line + mark.line + 1)


def _convert(node: yaml.Node, place: Place, path: tuple[str, ...], problems: list[Problem]) -> Any:
    here = _at(place, node.start_mark)
    if node.tag not in _PLAIN_TAGS:
        problems.append(Problem(here, ".".join(path), f"the tag {node.tag} isn't read; write a plain value"))
        return None
    if isinstance(node, yaml.MappingNode):
        return dict(_pairs(node, place, path, problems))
    if isinstance(node, yaml.SequenceNode):
        return [
            Node(_convert(item, place, (*path, str(number)), problems), _at(place, item.start_mark))
            for number, item in enumerate(node.value)
        ]
    unfit = _CONTROL.search(node.value)
    if unfit:
        problems.append(Problem(here, ".".join(path), _unfit(unfit[0])))
        return None
    return read_scalar(node.value) if isinstance(node, yaml.ScalarNode) and node.style is None else node.value


def _unfit(sign: str) -> str:
    return f"holds the control character U+{ord(sign):04X}, which is no text; leave it out"


def _pairs(
    node: yaml.MappingNode, place: Place, path: tuple[str, ...], problems: list[Problem]
) -> Iterator[tuple[str, Node]]:
    first: dict[str, Place] = {}
    for key_node, value_node in node.value:
        here = _at(place, key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(here, ".".join(path), "a key must be a single word"))
            continue
        key = key_node.value
        name = ".".join([*path, key])
        unfit = _CONTROL.search(key)
        if unfit:
            problems.append(Problem(here, name, _unfit(unfit[0])))
        elif key == "<<":
            problems.append(Problem(here, name, "merge keys aren't read; inherit with base: other.yaml"))
        elif key in first:
            problems.append(Problem(here, name, f"given twice; first in line {first[key].line}"))
        else:
            first[key] = here
            yield key, Node(_convert(value_node, place, (*path, key), problems), here)
