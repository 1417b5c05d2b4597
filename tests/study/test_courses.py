"""The courses of a study's runs: which of them share updates, by their recipes, and that their rates are those of training."""

import json

import pytest
import torch

from finetune.evaluation.record import HISTORY, RECORD
from finetune.recipe import load_study
from finetune.schedules import SCHEDULES, Warmed, make_scheduler
from finetune.study.courses import courses_of, plan_trunks, unrecorded
from finetune.study.jobs import final_jobs
from finetune.training import run_directory
from finetune.training.material import Library


@pytest.fixture
def jobs(small_recipe):
    """A function that returns the jobs of a study of the small recipe, of 26 updates, with overrides."""
    path = small_recipe.parent / "a_study.yaml"

    def make(*overrides):
        text = f"base: {small_recipe.name}\noutput: {small_recipe.parent / 'runs'}\nstudy: {{grid: {{training.seed: [0]}}}}"
        path.write_text(text, encoding="utf-8")
        return list(final_jobs(load_study(path, overrides), {}))

    return make


@pytest.fixture
def planned(jobs):
    """A function that returns the tree of such a study, of whatever length its trunks."""

    def plan(*overrides):
        return plan_trunks(jobs(*overrides), library=Library(), least_updates=1)

    return plan


def test_the_plan_of_a_study(planned):
    # 26 updates, of which the recipe's warmup takes ⌈2.6⌉ = 3: all are at the peak at 3; a cooldown of 6 falls from 21.
    tree = planned(
        "study.grid.schedule=[constant, {name: wsd, cooldown: 6}, linear]", "study.grid.training.seed=[0, 1]"
    )
    assert tree.names[:3] == ("constant, peak 0.005", "wsd cooldown 6, peak 0.005", "linear, peak 0.005")
    assert [(segment.start, segment.end, segment.runs) for segment in tree.segments[:5]] == [
        (0, 4, (0, 1, 2)),
        (4, 21, (0, 1)),
        (21, 26, (0,)),
        (21, 26, (1,)),
        (4, 26, (2,)),
    ]
    assert tree.saved == 2 * (2 * 4 + 17)


@pytest.mark.parametrize(
    "varied",
    [
        "training.seed=[0, 1]",
        "optimizer=[{name: adamw, learning_rate: 5e-3}, {name: adam, learning_rate: 5e-3}]",
        "optimizer.learning_rate=[5e-3, 6e-3]",
        "optimizer.weight_decay=[0.01, 0.02]",
        "training.batch_size=[16, 15]",
        "training.gradient_clipping=[1.0, 2.0]",
        "data.examples.train=[150, 199]",
        "evaluation.every=[1ep, 5]",
    ],
)
def test_runs_that_differ_in_more_than_their_schedule_share_nothing(planned, varied):
    tree = planned(f"study.grid={{{varied.replace('=', ': ', 1)}}}", "schedule=constant")
    assert len(tree.names) == 2
    assert tree.saved == 0


def test_runs_that_take_a_batch_apart_in_other_ways_share_nothing(jobs):
    both = [*jobs("schedule=constant"), *jobs("schedule=constant", "training.micro_batch_size=4")]
    assert plan_trunks(both, library=Library()).saved == 0
    assert plan_trunks([*both, *both], library=Library()).saved == 2 * 26


def test_lengths_share_what_they_have_in_common_if_they_evaluate_at_the_same_updates(planned):
    grid = "study.grid={training.duration: [20, 40]}"
    schedule = "schedule={name: wsd, warmup: 3, cooldown: 20%}"
    assert planned(grid, schedule, "evaluation.every=5").saved == 17  # a cooldown of 4 falls from 17
    assert planned(grid, schedule, "evaluation.every=25%").saved == 0  # every 5, and every 10


def test_a_plateau_shares_what_no_evaluation_can_have_changed(planned):
    alike = "{name: plateau, warmup: 3, patience: 0}, {name: plateau, warmup: 3, patience: 1}"
    tree = planned(f"study.grid.schedule=[{{name: constant, warmup: 3}}, {alike}]", "evaluation.every=10")
    assert [(segment.start, segment.end, segment.runs) for segment in tree.segments] == [
        (0, 9, (0, 1, 2)),
        (9, 26, (0,)),
        (9, 26, (1,)),
        (9, 26, (2,)),
    ]


def test_a_plateau_shares_all_with_itself_in_a_longer_run(planned):
    grid = "study.grid={training.duration: [20, 40]}"
    assert planned(grid, "schedule={name: plateau, warmup: 3}", "evaluation.every=5").saved == 20


def test_equal_rates_with_another_momentum_are_another_run(planned):
    momenta = "[{name: one_cycle, momentum: [0.85, 0.95]}, {name: one_cycle, momentum: [0.8, 0.95]}]"
    assert planned(f"study.grid.schedule={momenta}").saved == 1  # both begin at 0.95
    assert planned("study.grid.schedule=[one_cycle, {name: one_cycle, momentum: null}]").saved == 0
    head = "groups={head: {parameters: classifier, schedule: {momentum: null}}}"
    each = "schedule.momentum: [null, [0.85, 0.95]], groups.head.schedule.momentum: [null, [0.85, 0.95]]"
    assert planned(f"study.grid={{{each}}}", "schedule={name: one_cycle}", head).saved == 0
    floors = "[{name: one_cycle, warmup: 8}, {name: one_cycle, warmup: 8, floor: 0.1}]"
    assert planned(f"study.grid.schedule={floors}").saved == 9


