"""Runs that share updates: what comes of them is what comes of them alone, bit for bit."""

import io

import pytest
from rich.console import Console

from finetune.errors import RunStopped
from finetune.evaluation.record import find_runs, read_record
from finetune.recipe import load_study
from finetune.study import plan_study, run_study
from finetune.study.groves import Grove, plan_groves
from finetune.study.jobs import final_jobs
from finetune.training.material import Library
from finetune.training.trainer import ScheduledTrainer
from tests.faults import assert_equal_outcomes, outcome

STUDY = """
training: {duration: 40}
evaluation: {every: 8, keep: best}
checkpoints: {every: 6}
study:
  keep_models: true
  grid:
    schedule: [cosine, linear, constant, {name: wsd, cooldown: 10%}, {name: wsd, cooldown: 20%}]
    training.seed: [0]
"""


@pytest.fixture
def study_file(write_study):
    return write_study("shared", STUDY)


@pytest.fixture
def perform(study_file, tmp_path):
    """A function that makes the study's runs in a folder; returns them by name."""

    def run(folder, *overrides, **options):
        study = load_study(study_file, [f"output={tmp_path / folder}", *overrides])
        made = run_study(study, source=study_file, console=Console(file=io.StringIO()), **options)
        assert not (made.directory / "trunks").exists()
        return {run.name: run for run in find_runs([made.directory])}

    return run


def assert_equal_studies(one, other):
    assert one.keys() == other.keys()
    for name, run in one.items():
        assert_equal_outcomes(outcome(run), outcome(other[name]))


@pytest.fixture
def count_updates(monkeypatch):
    """A list that grows by one in every update."""
    made, original = [], ScheduledTrainer.training_step
    monkeypatch.setattr(
        ScheduledTrainer, "training_step", lambda self, *args: (made.append(1), original(self, *args))[1]
    )
    return made


@pytest.mark.slow
def test_runs_that_share_updates_are_bit_equal_to_runs_made_apart(perform, count_updates):
    together = perform("together")
    shared = len(count_updates)
    apart = perform("apart", apart=True)
    assert len(count_updates) - shared == 5 * 40
    # To 5 all share, to 33 all but cosine and linear: 5 + 2·35 + 28 + 3·7.
    assert shared == 124
    assert_equal_studies(together, apart)


@pytest.mark.slow
def test_runs_whose_layers_are_unfrozen_share_updates_too(perform, count_updates):
    layers = "layers={unfreeze: {every: 4}, rate_decay: 0.5, head_rate: 2, reinitialise: 1, freeze: ['token_type']}"
    schedules = "{name: cosine, warmup: 6}, {name: linear, warmup: 6}, {name: wsd, warmup: 6, cooldown: 20%}"
    settings = (layers, "training.duration=20", f"study.grid.schedule=[{schedules}]")
    together = perform("together", *settings)
    assert len(count_updates) < 60
    assert_equal_studies(together, perform("apart", *settings, apart=True))


@pytest.mark.slow
def test_a_record_names_the_trunk_that_its_run_went_on_from(perform):
    runs = perform("together")
    records = [read_record(run) for run in runs.values()]
    trunks = {record.recipe["schedule"]["name"]: record.continued for record in records}
    assert {name: trunk.step for name, trunk in trunks.items()} == {"cosine": 5, "linear": 5, "constant": 33, "wsd": 33}
    assert all(trunk.on_change == "share" and not trunk.changed for trunk in trunks.values())
    assert trunks["cosine"].run == trunks["linear"].run


@pytest.mark.slow
@pytest.mark.parametrize("update", [3, 20])
def test_a_study_stopped_in_a_trunk_or_a_branch_goes_on_bit_for_bit(perform, stop_in, update):
    expected = perform("apart", apart=True)
    stop_in("training_step", lambda trainer: trainer.state.global_step == update)
    with pytest.raises(RunStopped):
        perform("together")
    assert_equal_studies(perform("together"), expected)


@pytest.mark.slow
def test_runs_whose_trunk_diverges_see_for_themselves(perform):
    runs = perform("together", "optimizer.learning_rate=1e30")
    assert [read_record(run).status for run in runs.values()] == ["diverged"] * 5
    assert len({read_record(run).diverged_at_step for run in runs.values()}) == 1


@pytest.mark.slow
def test_a_run_that_shares_nothing_more_than_its_end_is_made_once(perform, count_updates):
    grid = "study.grid.schedule=[constant, {name: linear, floor: 1.0}]"
    runs = perform("together", grid)
    assert len(count_updates) == 40
    results = [read_record(run).results for run in runs.values()]
    assert results[0] == results[1]


def test_a_grove_is_what_has_a_start_in_common(study_file, tmp_path):
    grid = "study.grid.training.seed=[0, 1]"
    study = load_study(study_file, [f"output={tmp_path}", grid])
    jobs = list(final_jobs(study, {}))
    library = Library()
    groves = plan_groves(jobs, library=library)
    assert [[job.recipe.training.seed for job in grove.jobs] for grove in groves] == [[0] * 5, [1] * 5]
    assert [grove.segments[0].end for grove in groves] == [5, 5]
    assert plan_groves(jobs, library=library, least=3) == [Grove((job,)) for job in jobs]


def test_the_plan_shows_the_tree_and_what_it_saves(study_file, tmp_path):
    lines = plan_study(load_study(study_file, [f"output={tmp_path}"]), source=study_file)
    assert lines[0] == "final: 5 runs"
    assert lines[-1] == "124 updates instead of 200: 76 (38.0%) saved, by 2 forks"


@pytest.mark.slow
def test_runs_with_an_adapter_share_updates_too(write_study, tmp_path, count_updates):
    pytest.importorskip("peft", reason="adapters need the extra finetune-schedules[adapters]")
    path = write_study(
        "adapted",
        """
adapter: {rank: 4, dropout: 0.1, b_rate: 3}
training: {duration: 20}
evaluation: {every: 5, keep: best}
checkpoints: {every: null}
study:
  keep_models: true
  grid:
    schedule: [{name: cosine, warmup: 10}, {name: linear, warmup: 10}]
    training.seed: [0]
""",
    )
    made = []
    for folder, apart in (("shared", False), ("apart", True)):
        study = load_study(path, [f"output={tmp_path / folder}"])
        outcome_of_study = run_study(study, source=path, console=Console(file=io.StringIO()), apart=apart)
        made.append({run.name: run for run in find_runs([outcome_of_study.directory])})
        made.append(len(count_updates))
    shared, updates, apart, both = made
    assert (updates, both - updates) == (29, 40)  # the warmup of 10 updates, and the one at the peak, are made once
    assert_equal_studies(shared, apart)
