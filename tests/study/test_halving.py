"""Peak rates chosen by successive halving: which go on, what is refused before any run, and a study that does it."""

import io
import json

import pytest
from rich.console import Console

from finetune.cli.studies import show_outcome
from finetune.errors import RecordError, RunStopped, SettingError
from finetune.evaluation.claims import peak_points
from finetune.evaluation.comparison import compare
from finetune.evaluation.direction import MORE_IS_BETTER, Direction
from finetune.evaluation.record import find_runs, read_record
from finetune.evaluation.runs import read_runs
from finetune.recipe import load_study
from finetune.study import plan_study, run_study
from finetune.study.jobs import Done, tuning_jobs
from finetune.study.peaks import choose, left_for

LESS_IS_BETTER = Direction(greater_is_better=False)
STUDY = """
study:
  grid:
    schedule: [cosine, {name: constant, warmup: "10%"}]
    training.seed: [0]
  tuning: {factors: [0.1, 0.3, 1, 3, 1e+30], seeds: [100], halving: 3}
"""
SHARED = "successive halving: 194 updates of tuning instead of 260: 66 (25.4%) saved, before any is shared"
"""Of 26 updates, a third is 9: two settings × (5 · 9 + 2 · 26) instead of two × 5 · 26."""


@pytest.fixture
def study_file(write_study):
    return write_study("halved", STUDY)


@pytest.fixture
def perform(study_file):
    def run(*overrides, **options):
        out = io.StringIO()
        console = Console(file=out, width=200)
        outcome = run_study(load_study(study_file, overrides), source=study_file, console=console, **options)
        show_outcome(outcome, console)
        return outcome, out.getvalue()

    return run


def ended(jobs, scores, direction=MORE_IS_BETTER):
    """What came of jobs, from {setting: [score of each peak, in their order]}; None: it diverged."""
    found = {number: iter(each) for number, each in scores.items()}
    return [
        Done(job, "finished" if score is not None else "diverged", score=score, total_steps=9, direction=direction)
        for job in jobs
        for score in [next(found[job.setting])]
    ]


def peaks_of(jobs):
    peaks = {}
    for job in jobs:
        peaks.setdefault(job.setting, []).append(job.recipe.optimizer.learning_rate)
    return peaks


def test_the_best_of_each_setting_go_on_however_the_other_setting_does(study_file):
    study = load_study(study_file, ["study.tuning.factors=[1, 2, 3, 4, 5]"])
    first, last = study.rungs
    done = ended(tuning_jobs(study), {0: [0.1, 0.2, 0.5, 0.4, 0.3], 1: [0.9, 0.7, 0.8, 0.6, 0.7]})
    jobs = list(tuning_jobs(study, last, left_for(study, last, done)))
    assert peaks_of(jobs) == {0: [0.015, 0.02], 1: [0.005, 0.015]}
    assert {job.recipe.training.duration for job in jobs} == {"2ep"}
    assert {each.job.recipe.training.duration for each in done} == {"0.666666666666ep"}
    assert left_for(study, first, []) == {}


@pytest.mark.parametrize(
    ("scores", "left"),
    [
        ([0.5, 0.5, 0.5, 0.5, 0.5], [0.005, 0.01]),
        ([0.4, 0.5, 0.5, 0.5, 0.4], [0.01, 0.015]),
        ([None, 0.1, None, 0.2, None], [0.01, 0.02]),
        ([None, None, None, None, 0.2], [0.005, 0.025]),
        ([None, None, None, None, None], [0.005, 0.01]),
    ],
)
def test_of_equals_the_lowest_go_on_and_what_diverged_loses(study_file, scores, left):
    study = load_study(study_file, ["study.tuning.factors=[1, 2, 3, 4, 5]", "study.grid.schedule=[cosine]"])
    done = ended(tuning_jobs(study), {0: scores})
    assert sorted(left_for(study, study.rungs[1], done)[0]) == left


def test_those_of_the_lowest_error_go_on_and_what_diverged_loses(study_file):
    study = load_study(study_file, ["study.tuning.factors=[1, 2, 3, 4, 5]", "study.grid.schedule=[cosine]"])
    done = ended(tuning_jobs(study), {0: [31.0, 30.5, None, 90.0, 30.2]}, LESS_IS_BETTER)
    assert left_for(study, study.rungs[1], done) == {0: [0.025, 0.01]}


def test_means_over_the_tuning_seeds_decide(study_file):
    settings = ["study.tuning={factors: [1, 2, 3, 4], seeds: [8, 9], halving: 4}", "study.grid.schedule=[cosine]"]
    study = load_study(study_file, settings)
    done = ended(tuning_jobs(study), {0: [0.9, 0.6, 0.6, 0.1, 0.1, 0.6, 0.7, 0.1]})
    assert left_for(study, study.rungs[1], done) == {0: [0.015, 0.01]}