def test_a_group_that_leaves_first_makes_another_run(planned):
    head = "groups={head: {parameters: classifier, schedule: {name: step, every: 10, gamma: 0.5}}}"
    tree = planned("study.grid={groups.head.schedule.gamma: [0.5, 0.1]}", "schedule=constant", head)
    assert tree.saved == 10


LAYERS = "layers={head_rate: 10, rate_decay: 0.5}"
WARMED = "study.grid.schedule=[{name: cosine, warmup: 10}, {name: linear, warmup: 10}]"


@pytest.mark.parametrize(
    "layers", [LAYERS, "layers={freeze: 1}", "layers={reinitialise: 1}", "layers={unfreeze: {every: 4}}"]
)
def test_runs_of_equal_layers_share_what_their_schedules_do(planned, layers):
    assert planned(WARMED, layers).saved == 11


@pytest.mark.parametrize(
    "varied",
    [
        "layers.freeze: [null, embeddings, 1, body, ['layer']]",
        "layers.head_rate: [1.0, 2.0, 3.0]",
        "layers.rate_decay: [1.0, 0.9]",
        "layers.unfreeze: [null, {every: 5}]",
        "layers.reinitialise: [0, 1]",
    ],
)
def test_runs_of_other_layers_share_nothing(planned, varied):
    assert planned(f"study.grid={{{varied}}}", "schedule=constant").saved == 0


def test_layers_unfrozen_after_as_many_updates_are_alike_however_it_is_written(planned):
    grid = "study.grid={layers.unfreeze: [{every: 13}, {every: 1ep}, {every: 50%}, {every: 12}]}"
    assert planned(grid, "schedule=constant").saved == 2 * 26


def test_an_absolute_floor_that_layers_reach_apart_is_shared_by_none(planned):
    """The recipe's own rates are equal throughout; those of lower layers, with an absolute floor, are not."""
    grid = "study.grid.schedule=[{name: linear, floor: 0.2}, {name: linear, floor_rate: 1e-3}]"
    assert planned(grid).saved == 26
    assert planned(grid, "layers={rate_decay: 0.5}").saved == 0


def set_by_a_scheduler(recipe, updates):
    """The rates and the first betas of the groups "decay" and "head", update by update."""
    peaks = {"decay": recipe.optimizer.learning_rate, "head": recipe.groups["head"].learning_rate}
    groups = [{"name": name, "params": [torch.nn.Parameter(torch.ones(1))], "lr": peak} for name, peak in peaks.items()]
    optimizer = torch.optim.AdamW(groups, lr=peaks["decay"])
    scheduler = make_scheduler(
        optimizer, recipe.schedule, total_steps=updates, groups={"head": recipe.schedule_of("head")}
    )
    for _ in range(updates):
        yield [group["lr"] for group in optimizer.param_groups] + [
            group["betas"][0] for group in optimizer.param_groups
        ]
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", [name for name, kind in SCHEDULES.items() if issubclass(kind, Warmed)])
def test_the_rates_are_to_the_last_bit_those_that_a_scheduler_sets(jobs, name):
    warmup = 0 if name == "cyclic" else 30
    (job,) = jobs(
        f"study.grid.schedule=[{{name: {name}, warmup: {warmup}}}]",
        "schedule=constant",
        "groups={head: {parameters: classifier, learning_rate: 7e-3, schedule: {floor_rate: 1e-5}}}",
        "optimizer.learning_rate=3e-4",
        "training.duration=300",
    )
    (made,) = courses_of([job], library=Library())
    *values, rules = (array.tolist() for array in made.values)
    expected = [list(column) for column in zip(*set_by_a_scheduler(job.recipe, 300), strict=True)]
    assert values == expected[: 4 if name == "one_cycle" else 2]
    assert set(rules) == ({0, 1} if name == "plateau" else {0})


def test_jobs_that_are_recorded_are_left_out(jobs, small_recipe):
    both = jobs("study.grid.schedule=[cosine, constant]")
    run = run_directory(both[0].recipe, source=small_recipe)
    run.mkdir(parents=True)
    assert unrecorded(both, source=small_recipe) == both
    (run / RECORD).touch()
    assert unrecorded(both, source=small_recipe) == both[1:]


@pytest.mark.slow
def test_runs_make_the_same_updates_until_their_rates_part(train):
    # At the peak from 3 on, WSD falls from 21; the loss of an update is that before it, so one more is the same.
    flat, cooled, longer, cosine = (
        [row for row in map(json.loads, (train(*overrides)[1] / HISTORY).read_text().splitlines()) if "rates" in row]
        for overrides in [
            ("schedule={name: constant, warmup: 3}", "evaluation.every=5"),
            ("schedule={name: wsd, warmup: 3, cooldown: 6}", "evaluation.every=4"),
            ("schedule={name: wsd, warmup: 3, cooldown: 20}", "evaluation.every=null", "training.duration=40"),
            ("schedule={name: cosine, warmup: 3}", "evaluation.keep=last"),
        ]
    )
    for other, end in (cooled, 21), (longer, 21), (cosine, 4):
        assert [row["rates"] == own["rates"] for row, own in zip(other, flat, strict=False)].index(False) == end
        assert [row["loss"] == own["loss"] for row, own in zip(other, flat, strict=False)].index(False) == end + 1
