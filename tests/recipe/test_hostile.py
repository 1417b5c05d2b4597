"""A recipe from a stranger: refused in words, soon, without running or writing anything."""

import os
import time

import pytest

from finetune.errors import RecipeError, SettingError
from finetune.recipe import load_recipe
from finetune.recipe.loading import MOST_BYTES
from finetune.recipe.nodes import MOST_LEVELS
from finetune.schedules import SCHEDULES, register_schedule

SOON = 5.0  # seconds, on a machine that is busy

LAUGHS = "a: &a [x, x, x, x]\n" + "\n".join(
    f"{new}: &{new} [*{old}, *{old}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x: !!python/object/apply:os.mkdir [made]\n",
            "5: x: the tag tag:yaml.org,2002:python/object/apply:os.mkdir isn't read",
        ),
        ("x: !!python/name:os.system\n", "isn't read; write a plain value"),
        (LAUGHS, "5: not YAML: anchors and aliases aren't read"),
        ("x:\n  <<: {name: y}\n", "merge keys aren't read; inherit with base: other.yaml"),
        ("x: " + "[" * 100_000, f"5: not YAML: nested more than {MOST_LEVELS} levels deep"),
        ("x: " + "{a: " * 50_000, f"nested more than {MOST_LEVELS} levels deep"),
        ("schedule: " + "{of: [" * 20 + "cosine" + "]}" * 20, f"nested more than {MOST_LEVELS} levels deep"),
        ('x: "\\U99999999"\n', "not YAML: "),
        ("#" * MOST_BYTES, "longer than 256 KiB, which no recipe is"),
    ],
    ids=["call", "name", "laughs", "merge", "brackets", "braces", "schedules", "escape", "long"],
)
def test_hostile_yaml_is_refused_soon(write, complete, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    path = write(complete + text)
    before = time.perf_counter()
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert time.perf_counter() - before < SOON
    assert message in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_a_device_without_an_end_is_refused():
    with pytest.raises(RecipeError, match="longer than 256 KiB, which no recipe is"):
        load_recipe("/dev/zero")


def test_as_many_levels_as_are_allowed_are_read(load):
    levels = MOST_LEVELS // 2 - 2
    deepest = load("schedule: " + "{of: [" * levels + "{name: cosine}" + "]}" * levels).schedule
    assert deepest.resolve(total_steps=4)(2) == 0.5


@pytest.mark.parametrize(
    ("escape", "code"), [("\\0", "0000"), ("\\e[31m", "001B"), ("\\x9b", "009B"), ("\\ud800", "D800")]
)
def test_control_characters_are_refused_in_keys_and_values(problems, complete, escape, code):
    text = f'{complete}output: "x{escape}"\n"x{escape}": 1\n'
    assert [line.partition("holds")[2] for line in problems(text)] == [
        f" the control character U+{code}, which is no text; leave it out"
    ] * 2


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/x",
        "..",
        ".",
        ".hidden",
        "-x",
        "a/b",
        "a\\b",
        "a b",
        '"a\\nb"',
        '"ab\\n"',
        '""',
        "~",
        "$(x)",
        "a:b",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(problems, complete, name):
    (line,) = problems(f"{complete}name: {name}\n")
    assert line.startswith("5: name: ")
    assert line.endswith(("must be letters, digits, and . _ + - after the first", "is not text"))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nul", '"nul" is no name for a folder on Windows; choose another'),
        ("Com1.yaml", '"Com1.yaml" is no name for a folder on Windows; choose another'),
        ("ä" * 101, "202 bytes are too long for a folder's name; 200 are the most"),
    ],
)
def test_a_name_that_no_folder_can_have_is_refused(problems, complete, name, problem):
    assert problems(f"{complete}name: {name}\n") == [f"5: name: {problem}"]


@pytest.mark.parametrize("name", ["nullable", "com", "console", "a" * 200, "日本語", "2e-5", "v1.0+x"])
def test_other_names_are_names(load, name):
    assert load(f'name: "{name}"').name == name


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "x" * 51])
def test_a_schedule_of_such_a_name_is_not_registered(name):
    with pytest.raises(SettingError, match="must be up to 50 letters, digits"):
        register_schedule(name)(lambda progress: 1 - progress)
    assert name not in SCHEDULES


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.hub", "../../model"),
        ("model.hub", "/etc"),
        ("model.hub", "org/../model"),
        ("model.hub", "a/b/c"),
        ("data.hub", "~/data"),
        ("data.hub", "a" * 97),
    ],
)
def test_a_repository_that_is_a_path_is_refused(problems, complete, key, value):
    block, _, _ = key.partition(".")
    text = "".join(line + "\n" for line in complete.splitlines() if not line.startswith(block))
    (line,) = problems(f"{text}{block}: {{hub: {value}}}\n")
    assert line.startswith(f'4: {key}: "{value}" is no repository of the Hub, such as google-bert/bert-base-uncased; ')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "model: {path: null, hub: org/name, revision: ../../x}",
            'model.revision: "../../x" is no branch, tag or commit',
        ),
        ("data: {hub: org/name, config: ../x}", 'data.config: "../x" is no configuration of a data set'),
    ],
)
def test_what_else_becomes_part_of_a_path_in_the_cache_is_checked(problems, complete, write, text, problem):
    write(complete, "base.yaml")
    assert problems(f"base: base.yaml\n{text}\n")[0].startswith(f"2: {problem}")


