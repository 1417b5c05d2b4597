"""The README's commands and code, as a newcomer types them; the rest of them are in test_on_pages.py of other folders."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import yaml
from pyarrow import Table, parquet

from finetune.recipe import load_recipe, load_study
from finetune.schedules import make_schedule
from tests import tiny
from tests.docs.pages import ROOT, called, code, lines, page, words_of

README = "README.md"
CLASSES = ("negative", "positive")


def write_csv(path, count, seed):
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", "sentence", "label"])
        writer.writeheader()
        writer.writerows(row | {"label": CLASSES[row["label"]]} for row in tiny.sentences(count, seed=seed))


OWN_DATA = lines(README, "## Your own data")  # run by test_newcomer.py
WAY_IN = lines("docs/index.md")


def test_the_way_in_has_the_same_commands():
    assert [words_of(line) for line in WAY_IN] == [words_of(line) for line in OWN_DATA]


@pytest.fixture
def quickstart(tmp_path, monkeypatch, save_model):
    """The folder that commands are run in, with the quickstart's recipe and a tiny model and sentences as its assets."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "assets" / "all-MiniLM-L6-v2", positions=128)
    data = tmp_path / "assets" / "movie_reviews"
    data.mkdir()
    for seed, (split, count) in enumerate({"train": 200, "validation": 60, "test": 60}.items()):
        rows = [row | {"label": CLASSES[row["label"]]} for row in tiny.sentences(count, seed=seed)]
        parquet.write_table(Table.from_pylist(rows), data / f"{split}.parquet")
    Path("recipes").mkdir()
    shutil.copy(ROOT / "recipes" / "minilm_reviews.yaml", "recipes")
    return tmp_path


QUICKSTART = lines(README, "## The quickstart", "accelerate launch ")
MEASURED = lines(README, "## The quickstart", "schedule  runs ")


@pytest.mark.slow
def test_the_quickstart_ends_in_a_table_as_it_is_shown(quickstart, capsys):
    *launched, compared = QUICKSTART
    # The launcher itself is started in tests/test_launch.py, by the same line.
    launcher = "accelerate launch --config_file accelerate_configs/cpu.yaml finetune/run.py"
    assert f"# Run:     {launcher} {words_of(launched[0])[-1]}\n" in page("accelerate_configs/cpu.yaml")
    for line in launched:
        assert called(line.replace(launcher, "finetune run")) == 0, capsys.readouterr()
    capsys.readouterr()
    assert called(compared) == 0
    headers = [row.split() for row in capsys.readouterr().out.splitlines() if row.startswith("schedule ")]
    assert headers[0] == MEASURED[0].split()


STUDY = lines(README, "## Studies")


def test_a_study_makes_as_many_runs_as_it_says(quickstart, capsys):
    path = Path("recipes/my_study.yaml")
    path.write_text("\n".join(STUDY) + "\n", encoding="utf-8")
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))["study"]
    settings = len(tree["grid"]["schedule"]) * len(tree["grid"]["optimizer"])
    tried = settings * len(tree["tuning"]["factors"]) * len(tree["tuning"]["seeds"])
    assert load_study(path).count == settings * len(tree["grid"]["training.seed"]) + tried
    assert called(f"finetune study {path} --plan") == 0


(RECIPE,) = code(README, "yaml", "## A recipe")
(BEFOREHAND,) = lines(README, "## Memory and hours beforehand")


@pytest.mark.slow
def test_the_recipe_is_checked_and_run(quickstart, capsys):
    model = "google-bert/bert-base-uncased"
    assert model in RECIPE
    Path("recipe.yaml").write_text(RECIPE.replace(f"hub: {model}", "path: assets/all-MiniLM-L6-v2"), encoding="utf-8")
    for seed, (split, count) in enumerate({"train": 64, "validation": 30, "test": 30}.items()):
        write_csv(f"{split}.csv", count, seed)
    assert called("finetune check recipe.yaml") == 0
    assert "2 an epoch, 6 in all" in capsys.readouterr().out
    assert called("finetune run recipe.yaml") == 0
    assert len([*Path("runs").glob("recipe/*/record.json")]) == 1