def test_the_choice_is_made_by_the_runs_of_full_duration_alone(study_file):
    study = load_study(study_file, ["study.tuning.factors=[1, 2, 3, 4, 5]", "study.grid.schedule=[cosine]"])
    done = ended(tuning_jobs(study), {0: [0.9, 0.8, 0.1, 0.2, 0.3]})
    done += ended(tuning_jobs(study, study.rungs[1], left_for(study, study.rungs[1], done)), {0: [0.4, 0.6]})
    choice = choose(study, done)[0]
    assert (choice.peak, choice.tried) == (0.01, {0.005: {100: 0.4}, 0.01: {100: 0.6}})
    assert not choice.is_at_edge  # of the five, though it is the higher of the two
    assert choice.to_dict()["shorter"] == [
        {
            "share": "1/3",
            "total_steps": 9,
            "tried": [
                {"peak": peak, "scores": {"100": score}}
                for peak, score in [(0.005, 0.9), (0.01, 0.8), (0.015, 0.1), (0.02, 0.2), (0.025, 0.3)]
            ],
        }
    ]


def test_the_plan_shows_the_rungs_and_what_they_save(study_file):
    lines = plan_study(load_study(study_file), source=study_file)
    titles = [line for line in lines if line.endswith("runs")]
    assert titles == ["tuning, rung 1 of 2: 10 runs", "tuning, rung 2 of 2: 4 runs", "final: 2 runs"]
    assert lines[-1] == SHARED


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["study.grid.schedule=[{name: multistep, milestones: [10, 11]}]"],
            "schedule.milestones: updates 4, 4 must ascend",
        ),
        (
            ["study.grid.schedule=[{name: wsd, cooldown: 13, warmup: 13}]"],
            "schedule.cooldown: 5 updates are more than the 4 ",
        ),
        (
            ["training.duration=0.07ep"],
            "training.duration: in updates, 1, it is no shorter than the next rung, 1: train longer",
        ),
        (
            ["study.grid.schedule=[plateau]", "evaluation.every=1%"],
            "evaluation.every: 1% is less than an update there, and a plateau counts evaluations",
        ),
    ],
)
def test_what_does_not_fit_a_shorter_rung_is_refused_before_any_run(study_file, overrides, problem, monkeypatch):
    monkeypatch.setattr("finetune.study.engines.local.perform_grove", None)
    study = load_study(study_file, overrides)
    for act in (plan_study, run_study):
        keywords = {"console": Console(file=io.StringIO())} if act is run_study else {}
        with pytest.raises(SettingError) as caught:
            act(study, source=study_file, **keywords)
        assert str(caught.value).startswith("study.tuning.halving: rung 1 of 2, for 1/")
        assert problem in str(caught.value)


@pytest.mark.slow
def test_a_halved_study_from_recipe_to_comparison(perform, study_file):
    override = "study.grid.schedule=[cosine]"
    outcome, text = perform(override)
    made = [(done.job.role, done.total_steps) for done in outcome.runs]
    # The run at a peak of 5e27 diverges at once.
    assert made == [("tuning 1/2", 9)] * 5 + [("tuning 2/2", 26)] * 2 + [("final", 26)]
    assert "after 5 peak rates for 1/3 of the duration, then 2 in full on 1 other seed: 8 runs" in text
    assert "8/8  final" in text
    assert "; after 9 updates without " in text
    assert "5e+27: diverged" in text

    ledger = json.loads((outcome.directory / "study.json").read_text())
    assert ledger["definition"]["tuning"]["halving"] == 3
    assert ledger["selection"]["rule"].startswith("successive halving: first every peak rate for a share")
    assert ledger["choices"][0]["shorter"][0]["tried"][-1] == {"peak": 5e27, "scores": {"100": None}}

    shorter = [read_record(run) for run in find_runs([outcome.directory / "tuning" / "rung1"])]
    (rates,) = (groups[0].rates for record in shorter if (groups := record.schedule.groups)[0].peak == 0.005)
    # Of 9 updates ⌈10%⌉ warm up, so that the last is at 7/8 of the cosine: (1 + cos(7π/8))/2.
    assert (len(rates), rates[-1]) == (9, pytest.approx(0.005 * 0.0380602337))

    (comparison,) = compare(read_runs([outcome.directory]))
    (row,) = comparison.rows
    assert (len(row.runs), len(comparison.tuning)) == (1, 7)
    points = peak_points(row, comparison)
    assert [(point.peak, point.of) for point in points] == [(peak, 5) for peak in outcome.choices[0].tried]

    again, _ = perform(override)
    assert all(done.found for done in again.runs)
    assert plan_study(load_study(study_file, [override]), source=study_file) == ["every run is recorded"]
    with pytest.raises(RecordError, match="with other tuning"):
        perform(override, "study.tuning.halving=null")


@pytest.mark.slow
def test_a_halved_study_that_was_stopped_goes_on_and_chooses_alike(perform, stop_in, study_file):
    tuning = "study.tuning={factors: [0.3, 1, 3], seeds: [100], halving: 4}"
    overrides = (tuning, "study.grid.schedule=[cosine]", "training.duration=20")
    expected, _ = perform(*overrides, "name=apart", apart=True)
    stop_in("training_step", lambda trainer: trainer.state.global_step == 4 and trainer.args.learning_rate == 0.005)
    with pytest.raises(RunStopped):
        perform(*overrides)
    assert plan_study(load_study(study_file, overrides), source=study_file)[0] == "tuning, rung 1 of 2: 2 runs"
    outcome, _ = perform(*overrides)
    assert [done.found for done in outcome.runs].count(True) == 1
    assert outcome.choices == expected.choices
