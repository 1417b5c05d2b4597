"""`finetune check`: what it says comes true in the run, and it needs neither torch nor the model to say it."""

import json
import shutil
import subprocess
import sys

import pytest

from finetune.recipe import load_recipe
from finetune.training.preview import preview_run
from finetune.training.trainer import ScheduledTrainer

HEAVY = ("torch", "transformers", "datasets", "accelerate", "evaluate", "sklearn")
STUDY = """
base: small.yaml
study:
  grid:
    schedule: [cosine, linear]
    training.duration: [1ep, 2ep]
    data.examples.train: [100, 200]
    training.seed: [0, 1, 2]
  tuning: {factors: [0.3, 1], seeds: [7]}
"""

QUARTERS = {7: 2, 14: 4, 13: 4, 26: 7}
"""Updates of the study's settings, and of a quarter of them."""


@pytest.fixture
def checked(check):
    """As `check`, for what is fine, as JSON."""

    def checked(*arguments, **keywords):
        code, out, err = check("--json", *arguments, **keywords)
        assert (code, err) == (0, "")
        return json.loads(out)

    return checked


@pytest.fixture
def study(small_recipe):
    path = small_recipe.parent / "a_study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def reviews(path, texts, label="positive"):
    path.write_text("".join(json.dumps({"sentence": text, "label": label}) + "\n" for text in texts))


def loaded_by_check(recipe, arguments, libraries):
    code = (
        "import sys\nfrom finetune.cli import main\n"
        f"try: main(['check', {str(recipe)!r}, *{arguments!r}])\n"
        f"except SystemExit: print(sorted(set({libraries!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--json",), ("training.batch_size=0",), ("layers.rate_decay=0.9",)],
    ids=["words", "json", "refused", "layers"],
)
def test_it_loads_no_heavy_library(small_recipe, arguments):
    assert loaded_by_check(small_recipe, arguments, HEAVY) == "[]"


def test_of_parquet_files_it_doesnt_load_pandas_which_arrow_does_for_little(small_recipe):
    test = small_recipe.parent / "test.parquet"
    files = tuple(f"data.files.{split}={test}" for split in ("train", "validation", "test"))
    assert loaded_by_check(small_recipe, files, ("pandas",)) == "[]"


LAYERS = "layers={rate_decay: 0.5, head_rate: 4, unfreeze: {every: 30%}, reinitialise: 1}"


@pytest.mark.slow
def test_what_it_says_of_layers_comes_true(train, small_recipe):
    recipe = load_recipe(small_recipe, [LAYERS])
    steps, rates = preview_run(recipe, source=small_recipe).rates()
    record, _ = train(LAYERS)
    applied = {group.name: group.rates for group in record.schedule.groups if not group.name.endswith("no_decay")}
    assert steps == list(range(26))
    assert {*applied} == {"layers.head", "layers.1", "layers.0", "layers.embeddings"}
    for name, values in applied.items():
        assert rates[name] == pytest.approx(values)


def test_the_rates_of_all_layers_are_shown(check):
    code, out, _ = check(LAYERS)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "random the top 1 of 2 blocks, and what the body has above them" in lines
    assert "peak rates head 0.02, block 1 0.005, block 0 0.0025, embeddings 0.00125" in lines
    # 30% of 26 updates are 8.
    assert (
        "unfrozen the head first, block 1 after update 8, block 0 after update 16, embeddings after update 24" in lines
    )
    assert lines[-1].split() == ["●", "head", "×", "blocks", "○", "embeddings"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("{freeze: 3}", "layers.freeze: 3 is more than the model has blocks, which are 2"),
        ("{reinitialise: 3}", "layers.reinitialise: 3 is more than the model has blocks, which are 2"),
        ("{freeze: 1, reinitialise: 2}", "layers.reinitialise: 2 of the model's 2 blocks from the top are not left"),
        ("{freeze: body, rate_decay: 0.9}", "layers.rate_decay: is about the body"),
    ],
)
def test_layers_that_the_model_has_not_are_refused(check, layers, message):
    code, _, err = check(f"layers={layers}")
    assert code == 2
    assert message in err


def test_a_peak_of_layers_below_the_floor_is_refused(check):
    code, _, err = check("layers.rate_decay=0.1", "schedule.floor_rate=1e-4")
    assert code == 2
    assert "for the peak 5e-05 of embeddings, schedule.floor_rate: 0.0001 is above the peak" in err


def test_weights_whose_names_cannot_be_read_are_refused_where_layers_need_them(check, tiny_model, tmp_path):
    model = tmp_path / "broken"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").write_bytes(b"no weights")
    assert check(f"model.path={model}")[0] == 0
    code, _, err = check(f"model.path={model}", "layers.freeze=1")
    assert code == 2
    assert "model.safetensors: can't be read" in err


