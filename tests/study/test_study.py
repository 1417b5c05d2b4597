"""Studies of the tiny model, from recipe to records."""

import io
import json

import pytest
from rich.console import Console

from finetune.errors import FinetuneError, RecordError, SettingError
from finetune.evaluation.direction import MORE_IS_BETTER, Direction
from finetune.evaluation.record import (
    Evaluated,
    Results,
    RunRecord,
    ScheduleRecord,
    Timing,
    find_runs,
    read_record,
)
from finetune.recipe import load_study
from finetune.schedules import SCHEDULES
from finetune.study import run_study
from finetune.study.engines.local import LocalEngine
from finetune.study.jobs import Done, final_jobs, outcome_of, tuning_jobs
from finetune.study.peaks import choose, equal_area_peaks, rule
from finetune.training import mean_factor
from finetune.training.material import Library

STUDY = """
study:
  grid:
    schedule: [cosine, {name: step, gamma: 0.5}]
    training.seed: [0, 1]
  tuning: {factors: [1, 3], seeds: [100]}
  reference: cosine
  equivalence: 0.02
"""


PLUGIN = """
from finetune import register_schedule

@register_schedule("plugged_hold")
def hold(progress, *, level=0.5):
    return max(1 - progress, level)
"""


@pytest.fixture
def study_file(write_study):
    return write_study("a_study", STUDY)


@pytest.fixture
def perform(study_file):
    def run(*overrides, workers=1):
        out = io.StringIO()
        study = load_study(study_file, overrides, allow_plugins=True)
        engine = LocalEngine(workers)
        outcome = run_study(study, source=study_file, console=Console(file=out, width=200), engine=engine)
        return outcome, out.getvalue()

    return run


def peaks_of(study, scores, direction=MORE_IS_BETTER):
    """The choice for the study's only setting, from {factor: score per tuning seed}."""
    jobs = list(tuning_jobs(study))
    base = study.settings[0].recipe.optimizer.learning_rate
    done = [
        Done(job, "finished" if score is not None else "diverged", score=score, direction=direction)
        for job in jobs
        if job.setting == 0
        for score in [scores[round(job.recipe.optimizer.learning_rate / base)][job.recipe.training.seed]]
    ]
    return choose(study, done)[0]


@pytest.mark.slow
def test_a_study_makes_every_run_once_and_goes_on_where_it_was_left(perform):
    outcome, text = perform()
    assert [done.status for done in outcome.runs] == ["finished"] * 8
    assert [done.job.part.role for done in outcome.runs] == ["tuning"] * 4 + ["final"] * 4
    assert "8/8  final" in text
    records = [read_record(run) for run in find_runs([outcome.directory])]
    final = [record for record in records if record.study.role == "final"]
    assert len(final) == 4
    assert all("test" in record.identity.data for record in final)
    assert all("test" not in record.identity.data for record in records if record.study.role == "tuning")
    assert {record.study.keys[0] for record in final} == {"schedule"}
    assert {record.study.tuned[0] for record in final} == {"optimizer.learning_rate"}
    chosen = {choice.peak for choice in outcome.choices.values()}
    assert {record.recipe["optimizer"]["learning_rate"] for record in final} <= chosen
    assert all(record.timing.schedule_microseconds > 0 for record in final)
    assert not list(outcome.directory.rglob("model.safetensors"))

    again, text = perform()
    assert all(done.found for done in again.runs)
    assert text.count("recorded before") == 8

    added, _ = perform("study.grid.training.seed=[0, 1, 2]")
    assert [done.found for done in added.runs] == [True] * 8 + [False] * 2


@pytest.mark.slow
def test_a_run_is_the_same_in_a_study_alone_and_in_workers(perform, study_file, train):
    alone, _ = train("schedule=cosine", "training.seed=1", "name=alone")
    overrides = ("study.tuning=null", "study.grid.schedule=[cosine, linear]", "study.grid.training.seed=[1]")
    # A worker runs what a user's own schedule is of before it is given one.
    (study_file.parent / "own.py").write_text(PLUGIN, encoding="utf-8")
    own = (f"plugins=[{study_file.parent / 'own.py'}]", "study.grid.schedule=[cosine, plugged_hold]", "name=beside")
    in_study, in_worker = (
        next(read_record(run) for run in find_runs([outcome.directory]) if "cosine" in run.name)
        for outcome, _ in (perform(*overrides), perform(overrides[0], overrides[2], *own, workers=2))
    )
    del SCHEDULES["plugged_hold"]
    assert in_study.results == alone.results
    assert in_study.identity == alone.identity == in_worker.identity
    # With fewer threads sums are taken in another order.
    assert in_worker.results.last.validation["loss"] == pytest.approx(alone.results.last.validation["loss"], rel=1e-2)
    assert in_worker.environment.threads < alone.environment.threads or alone.environment.threads == 1


@pytest.mark.slow
def test_a_run_that_fails_or_diverges_is_written_down_and_the_others_go_on(perform, monkeypatch):
    from finetune.study import jobs

    fine_tune = jobs.fine_tune

    def failing(recipe, **keywords):
        if recipe.schedule.name == "step":
            raise MemoryError("no memory left")
        return fine_tune(recipe, **keywords)

    monkeypatch.setattr(jobs, "fine_tune", failing)
    outcome, text = perform("study.tuning=null", "optimizer.learning_rate=1e30")
    assert [done.status for done in outcome.runs] == ["diverged", "failed", "diverged", "failed"]
    assert "FAILED: MemoryError: no memory left" in text
    failed = json.loads((outcome.directory / "study.json").read_text())["failed"]
    assert [entry["problem"] for entry in failed] == ["MemoryError: no memory left"] * 2