@pytest.mark.slow
def test_what_gpus_will_hold_is_told_beforehand(run_offline):
    out = run_offline(f"from tests.docs.pages import called\nprint(called({BEFOREHAND!r}))")
    assert "memory       80.0 GB on each of 8 devices" in out
    assert "hours        0.02 GPU-hours: 21 updates of 0.4 s, as given\n0\n" in out


OTHERWISE = [
    (line, line.split(" ", 1)[0] + " " + comment.removeprefix("or "))
    for line, comment in re.findall(r"^(.+?) +# (or .+)$", RECIPE, re.MULTILINE)
]


@pytest.mark.parametrize(("line", "instead"), OTHERWISE, ids=[instead for _, instead in OTHERWISE])
def test_what_a_comment_gives_instead_is_read_too(tmp_path, line, instead):
    files = r"\n  files: .+" if instead.startswith("data:") else ""
    text, count = re.subn(rf"^{re.escape(line)} .*{files}$", instead, RECIPE, flags=re.MULTILINE)
    assert count == 1
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml").to_dict()


MISTAKES = [line.removeprefix("  ") for line in lines(README, "## A recipe", "  recipe.yaml: ")]


def test_mistakes_are_reported_as_they_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = RECIPE.splitlines()
    of_schedule, of_training = (int(line.split(":")[0]) - 1 for line in MISTAKES[1:])
    rows[of_schedule] = rows[of_schedule].replace("}", ", flor: 0.1}")
    rows[of_training] = "num_train_epochs: 3"
    Path("recipe.yaml").write_text("\n".join(rows), encoding="utf-8")
    assert called("finetune check recipe.yaml") == 2
    assert capsys.readouterr().err.removeprefix("finetune: ").splitlines() == MISTAKES


IN_A_TRAINER, IN_A_LOOP = code(README, "python", "## Schedules")


@pytest.mark.slow
def test_a_trainer_uses_the_rates_of_the_schedule(tmp_path, tiny_model, rates_used):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = tiny.sentences(40, seed=1)
    data = [{**tokenizer(row["sentence"], truncation=True), "labels": row["label"]} for row in rows]
    width = max(len(row["input_ids"]) for row in data)
    data = [tokenizer.pad(row, padding="max_length", max_length=width) for row in data]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        learning_rate=5e-3,
        max_steps=20,
        per_device_train_batch_size=2,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    given = {"model": model, "arguments": arguments, "data": data}
    exec(IN_A_TRAINER, given)
    given["trainer"].train()
    factor = make_schedule("cosine", warmup="10%", floor=0.1).resolve(total_steps=20)
    assert rates_used == pytest.approx([5e-3 * factor(step) for step in range(20)])


def test_a_loop_uses_the_rates_of_the_schedule(rates_used):
    import torch

    weight = torch.nn.Parameter(torch.ones(1))
    given = {
        "optimizer": torch.optim.SGD([weight], lr=0.5),
        "batches": range(1000),
        "loss": lambda _: (weight * weight).sum(),
    }
    exec(IN_A_LOOP, given)
    assert rates_used == pytest.approx([0.5 * 0.1 ** (step // 300) for step in range(1000)])


LEFT = lines(README, "## What a run leaves", "runs/")


def test_a_run_leaves_what_is_shown(finished_run):
    parts = {
        "RECIPE": "[^/]+",
        "SCHEDULE": "cosine",
        "OPTIMIZER": "adamw",
        "PEAK": "0.005",
        "N": "0",
        "HASH": "[0-9a-f]{8}",
    }
    place = re.sub("|".join(parts), lambda found: parts[found.group()], LEFT[0].rstrip("/"))
    assert re.fullmatch(place, finished_run.relative_to(finished_run.parents[2]).as_posix())
    named = [line.split()[0] for line in LEFT[1:]]
    assert {name.split("/")[0] for name in named} == {path.name for path in finished_run.iterdir()}
    (predictions,) = [name for name in named if name.startswith("predictions/")]
    for split in ("validation", "test"):
        assert (finished_run / predictions.replace("SPLIT", split)).is_file()
    assert (finished_run / "model" / "README.md").is_file()
