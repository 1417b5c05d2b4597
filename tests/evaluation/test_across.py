"""Schedules over several contexts: ranks, middles and spreads that can be worked out on paper."""

import dataclasses

import numpy as np
import pytest

from finetune.evaluation.across import across_contexts


@pytest.fixture
def across(compared, monkeypatch):
    """A function that returns what is found over all contexts of records, by the schedule's label."""
    monkeypatch.setattr("finetune.evaluation.across.DRAWS", 500)
    return lambda records: {each.schedule: each for each in across_contexts(compared(records))}


@pytest.fixture
def grid(make_record):
    """A function that makes records of the given scores: {(schedule, optimizer): [score of seed 0, of seed 1, …]}."""

    def grid(scores, **changes):
        return [
            make_record(
                schedule,
                score or 0.0,
                seed=seed,
                diverged=score is None,
                **{"changes": {"optimizer": {"name": optimizer, "learning_rate": 1e-4}}, **changes},
            )
            for (schedule, optimizer), row in scores.items()
            for seed, score in enumerate(row)
        ]

    return grid


def test_schedules_are_ranked_in_each_context_and_ties_share_a_rank(grid, across):
    found = across(
        grid(
            {
                ("cosine", "adamw"): [0.8],  # second and third: 2.5
                ("step", "adamw"): [0.9],
                ("linear", "adamw"): [0.8],
                ("cosine", "sgd"): [0.6],
                ("step", "sgd"): [0.7],
                ("linear", "sgd"): [0.8],
            }
        )
    )
    assert {schedule: each.mean_rank.estimate for schedule, each in found.items()} == {
        "step": (1 + 2) / 2,
        "linear": (2.5 + 1) / 2,
        "cosine": (2.5 + 3) / 2,
    }
    assert list(found) == ["step", "linear", "cosine"]


def test_means_that_differ_by_rounding_alone_are_ties(grid, across):
    # Added up in this order, 0.1, 0.2 and 0.3 make a little more than in the other.
    rows = {"cosine": [0.1, 0.2, 0.3], "step": [0.3, 0.2, 0.1]}
    assert np.mean(rows["cosine"]) > np.mean(rows["step"])
    found = across(grid({(schedule, name): row for schedule, row in rows.items() for name in ("adamw", "sgd")}))
    assert [each.mean_rank.estimate for each in found.values()] == [1.5, 1.5]


def test_the_interquartile_mean_is_over_all_contexts_and_seeds(grid, across):
    scores = {("cosine", "adamw"): [0.9, 0.8], ("cosine", "sgd"): [0.7, 0.1]}
    found = across(grid(scores | {("step", "adamw"): [0.5, 0.5], ("step", "sgd"): [0.5, 0.5]}))
    # Of 0.1, 0.7, 0.8 and 0.9 the middle half is 0.7 and 0.8.
    assert found["cosine"].interquartile_mean.estimate == pytest.approx(0.75)


def test_seeds_that_all_agree_leave_no_room_in_the_interval(grid, across):
    rows = {"cosine": [0.9] * 3, "step": [0.8] * 3}
    found = across(grid({(schedule, name): row for schedule, row in rows.items() for name in ("adamw", "sgd")}))
    assert [(each.mean_rank.low, each.mean_rank.high) for each in found.values()] == [(1, 1), (2, 2)]
    middle = found["step"].interquartile_mean
    assert (middle.low, middle.estimate, middle.high) == pytest.approx((0.8, 0.8, 0.8))


def test_seeds_that_disagree_leave_the_rank_open(grid, across):
    # Cosine is ahead by 0.1 with one seed and behind by 0.05 with the other: drawing the latter twice, one time in
    # four in each context, makes it second. Rank 1 in both comes 9 times in 16, rank 2 in both once, 6%.
    rows = {"cosine": [0.9, 0.8], "step": [0.8, 0.85]}
    found = across(grid({(schedule, name): row for schedule, row in rows.items() for name in ("adamw", "sgd")}))
    rank = found["cosine"].mean_rank
    assert (rank.low, rank.estimate, rank.high, rank.level) == (1, 1, 2, 0.95)


