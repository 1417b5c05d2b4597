"""Comparisons from records: who is beside whom, in what order, and what is not claimed."""

import pytest


def test_seeds_of_one_setting_share_a_row(make_record, only):
    comparison = only([make_record(seed=0, accuracy=0.80), make_record(seed=1, accuracy=0.90)])
    (row,) = comparison.rows
    assert row.seeds == (0, 1)
    assert row.scores("test") == (0.80, 0.90)


def test_rows_are_in_descending_order_of_their_mean(make_record, only):
    records = [make_record("step", 0.81), make_record("linear", 0.83), make_record("cosine", 0.82)]
    assert [row.label for row in only(records).rows] == ["linear", "cosine", "step"]


def test_a_schedule_that_comes_once_needs_only_its_name(make_record, only, printed):
    records = [make_record("step", 0.8, settings={"gamma": 0.5}), make_record("cosine", 0.7)]
    assert [row.label for row in only(records).rows] == ["step", "cosine"]
    assert "step: gamma 0.5" in printed(records)


def test_rows_of_one_schedule_name_the_settings_in_which_they_differ(make_record, only):
    records = [
        make_record("step", 0.8, settings={"gamma": 0.5, "floor": 0.0}),
        make_record("step", 0.7, settings={"gamma": 0.1, "floor": 0.0}),
    ]
    assert [row.label for row in only(records).rows] == ["step, gamma 0.5", "step, gamma 0.1"]


def test_other_differing_keys_get_a_column(make_record, only, printed):
    other = make_record("cosine", 0.7, changes={"optimizer": {"name": "sgd", "learning_rate": 1e-4}})
    records = [make_record(), other]
    comparison = only(records)
    assert [row.others for row in comparison.rows] == [{"optimizer.name": "adamw"}, {"optimizer.name": "sgd"}]
    assert printed(records).splitlines()[5].split()[:2] == ["schedule", "optimizer"]


def test_other_data_is_another_comparison(make_record, compared):
    assert len(compared([make_record(), make_record("step", fingerprint="g")])) == 2


def test_names_and_places_are_no_difference(make_record, only):
    record = make_record(changes={"name": "elsewhere", "output": "there"}, seed=1)
    assert len(only([make_record(), record]).rows) == 1


def test_the_same_data_and_model_elsewhere_are_no_difference(make_record, only):
    elsewhere = {"data": {"files": {"train": ["/elsewhere/train.csv"]}}, "model": {"path": "/elsewhere/model"}}
    assert len(only([make_record(), make_record(changes=elsewhere, seed=1)]).rows) == 1


def test_a_setting_left_open_is_the_same_as_one_that_is_not_there_yet(make_record, only):
    assert len(only([make_record(), make_record(changes={"plugins": [], "more": None}, seed=1)]).rows) == 1


def test_long_settings_are_told_apart_in_few_words(make_record, only):
    points = [[[f"{x}%", 1.0 - x / 100] for x in range(0, 100, step)] for step in (5, 6)]
    labels = [row.label for row in only([make_record("piecewise", settings={"points": each}) for each in points]).rows]
    assert len(set(labels)) == 2
    assert all(len(label) < 50 for label in labels)


def test_few_seeds_are_said_to_settle_nothing(make_record, only):
    cautions = only([make_record(seed=3), make_record("step", seed=3)]).cautions
    said = (
        "With one seed for a row, this can't say which schedule is better: a difference may come from the seed alone."
    )
    assert f"{said} Run more: training.seed=4, 5, …" in cautions


def test_five_seeds_need_no_caution(make_record, only):
    records = [make_record(schedule, seed=seed) for schedule in ("cosine", "step") for seed in range(5)]
    assert only(records).cautions == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [({"hardware": "another"}, "the device"), ({"weights": "v"}, "the initial weights at equal seeds")],
)
def test_what_rows_do_not_share_is_said(make_record, change, what, only):
    cautions = only([make_record(), make_record("step", **change)]).cautions
    assert any(f"The rows don't share {what}" in caution for caution in cautions)


def test_rows_of_other_seeds_are_said_to_be_unpaired(make_record, only):
    cautions = only([make_record(seed=0), make_record("step", seed=1)]).cautions
    assert any("only those that two rows share are paired" in caution for caution in cautions)


def test_a_diverged_run_is_counted_and_shown(make_record, only, printed):
    records = [make_record(), make_record("constant", diverged=True)]
    comparison = only(records)
    assert [row.label for row in comparison.rows] == ["cosine", "constant"]
    assert any("constant: 1 of its 1 runs diverged" in caution for caution in comparison.cautions)
    assert any(line.split()[:4] == ["constant", "1,", "1", "diverged"] for line in printed(records).splitlines())


def test_without_a_test_split_validation_is_shown_with_a_caution(make_record, only):
    comparison = only([make_record(splits=("validation",)), make_record("step", splits=("validation",))])
    assert comparison.split == "validation"
    assert any("split that chose the model" in caution for caution in comparison.cautions)


def test_the_table_shows_one_run_with_its_standard_error(make_record, only, printed):
    text = printed([make_record(accuracy=0.8512), make_record("step", 0.84)])
    assert "0.8512 ± 0.0100" in text
    assert "test accuracy: 1,000 examples, value ± standard error over examples, read once by each kept model" in text


def test_the_table_shows_several_runs_with_their_range(make_record, only, printed):
    text = printed([make_record(seed=0, accuracy=0.80), make_record(seed=1, accuracy=0.90)])
    assert "0.8500 [0.8000–0.9000]" in text


def test_a_narrow_window_cuts_no_cell(make_record, only, printed):
    records = [make_record(seed=seed, accuracy=0.80 + seed / 10) for seed in range(2)]
    row = next(line for line in printed(records, width=40).splitlines() if "0.8500" in line)
    assert row.startswith("cosine")
    assert "0.8500 [0.8000–0.9000]" in row


def test_timings_are_medians(make_record, only, printed):
    text = printed([make_record(seed=seed, seconds=seconds) for seed, seconds in enumerate((90.0, 100.0, 500.0))])
    assert "100.0" in text


def test_keys_that_no_study_varies_are_named(make_record, only):
    changes = {"training": {"seed": 0, "batch_size": 16}}
    cautions = only([make_record(), make_record("step"), make_record("step", changes=changes)]).cautions
    assert any("also differ in training.batch_size, which no study of theirs varies" in each for each in cautions)
