"""What new users met on ten walks: a messy table, habits from other toolkits, plugins with bugs, full disks, no network."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
from rich.console import Console

from finetune.data import load_hub, read_file
from finetune.errors import DataError, ModelError, RunStopped, SettingError, counted, did_you_mean_path
from finetune.schedules import SCHEDULES, Schedule, Warmed, register_schedule
from finetune.schedules.foreign import MOST_TRIED
from finetune.study.progress import StudyProgress
from finetune.tasks.cautions import find_cautions
from finetune.tasks.labelled_texts import LabelledTexts
from finetune.tasks.pretrained import Pretrained, load_tokenizer
from tests import tiny


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """The current directory, with train.csv in it."""
    monkeypatch.chdir(tmp_path)
    tiny.write_reviews(tmp_path)
    return tmp_path


# A newcomer's table


@pytest.mark.parametrize("sign", [";", "\t", ","])
def test_a_csv_is_read_by_the_sign_that_its_heading_has(tmp_path, sign):
    path = tmp_path / "rows.csv"
    path.write_text(f"\ufefftext{sign}label\nso; so{sign}a\n".replace("so; so", '"so; so, so"'), encoding="utf-8")
    rows = read_file(path)
    assert {name: list(rows.column(name)) for name in rows.columns} == {"text": ["so; so, so"], "label": ["a"]}


def test_classes_that_differ_in_spaces_are_told_of_by_new_already(finetune, reviews, tiny_model):
    table = (reviews / "train.csv").read_text(encoding="utf-8").replace("positive\n", "Positive \n", 20)
    (reviews / "train.csv").write_text(table, encoding="utf-8")
    code, out, _ = finetune("new", "mine.yaml", "--data", "train.csv", "--model", tiny_model)
    assert code == 0
    assert "caution: the classes 'Positive ', positive differ in case or spaces alone\n" in out
    assert "\nmine_data/train.parquet: written\n" in out


def test_new_names_a_row_as_it_is_in_the_file(finetune, reviews, tiny_model):
    lines = (reviews / "train.csv").read_text(encoding="utf-8").splitlines()
    lines[150] = "149,a film,"
    (reviews / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    code, _, err = finetune("new", "mine.yaml", "--data", "train.csv", "--model", tiny_model)
    assert (code, err) == (2, 'finetune: column "label" of train.csv is empty in row 150: fill or remove it\n')


def test_where_new_can_not_write_nothing_is_left(finetune, reviews, tiny_model):
    (reviews / "mine_data").write_text("in the way")
    code, _, err = finetune("new", "mine.yaml", "--data", "train.csv", "--model", tiny_model)
    assert (code, err.count("\n")) == (2, 1)
    assert "mine.yaml: can't be written: " in err
    assert not (reviews / "mine.yaml").exists()
    assert (reviews / "mine_data").read_text() == "in the way"


@pytest.mark.parametrize(
    ("classes", "is_told"), [(["-1", "0", "1"], True), (["-1", "1"], False), (["-1", "0", "good"], False)]
)
def test_a_class_that_may_stand_for_no_label(classes, is_told):
    texts = LabelledTexts(["one", "two", "three"], None, list(range(len(classes)))[:3] + [0] * (3 - len(classes)))
    assert any("-1 often stands for no label" in line for line in find_cautions({"train": texts}, classes)) == is_told


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_metric_of_two_classes_is_refused_of_three_before_a_model_is_loaded(
    finetune, small_recipe, monkeypatch, command
):
    monkeypatch.chdir(small_recipe.parent)
    table = Path("train.csv").read_text(encoding="utf-8").replace("positive\n", "mixed\n", 20)
    Path("train.csv").write_text(table, encoding="utf-8")
    monkeypatch.setattr("finetune.tasks.pretrained.load_model", lambda *_, **__: pytest.fail("a model is loaded"))
    code, out, err = finetune(command, small_recipe, "evaluation.metrics=[f1]", "evaluation.select=f1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith('finetune: evaluation.metrics: "f1" is of two classes, and there are 3: mixed, negative')


# Habits from other toolkits


def problems_of(finetune, folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return finetune("check", path)[2].splitlines()[1:]


def test_the_keys_of_a_recipe_are_listed_once(finetune, tmp_path):
    lines = problems_of(finetune, tmp_path, "model: {path: a}\nstage: sft\nddp_timeout: 1\nlora_rank: 8\n")
    unknown = [line.strip() for line in lines if "unknown key" in line]
    assert [line.partition("; it can be ")[0] for line in unknown] == [
        "2: stage: unknown key",
        "3: ddp_timeout: unknown key",
        "4: lora_rank: unknown key; here it is adapter.rank",
    ]
    assert ["; it can be name, task, model" in line for line in unknown] == [True, False, False]


def test_what_is_written_under_another_name_is_not_missing_too(finetune, tmp_path):
    text = "model_name_or_path: a\ntrain_file: a.csv\nlearning_rate: 1e-4\n"
    assert len(problems_of(finetune, tmp_path, text)) == 3
    lines = problems_of(finetune, tmp_path, "model: {path: a}\ndata: {train: a.csv}\nweight_decay: 0.1\n")
    assert [line.strip() for line in lines] == [
        "optimizer: required, and missing",
        "2: data.train: unknown key; here it is data.files.train, or of a data set on the Hub data.splits.train",
        "3: weight_decay: unknown key; here it is optimizer.weight_decay",
    ]


def test_text_in_place_of_a_list_is_shown_as_one(finetune, small_recipe):
    err = finetune("check", small_recipe, "evaluation.metrics=accuracy,f1")[2]
    assert '"accuracy,f1" is not a list; write [accuracy, f1]' in err


def test_a_tab_is_called_one(finetune, tmp_path):
    (line,) = problems_of(finetune, tmp_path, "task:\n\tname: text_classification\n")
    assert line.strip() == "2: not YAML: a tab, where YAML is set in by spaces: put spaces in its place"


def test_a_metric_that_ranks_and_is_misspelt(finetune, small_recipe):
    err = finetune("check", small_recipe, "evaluation.select=acuracy")[2]
    assert '"acuracy" is none of evaluation.metrics: accuracy, f1_macro (did you mean accuracy?)' in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "small"], "small: no such file, nor a recipe that comes with the package (did you mean small.yaml?)"),
        (["run", "small.yaml", "--training.batch_size=8"], "a setting is given as training.batch_size=VALUE, without"),
        (["check", "small.yaml", "model.path=tinny"], "no such folder (model.path) (did you mean tinny_?); for a"),
        (["check", "small.yaml", "data.files.train=trains.csv"], "trains.csv: no such file (did you mean train.csv?)"),
        (["study", "small.yaml", "--engine", "rey"], '--engine: "rey" is not one of local, ray (did you mean ray?)'),
        (["study", "small.yaml", "--cpus", "2"], "--cpus: goes with --engine ray"),
        (["study", "small.yaml", "--share", "3/2"], '--share: "3/2" is not K/N'),
        (["lr-find", "small.yaml", "--updates", "3"], "--updates: 3 are too few"),
        (["lr-find", "small.yaml", "--least", "2", "--most", "1"], "--least: 2 must be below most"),
        (["compare", "smal.yaml"], "smal.yaml: no such directory (did you mean small.yaml?)"),
        (["compare", "small.yaml"], "small.yaml: is a file; give a run's directory, or one that holds runs"),
        (["predict", "small.yaml", "x.csv"], "small.yaml: is a file; give the directory of a run\n"),
        (["cooldown"], "missing argument RUN"),
    ],
)
def test_a_mistake_is_named_as_it_was_typed(finetune, small_recipe, monkeypatch, arguments, message):
    monkeypatch.chdir(small_recipe.parent)
    Path("tinny_").mkdir()
    if arguments[0] == "study":
        arguments = [*arguments, "study={grid: {schedule: [cosine, linear], training.seed: [0, 1]}}"]
    code, out, err = finetune(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_path_without_a_folder_is_like_no_other(tmp_path):
    assert did_you_mean_path(tmp_path / "absent" / "train.csv") == ""


# A study that is interrupted, and its words


def test_a_study_says_once_how_it_goes_on_and_no_time_that_it_does_not_know():
    out = io.StringIO()
    study = SimpleNamespace(name="s", settings=[1], seeds=[0], count=2, block=SimpleNamespace(tuning=None), rungs=())
    job = SimpleNamespace(role="final", label="cosine")
    stopped = RunStopped("SIGINT", 3)
    progress = StudyProgress(study, Console(file=out, width=100))
    progress.__enter__()
    progress.show(SimpleNamespace(found=True, job=job, status="finished", score=0.5, seconds=1.0, problem=None))
    progress.__exit__(RunStopped, stopped, None)
    assert out.getvalue().splitlines() == [
        "s: 1 setting on 1 seed: 2 runs",
        "  1/2  final   cosine: 0.5000  (recorded before)",
        "  interrupted: 1 of 2 runs recorded",
    ]
    assert "the same command goes on from there" in str(stopped)


@pytest.mark.parametrize(("count", "words"), [(0, "0 runs"), (1, "1 run"), (1200, "1,200 runs")])
def test_things_are_counted_in_words(count, words):
    assert counted(count, "run") == words


@pytest.mark.slow
def test_a_batch_is_not_said_to_be_more_than_it_is(train):
    out = io.StringIO()
    train(
        "training.batch_size=7", "training.micro_batch_size=3", "training.duration=1", "evaluation.every=null", out=out
    )
    assert "7 = 1 process × 3 accumulated × up to 3\n" in out.getvalue()


# Plugins with bugs


@pytest.fixture
def foreign():
    """A function that registers a schedule of a test's own, until the test ends; returns it with its defaults."""
    before = dict(SCHEDULES)

    def make(what):
        register_schedule("foreign")(what)
        return SCHEDULES["foreign"]()

    yield make
    SCHEDULES.clear()
    SCHEDULES.update(before)


