"""What comes with the package: recipes by name, and the same files in the wheel and the source distribution."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from finetune.cli import main
from finetune.errors import RecipeError
from finetune.shipped import find_recipe, shipped_configs, shipped_recipes

ROOT = Path(__file__).parents[1]


def test_recipes_are_found_by_name():
    assert shipped_recipes() == {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}
    assert find_recipe("bert_sst2") == ROOT / "recipes" / "bert_sst2.yaml"
    assert shipped_configs()["cpu"] == ROOT / "accelerate_configs" / "cpu.yaml"


def test_what_is_a_path_stays_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("bert_sst2.yaml") == Path("bert_sst2.yaml")
    assert find_recipe("mine/bert_sst2") == Path("mine/bert_sst2")
    (tmp_path / "bert_sst2").touch()
    assert find_recipe("bert_sst2") == Path("bert_sst2")


def test_another_name_is_answered_with_those_there_are():
    with pytest.raises(
        RecipeError, match=r"bert_sst: no such file, nor a recipe .* \(did you mean bert_sst2\?\); there are "
    ):
        find_recipe("bert_sst")


def test_a_name_is_all_that_a_command_needs(capsys):
    with pytest.raises(SystemExit) as left:
        main(["check", "bert_sst3"])
    assert left.value.code == 2
    assert "did you mean bert_sst2?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the source distribution, as pip's own front end to setuptools would make them."""
    folder = tmp_path_factory.mktemp("dist")
    script = "import sys, setuptools.build_meta as make\nto = sys.argv[1]\nmake.build_wheel(to)\nmake.build_sdist(to)\n"
    copy = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(bytes.decode, files)):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=copy, capture_output=True, text=True, timeout=120, check=True
    )
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.slow
def test_both_distributions_hold_all_that_is_found_by_name(distributions):
    wheel, source = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = {*archive.namelist()}
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for kind in ("recipes", "accelerate_configs"):
        for path in (ROOT / kind).iterdir():
            assert f"finetune/shipped/{kind}/{path.name}" in names
            assert f"finetune/shipped/{kind}/{path.name}" in inside
    assert "finetune/py.typed" in names


@pytest.mark.slow
def test_an_installed_wheel_finds_them(distributions, tmp_path):
    with zipfile.ZipFile(distributions[0]) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import finetune.shipped as s, finetune\n"
        "print(finetune.__file__, s.find_recipe('bert_sst2').is_file(), s.shipped_configs()['cpu'].is_file())\n"
        "from finetune.recipe import load_recipe\n"
        "print(load_recipe(s.find_recipe('bert_sst2')).name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [str(tmp_path / "site" / "finetune" / "__init__.py"), "True", "True", "bert_sst2"], (
        done.stderr
    )
