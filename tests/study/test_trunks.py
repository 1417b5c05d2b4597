"""Which updates the runs of a study share, and that they are the same updates."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluation.record import HISTORY, RECORD
from finetune.recipe import load_study
from finetune.schedules import SCHEDULES, Warmed, make_schedule, make_scheduler
from finetune.study.courses import courses_of, plan_trunks, unrecorded
from finetune.study.jobs import final_jobs
from finetune.study.trunks import Course, describe, grow
from finetune.training import run_directory
from finetune.training.material import Library

SIX = {
    "cosine": {},
    "linear": {},
    "constant": {},
    "step": {"gamma": 0.5},
    "wsd 10%": {"cooldown": "10%"},
    "wsd 20%": {"cooldown": "20%"},
}


def course(name, values, kind="one"):
    return Course(name, kind, (np.array(values, dtype=float),))


def scheduled(name, *, total_steps=300, kind="one", **own):
    factor = make_schedule(name.split()[0], **own).resolve(total_steps=total_steps)
    return course(name, [1e-4 * factor(t) for t in range(total_steps)], kind)


def six(*, seeds=1, **own):
    return [
        scheduled(name, kind=f"seed {seed}", **settings, **own)
        for seed in range(seeds)
        for name, settings in SIX.items()
    ]


def spans(tree):
    return {
        (segment.start, segment.end): " ".join(tree.names[run] for run in segment.runs) for segment in tree.segments
    }


def path_of(tree, run):
    return [segment for segment in tree.segments if run in segment.runs]


def test_six_schedules_part_where_their_formulas_do():
    # Warmup ends at 30, and all are at the peak there. The step falls at 30 + 90, and a cooldown of C updates, which
    # ends at 300, has its first rate below the peak at 300 − C + 1.
    tree = grow(six(warmup="10%"))
    assert [(segment.start, segment.end, len(segment.runs)) for segment in tree.segments] == [
        (0, 31, 6),
        (31, 300, 1),  # cosine
        (31, 300, 1),  # linear
        (31, 120, 4),
        (120, 241, 3),
        (241, 271, 2),
        (271, 300, 1),  # constant
        (271, 300, 1),  # wsd 10%
        (241, 300, 1),  # wsd 20%
        (120, 300, 1),  # step
    ]
    assert [segment.parent for segment in tree.segments] == [None, 0, 0, 0, 3, 4, 5, 5, 4, 3]
    assert tree.updates == 31 + 2 * 269 + 89 + 121 + 30 + 2 * 29 + 59 + 180
    assert tree.saved == 6 * 300 - 1106
    assert tree.forks == 4


def test_inclusive_schedules_are_at_the_peak_for_as_long_but_cool_down_an_update_earlier():
    # Warmup at (t + 1)/31, so that t = 30 is the first at the peak, as before; the decay ends at 299.
    assert list(spans(grow(six(warmup="10%", inclusive=True))))[:6] == [
        (0, 31), (31, 300), (31, 120), (120, 240), (240, 270), (270, 300),
    ]  # fmt: skip


def test_seeds_share_nothing_and_each_has_the_same_tree():
    one, three = grow(six(warmup=30)), grow(six(warmup=30, seeds=3))
    assert (three.updates, three.saved, three.forks) == (3 * one.updates, 3 * one.saved, 3 * one.forks)
    assert [segment.runs for segment in three.segments if segment.parent is None] == [
        tuple(range(first, first + 6)) for first in (0, 6, 12)
    ]


def test_warmups_of_different_lengths_share_only_the_first_update_at_rate_0():
    tree = grow([scheduled("cosine", warmup=30), scheduled("cosine", warmup=40)], least_updates=1)
    assert tree.saved == 1


@pytest.mark.parametrize("name", ["linear", "polynomial", "cosine", "cosine_restarts", "exponential", "rex"])
@pytest.mark.parametrize("total_steps", [97, 300, 1001])
def test_a_warmup_of_the_same_share_is_the_same_in_all_schedules(name, total_steps):
    runs = [scheduled(each, total_steps=total_steps, warmup="10%") for each in (name, "constant")]
    assert grow(runs, least_updates=1).segments[0].end == -(-total_steps // 10) + 1


def test_cooldowns_at_four_horizons_from_one_trunk_cost_about_half():
    # Each leaves the plateau at 80% of its run plus one update; the longest is made whole.
    runs = [scheduled("wsd", total_steps=total, warmup=10, cooldown="20%") for total in (100, 200, 300, 400)]
    tree = grow(runs)
    assert tree.updates == 400 + 19 + 39 + 59
    assert sum(tree.lengths) == 1000
    assert [(segment.start, segment.end) for segment in path_of(tree, 3)] == [
        (0, 81),
        (81, 161),
        (161, 241),
        (241, 400),
    ]


def test_a_run_that_another_goes_on_from_ends_in_the_trunk():
    tree = grow([course("long", [1] * 5), course("short", [1] * 3)], least_updates=3)
    assert [(segment.start, segment.end, segment.runs) for segment in tree.segments] == [(0, 3, (0, 1)), (3, 5, (0,))]
    assert (tree.ending(0), tree.ending(1)) == ((1,), (0,))
    assert (tree.updates, tree.saved, tree.forks) == (5, 3, 1)


def test_runs_that_are_the_same_to_the_end_are_made_once_without_a_fork():
    tree = grow([course("wsd 20%", [1, 1, 0]), course("wsd 1", [1, 1, 0])])
    assert [(segment.start, segment.end, segment.runs) for segment in tree.segments] == [(0, 3, (0, 1))]
    assert (tree.ending(0), tree.forks, tree.saved) == ((0, 1), 0, 3)


def test_no_trunk_is_shorter_than_the_least():
    runs = [course("a", [1, 1, 1, 1, 1]), course("b", [1, 1, 1, 1, 2]), course("c", [1, 1, 3, 3, 3])]
    assert list(spans(grow(runs, least_updates=2))) == [(0, 2), (2, 4), (4, 5), (2, 5)]
    # Without a trunk up to 2, that of the first two begins at 0 and is long enough.
    assert spans(grow(runs, least_updates=3)) == {(0, 4): "a b", (4, 5): "b", (0, 5): "c"}
    assert grow(runs, least_updates=5).saved == 0


def test_a_last_bit_makes_a_difference():
    assert grow([course("a", [0.1, 0.3]), course("b", [0.1, 0.1 + 0.2])], least_updates=1).saved == 1
    assert grow([course("a", [0.0]), course("b", [-0.0])], least_updates=1).saved == 0


def test_every_group_must_have_equal_rates():
    both = [Course("a", "one", (np.ones(9), np.ones(9))), Course("b", "one", (np.ones(9), np.arange(9.0) // 5))]
    assert grow(both, least_updates=1).saved == 0
    assert grow([both[0], Course("b", "one", (np.ones(9), 1 - np.arange(9) // 5.0))], least_updates=1).saved == 5


def test_as_many_horizons_as_there_are_runs_make_a_long_chain():
    tree = grow([course(str(length), [1] * length) for length in range(1, 401)], least_updates=1)
    assert (tree.updates, len(tree.segments)) == (400, 400)


RUNS = st.lists(
    st.tuples(st.sampled_from("xy"), st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=7)),
    min_size=1,
    max_size=9,
)


def courses_like(runs):
    return [
        Course(str(number), kind, tuple(np.array(values, dtype=float).T)) for number, (kind, values) in enumerate(runs)
    ]


@given(RUNS, st.integers(1, 4))
def test_the_segments_of_every_run_are_its_updates(runs, least_updates):
    tree = grow(courses_like(runs), least_updates=least_updates)
    for run, (kind, values) in enumerate(runs):
        path = path_of(tree, run)
        assert [at for segment in path for at in range(segment.start, segment.end)] == list(range(len(values)))
        assert [segment.parent for segment in path] == [None, *(tree.segments.index(each) for each in path[:-1])]
        for segment in path:
            together = {(runs[each][0], *runs[each][1][segment.start : segment.end]) for each in segment.runs}
            assert together == {(kind, *values[segment.start : segment.end])}


@given(RUNS, st.integers(1, 4))
def test_the_total_is_that_of_the_segments_and_never_more_than_without_sharing(runs, least_updates):
    tree = grow(courses_like(runs), least_updates=least_updates)
    alone = sum(len(values) for _, values in runs)
    assert tree.updates == sum(segment.end - segment.start for segment in tree.segments) == alone - tree.saved <= alone
    assert all(tree.segments[number].updates >= least_updates for number, after in enumerate(tree.branches) if after)
    assert all(segment.parent is None or segment.parent < number for number, segment in enumerate(tree.segments))


@given(RUNS)
def test_with_trunks_of_any_length_no_update_is_made_twice(runs):
    distinct = {(kind, *values[: at + 1]) for kind, values in runs for at in range(len(values))}
    assert grow(courses_like(runs), least_updates=1).updates == len(distinct)


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


def test_a_tree_is_described_once_for_all_seeds():
    runs = [
        course(f"{name}, adamw, peak 0.1", values, f"seed {seed}")
        for seed in range(12)
        for name, values in {"linear": [2, 1, 0], "constant": [2, 2, 2], "wsd": [2, 2, 1]}.items()
    ]
    assert describe(grow([*runs, course("sgd", [3] * 1000)], least_updates=1)) == [
        "adamw, peak 0.1 × 12 seeds",
        "  0–1        1  3 runs",
        "  ├─ 1–3     2  linear",
        "  └─ 1–2     1  2 runs",
        "     ├─ 2–3  1  constant",
        "     └─ 2–3  1  wsd",
        "1 run with no start in common: 1,000 updates",
        "1,072 updates instead of 1,108: 36 (3.2%) saved, by 24 forks",
    ]


def test_runs_that_end_where_others_go_on_are_named():
    lines = describe(grow([course("long", [1] * 50), course("short", [1] * 20), course("20", [1] * 20)]))
    assert lines == [
        "  0–20      20  3 runs; short = 20 ends here",
        "  └─ 20–50  30  long",
        "50 updates instead of 90: 40 (44.4%) saved, by 1 fork",
    ]


def test_where_nothing_is_shared_only_the_total_is_told():
    assert describe(grow([course("a", [1] * 50), course("b", [2] * 50)])) == [
        "100 updates; no two runs share enough of them",
    ]


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
