"""docs/peers.md: every cell has its source, every link leads somewhere, and what is said of installed libraries holds."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from finetune.schedules import SCHEDULES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "peers.md"
TEXT = PAGE.read_text(encoding="utf-8")
TABLES = ("## Schedules and their comparison", "## What they do beyond this")
NOT_FOUND = "–"
SOURCE = re.compile(r"\[([a-z]\d+)\](?!\()")


def rows(heading):
    """Returns the rows of the table below a heading: feature ▶ cells, this toolkit's first."""
    table = TEXT.split(heading)[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {first: rest for first, *rest in cells[2:]}


CELLS = [
    pytest.param(number, cell, id=f"{feature}-{number}")
    for heading in TABLES
    for feature, cells in rows(heading).items()
    for number, cell in enumerate(cells)
]


@pytest.mark.parametrize(("number", "cell"), CELLS)
def test_every_cell_shows_where_it_is_from(number, cell):
    if number == 0:
        shown = "](" in cell or cell.startswith(("none", "new,"))
    else:
        shown = SOURCE.search(cell) is not None or cell.startswith((NOT_FOUND, "as `Trainer`"))
    assert shown, cell


@pytest.mark.parametrize("heading", TABLES)
def test_every_row_has_a_cell_for_each_toolkit(heading):
    assert {len(cells) for cells in rows(heading).values()} == {6}


def test_every_source_is_defined_listed_and_used():
    body, defined = TEXT.split("\n[g1]: ")
    defined = re.findall(r"^\[([a-z]\d+)\]: https://", f"[g1]: {defined}", flags=re.MULTILINE)
    used, listed = body.split("\n## Sources\n")
    assert len(defined) == len(set(defined))
    assert set(defined) == set(SOURCE.findall(used)) == set(SOURCE.findall(listed))


def test_every_page_and_test_that_is_named_is_there():
    places = {place.partition("#")[0] for place in re.findall(r"\]\(([^)]+)\)", TEXT) if not place.startswith("http")}
    assert places
    assert [place for place in sorted(places) if not (PAGE.parent / place).exists()] == []


def test_the_cautions_are_beside_the_claims():
    assert "as of November 2026" in TEXT
    assert "*not found in what was read*; that isn't\nproof that there is none" in TEXT
    assert "## The limits of this toolkit" in TEXT


def test_the_number_of_schedules_is_that_of_the_catalogue():
    assert rows(TABLES[0])["schedules to choose from"][0].startswith(f"{len(SCHEDULES)},")


def installed(package):
    """Skips unless the version of a package that the page speaks of is the one that is installed."""
    try:
        found = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if f"{package} {found}" not in TEXT:
        pytest.skip(f"the page is of another version of {package} than {found}")


def test_what_is_said_of_transformers_holds():
    installed("transformers")
    from transformers import HfArgumentParser, Trainer, TrainingArguments
    from transformers.trainer_utils import SchedulerType

    assert rows(TABLES[0])["schedules to choose from"][1].startswith(f"{len(SchedulerType)} names")
    assert callable(Trainer.hyperparameter_search)
    arguments = TrainingArguments(output_dir="unused", warmup_steps=0.25, report_to=[])
    assert arguments.get_warmup_steps(40) == 10  # a share below 1
    arguments.warmup_steps = 2
    assert arguments.get_warmup_steps(40) == 2
    with pytest.raises(ValueError, match="lerning_rate") as refused:
        HfArgumentParser(TrainingArguments).parse_dict({"output_dir": "unused", "lerning_rate": 1e-4})
    assert "line" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["constant", "linear", "polynomial", "cosine_onecycle", "sgdr", "piecewise_interpolate"]
)
def test_what_is_said_of_optax_holds(name):
    installed("optax")
    import optax

    assert callable(getattr(optax, f"{name}_schedule"))
    assert callable(optax.inject_hyperparams)
