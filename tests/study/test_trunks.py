"""Which updates runs share, by the rates of each, and how the tree of them is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.schedules import make_schedule
from finetune.study.trunks import Course, describe, grow

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
