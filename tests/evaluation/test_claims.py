"""What is measured besides the score, from histories and records whose every figure can be worked out on paper."""

import math

import pytest

from finetune.evaluation.claims import measure, peak_points

SGD = {"name": "sgd", "learning_rate": 1e-4}


@pytest.fixture
def measured(only):
    """A function that measures the rows of records or runs: name ▶ key ▶ what was found."""
    return lambda runs, target=None: measure(only(runs), target=target)


@pytest.fixture
def runs(make_record, save):
    """A function that saves a run per seed of one schedule, with the given evaluations."""

    def runs(*curves, schedule="cosine", best=0.9, **changes):
        return [
            save(make_record(schedule, best, seed=seed, **changes), evaluations=curve)
            for seed, curve in enumerate(curves)
        ]

    return runs


def curve(*scores, every=10):
    """An evaluation each `every` updates, a tenth of a second each."""
    return [(every * place, place * every / 10, score) for place, score in enumerate(scores, start=1)]


def test_the_target_is_reached_at_the_first_evaluation_that_equals_it(runs, measured):
    measures = measured(runs(curve(0.5, 0.8, 0.7, 0.9)), target=0.8)["cosine"]
    assert (measures["updates_to_target"].value.estimate, measures["seconds_to_target"].value.estimate) == (20, 2.0)
    assert measures["updates_to_target"].note == ""


def test_updates_to_the_target_are_the_mean_over_runs_with_students_interval(runs, measured):
    found = measured(runs(curve(0.9), curve(0.1, 0.9), curve(0.1, 0.1, 0.9)), target=0.9)["cosine"]
    updates = found["updates_to_target"]
    # 10, 20 and 30: their standard deviation is 10, and 4.302653 the 97.5% point with 2 degrees of freedom.
    half = 4.302653 * 10 / math.sqrt(3)
    assert updates.runs == 3
    assert (updates.value.low, updates.value.estimate, updates.value.high) == pytest.approx((20 - half, 20, 20 + half))


def test_a_single_run_has_no_bounds(runs, measured):
    for key in ("updates_to_target", "area", "score", "train_seconds"):
        found = measured(runs(curve(0.5, 0.9)), target=0.9)["cosine"][key]
        assert found.runs == 1
        assert math.isnan(found.value.low)
        assert math.isnan(found.value.high)


def test_a_run_that_never_reaches_the_target_counts_as_its_end_and_is_counted(runs, measured):
    measures = measured(runs(curve(0.5, 0.9), curve(0.5, 0.6, 0.7, 0.8)), target=0.9)["cosine"]
    assert measures["updates_to_target"].value.estimate == (20 + 40) / 2
    assert measures["seconds_to_target"].value.estimate == (2.0 + 4.0) / 2
    assert measures["updates_to_target"].note == "at least: 1 of 2 never reached it, and count as their end"


def test_a_target_that_no_run_reaches_has_no_time(runs, measured):
    found = measured(runs(curve(0.5), curve(0.6)), target=0.95)["cosine"]["seconds_to_target"]
    assert (found.value, found.runs, found.note) == (None, 2, "never reached")


def test_a_score_that_is_not_finite_reaches_nothing(runs, measured):
    assert measured(runs(curve(None, 0.9)), target=0.5)["cosine"]["updates_to_target"].value.estimate == 20


def test_without_a_target_only_that_is_not_timed(runs, measured):
    measures = measured(runs(curve(0.5, 0.9)))["cosine"]
    assert (measures["updates_to_target"].value, measures["updates_to_target"].note) == (None, "no target was declared")
    assert measures["updates_to_95"].value.estimate == 20


def test_without_a_history_nothing_is_timed(make_record, measured):
    found = measured([make_record()], target=0.5)["cosine"]["updates_to_target"]
    assert (found.value, found.note) == (None, "the history is missing")


@pytest.mark.parametrize("key", ["score", "updates_to_target", "updates_to_95", "area", "overhead", "train_seconds"])
def test_of_runs_that_all_diverged_nothing_is_measured(make_record, save, measured, key):
    found = measured([save(make_record(diverged=True), evaluations=curve(0.9, 0.9))], target=0.5)["cosine"][key]
    assert (found.value, found.runs) == (None, 0)
    assert found.note


