"""Recorded runs on disk: found once each, and refused in one message where a file was cut short or altered."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from finetune.errors import RecordError
from finetune.evaluation.record import HISTORY, PREDICTIONS, RECORD
from finetune.evaluation.runs import read_runs


@pytest.fixture
def refused(tmp_path):
    """A function that returns the lines of the message that the runs under `tmp_path` are refused with."""

    def refused():
        with pytest.raises(RecordError) as caught:
            read_runs([tmp_path])
        return str(caught.value).splitlines()

    return refused


@pytest.fixture
def tamper(make_record, save):
    """A function that saves a run whose record has one value replaced, at a path of keys."""

    def tamper(*keys, value, name="run", **changes):
        run = save(make_record(**changes), name)
        plain = json.loads((run.path / RECORD).read_text())
        part = plain
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (run.path / RECORD).write_text(json.dumps(plain))
        return run.path / RECORD

    return tamper


def test_runs_are_read_from_nested_directories_each_once(tmp_path, make_record, save):
    for seed, name in enumerate(["study/b/1", "study/a", "c"]):
        save(make_record(seed=seed), name)
    runs = read_runs([tmp_path / "study", tmp_path, tmp_path / "c", tmp_path / "study" / ".." / "c"])
    assert [run.path.relative_to(tmp_path).as_posix() for run in runs] == ["study/a", "study/b/1", "c"]
    assert [run.record.identity.seed for run in runs] == [1, 0, 2]


def test_a_run_is_read_by_a_link_to_it_only_once(tmp_path, make_record, save):
    run = save(make_record(), "runs/one")
    (tmp_path / "runs" / "two").symlink_to(run.path, target_is_directory=True)
    assert len(read_runs([tmp_path / "runs" / "one", tmp_path / "runs" / "two"])) == 1


def test_a_place_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"nowhere: no such directory$"):
        read_runs([tmp_path / "nowhere"])


def test_a_place_without_records_says_what_to_give(tmp_path):
    with pytest.raises(RecordError, match=r"holds no record.json; give a run's directory, or one that holds runs$"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"format": 1, "status": "fini', "the file"),
        ('{"hello": "world"}', "status"),
        ("[1, 2]", "the file"),
        ("", "the file"),
        ("\x00\x01", "the file"),
    ],
)
def test_a_file_that_is_no_record_is_named_with_the_place(tmp_path, make_record, save, refused, text, place):
    path = save(make_record(), "run").path / RECORD
    path.write_text(text)
    (line,) = refused()
    assert line.startswith(f"{path}: not a record of format 1 ({place}: ")
    assert line.endswith("); it was altered, or another version wrote it")


def test_a_record_of_a_newer_version_asks_for_an_upgrade(tamper, refused):
    path = tamper("format", value=2)
    assert refused() == [
        f"{path}: a record of format 2, and this version reads format 1; a newer version wrote it, so upgrade "
        "finetune-schedules"
    ]


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("identity", "seed"), 3, "the seed, 3 in one place and 0 in another"),
        (("recipe", "training", "seed"), 3, "the seed, 0 in one place and 3 in another"),
        (("results",), None, "whether it finished, True in one place and False in another"),
        (("status",), "diverged", "whether it finished, False in one place and True in another"),
        (
            ("identity", "data", "test", "count"),
            999,
            "the number of test examples, 1000 in one place and 999 in another",
        ),
        (("results", "splits", "validation", "count"), 1, "the number of validation examples, 1 in one place and 1000"),
        (
            ("results", "splits", "validation", "metrics", "accuracy", "value"),
            0.99,
            "the validation accuracy, 0.99 in one place and 0.85 in another",
        ),
        (("results", "best", "validation", "accuracy"), 0.99, "the validation accuracy, 0.85 in one place and 0.99"),
        (("recipe", "evaluation", "select"), "f1_macro", "the metric that chose, accuracy in one place and f1_macro"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(tamper, refused, keys, value, problem):
    path = tamper(*keys, value=value)
    (line,) = refused()
    assert line.startswith(f"{path}: contradicts itself on {problem}")
    assert line.endswith("; it was altered, so run again")


@pytest.mark.parametrize(
    ("keys", "value", "missing"),
    [
        (("recipe",), {}, "recipe.optimizer.name"),
        (("recipe", "training"), 5, "recipe.training.seed"),
        (("recipe", "evaluation"), {}, "recipe.evaluation.select"),
        (("recipe", "schedule"), None, "recipe.schedule.name"),
        (("recipe", "training", "batch_size"), [32], "recipe.training.batch_size"),
        (("identity", "data"), {}, "identity.data.train"),
        (("schedule", "settings"), {}, "schedule.settings.name"),
        (("schedule", "settings", "name"), {}, "schedule.settings.name"),
        (("schedule", "groups"), [], "schedule.groups"),
        (("schedule", "groups", 0, "peak"), 0.0, "schedule.groups"),
        (("results", "splits", "validation", "metrics"), {}, "results.splits.validation.metrics.accuracy"),
        (("results", "splits", "test", "metrics"), {}, "results.splits.test.metrics.accuracy"),
        (("results", "best", "validation"), {}, "results.best.validation.accuracy"),
    ],
)
def test_a_record_without_what_is_compared_is_refused(tamper, refused, keys, value, missing):
    path = tamper(*keys, value=value)
    (line,) = refused()
    assert line.startswith(f"{path}: has no {missing}")
    assert line.endswith("; it was altered, so run again")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e101])
def test_a_score_that_no_run_can_have_is_refused(tamper, refused, value):
    tamper("results", "splits", "test", "metrics", "accuracy", "value", value=value)
    (line,) = refused()
    assert "not a record of format 1 (results.splits.test.metrics.accuracy.value: " in line


def test_several_problems_are_told_at_once(tamper, make_record, save, refused):
    save(make_record(), "fine")
    paths = [tamper("format", value=2, name="b"), tamper("identity", "seed", value=3, name="a")]
    assert [line.split(": ")[0] for line in refused()] == sorted(map(str, paths))


def test_of_many_problems_ten_are_told_and_the_others_counted(tamper, refused):
    for number in range(13):
        tamper("format", value=2, name=f"run{number}")
    lines = refused()
    assert len(lines) == 11
    assert lines[-1] == "… and 3 more"


def test_ten_problems_are_all_told(tamper, refused):
    for number in range(10):
        tamper("format", value=2, name=f"run{number}")
    assert len(refused()) == 10


def test_evaluations_are_read_in_their_order_without_the_updates(make_record, save):
    points = save(make_record(), evaluations=[(10, 1.5, 0.5), (20, 3.0, None)]).evaluations
    assert [(point.step, point.epoch, point.seconds) for point in points] == [(10, 0.1, 1.5), (20, 0.2, 3.0)]
    assert [point.values["accuracy"] for point in points] == [0.5, None]


def test_a_last_evaluation_cut_short_by_a_crash_is_left_out(make_record, save):
    run = save(make_record(), evaluations=[(10, 1.0, 0.5), (20, 2.0, 0.6)])
    path = run.path / HISTORY
    path.write_text(path.read_text()[:-5])
    assert [point.step for point in run.evaluations] == [10]


@pytest.mark.parametrize(
    "line",
    [
        '{"evaluation": ',
        '{"evaluation": {"accuracy": 0.5}}',
        '{"step": "ten", "epoch": 1.0, "seconds": 1.0, "evaluation": {"accuracy": 0.5}}',
        '{"step": 10, "epoch": 1.0, "seconds": null, "evaluation": {"accuracy": 0.5}}',
        '{"step": 10, "epoch": 1.0, "seconds": 1.0, "evaluation": {"accuracy": "high"}}',
        '{"step": 10, "epoch": 1.0, "seconds": 1.0, "evaluation": 0.5}',
        '["evaluation"]',
        '{"step": 1e400, "epoch": 1.0, "seconds": 1.0, "evaluation": {}}',
        f'{{"step": {10**400}, "epoch": 1.0, "seconds": 1.0, "evaluation": {{}}}}',
        '{"step": 10, "epoch": 1.0, "seconds": 1.0, "evaluation": {"accuracy": NaN}}',
        '{"evaluation": ' + "[" * 100_000,
    ],
)
def test_an_altered_line_of_a_history_is_refused(make_record, save, line):
    run = save(make_record(), evaluations=[(10, 1.0, 0.5)])
    with (run.path / HISTORY).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(RecordError) as caught:
        _ = run.evaluations
    assert str(caught.value) == f"{run.path / HISTORY}: a line isn't one of a history; it was altered, so run again"


def test_a_history_that_is_no_text_is_refused(make_record, save):
    run = save(make_record())
    (run.path / HISTORY).write_bytes(b'\xff\xfe"evaluation"\n')
    with pytest.raises(RecordError, match="a line isn't one of a history"):
        _ = run.evaluations


RIGHT = [True] * 850 + [False] * 150  # what the record says: 0.85 of 1,000


def test_what_was_right_is_read_from_the_predictions(make_record, save):
    assert save(make_record(), right=RIGHT).example_scores("test").tolist() == RIGHT


def test_without_predictions_nothing_is_known_of_single_examples(make_record, save):
    assert save(make_record()).example_scores("test") is None


def test_predictions_without_labels_tell_nothing(make_record, save):
    run = save(make_record(), right=RIGHT)
    parquet.write_table(pyarrow.table({"prediction": ["positive"]}), run.path / PREDICTIONS / "test.parquet")
    assert run.example_scores("test") is None


@pytest.mark.parametrize(
    ("right", "found"),
    [
        ([*RIGHT[1:], False], "0.849000 of 1,000 predictions are right, and the record says 0.850000 of 1,000"),
        (RIGHT * 2, "0.850000 of 2,000 predictions are right, and the record says 0.850000 of 1,000"),
    ],
)
def test_predictions_that_contradict_the_record_are_refused(make_record, save, right, found):
    run = save(make_record(), right=right)
    with pytest.raises(RecordError) as caught:
        run.example_scores("test")
    path = run.path / PREDICTIONS / "test.parquet"
    assert str(caught.value) == f"{path}: {found}; one of them was altered, so run again"


@pytest.mark.parametrize("keep", [0, 100, -4])
def test_predictions_cut_short_are_refused(make_record, save, keep):
    run = save(make_record(), right=RIGHT)
    path = run.path / PREDICTIONS / "test.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordError) as caught:
        run.example_scores("test")
    assert str(caught.value).startswith(f"{path}: can't be read as predictions: ")
    assert "\n" not in str(caught.value)


def test_labels_and_predictions_that_can_not_be_equal_are_refused(make_record, save):
    run = save(make_record(), right=RIGHT)
    path = run.path / PREDICTIONS / "test.parquet"
    parquet.write_table(pyarrow.table({"label": ["positive"], "prediction": [[1]]}), path)
    with pytest.raises(RecordError, match="can't be read as predictions"):
        run.example_scores("test")
