"""The house: which part may import which, what is not loaded before it is needed, and how long a file may be."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import finetune

PACKAGE = Path(finetune.__file__).parent

# Each part, and the parts it may import. Nothing imports cli but run and __main__, which nothing imports.
ARROWS = {
    "untrusted": set(),
    "whole_files": set(),
    "keys": set(),
    "errors": {"untrusted"},
    "schedules": {"errors"},
    "figures": {"errors", "whole_files"},
    "optimizers": {"errors"},
    "metrics": {"errors"},
    "data": {"errors"},
    "tasks": {"errors", "data", "metrics"},
    "recipe": {"errors", "keys", "schedules", "optimizers", "metrics", "tasks"},
    "evaluation": {"errors", "keys", "untrusted", "whole_files"},
    "report": {"errors", "keys", "untrusted", "evaluation", "figures"},
    "training": {
        *("errors", "keys", "untrusted", "schedules", "optimizers", "metrics", "data", "tasks", "recipe", "evaluation"),
        "report",
    },
    "study": {"errors", "untrusted", "recipe", "evaluation", "training"},
    "shipped": {"errors"},
    "proposing": {"errors", "schedules", "data", "tasks", "recipe"},
    "estimates": {"errors", "keys", "optimizers", "tasks", "recipe", "evaluation", "training", "study"},
    "inference": {
        *("errors", "untrusted", "whole_files", "metrics", "data", "tasks", "recipe", "evaluation", "training")
    },
    "launching": {"errors", "training", "shipped"},
    "cli": {
        *("errors", "untrusted", "schedules", "figures", "report", "data", "tasks", "recipe", "training", "evaluation"),
        *("study", "estimates", "inference", "metrics", "launching", "keys", "proposing", "shipped"),
    },
    "run": {"cli", "launching"},
    "__main__": {"cli"},
}


MOST_LINES = 400
LONG = {
    "tests/schedules/test_agreement.py": "one table, with a cell for each schedule of ours that another library has too",
}
"""Each file that is longer ▶ why it is one."""


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("finetune."))


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    part = part_of(path)
    assert set(imported_parts(path)) - {part} <= ARROWS[part]


def test_no_module_has_the_name_of_a_library():
    # `python finetune/run.py` puts finetune/ first on the path, where a module would be taken for the library.
    ours = {part_of(path) for path in SOURCES}
    assert ours.isdisjoint(set(packages_distributions()) | set(sys.stdlib_module_names))


@pytest.mark.parametrize("name", finetune.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(finetune, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = finetune.nothing


@pytest.mark.parametrize(
    "statement", ["import finetune", "import finetune.schedules", "import finetune.recipe", "import finetune.cli"]
)
def test_importing_loads_none_of_the_heavy_libraries(statement):
    heavy = "{'torch', 'transformers', 'datasets', 'accelerate', 'evaluate', 'sklearn', 'pyarrow', 'pandas', 'numpy'}"
    code = f"{statement}; import sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        *("finetune.training", "finetune.training.run_directory", "finetune.training.layout"),
        *("finetune.training.material", "finetune.training.checkpoints", "finetune.training.tracking"),
        *("finetune.training.preview", "finetune.tasks.model_folder", "finetune.tasks", "finetune.data"),
        "finetune.study.engines.worker",
    ],
)
def test_what_is_known_before_a_model_is_loaded_needs_neither_torch_nor_datasets(module):
    code = f"import {module}; import sys; print(sorted({{'torch', 'transformers', 'datasets'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_no_torch():
    code = (
        "import sys\nfrom finetune.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False False"


def test_no_file_is_long_without_a_reason():
    root = Path(__file__).parents[1]
    files = [path for folder in ("finetune", "scripts", "tests") for path in (root / folder).rglob("*.py")]
    lines = {path.relative_to(root).as_posix(): len(path.read_bytes().splitlines()) for path in files}
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert long.keys() == LONG.keys(), f"split by subject, or say why not in LONG; strike from it what is short: {long}"