@pytest.mark.parametrize("key", ["model.path", "data.files.train", "output"])
def test_a_url_is_refused_and_its_password_not_repeated(write, complete, key):
    with pytest.raises(RecipeError, match="is a URL, and only what is on this machine is read or written") as caught:
        load_recipe(write(complete), [f"{key}=https://user:password@host/x"])
    assert "password" not in str(caught.value)
    assert f"override {key}=" in str(caught.value)


def test_the_password_of_a_url_is_not_repeated_as_a_repository(problems, complete, write):
    write(complete, "base.yaml")
    text = "base: base.yaml\ndata: {hub: 'https://user:password@host/x'}\n"
    (line,) = problems(text)
    assert '"https://***@host/x" is no repository of the Hub' in line


@pytest.mark.parametrize("key", ["model.path", "data.files.train", "output"])
def test_a_path_that_no_machine_has_is_refused(write, complete, key):
    with pytest.raises(RecipeError, match="is too long for a path: 3000 bytes are the most, 255 between slashes"):
        load_recipe(write(complete), [f"{key}={'x' * 256}"])


def test_an_unknown_home_stands_as_it_was_written(load):
    assert load("", "model.path=~nobody-here/x").model.path.parts[-2:] == ("~nobody-here", "x")
    with pytest.raises(RecipeError, match=r"~nobody-here/x\.yaml: no such file"):
        load("base: ~nobody-here/x.yaml")


@pytest.mark.parametrize("base", ["/etc/passwd", "../../etc/passwd", "/dev/zero", "/proc/self/environ", "folder", "."])
def test_only_a_recipe_is_a_base(problems, complete, base):
    (line,) = problems(f"{complete}base: {base}\n")
    assert line == f"5: base: {base} is no recipe, whose name ends in .yaml or .yml"


def test_what_is_no_file_is_no_base(problems, complete, tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for base in ("pipe.yaml", "folder.yaml", f"{'x' * 300}.yaml"):
        assert "no such file" in problems(f"{complete}base: {base}\n")[0]


def test_bases_that_form_a_loop_are_named(problems, complete, write, tmp_path):
    write("base: b.yaml\n", "a.yaml")
    write("base: link.yaml\n", "b.yaml")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    assert any(line.endswith("base: link.yaml inherits from itself") for line in problems(f"{complete}base: a.yaml\n"))


def test_links_that_form_a_loop_are_no_base(problems, complete, tmp_path):
    (tmp_path / "x.yaml").symlink_to("y.yaml")
    (tmp_path / "y.yaml").symlink_to("x.yaml")
    assert "x.yaml: no such file" in problems(f"{complete}base: x.yaml\n")[0]


def test_too_many_bases_are_refused(problems, complete, write):
    for number in range(30):
        write(f"base: {number + 1}.yaml\n", f"{number}.yaml")
    write("output: x\n", "30.yaml")
    lines = problems(f"{complete}base: 0.yaml\n")
    assert any(line.endswith("base: more than 20 recipes inherit from each other") for line in lines)


@pytest.mark.parametrize("key", ["trust_remote_code", "model.trust_remote_code", "optimizer.trust_remote_code"])
def test_no_recipe_can_have_the_code_of_a_model_run(write, complete, key):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(complete), [f"{key}=true"])
    assert "unknown key; here it is --trust-remote-code on the command line, which no recipe can give" in str(
        caught.value
    )


def test_a_token_has_no_place_in_a_recipe(problems, complete):
    (line,) = problems(f"{complete}token: hf_abcdefghijklmnopqrstuvwx\n")
    assert (
        line
        == "5: token: unknown key; here it is nothing, lest a recipe holds a secret: set HF_TOKEN in the environment"
    )


@pytest.mark.parametrize("parameters", ["a{99999999999999}", "(" * 5000, "[", "(?P<x"])
def test_a_pattern_that_can_not_be_compiled_is_refused(problems, complete, parameters):
    assert "is not a regular expression: " in problems(f"{complete}groups: {{a: {{parameters: '{parameters}'}}}}\n")[0]


def test_numbers_of_thousands_of_digits_are_refused(problems, complete):
    many = "9" * 5000
    lines = problems(f"{complete}training: {{batch_size: {many}, duration: {many}ep}}\nschedule: {{floor: {many}}}\n")
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "training.duration",
        "training.batch_size",
        "schedule.floor",
    ]
    assert "5,000 digits are too many for a duration; 30 are the most" in lines[0]


def test_of_very_many_problems_the_first_are_told(write, complete):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(complete + "".join(f"key{number}: 1\n" for number in range(1000))))
    title, *lines = str(caught.value).splitlines()
    assert title.endswith("1000 problems")
    assert lines[0].startswith("  5: key0: unknown key")
    assert (len(lines), lines[-1]) == (51, "  … and 950 more")


def test_a_very_long_value_is_cut_in_the_message(problems, complete):
    (line,) = problems(f"{complete}schedule: {'x' * 10_000}\n")
    assert len(line) < 700
    assert line.startswith('5: schedule.name: "xxx')
    assert " … " in line
    assert "is not one of constant, linear" in line or "plateau" in line