def test_the_data_is_counted(checked, tmp_path):
    reviews(tmp_path / "validation.jsonl", ["a moving film", "dull", "  one  two three four "])
    data = checked("data.examples.train=50")["data"]
    assert {split: (each["examples"], each["used"]) for split, each in data.items()} == {
        "train": (200, 50),
        "validation": (3, 3),
        "test": (60, 60),
    }
    assert sum(data["train"]["classes"].values()) == 200
    assert data["validation"]["classes"] == {"negative": 0, "positive": 3}
    assert data["validation"]["words"] == {"mean": (3 + 1 + 4) / 3, "longest": 4}
    assert data["validation"]["characters"] == {"mean": (13 + 4 + 22) / 3, "longest": 22}
    # Each of the four words is one token, known or not, beside [CLS] and [SEP].
    assert data["validation"]["tokens"]["lengths"]["longest"] == 6


def test_updates_by_hand(checked):
    # 200 examples in batches of 16: 13 updates an epoch.
    found = checked("training.duration=2ep", "evaluation.every=10", "checkpoints.every=0.5ep")
    assert (found["updates_per_epoch"], found["total_steps"]) == (13, 26)
    assert (found["evaluations"], found["checkpoints"]) == ([10, 20, 26], [7, 14, 21])


def test_a_long_run_is_drawn_by_points_from_its_first_to_its_last_update(checked):
    steps = checked("training.duration=1000000")["rates"]["steps"]
    assert (steps[0], steps[-1]) == (0, 999_999)
    assert len(steps) == len(set(steps)) <= 2001


def test_a_run_of_one_update(checked):
    found = checked("training.duration=1", "schedule.warmup=0")
    assert found["evaluations"] == [1]
    assert found["rates"] == {"steps": [0], "cosine": [5e-3]}


def test_words_say_what_is_to_come(check):
    code, out, _ = check("checkpoints.every=10", "training.micro_batch_size=8")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line.strip()}
    assert code == 0
    assert lines["schedule"] == "cosine, warmup 10%, floor 0"
    assert lines["optimizer"] == "adamw, peak rate 0.005, weight decay 0.01"
    assert lines["batches"] == "16 examples an update, at most 8 at a time"
    assert lines["updates"] == "13 an epoch, 26 in all"
    assert lines["evaluations"] == "2, after update 13, 26; the model with the best accuracy is kept"
    assert lines["checkpoints"] == "2, after update 10, 20"
    assert lines["output"].startswith("runs/small/cosine-adamw-lr0.005-seed0-")
    assert lines["output"].endswith(": not there yet")
    assert lines["caution"] == "none: no text is in two splits, repeated or blank"
    assert "● cosine" in out