@pytest.mark.slow
def test_another_study_of_the_name_is_refused(perform):
    perform("study.tuning=null")
    with pytest.raises(RecordError, match="holds another study of the name a_study, with other settings"):
        perform("study.tuning=null", "training.batch_size=7")
    with pytest.raises(RecordError, match="with other tuning"):
        perform()


def test_what_no_run_could_be_made_of_is_refused_before_any(perform, tmp_path):
    with pytest.raises(SettingError, match="workers: 0 must be 1 or more"):
        perform(workers=0)
    with pytest.raises(FinetuneError):
        perform(f"model.path={tmp_path / 'nowhere'}")
    with pytest.raises(FinetuneError, match="schedule"):
        perform("study.grid.schedule=[{name: cosine, warmup: 100000}]")


def test_final_runs_go_seed_by_seed(study_file):
    study = load_study(study_file)
    jobs = list(final_jobs(study, {0: 1e-3}))
    assert [(job.recipe.training.seed, job.setting) for job in jobs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [job.recipe.optimizer.learning_rate for job in jobs[:1]] == [1e-3]


def test_the_highest_mean_is_chosen_and_of_equals_the_lowest_peak(study_file):
    study = load_study(study_file, ["study.tuning.seeds=[8, 9]", "study.tuning.factors=[1, 2, 4]"])
    base = study.settings[0].recipe.optimizer.learning_rate
    better = peaks_of(study, {1: {8: 0.7, 9: 0.7}, 2: {8: 0.9, 9: 0.6}, 4: {8: 0.9, 9: 0.5}})
    assert (better.peak, better.is_at_edge) == (pytest.approx(2 * base), False)
    equal = peaks_of(study, {1: {8: 0.7, 9: 0.7}, 2: {8: 0.7, 9: 0.7}, 4: {8: 0.5, 9: 0.5}})
    assert (equal.peak, equal.is_at_edge) == (pytest.approx(base), True)


def test_a_peak_with_which_a_run_diverged_comes_last(study_file):
    study = load_study(study_file, ["study.tuning.seeds=[8, 9]", "study.tuning.factors=[1, 2, 4]"])
    base = study.settings[0].recipe.optimizer.learning_rate
    choice = peaks_of(study, {1: {8: 0.5, 9: 0.5}, 2: {8: 0.99, 9: None}, 4: {8: None, 9: None}})
    assert choice.peak == pytest.approx(base)


def test_of_an_error_the_lowest_mean_is_chosen_and_of_equals_the_lowest_peak(study_file):
    study = load_study(study_file, ["study.tuning.seeds=[8, 9]", "study.tuning.factors=[1, 2, 4]"])
    base = study.settings[0].recipe.optimizer.learning_rate
    less = Direction(greater_is_better=False)
    lowest = peaks_of(study, {1: {8: 31.0, 9: 31.0}, 2: {8: 30.0, 9: 31.5}, 4: {8: 29.0, 9: 33.0}}, less)
    assert lowest.peak == pytest.approx(2 * base)
    equal = peaks_of(study, {1: {8: 0.7, 9: 0.7}, 2: {8: 0.7, 9: 0.7}, 4: {8: 0.8, 9: 0.8}}, less)
    assert equal.peak == pytest.approx(base)
    lost = peaks_of(study, {1: {8: None, 9: None}, 2: {8: 0.1, 9: None}, 4: {8: 0.8, 9: 0.8}}, less)
    assert lost.peak == pytest.approx(4 * base)
    assert lost.rungs[-1].ranked == pytest.approx([4 * base, 2 * base, base])


def test_the_rule_says_which_mean_is_chosen(study_file):
    study = load_study(study_file, [])
    assert "the one with the highest mean validation score" in rule(study, MORE_IS_BETTER)
    assert "the one with the lowest mean validation score" in rule(study, Direction(greater_is_better=False))


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_score_is_told_with_its_direction_by_the_record(study_file, greater_is_better):
    evaluated = Evaluated(step=9, validation={"mse": 0.25})
    results = Results(
        select="mse",
        greater_is_better=greater_is_better,
        kept="best",
        kept_step=9,
        splits={},
        best=evaluated,
        last=evaluated,
    )
    record = RunRecord.model_construct(
        status="finished",
        results=results,
        schedule=ScheduleRecord.model_construct(total_steps=9),
        timing=Timing.model_construct(total_seconds=1.0),
    )
    done = outcome_of(next(tuning_jobs(load_study(study_file, []))), record, found=True)
    assert (done.score, done.direction) == (0.25, Direction(greater_is_better))


def test_equal_area_gives_all_schedules_the_same_sum_of_rates(study_file):
    grid = "study.grid.schedule=[cosine, constant, linear]"
    study = load_study(study_file, ["study.tuning=null", "study.equal_area=true", grid])
    library = Library()
    peaks = equal_area_peaks(study, library)
    areas = [peaks[number] * mean_factor(setting.recipe, library) for number, setting in enumerate(study.settings)]
    assert areas == pytest.approx([areas[0]] * 3, rel=1e-12)
    assert peaks[0] == study.settings[0].recipe.optimizer.learning_rate
    assert peaks[1] < peaks[0]
