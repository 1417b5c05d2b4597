"""A recipe from its file: complete and frozen, or every problem at once with its line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune.errors import RecipeError
from finetune.optimizers import AdamW
from finetune.recipe import is_study, load_recipe, load_study
from finetune.recipe.study import for_tuning
from finetune.schedules import SCHEDULES, Cosine, Step

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_its_header_gives_its_command(path):
    name, command = (
        (load_study(path).name, "finetune study") if is_study(path) else (load_recipe(path).name, "finetune/run.py")
    )
    assert name == path.stem
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("Run:" in line and f"{command} recipes/{path.name}" in line for line in header)


def test_the_defaults(load):
    recipe = load()
    assert recipe.name == "recipe"
    assert recipe.schedule == Cosine()
    assert recipe.optimizer == AdamW(learning_rate=2e-5)
    assert (recipe.training.duration, recipe.training.batch_size, recipe.training.precision) == ("3ep", 32, "auto")
    assert (recipe.evaluation.metrics, recipe.evaluation.select, recipe.evaluation.keep) == (
        ("accuracy",),
        "accuracy",
        "best",
    )
    assert (recipe.checkpoints.every, recipe.output) == ("1ep", "runs")


def test_a_recipe_is_frozen(load):
    with pytest.raises(ValidationError):
        load().training.seed = 3


def test_short_forms(write, complete):
    recipe = load_recipe(write(complete.replace("{path: a-model}", "org/name") + "schedule: step\n"))
    assert (recipe.model.hub, recipe.model.path, recipe.schedule) == ("org/name", None, Step())


def test_a_schedule_without_a_name_is_the_cosine(load):
    assert load("schedule: {warmup: 5}").schedule == load("", "schedule.warmup=5").schedule == Cosine(warmup=5)


def test_numbers_may_be_whole_where_fractions_are_meant(load):
    assert load("schedule: {name: cosine, floor: 0}").schedule.floor == 0


def test_a_list_is_a_pair_of_betas(load):
    assert load("", "optimizer.betas=[0.8, 0.95]").optimizer.betas == (0.8, 0.95)


def test_input_paths_are_relative_to_the_recipe_and_output_to_the_caller(load, tmp_path):
    recipe = load()
    assert recipe.model.path == tmp_path / "a-model"
    assert recipe.data.files["train"] == (tmp_path / "train.csv",)
    assert recipe.output == "runs"


def test_input_paths_in_overrides_are_relative_to_the_caller(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    recipe = load("", "data.files.train=[one.csv, ../two.csv]", "model.path=~/m")
    assert recipe.data.files["train"] == (tmp_path.parent / "one.csv", tmp_path.parent.parent / "two.csv")
    assert recipe.model.path == Path("~/m").expanduser()


ALL_AT_ONCE = """\
    task: text_classification
    model: a/b
    model: c/d
    data: {hub: x, splts: {train: a}}
    schedule:
      name: cosin
    optimizer:
      name: adamw
      learning_rat: 1e-4
    training:
      duration: 10%
      batch_size: 32.0
      num_train_epochs: 3
      seed: "1"
    evaluation:
      every: 0.5
      metrics: [acuracy]
    per_device_train_batch_size: 8
    """


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines(problems):
    lines = problems(ALL_AT_ONCE)
    assert [line.split(": ")[:2] for line in lines] == [
        ["3", "model"],
        ["4", "data.splts"],
        ["6", "schedule.name"],
        ["7", "optimizer.learning_rate"],
        ["9", "optimizer.learning_rat"],
        ["11", "training.duration"],
        ["12", "training.batch_size"],
        ["13", "training.num_train_epochs"],
        ["14", "training.seed"],
        ["16", "evaluation.every"],
        ["17", "evaluation.metrics.0"],
        ["18", "per_device_train_batch_size"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schedule: cosin", f'5: schedule.name: "cosin" is not one of {", ".join(SCHEDULES)} (did you mean cosine?)'),
        ("schedule: {name: step, gama: 0.5}", "5: schedule.gama: unknown key (did you mean gamma?)"),
        ("schedule: {name: cosine, warmup: 0.1}", '5: schedule.warmup: 0.1 has no unit, and updates are whole: did you mean "10%"?'),
        ("schedule: {name: cosine, floor: 2}", "5: schedule.floor: 2 must be a number from 0 to 1"),
        ("schedule: [cosine]", "5: schedule: ['cosine'] is not a schedule: give a name or a block of settings"),
        ("training: {batch_size: -1}", "5: training.batch_size: -1 must be greater than 0"),
        ("training: {batch_size: yes}", '5: training.batch_size: "yes" is not a whole number'),
        ('training: {batch_size: "32"}', '5: training.batch_size: "32" is not a whole number; a quoted number is text, so leave the quotes out'),
        ("training: {batch_size: 8, micro_batch_size: 16}", "5: training.micro_batch_size: 16 is more than batch_size, 8"),
        ("training: {gradient_clipping: .inf}", "5: training.gradient_clipping: Infinity must be a finite number"),
        ("training: {precision: bf15}", '5: training.precision: "bf15" is not one of auto, fp32, bf16, fp16 (did you mean bf16?)'),
        ("training: {seed: true}", "5: training.seed: true is not a whole number"),
        ("training: {seed: null}", "5: training.seed: null is not a whole number"),
        ("training: 3", "5: training: 3 is not a block of settings"),
        ("tracking: [tensorbord]", '5: tracking.0: "tensorbord" is not one of tensorboard, trackio, mlflow, wandb (did you mean tensorboard?)'),
        ("tracking: wandb", '5: tracking: "wandb" is not a list; write [wandb]'),
        ("tracking: [wandb, mlflow, wandb]", "5: tracking: wandb, mlflow, wandb names one twice"),
        ("report_to: [wandb]", "5: report_to: unknown key; here it is tracking: [tensorboard], or trackio, mlflow, wandb"),
        ("evaluation: {metrics: []}", "5: evaluation.metrics: names none: give one, or leave metrics out for the task's own"),
        ("evaluation: {metrics: [accuracy, accuracy]}", "5: evaluation.metrics: accuracy, accuracy names one twice"),
        ("evaluation: {select: f1_macro}", '5: evaluation.select: "f1_macro" is none of evaluation.metrics: accuracy'),
        ("evaluation: {every: 0}", "5: evaluation.every: 0 is no interval: give 1 update or more, or null for none in between"),
        ("name: a/b", '5: name: "a/b" must be letters, digits, and . _ + - after the first'),
        ("output: 3", "5: output: 3 is not text"),
        ("lr_scheduler_type: cosine", "5: lr_scheduler_type: unknown key; here it is schedule.name"),
        ("warmup_ratio: 0.1", '5: warmup_ratio: unknown key; here it is schedule.warmup: "10%"'),
        ("num_train_epochs: 3", "5: num_train_epochs: unknown key; here it is training.duration: 3ep"),
        ("evaluation_strategy: epoch", "5: evaluation_strategy: unknown key; here it is evaluation.every: 1ep, 200 or null"),
        ("sequence_len: 128", "5: sequence_len: unknown key; here it is task.max_length"),
        ("cutoff_len: 128", "5: cutoff_len: unknown key; here it is task.max_length"),
        ("trainning: {seed: 1}", "5: trainning: unknown key (did you mean training?)"),
    ],
)  # fmt: skip
def test_one_problem_in_a_complete_recipe(problems, complete, text, expected):
    assert problems(f"{complete}{text}\n") == [expected]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("model: {path: a-model}", ""), "model: required, and missing"),
        (("path: a-model", "path: a-model, hub: x/y"), "2: model: give one of hub (a repository) and path (a folder)"),
        (("path: a-model", "path: a-model, revision: x"), "2: model.revision: goes with hub; a folder has none"),
        (("validation: validation.csv", ""), "3: data.files.validation: required, and missing"),
        (("validation: v", "valid: v"), "3: data.files.valid"),
        (("{files: {train: train.csv, validation: validation.csv}}", "{}"), "3: data.hub: required, and missing"),
        (("train: train.csv", "train: []"), "3: data.files.train: names no file"),
        (("train: train.csv", "train: 3"), "3: data.files.train.0: 3 is not text"),
        (("learning_rate: 2e-5", "learning_rate: -1"), "4: optimizer.learning_rate: -1 must be above 0, and finite"),
        (("learning_rate: 2e-5", "learning_rate: 2e-5, nesterov: true"), "4: optimizer.nesterov: unknown key"),
        (("name: adamw, ", ""), "4: optimizer.name: required, and missing; one of adamw, adam, sgd"),
    ],
)
def test_one_thing_wrong_with_what_is_required(problems, complete, change, expected):
    lines = problems(complete.replace(*change))
    assert any(line.startswith(expected) for line in lines), lines


def test_a_whole_pasted_configuration_gets_our_name_for_every_key(problems):
    lines = problems(
        """\
        learning_rate: 2e-5
        num_train_epochs: 3
        per_device_train_batch_size: 16
        gradient_accumulation_steps: 2
        warmup_ratio: 0.1
        lr_scheduler_type: cosine
        weight_decay: 0.01
        bf16: true
        output_dir: out
        """
    )
    hinted = [line for line in lines if "unknown key; here it is" in line]
    assert [line.partition(":")[0] for line in hinted] == [str(number) for number in range(1, 10)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; a recipe is a mapping of keys to values"),
        (b"- a\n- b\n", "not a mapping; a recipe is a mapping of keys to values"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"a: [1\n", "not YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, content, message):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_missing_file_is_named_with_the_nearest(tmp_path, write, complete):
    write(complete, "bert_sst2.yaml")
    with pytest.raises(RecipeError, match=r"bert_sst.yaml: no such file \(did you mean bert_sst2.yaml\?\)"):
        load_recipe(tmp_path / "bert_sst.yaml")


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="can't be read: Is a directory"):
        load_recipe(tmp_path)


PLAIN = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"], blacklist_characters="\ufeff"), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    label=PLAIN,
    text_pair=st.none() | PLAIN,
    revision=st.sampled_from([None, "main", "v1.0", "refs/pr/1", "0123456", "null"]),
    rate=st.floats(min_value=1e-12, max_value=10),
    schedule=st.sampled_from([name for name in SCHEDULES if hasattr(SCHEDULES[name], "floor")]),
    floor=st.floats(min_value=0, max_value=1),
    duration=st.sampled_from(["3ep", "200", 200, "0.5ep"]),
)
def test_a_recipe_reads_back_equal(write, complete, label, text_pair, revision, rate, schedule, floor, duration):
    recipe = load_recipe(write(complete))
    changed = recipe.model_copy(
        update={
            "task": type(recipe.task)(label=label, text_pair=text_pair),
            "model": type(recipe.model)(hub="org/name", revision=revision),
            "schedule": SCHEDULES[schedule](floor=floor),
            "optimizer": AdamW(learning_rate=rate),
            "training": recipe.training.model_copy(update={"duration": duration}),
        }
    )
    assert load_recipe(write(changed.to_yaml(), "again.yaml")) == changed.model_copy(update={"name": "recipe"})


def test_differences_are_named_by_their_keys(load):
    assert load().differences(load("", "schedule=step", "training.seed=1")) == {
        "schedule.name": ("cosine", "step"),
        "training.seed": (0, 1),
        "schedule.gamma": (None, 0.1),
        "schedule.every": (None, "30%"),
    }
    assert load().differences(load()) == {}


@pytest.mark.parametrize("duration", ["64k samples", "2M tokens"])
def test_a_run_may_be_as_long_as_so_many_samples_or_tokens(load, duration):
    assert load("", f"training.duration={duration}").training.duration == duration


FOLDERS = "data: {folders: {train: train, validation: ../validation}}"


def test_folders_of_images_are_seen_from_the_folder_of_the_recipe(write, complete, tmp_path):
    text = complete.replace("data: {files: {train: train.csv, validation: validation.csv}}", FOLDERS)
    recipe = load_recipe(write(text))
    assert recipe.data.folders == {"train": tmp_path / "train", "validation": tmp_path.parent / "validation"}
    assert load_recipe(write(recipe.to_yaml(), "again.yaml")).data == recipe.data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("{folders: {train: t}}", "3: data.folders.validation: required, and missing"),
        ("{folders: {train: t, validation: 3}}", "3: data.folders.validation: 3 is not text"),
        (
            "{folders: {train: t, validation: v, dev: d}}",
            '3: data.folders.dev: "dev" is not one of train, validation, test',
        ),
        ("{folders: {train: t, validation: v}, split: x}", "3: data.split: unknown key; it can be examples, folders"),
    ],
)
def test_problems_of_folders_are_told(problems, complete, data, expected):
    text = complete.replace("data: {files: {train: train.csv, validation: validation.csv}}", f"data: {data}")
    assert problems(text)[0].startswith(expected)


def test_data_in_folders_takes_the_place_of_data_in_files(write, complete, tmp_path):
    write(complete, "base.yaml")
    recipe = load_recipe(write(f"base: base.yaml\n{FOLDERS}\n"))
    assert recipe.data.folders["train"] == tmp_path / "train"
    tuning = for_tuning(recipe.model_copy(update={"data": recipe.data.model_copy(update={"examples": {"test": 3}})}))
    assert tuning.data.folders == recipe.data.folders
    assert tuning.data.examples == {}