@pytest.mark.parametrize(
    ("fall", "message"),
    [
        (lambda progress: float("nan"), "gives nan at update 0 of 10, not a finite number from 0 up"),
        (lambda progress: 1 - 2 * progress, r"gives -0\.19.* at update 6 of 10, not a finite number from 0 up"),
        (lambda progress: 1 / (progress - 0.5), "gives -2.0 at update 0 of 10, not a finite number from 0 up"),
        (
            lambda progress: abs(1 / (progress - 0.5)),
            r"fails at update 5 of 10: ZeroDivisionError: .* \(test_walks.py, li",
        ),
        (lambda progress: None, "fails at update 0 of 10: TypeError: "),
        (lambda: 1.0, "fails at update 0 of 10: TypeError: .* takes 0 positional arguments but 1 was given"),
    ],
)
def test_a_faulty_schedule_of_ones_own_is_refused_before_it_is_used(foreign, fall, message):
    with pytest.raises(SettingError, match=message):
        foreign(fall).resolve(total_steps=10)


def test_a_faulty_class_is_refused_as_well(foreign):
    class Sinking(Warmed):
        def _decay(self, span):
            return lambda step: -1.0

    with pytest.raises(SettingError, match=r"gives -1\.0 at update 0 of 20000"):
        foreign(Sinking).resolve(total_steps=10 * MOST_TRIED)