def test_the_bar_of_all_schedules_is_95_percent_of_the_best_ones_mean(make_record, save, measured):
    # The best means: 0.9 of cosine, from 0.8 and 1.0, and 0.7 of step. The bar is 0.855.
    climb = curve(0.84, 0.85, 0.86, 0.87)
    cosine = [
        save(make_record("cosine", best=best, seed=seed), evaluations=climb) for seed, best in enumerate((0.8, 1.0))
    ]
    step = [save(make_record("step", best=0.7, seed=seed), evaluations=curve(0.7, 0.7)) for seed in range(2)]
    measures = measured([*cosine, *step])
    assert measures["cosine"]["updates_to_95"].value.estimate == 30
    assert measures["cosine"]["seconds_to_95"].value.estimate == 3.0
    assert measures["step"]["updates_to_95"].note == "never reached"


def test_each_context_has_a_bar_of_its_own(runs, measured):
    # 95% of 0.9 is 0.855, and of 0.6 it is 0.57.
    adamw = runs(curve(0.8, 0.9), best=0.9)
    sgd = runs(curve(0.5, 0.56, 0.58), best=0.6, changes={"optimizer": SGD})
    measures = measured([*adamw, *sgd])
    assert measures["cosine, adamw"]["updates_to_95"].value.estimate == 20
    assert measures["cosine, sgd"]["updates_to_95"].value.estimate == 30


def test_the_area_is_that_of_trapezoids_over_the_updates_between(runs, measured):
    uneven = [(10, 1.0, 0.5), (20, 2.0, 0.7), (50, 5.0, 0.9)]
    # (10 · 0.6 + 30 · 0.8) / 40
    assert measured(runs(uneven))["cosine"]["area"].value.estimate == pytest.approx(0.75)


def test_the_area_goes_straight_over_a_score_that_is_not_finite(runs, measured):
    gap = [(10, 1.0, 0.5), (20, 2.0, None), (50, 5.0, 0.9)]
    assert measured(runs(gap))["cosine"]["area"].value.estimate == pytest.approx(0.7)


def test_one_evaluation_has_no_area(runs, measured):
    area = measured(runs(curve(0.9)))["cosine"]["area"]
    assert (area.value, area.note) == (None, "fewer than two evaluations")


# Seed by seed, the best less the worst: 0.8 − 0.7 and 0.8 − 0.5.
PEAKS = {(1e-4, 0): 0.8, (3e-4, 0): 0.7, (1e-4, 1): 0.8, (3e-4, 1): 0.5}


def test_the_spread_over_peaks_is_taken_seed_by_seed_from_the_tuning_runs(final, tried, measured):
    found = measured([final(), *tried(PEAKS)])["cosine"]["spread_over_peaks"]
    assert (found.value.estimate, found.runs) == (pytest.approx((0.1 + 0.3) / 2), 2)
    assert found.note == "over 2 peak rates"


@pytest.mark.parametrize("other", [{"name": "another"}, {"schedule": "step"}, {"optimizer": "sgd"}])
def test_tuning_runs_of_another_study_schedule_or_setting_do_not_count(final, tried, measured, other):
    runs = [final(), final("step"), final("cosine", "sgd"), final("step", "sgd"), *tried(PEAKS)]
    worse = tried({peak: 0.1 * place for place, peak in enumerate(PEAKS)} | {(1e-3, 0): 0.0}, **other)
    found = measured([*runs, *worse])["cosine, adamw"]["spread_over_peaks"]
    assert (found.value.estimate, found.note) == (pytest.approx(0.2), "over 2 peak rates")


def test_without_tuning_runs_the_spread_is_over_rows_that_differ_in_the_peak_alone(make_record, measured):
    def run(best, name, peak, schedule="cosine"):
        return make_record(schedule, best=best, changes={"optimizer": {"name": name, "learning_rate": peak}})

    rows = [run(0.8, "adamw", 1e-4), run(0.7, "adamw", 3e-4), run(0.2, "sgd", 1e-4), run(0.3, "adamw", 1e-4, "step")]
    found = [each["spread_over_peaks"] for name, each in measured(rows).items() if name.startswith("cosine, adamw")]
    assert [each.value.estimate for each in found] == pytest.approx([0.1, 0.1])


def test_a_seed_that_diverged_at_one_peak_is_left_out_of_the_spread_and_counted(final, tried, measured):
    found = measured([final(), *tried(PEAKS | {(3e-4, 1): None})])["cosine"]["spread_over_peaks"]
    assert (found.value.estimate, found.runs) == (pytest.approx(0.1), 1)
    assert found.note == "over 2 peak rates; 1 of 4 runs diverged"


