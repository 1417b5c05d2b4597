"""Records of strangers: what their texts say stays text, wherever it is shown."""

import json
from xml.etree import ElementTree

import pytest
import yaml

from finetune.cli import main
from finetune.evaluation.record import HISTORY, write_record

COMMANDS = "\x1b[2J\x1b]0;owned\x07\x9b31m"
SPELT_OUT = r"\x1b[2J\x1b]0;owned\x07\x9b31m"
MARKUP = "[bold red]x[/bold red] :bomb: </script><img src=x>"


@pytest.fixture
def hostile(tmp_path, make_record):
    """A folder of runs of two schedules and two contexts, whose names command the terminal, or are its markup."""
    for schedule in (f"cosine {COMMANDS}", f"step {MARKUP}"):
        for optimizer in ("adamw", f"sgd {COMMANDS}{MARKUP}"):
            for seed in range(2):
                run = tmp_path / "runs" / f"{len(list(tmp_path.glob('runs/*')))}"
                run.mkdir(parents=True)
                changes = {"optimizer": {"name": optimizer, "learning_rate": 1e-4}, "model": {"hub": COMMANDS}}
                record = make_record(schedule, 0.8, seed=seed, changes=changes, hardware=COMMANDS)
                write_record(run, record.model_copy(update={"name": f"reviews {COMMANDS}{MARKUP}"}))
    return tmp_path / "runs"


@pytest.fixture
def compare(hostile, capsys):
    """Compares the hostile runs with options, and returns what was printed."""

    def compare(*options):
        with pytest.raises(SystemExit) as end:
            main(["compare", str(hostile), *map(str, options)])
        out, err = capsys.readouterr()
        assert (end.value.code, err) == (0, "")
        return out

    return compare


def test_the_terminal_obeys_no_record(compare):
    out = " ".join(compare().split())
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert out.startswith(f"reviews {SPELT_OUT}{MARKUP}: test accuracy")
    assert f"step {MARKUP}" in out


def test_a_report_and_its_figures_hold_no_command_and_are_well_formed(compare, tmp_path):
    compare("--html", tmp_path / "report.html", "--figures", tmp_path / "figures", "--markdown", tmp_path / "runs.md")
    files = [tmp_path / "report.html", tmp_path / "runs.md", *(tmp_path / "figures").iterdir()]
    assert len(files) > 4
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "<img" not in text
        if file.suffix == ".svg":
            ElementTree.fromstring(text)


@pytest.fixture
def refine(tmp_path, make_record, capsys):
    """Fits a schedule to a made-up run with gradient norms and lines of history; returns what was said."""

    def refine(*lines, schedule="cosine", code=0):
        write_record(tmp_path, make_record(schedule))
        rows = [json.dumps({"step": step, "gradient_norm": 1.0 + step % 3}) for step in range(1, 30)]
        (tmp_path / HISTORY).write_text("".join(f"{line}\n" for line in [*rows, *lines]))
        with pytest.raises(SystemExit) as end:
            main(["schedules", "refine", str(tmp_path)])
        out, err = capsys.readouterr()
        assert end.value.code == code
        return out + err

    return refine


def test_the_name_of_a_schedule_adds_nothing_to_what_is_fitted(refine):
    out = refine(schedule=f"cosine\nplugins: [evil.py]\n{COMMANDS}")
    assert set(yaml.safe_load(out)) == {"schedule"}
    assert "\x1b" not in out
    assert f"made under cosine plugins: [evil.py] {SPELT_OUT}" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "a line isn't one of a history; it was altered, so run again"),
        ("7", "a line isn't one of a history"),
        ("[" * 100_000, "a line isn't one of a history"),
        ('{"gradient_norm": null}', "a gradient norm is no finite number above 0"),
        ('{"gradient_norm": "high"}', "a gradient norm is no finite number above 0"),
        ('{"gradient_norm": 1' + "0" * 400 + "}", "a gradient norm is no finite number above 0"),
        ('{"gradient_norm": NaN}', "a gradient norm is no finite number above 0"),
        ('{"gradient_norm": 0.0}', "a gradient norm is no finite number above 0"),
    ],
    ids=lambda value: value[:30],
)
def test_a_history_that_was_altered_is_not_fitted(refine, line, message):
    assert message in refine(line, code=2)
