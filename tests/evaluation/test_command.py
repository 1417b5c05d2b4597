"""`finetune compare`: what it prints and writes, and what it refuses before it reads anything."""

import csv

import pytest
from pyarrow import parquet

from finetune.cli import main
from finetune.evaluation.record import RECORD, write_record


@pytest.fixture
def recorded(tmp_path, make_record):
    """A folder with six runs of each of two schedules, the second better in every one."""
    folder = tmp_path / "runs"
    for schedule, score in (("cosine", 0.85), ("step", 0.87)):
        for seed in range(6):
            run = folder / f"{schedule}-{seed}"
            run.mkdir(parents=True)
            write_record(run, make_record(schedule, round(score + seed / 1000, 4), seed=seed))
    return folder


@pytest.fixture
def refused(capsys):
    """Runs the command; returns the one message it is refused with."""

    def refused(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["compare", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert end.value.code == 2
        assert (out, err.count("\n")) == ("", 1)
        return err

    return refused


def compare(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, arguments)])
    assert end.value.code == 0


def test_the_conclusion_comes_first(recorded, capsys):
    compare(recorded)
    first, blank, conclusion = capsys.readouterr().out.splitlines()[:3]
    assert (first, blank) == ("reviews: test accuracy", "")
    assert conclusion.startswith("• step has the highest test accuracy, and is shown to differ from every other")


def test_every_file_that_is_asked_for_is_written(recorded, tmp_path, capsys):
    files = {option: tmp_path / "new" / f"runs.{option}" for option in ("csv", "parquet")}
    compare(recorded, "--csv", files["csv"], "--parquet", files["parquet"], "--markdown", tmp_path / "runs.md")
    with files["csv"].open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert parquet.read_table(files["parquet"]).num_rows == 12
    assert (tmp_path / "runs.md").read_text(encoding="utf-8").startswith("## reviews: test accuracy\n")
    assert capsys.readouterr().out.count(": written") == 3


def test_the_figures_of_the_report_are_written_into_a_folder(recorded, tmp_path, capsys):
    compare(recorded, "--figures", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"scores.svg", "differences.svg"} <= names
    assert f"{tmp_path / 'figures'}: written" in capsys.readouterr().out


def test_one_schedule_alone_is_said_to_have_nothing_to_be_compared_with(tmp_path, make_record, capsys):
    for seed in (0, 1):
        run = tmp_path / f"cosine-{seed}"
        run.mkdir()
        write_record(run, make_record("cosine", 0.85, seed=seed))
    compare(tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert out.endswith("has nothing to be compared with: finetune run RECIPE schedule=NAME makes a run of another.")


def test_what_is_asked_can_be_given(recorded, capsys):
    compare(recorded, "--reference", "cosine", "--equivalence", "0.03", "--target", "0.8")
    out = " ".join(capsys.readouterr().out.split())
    assert "shown to be better than cosine in test accuracy (6 seeds): step (+0.0200, less than matters)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--html", "report.pdf"), "--html: report.pdf doesn't end in .html or .htm"),
        (("--csv", "."), "--csv: . doesn't end in .csv"),
        (("--figures", __file__), "is a file; give a folder"),
        (("--equivalence", "0"), "equivalence: 0 must be above 0"),
        (("--target", "nan"), "target: nan must be above 0"),
        (("--reference", "cosin"), "--reference: cosin is none of the schedules, cosine, step (did you mean cosine?)"),
    ],
)
def test_what_can_not_be_done_is_refused(recorded, refused, arguments, message):
    assert message in refused(recorded, *arguments)


def test_a_record_that_is_cut_short_is_refused_and_nothing_is_written(recorded, refused, tmp_path):
    path = recorded / "step-3" / RECORD
    path.write_bytes(path.read_bytes()[:500])
    assert str(path) in refused(recorded, "--csv", tmp_path / "runs.csv")
    assert not (tmp_path / "runs.csv").exists()