@pytest.mark.parametrize(
    ("peaks", "note"),
    [
        (PEAKS | {(3e-4, 0): None, (3e-4, 1): None}, "2 of 4 runs diverged"),
        ({(1e-4, 0): 0.8, (3e-4, 1): 0.7}, "no seed has every peak rate"),
        ({(1e-4, 0): 0.8, (1e-4, 1): 0.7}, "one peak rate was tried"),
    ],
)
def test_why_there_is_no_spread_over_peaks_is_said(final, tried, measured, peaks, note):
    found = measured([final(), *tried(peaks)])["cosine"]["spread_over_peaks"]
    assert (found.value, found.note) == (None, note)


def test_what_was_tried_is_told_by_peak_and_seed_with_what_was_chosen(final, tried, only):
    comparison = only([final(), *tried(PEAKS | {(3e-4, 1): None})])
    points = peak_points(comparison.rows[0], comparison)
    assert [(point.peak, point.seed, point.score, point.chosen) for point in points] == [
        (1e-4, 0, 0.8, True),
        (1e-4, 1, 0.8, True),
        (3e-4, 0, 0.7, False),
        (3e-4, 1, None, False),
    ]


def rung(number, *, peaks=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3)):
    return {"rung": {"number": number, "of": 2, "peaks": list(peaks)}}


def test_of_a_halving_the_runs_of_full_length_alone_are_told_with_how_many_were_tried(final, tried, only):
    shorter = tried(dict.fromkeys([(peak, 0) for peak in rung(1)["rung"]["peaks"]], 0.9), **rung(1))
    comparison = only([final(), *shorter, *tried({(1e-4, 0): 0.8, (1e-3, 0): 0.7}, **rung(2))])
    points = peak_points(comparison.rows[0], comparison)
    assert [(point.peak, point.score, point.of, point.at_edge) for point in points] == [
        (1e-4, 0.8, 5, False),
        (1e-3, 0.7, 5, True),
    ]


def test_a_spread_over_what_a_halving_left_says_so(final, tried, measured):
    shorter = tried({(1e-4, 0): 0.9, (1e-3, 0): 0.1, (1e-5, 0): 0.0}, **rung(1))
    full = tried({(1e-4, 0): 0.8, (3e-4, 0): 0.7}, **rung(2))
    found = measured([final(), *shorter, *full])["cosine"]["spread_over_peaks"]
    assert (found.value.estimate, found.note) == (
        pytest.approx(0.1),
        "over the 2 of 5 peak rates that successive halving left",
    )


def test_overhead_is_also_a_share_of_an_update(make_record, measured):
    # Two updates in 0.01 seconds are 5,000 µs each, of which 50 are 1%.
    measures = measured([make_record(seconds=0.01, overhead=50.0)])["cosine"]
    assert measures["overhead"].value.estimate == 50
    assert measures["overhead_share"].value.estimate == pytest.approx(1.0)


def test_an_overhead_that_was_not_recorded_is_said_to_be_missing(make_record, measured):
    measures = measured([make_record()])["cosine"]
    assert [(measures[key].value, measures[key].note) for key in ("overhead", "overhead_share")] == [
        (None, "not recorded"),
        (None, "not recorded"),
    ]


def test_settings_left_at_nothing_or_zero_are_not_counted(make_record, measured):
    settings = {"warmup": "10%", "power": 2, "floor": 0.0, "cooldown": None}
    assert measured([make_record(settings=settings)])["cosine"]["settings"].value.estimate == 2


def test_training_time_is_the_mean_of_the_runs_that_finished(make_record, measured):
    records = [make_record(seed=seed, seconds=seconds) for seed, seconds in enumerate((90.0, 100.0, 140.0))]
    found = measured([*records, make_record(seed=3, seconds=1.0, diverged=True)])["cosine"]["train_seconds"]
    assert (found.value.estimate, found.runs) == (110.0, 3)


def test_what_would_divide_by_next_to_nothing_is_left_out(measured, runs):
    overhead = measured(runs([], [], seconds=1e-320, overhead=20.0))["cosine"]["overhead_share"]
    assert (overhead.value, overhead.note) == (None, "not a finite number")
