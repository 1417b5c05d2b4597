"""A study that several commands make by shares: each run is made once, and by the one that knows its peak rate."""

from dataclasses import replace

import pytest

from finetune.cli import main
from finetune.evaluation.record import find_runs
from finetune.recipe import Share, load_study
from finetune.study.jobs import final_jobs, tuning_jobs
from finetune.training import run_directory

GRID = "study: {{grid: {{schedule: [cosine, linear, constant], training.seed: [0, 1, 2, 3]}}{more}}}\n"
TUNING = ", tuning: {factors: [0.3, 1, 3], seeds: [100, 101]}"


@pytest.fixture
def study_of(write_study):
    """A function that returns a study of three schedules on four seeds."""
    return lambda more="": load_study(write_study("a_study", GRID.format(more=more)), [])


@pytest.mark.parametrize("more", ["", TUNING])
@pytest.mark.parametrize("of", [1, 2, 3, 5, 20])
def test_the_shares_make_up_the_study(study_of, more, of):
    study = study_of(more)
    whole = [job.recipe for job in (*tuning_jobs(study), *final_jobs(study, {}))]
    shares = [replace(study, share=Share(number, of)) for number in range(1, of + 1)]
    made = [[job.recipe for job in (*tuning_jobs(each), *final_jobs(each, {}))] for each in shares]
    assert sorted(repr(recipe) for share in made for recipe in share) == sorted(map(repr, whole))
    assert [each.count for each in shares] == list(map(len, made))
    assert study.count == len(whole) == (30 if more else 12)


@pytest.mark.parametrize("of", [2, 3, 5])
def test_a_peak_rate_is_chosen_where_it_is_taken(study_of, of):
    study = study_of(TUNING)
    for number in range(1, of + 1):
        share = replace(study, share=Share(number, of))
        assert {job.setting for job in tuning_jobs(share)} == {job.setting for job in final_jobs(share, {})}


def test_runs_without_tuning_are_shared_out_evenly(study_of):
    study = study_of()
    assert [replace(study, share=Share(number, 5)).count for number in range(1, 6)] == [3, 3, 2, 2, 2]


def test_shares_made_one_by_one_leave_nothing_to_make(write_study, capsys):
    text = "study: {grid: {schedule: [cosine, linear], training.seed: [0]}}\n"
    path = write_study("a_study", text)
    settings = ["training.duration=4", "evaluation.every=null"]
    directory = path.parent / "runs" / "a_study"
    for number in (1, 2):
        with pytest.raises(SystemExit) as end:
            main(["study", str(path), *settings, "--share", f"{number}/2"])
        assert end.value.code == 0
        assert f"share {number}/2: 1 of 2 runs" in capsys.readouterr().out
        assert len(list(find_runs([directory]))) == number
        assert not (directory / "study.json").exists()
    before = {run: (run / "record.json").read_bytes() for run in find_runs([directory])}
    with pytest.raises(SystemExit) as end:
        main(["study", str(path), *settings])
    assert end.value.code == 0
    assert {run: (run / "record.json").read_bytes() for run in find_runs([directory])} == before
    assert (directory / "study.json").exists()
    study = load_study(path, settings)
    assert set(before) == {run_directory(job.recipe, source=path) for job in final_jobs(study, {})}


def test_a_share_without_runs_says_so(write_study, capsys):
    path = write_study("a_study", "study: {grid: {schedule: [cosine, linear], training.seed: [0]}}\n")
    with pytest.raises(SystemExit) as end:
        main(["study", str(path), "--share", "3/3"])
    assert end.value.code == 0
    assert capsys.readouterr().out == "share 3/3: 0 of 2 runs\n"


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "-1/4", "1/0"])
def test_no_such_share(write_study, capsys, text):
    path = write_study("a_study", "study: {grid: {schedule: [cosine, linear]}}\n")
    with pytest.raises(SystemExit) as end:
        main(["study", str(path), "--share", text])
    assert end.value.code == 2
    assert f'"{text}" is not K/N' in capsys.readouterr().err
