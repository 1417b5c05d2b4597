"""What a worker elsewhere must have the same of, and how it is told what it lacks."""

from dataclasses import replace

from finetune.recipe import load_recipe
from finetune.study.engines.sameness import Findings, differences, findings, inputs_of, refusal
from finetune.training import software

HERE = Findings("ab" * 32, {"Python": "3.11", "torch": "2.13.0"}, {"/data/train.csv": 900, "/gone.csv": None})


def test_equal_machines_differ_in_nothing(small_recipe):
    assert differences(HERE, HERE) == []
    inputs = inputs_of([load_recipe(small_recipe)])
    assert differences(findings(inputs), findings(inputs)) == []


def test_the_inputs_of_a_recipe_are_its_files_and_its_model(small_recipe, tiny_model):
    files = [str(small_recipe.parent / name) for name in ("test.parquet", "train.csv", "validation.jsonl")]
    assert inputs_of([load_recipe(small_recipe)]) == sorted([*files, str(tiny_model)])
    sizes = findings([*files, str(tiny_model)]).sizes
    assert sizes[files[1]] == (small_recipe.parent / "train.csv").stat().st_size
    assert sizes[str(tiny_model)] == len(list(tiny_model.iterdir()))


def test_other_sources_are_told_by_their_hashes():
    (fault,) = differences(HERE, replace(HERE, package="cd" * 32))
    assert (
        fault
        == "finetune is another there (the hash of its files is cdcdcdcd, here abababab): install the same version"
    )


def test_other_libraries_are_told_with_both_versions():
    (fault,) = differences(HERE, replace(HERE, versions={"Python": "3.11"}))
    assert fault == "torch is none there and 2.13.0 here: install the same"


def test_files_that_are_missing_or_others_are_told():
    missing, other = (differences(HERE, replace(HERE, sizes={"/data/train.csv": size})) for size in (None, 901))
    assert missing[0].startswith("/data/train.csv isn't there: put it on a file system that all machines share")
    assert other == ["/data/train.csv is another there, of the same name: use one that all machines share"]


def test_the_hash_is_of_every_source_file(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.py").write_text("a")
    (tmp_path / "sub" / "two.py").write_text("b")
    monkeypatch.setattr(software, "PACKAGE", tmp_path)
    hash_of = software.package_hash.__wrapped__
    before = hash_of()
    (tmp_path / "notes.txt").write_text("c")
    assert hash_of() == before
    (tmp_path / "sub" / "two.py").write_text("c")
    assert hash_of() != before
    (tmp_path / "sub" / "two.py").write_text("b")
    (tmp_path / "sub" / "two.py").rename(tmp_path / "two.py")
    assert hash_of() != before


def test_machines_that_lack_the_same_are_told_together():
    lacking = {f"node{n}": ["x: install it"] for n in range(5)} | {"odd": ["y: mend it"]}
    assert refusal(lacking) == "on node0, node1, node2 and 2 more: x: install it; on odd: y: mend it"
