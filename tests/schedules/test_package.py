"""What the package offers, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import finetune.schedules


def test_importing_the_schedules_loads_no_heavy_library():
    code = (
        "import sys; before = set(sys.modules); import finetune.schedules; "
        "print(sorted({name.partition('.')[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(result.stdout) == ["finetune"]


@pytest.mark.parametrize("name", finetune.schedules.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(finetune.schedules, name) is not None
    assert name in dir(finetune.schedules)


def test_public_names_are_all_that_the_package_defines():
    source = ast.parse(Path(finetune.schedules.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("finetune.")
        for alias in node.names
    }
    assert set(finetune.schedules.__all__) == imported


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Cosin'"):
        finetune.schedules.Cosin  # noqa: B018