def test_only_seeds_that_every_schedule_finished_count(grid, across):
    found = across(
        grid(
            {
                ("cosine", "adamw"): [0.9, 0.1],
                ("step", "adamw"): [0.8, None],
                ("cosine", "sgd"): [0.9, 0.9],
                ("step", "sgd"): [0.8, 0.8],
            }
        )
    )
    # With its second seed cosine would have the mean 0.5, and come second.
    assert found["cosine"].mean_rank.estimate == 1
    assert (found["cosine"].contexts, found["cosine"].runs) == (2, 3)


def test_the_spread_over_optimizers_is_taken_seed_by_seed(grid, across):
    rows = {("cosine", "adamw"): [0.9, 0.8], ("cosine", "sgd"): [0.7, 0.7]}
    found = across(grid(rows | {("step", "adamw"): [0.5, 0.5], ("step", "sgd"): [0.5, 0.5]}))
    # 0.2 and 0.1.
    spread = found["cosine"].spreads["optimizers"]
    assert (spread.value.estimate, spread.runs) == (pytest.approx(0.15), 2)
    assert found["step"].spreads["optimizers"].value.estimate == 0


def test_the_spread_over_one_thing_holds_the_others_fixed(make_record, across):
    scores = {("adamw", 16): 0.90, ("adamw", 32): 0.89, ("sgd", 16): 0.50, ("sgd", 32): 0.47}
    records = [
        make_record(
            schedule,
            score,
            changes={"optimizer": {"name": name, "learning_rate": 1e-4}, "data": {"examples": {"train": count}}},
        )
        for (name, count), score in scores.items()
        for schedule in ("cosine", "step")
    ]
    spreads = across(records)["cosine"].spreads
    values = sorted(spread.value.estimate for spread in spreads.values())
    # Over the data 0.01 and 0.03; over the optimizer 0.40 and 0.42.
    assert values == pytest.approx([0.02, 0.41])


def test_two_data_sets_are_two_contexts(make_record, across):
    scores = {("cosine", "f"): 0.9, ("step", "f"): 0.8, ("cosine", "g"): 0.5, ("step", "g"): 0.6}
    found = across([make_record(schedule, score, fingerprint=data) for (schedule, data), score in scores.items()])
    assert [(each.contexts, each.mean_rank.estimate) for each in found.values()] == [(2, 1.5), (2, 1.5)]


def test_schedules_that_a_context_lacks_are_left_out(grid, across):
    scores = {("cosine", "adamw"): [0.9], ("step", "adamw"): [0.8], ("linear", "adamw"): [0.95]}
    found = across(grid(scores | {("cosine", "sgd"): [0.9], ("step", "sgd"): [0.8]}))
    assert [(schedule, each.mean_rank.estimate) for schedule, each in found.items()] == [("cosine", 1), ("step", 2)]


@pytest.mark.parametrize(
    "scores",
    [
        {("cosine", "adamw"): [0.9], ("step", "adamw"): [0.8]},  # one context
        {("cosine", "adamw"): [0.9], ("cosine", "sgd"): [0.8]},  # one schedule
        {("cosine", "adamw"): [0.9], ("step", "sgd"): [0.8]},  # none in common
        {(s, o): [0.9, None] if s == "step" else [None, 0.9] for s in ("cosine", "step") for o in ("adamw", "sgd")},
    ],
)
def test_without_two_schedules_in_two_contexts_nothing_is_said(grid, across, scores):
    assert across(grid(scores)) == {}


def test_two_metrics_are_never_ranked_together(make_record, compared):
    records = [make_record(schedule, fingerprint=data) for schedule in ("cosine", "step") for data in ("f", "g")]
    assert len(across_contexts(compared(records))) == 2
    one, other = compared(records)
    assert across_contexts([one, dataclasses.replace(other, metric="f1_macro")]) == []