def test_every_caution_is_given(check, checked, tmp_path):
    first = (tmp_path / "train.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[1]
    reviews(tmp_path / "validation.jsonl", [first, "", ""])
    cautions = checked()["cautions"]
    assert len(cautions) == 3
    assert cautions[0].startswith("1 of 3 validation texts are in train too")
    assert [line.split("caution")[1].strip() for line in check()[1].splitlines() if "caution" in line] == cautions


def test_many_classes_are_summed_up(check, tmp_path):
    rows = [f"{number},word {number},{'abcdef'[number % 6]}" for number in range(30)] + ["30,more,a"]
    (tmp_path / "rows.csv").write_text("\n".join(["idx,sentence,label", *rows]), encoding="utf-8")
    code, out, _ = check("data.files={train: rows.csv, validation: rows.csv, test: rows.csv}")
    assert code == 0
    train = next(line for line in out.splitlines() if line.startswith("train"))
    assert "commonest of 6" in out
    assert "a 19.4%" in train
    assert "f 16.1%" in train


@pytest.mark.slow
def test_what_is_there_already(train, checked, check, small_recipe, monkeypatch):
    original = ScheduledTrainer.training_step

    def interrupt(self, *args, **kwargs):
        if self.state.global_step == 8:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    settings = ("training.duration=12", "checkpoints.every=5")
    overrides = (f"output={small_recipe.parent / 'runs'}", *settings)
    monkeypatch.setattr(ScheduledTrainer, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(*settings)
    assert (checked(*overrides)["run"]["state"], checked(*overrides)["run"]["step"]) == ("interrupted", 5)
    assert "interrupted there after update 5; it goes on from there" in check(*overrides)[1]
    monkeypatch.setattr(ScheduledTrainer, "training_step", original)
    _, run = train(*settings)
    assert checked(*overrides)["run"] == {
        "directory": str(run),
        "state": "recorded",
        "step": None,
        "changed": [],
    }
    reviews(small_recipe.parent / "validation.jsonl", ["a moving film"])
    assert "recorded there on other data, as the validation split has changed since" in check(*overrides)[1]


def test_it_writes_nothing(check, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    check()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=cosin"], 'schedule.name: "cosin" is not one of'),
        (["model.path=absent"], "absent: no such folder (model.path)"),
        (["task.max_length=100"], "takes 64 tokens at most, not 100; set task.max_length to 64 or less"),
        (["task.text=sentense"], 'has no column "sentense"'),
        (["data.files.train=absent.csv"], "absent.csv: no such file"),
        (["schedule.warmup=100", "training.duration=20"], "schedule.warmup: 100 updates are more than the run's 20"),
        (["data={hub: org/absent}"], "org/absent: not in the local cache"),
    ],
)
def test_what_a_run_would_be_refused_for_is_one_message(check, overrides, message):
    code, out, err = check(*overrides)
    assert (code, out) == (2, "")
    assert err.startswith("finetune: ")
    assert message in err
    assert err.count("\n") == 1 or " problem" in err.splitlines()[0]


def test_a_tracker_that_is_not_installed_is_one_message(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = check("tracking=[wandb]")
    assert (code, err.count("\n")) == (2, 1)
    assert "wandb isn't installed" in err


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_of_the_tokenizer_is_one_message(check, tiny_model, tmp_path, file):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / file).write_text("{")
    code, out, err = check("model.path=model")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{file}: can't be read" in err


def test_without_a_tokenizer_what_counts_tokens_is_left_open(check, checked, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    found = checked("model.path=model")
    assert found["data"]["train"]["tokens"] is None
    assert found["total_steps"] == 26
    found = checked("model.path=model", "schedule.warmup=100 tokens")
    assert (found["total_steps"], found["evaluations"], found["rates"]) == (None, [], {"steps": []})
    assert (
        "not known before a run has encoded the data by the model's own tokenizer"
        in check("model.path=model", "schedule.warmup=100 tokens")[1]
    )


def test_what_data_holds_is_no_markup_and_no_command(check, tmp_path):
    rows = ["1,good,[red]x[/red]", "2,bad,y"]
    (tmp_path / "rows.csv").write_text("\n".join(["idx,sentence,label", *rows]), encoding="utf-8")
    code, out, _ = check("data.files={train: rows.csv, validation: rows.csv, test: rows.csv}")
    assert code == 0
    assert "[red]x[/red]" in out


def test_a_study_is_counted(checked, study):
    found = checked(recipe=study)
    # 2 schedules × 2 lengths × 2 sizes on 3 seeds, and each with 2 peaks on 1 seed besides.
    assert (len(found["settings"]), found["seeds"], found["runs"], found["recorded"]) == (8, [0, 1, 2], 40, 0)
    # ⌈100/16⌉ = 7 and ⌈200/16⌉ = 13 updates an epoch, for 1 and 2 epochs: 60, under 2 schedules, 5 times each.
    assert found["updates"] == 2 * (7 + 14 + 13 + 26) * 5
    assert found["settings"][0]["values"] == {
        "schedule": "cosine",
        "training.duration": "1ep",
        "data.examples.train": 100,
    }


def test_a_halved_study_is_counted_by_its_rungs(check, checked, study):
    override = "study.tuning={factors: [0.1, 0.3, 1, 3], seeds: [7, 8], halving: 4}"
    # 4 peaks for a quarter and 2 in full, on 2 seeds, beside the 3 of the comparison; 1.75 updates are 2, and so on.
    found = checked(override, recipe=study)
    assert found["runs"] == 8 * (3 + 2 * (4 + 2))
    assert found["updates"] == 2 * sum(3 * full + 8 * part + 4 * full for full, part in QUARTERS.items())
    _, out, _ = check(override, recipe=study)
    assert ["halving", "4 peaks for 1/4 of the duration, 2 peaks in full"] in [
        line.split(maxsplit=1) for line in out.splitlines()
    ]


def test_a_study_in_words(check, study):
    code, out, _ = check(recipe=study)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[0].endswith("8 settings on 3 seeds: 40 runs")
    assert any(line.startswith("train 100 to 200 of 200") for line in lines)
    assert "linear, warmup 10%, floor 0 2ep 200 0.005 26" in lines
    assert "peaks the best on validation of 0.3, 1 times the setting's own, tried first on 1 other seed" in lines
    assert "updates 600 in all runs together" in lines
    assert "output runs/a_study: 0 runs recorded there" in lines


def test_a_study_that_does_not_fit_is_one_message(check, study):
    code, _, err = check("schedule.warmup=30", recipe=study)
    assert (code, err.count("\n")) == (2, 1)
    assert "schedule.warmup: 30 updates are more than the run's 7" in err