def test_rounding_below_zero_is_no_fault(foreign):
    schedule: Schedule = foreign(lambda progress: 1 - progress - 1e-17)
    assert schedule.resolve(total_steps=10)(10) == pytest.approx(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(3)", "mine.py failed: SystemExit: 3 (mine.py, line 2)"),
        ("import finetunes", "mine.py failed: ModuleNotFoundError: No module named 'finetunes' (mine.py, line 1)"),
        (
            "from finetune import register_schedule\nregister_schedule('mine')(lambda progress, power: progress)",
            "mine.py failed: register_schedule: mine: power must be keyword-only and have a default",
        ),
        (
            "from finetune import register_schedule\nregister_schedule('walked')(lambda progress: progres)",
            "schedule: fails at update 0 of 26: NameError: name 'progres' is not defined (mine.py, line 2)",
        ),
    ],
)
def test_a_plugin_that_fails_is_one_message_with_its_line(finetune, small_recipe, monkeypatch, text, message):
    monkeypatch.chdir(small_recipe.parent)
    Path("mine.py").write_text(text, encoding="utf-8")
    code, out, err = finetune("check", small_recipe, "plugins=[mine.py]", "schedule=walked", "--allow-plugins")
    SCHEDULES.pop("walked", None)
    assert (code, out) == (2, "")
    assert message in err


# Predictions


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["heading.csv"], "heading.csv: no rows\n"),
        (
            ["one.csv", "other.csv"],
            "other.csv: its columns are text; those of one.csv are sentence: the files must agree",
        ),
        (["on.csv"], "on.csv: no such file (did you mean one.csv?)"),
    ],
)
def test_files_to_predict_are_called_by_their_names(finetune, finished_run, tmp_path, monkeypatch, files, message):
    monkeypatch.chdir(tmp_path)
    for name, text in {"heading": "sentence\n", "one": "sentence\na\n", "other": "text\na\n"}.items():
        Path(f"{name}.csv").write_text(text)
    code, out, err = finetune("predict", finished_run, *files)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_the_folder_of_a_run_s_model_leads_to_the_run(finetune, finished_run):
    code, _, err = finetune("predict", finished_run / "model", "x.csv")
    assert (code, err) == (
        2,
        f"finetune: {finished_run / 'model'}: is the model of a run; give the run's own directory, {finished_run}\n",
    )


# No network, no room


@pytest.fixture
def without_network(monkeypatch):
    """A machine that may reach the Hub, and finds no host by its name."""

    def unknown(host, *_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr("finetune.data.hub_access.getproxies", dict)
    for switch in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(switch, "HF_HUB_OFFLINE", False)
    return lambda: (huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: load_tokenizer(Pretrained("org/absent"), max_length=8), ModelError),
        (lambda: load_hub("org/absent", configuration=None, revision=None, splits={"train": "train"}), DataError),
    ],
)
def test_without_a_network_the_cache_is_asked_at_once(without_network, capfd, ask, error):
    with pytest.raises(
        error, match=r"in the local cache, and the Hub can't be reached, as huggingface\.co isn't found"
    ):
        ask()
    assert without_network() == (False, False)  # for the next try
    assert "Retrying" not in "".join(capfd.readouterr())


def cli(arguments, stdout):
    script = f"from finetune.cli import main; main({arguments!r})"
    return subprocess.run(
        [sys.executable, "-c", script], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_for_which_there_is_no_room_is_one_message():
    with Path("/dev/full").open("w") as full:
        done = cli(["schema"], full)
    assert (done.returncode, done.stderr) == (
        1,
        "finetune: standard output: can't be written: No space left on device\n",
    )


def test_a_reader_who_has_enough_is_not_told_of_it():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = cli(["schedules", "list"], writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
