"""YAML scalars as a recipe means them, and the parts of YAML that it does without."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.recipe.nodes import Place, parse, read_scalar


def value_of(text):
    node, problems = parse(text, Place("x.yaml"))
    assert problems == []
    return node.plain()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2e-5", 2e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-1.", -1.0),
        ("1e-4", 1e-4),
        ("007", 7),
        ("-3", -3),
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("false", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("True", "True"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("10%", "10%"),
        ("3ep", "3ep"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("e5", "e5"),
    ],
)
def test_plain_scalars(text, expected):
    value = value_of(f"key: {text}")["key"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", ["'2e-5'", '"2e-5"', "|-\n  2e-5", ">-\n  2e-5"])
def test_quoted_scalars_are_text(text):
    assert value_of(f"key: {text}") == {"key": "2e-5"}


def test_infinities_are_numbers():
    assert read_scalar("-.inf") == float("-inf")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back(number):
    assert read_scalar(repr(number)) == number


@given(st.text())
def test_any_text_is_read_or_refused_with_a_place(text):
    node, problems = parse(text, Place("x.yaml"))
    assert node is not None
    assert all(problem.place.file == "x.yaml" for problem in problems)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: &x 2\n", 2, "anchors and aliases"),
        ("a: *x\n", 1, "anchors and aliases"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "the tag tag:yaml.org,2002:python/name:os.system isn't read"),
        ("a: 1\nb:\n  <<: {c: 1}\n", 3, "merge keys aren't read"),
        ("a: 1\nb: 2\na: 3\n", 3, "given twice; first in line 1"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "a key must be a single word"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
    ],
)
def test_what_is_not_read_is_named_with_its_line(text, line, message):
    _, problems = parse(text, Place("x.yaml"))
    assert [problem.place.line for problem in problems] == [line]
    assert message in problems[0].message


def test_deep_nesting_is_a_problem_and_no_crash():
    _, (problem,) = parse("[" * 5000, Place("x.yaml"))
    assert "nested too deeply" in problem.message or "not YAML" in problem.message


def test_a_node_knows_the_line_of_its_key():
    node, _ = parse("a: 1\nb:\n  c:\n    - x\n    - y\n", Place("x.yaml"))
    assert node.nearest(("b", "c")).place.line == 3
    assert node.nearest(("b", "c", 1)).place.line == 5
    assert node.nearest(("b", "absent")).place.line == 2
