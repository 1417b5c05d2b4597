"""Image classification from pixels to predictions: batches, augmentation, and runs of a tiny model on squares."""

import io
import json
import math
import random
import shutil

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from rich.console import Console
from safetensors.torch import load_file

from finetune.data import load_folders
from finetune.errors import DataError, ModelError, SettingError
from finetune.recipe import load_recipe
from finetune.tasks import ImageClassification, as_task
from finetune.tasks.image_batches import ImageBatches, draw_crop
from finetune.tasks.pretrained import Pretrained, load_image_processor
from finetune.training import fine_tune
from finetune.training.batches import LengthGroupedBatches, TrainingLoader
from finetune.training.material import Library
from finetune.training.preview import preview_run
from finetune.training.run_directory import run_directory
from tests import tiny_images


@pytest.fixture(scope="session")
def processor(vision_model):
    return load_image_processor(Pretrained(str(vision_model), local=True))


@pytest.fixture
def split(squares, processor):
    """The squares that are trained on, encoded."""
    task = ImageClassification()
    return task.encode(task.read(load_folders({"train": squares / "train"}))[1]["train"], processor)


def taken(split, places):
    return [split[place] for place in places]


def test_a_batch_is_what_the_models_own_processor_makes_of_the_images(split, processor, squares):
    batch = ImageClassification().collator(processor)(taken(split, [0, 40, 95]))
    paths = [squares / "train" / split.paths[place] for place in (0, 40, 95)]
    expected = processor(images=[Image.open(path) for path in paths], return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"], expected)
    assert (batch["pixel_values"].dtype, tuple(batch["pixel_values"].shape)) == (torch.float32, (3, 3, 16, 16))
    assert batch["labels"].tolist() == [list(tiny_images.COLOURS).index(path.parent.name) for path in paths]
    assert batch["labels"].dtype == torch.int64


def test_examples_are_chosen_by_their_place_and_keep_their_row(split):
    chosen = split.select(np.array([5, 2])).select(np.array([1, 0]))
    assert (chosen.rows.tolist(), chosen.lengths.tolist(), len(chosen)) == ([2, 5], [1, 1], 2)
    assert chosen[1]["row"] == 5
    assert chosen[1]["labels"] == split.labels[5]


def test_nothing_is_decoded_before_it_is_asked_for(split, monkeypatch):
    decoded = []
    monkeypatch.setattr(type(split.images), "decoded", lambda images, row: decoded.append(row))
    split.sorted_by_length().select(np.arange(10))
    assert decoded == []
    assert split[7]["row"] == 7
    assert decoded == [7]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (8, 8), (640, 480), (31, 57)])
def test_a_crop_lies_within_the_image_and_has_an_allowed_share_and_ratio(size):
    width, height = size
    for seed in range(200):
        left, upper, right, lower = draw_crop(size, np.random.default_rng(seed))
        w, h = right - left, lower - upper
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        if min(size) > 400:
            assert 0.08 * 0.99 <= w * h / (width * height) <= 1
            assert 3 / 4 * 0.98 <= w / h <= 4 / 3 * 1.02


def test_the_share_of_a_crop_is_drawn_evenly():
    shares = []
    for seed in range(2000):
        left, upper, right, lower = draw_crop((1000, 1000), np.random.default_rng(seed))
        shares.append((right - left) * (lower - upper) / 1e6)
    # Of (0.08, 1) the mean is 0.54; of what fits the middle ratios a little less, as shares near 1 fit few of them.
    assert 0.45 < np.mean(shares) < 0.54
    assert np.mean(np.array(shares) < 0.31) == pytest.approx(0.25, abs=0.04)


def mean_pixels(collator, split, places=range(8)):
    return collator(taken(split, places))["pixel_values"]


@pytest.mark.parametrize("augment", ["flip", "crop_flip"])
def test_what_is_drawn_depends_on_seed_epoch_and_row_alone(split, processor, augment):
    collator = ImageClassification(augment=augment).collator(processor)
    first = mean_pixels(collator.in_epoch(3, 1), split)
    random.seed(5)
    torch.manual_seed(5)
    again = mean_pixels(collator.in_epoch(3, 1), split, [*range(4, 8), *range(4)])
    assert torch.equal(first, torch.cat([again[4:], again[:4]]))
    assert not torch.equal(first, mean_pixels(collator.in_epoch(3, 2), split))
    assert not torch.equal(first, mean_pixels(collator.in_epoch(4, 1), split))
    plain = mean_pixels(ImageClassification().collator(processor), split)
    assert torch.equal(mean_pixels(collator, split), plain)
    assert not torch.equal(first, plain)


def test_a_flip_is_one_of_half_of_the_images(split, processor):
    collator = ImageClassification(augment="flip").collator(processor)
    plain, flipped = (mean_pixels(each, split, range(96)) for each in (collator, collator.in_epoch(0, 0)))
    is_same = (flipped == plain).flatten(1).all(1)
    # A mirror image may be resized by another rounding.
    is_mirrored = ((flipped - plain.flip(-1)).abs() < 0.02).flatten(1).all(1)
    assert bool((is_same | is_mirrored).all())
    assert 30 <= int(is_same.sum()) <= 66


def test_without_augmentation_epochs_are_the_same(split, processor):
    collator = ImageClassification().collator(processor)
    assert torch.equal(mean_pixels(collator.in_epoch(0, 0), split), mean_pixels(collator.in_epoch(1, 7), split))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_images_of_its_epoch(split, processor, workers):
    collator = ImageClassification(augment="crop_flip").collator(processor)
    batches = LengthGroupedBatches(split.lengths, batch_size=40, seed=2)
    loader = TrainingLoader(split, batches, collator, workers=workers, pin_memory=False)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        expected = [collator.in_epoch(2, epoch)(taken(split, batch)) for batch in batches.epoch_batches(epoch)]
        for batch, same in zip(loader, expected, strict=True):
            assert torch.equal(batch["pixel_values"], same["pixel_values"])
            assert torch.equal(batch["labels"], same["labels"])


PROCESSORS = [
    *("BeitImageProcessorPil", "BitImageProcessorPil", "CLIPImageProcessorPil", "ConvNextImageProcessorPil"),
    *(
        "DeiTImageProcessorPil",
        "EfficientNetImageProcessorPil",
        "LevitImageProcessorPil",
        "MobileNetV2ImageProcessorPil",
    ),
    *("SiglipImageProcessorPil", "ViTImageProcessorPil"),
]


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_processor_takes_crops_as_they_are(name):
    import transformers

    processor = getattr(transformers, name)()
    image = Image.effect_noise((300, 200), 40).convert("RGB")
    collator = ImageBatches.of(processor, "crop_flip")
    example = {"image": image, "row": 4, "labels": 0}
    evaluated, trained = (each([example])["pixel_values"] for each in (collator, collator.in_epoch(0, 0)))
    assert torch.equal(evaluated, processor(images=image, return_tensors="pt")["pixel_values"])
    assert trained.shape == evaluated.shape
    generator = np.random.default_rng([0, 0xA06, 0, 4])
    crop = image.crop(draw_crop(image.size, generator)).resize(collator.size, Image.Resampling(int(processor.resample)))
    crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else crop
    keep = {"do_resize": False, "do_center_crop": False}
    assert torch.equal(trained, processor(images=crop, return_tensors="pt", **keep)["pixel_values"])


def test_a_processor_that_leaves_images_of_several_sizes_is_refused():
    from transformers import CLIPImageProcessorPil

    with pytest.raises(ModelError, match=r"makes arrays of several shapes, .* have it crop, by do_center_crop"):
        ImageBatches.of(CLIPImageProcessorPil(do_center_crop=False), "none")


def test_a_model_without_an_image_processor_is_refused(tiny_model):
    with pytest.raises(ModelError, match="the image processor can't be loaded"):
        load_image_processor(Pretrained(str(tiny_model), local=True))


def test_images_need_pillow(monkeypatch, squares):
    from finetune.tasks import images

    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with pytest.raises(
        SettingError, match=r"task.name: images need pillow: pip install 'finetune-schedules\[images\]'"
    ):
        ImageClassification().read(load_folders({"train": squares / "train"}))


def test_settings_survive_a_round_trip():
    task = ImageClassification(image="picture", label="kind", augment="flip")
    assert as_task(task.to_dict()) == task
    assert task.longest is None


@pytest.fixture
def recipe(tmp_path, squares, vision_model):
    """The path of a recipe that trains the tiny model on the squares, for 12 updates."""
    (tmp_path / "squares").symlink_to(squares)
    return tiny_images.write_recipe(tmp_path, vision_model)


@pytest.fixture
def train(recipe):
    """A function that runs the recipe with overrides; returns its record and its directory."""

    def run(*overrides, **options):
        loaded = load_recipe(recipe, [f"output={recipe.parent / 'runs'}", *overrides])
        record = fine_tune(loaded, source=recipe, console=Console(file=io.StringIO()), **options)
        return record, run_directory(loaded, source=recipe)

    return run


def losses(run):
    rows = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def test_check_tells_of_images_without_a_model(recipe):
    outlook = preview_run(load_recipe(recipe), source=recipe)
    train = outlook.splits["train"]
    assert (train.examples, train.classes) == (96, {"blue": 32, "green": 32, "red": 32})
    assert 16 * 16 <= math.prod(train.sizes.smallest) <= math.prod(train.sizes.largest) <= 24 * 24
    assert outlook.horizon.total_steps == 12
    assert outlook.to_dict()["data"]["test"]["sizes"]["largest"] == outlook.splits["test"].sizes.largest


def test_check_prints_the_sizes_of_images(recipe, capsys):
    from finetune.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["check", str(recipe)])
    assert ended.value.code in (0, None)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["split", "examples", "blue", "green", "red", "smallest", "largest"] in lines
    (train,) = (line for line in lines if line[:2] == ["train", "96"])
    assert train[2:5] == ["33.3%", "33.3%", "33.3%"]
    assert "caution none: no image is in two splits or repeated".split() in lines


@pytest.mark.slow
def test_a_run_learns_and_its_model_gives_its_predictions_in_a_pipeline(train, squares):
    from transformers import pipeline

    record, run = train("training.duration=4ep")
    assert record.results.splits["test"].metrics["accuracy"].value > 0.9
    assert record.identity.classes == ["blue", "green", "red"]
    rows = parquet.read_table(run / "predictions" / "test.parquet").to_pylist()
    assert [row["image"] for row in rows[:2]] == ["blue/000.png", "blue/003.png"]
    classify = pipeline("image-classification", model=str(run / "model"))
    for row, found in zip(rows, classify([str(squares / "test" / row["image"]) for row in rows]), strict=True):
        assert found[0]["label"] == row["prediction"]
        for each in found:
            assert each["score"] == pytest.approx(row[f"probability_{each['label']}"], abs=1e-5)


@pytest.mark.slow
def test_a_run_answers_for_later_images_named_in_a_file(train, squares, tmp_path, capsys):
    from finetune.cli import main

    _, run = train("training.duration=1ep")
    expected = parquet.read_table(run / "predictions" / "test.parquet").to_pylist()
    (tmp_path / "later.csv").write_text("\n".join(["image", *(f"squares/test/{row['image']}" for row in expected)]))
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run), str(tmp_path / "later.csv")])
    assert ended.value.code in (0, None)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == [f"squares/test/{row['image']}" for row in expected]
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in expected]
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run), str(tmp_path / "exported")])
    assert ended.value.code == 2
    assert "only models of texts are exported, and this one's task is image_classification" in capsys.readouterr().err


@pytest.mark.slow
def test_images_in_a_column_of_bytes_give_the_same_run_as_in_folders(train, recipe, squares):
    for split in ("train", "validation", "test"):
        paths = sorted((squares / split).rglob("*.png"))
        images = [{"bytes": path.read_bytes(), "path": None} for path in paths]
        labels = [path.parent.name for path in paths]
        parquet.write_table(pyarrow.table({"image": images, "label": labels}), recipe.parent / f"{split}.parquet")
    text = recipe.read_text().splitlines()
    text[3] = "data: {files: {train: train.parquet, validation: validation.parquet, test: test.parquet}}"
    in_folders, one = train()
    recipe.write_text("\n".join(text))
    in_files, other = train("name=in_files")
    assert one != other
    assert in_files.identity == in_folders.identity
    assert losses(one) == losses(other)
    assert in_files.results == in_folders.results


@pytest.mark.slow
def test_micro_batches_and_workers_leave_the_losses_of_augmented_images_alone(train):
    settings = ("task.augment=crop_flip", "evaluation.every=null")
    _, whole = train(*settings)
    _, by_workers = train(*settings, "name=workers", "training.workers=2")
    record, parts = train(*settings, "name=parts", "training.micro_batch_size=6")
    assert record.environment.accumulation == 3
    assert losses(by_workers) == losses(whole)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_an_augmented_run_that_was_interrupted_goes_on_bit_for_bit(train, monkeypatch, workers):
    from finetune.training.trainer import ScheduledTrainer

    settings = ("task.augment=crop_flip", f"training.workers={workers}", "checkpoints.every=4", "evaluation.every=5")
    _, whole = train(*settings)
    take = ScheduledTrainer.take_update

    def taken(trainer):
        if trainer.state.global_step == 9:
            raise KeyboardInterrupt
        return take(trainer)

    monkeypatch.setattr(ScheduledTrainer, "take_update", taken)
    with pytest.raises(KeyboardInterrupt):
        train(*settings, "name=interrupted")
    monkeypatch.setattr(ScheduledTrainer, "take_update", take)
    record, again = train(*settings, "name=interrupted")
    assert record.results is not None
    assert losses(again) == losses(whole)
    one, other = (load_file(run / "model" / "model.safetensors") for run in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_model_kept_from_an_earlier_update_is_read_again(train):
    record, run = train("training.duration=10ep", "evaluation.every=6")
    assert record.results.kept_step < 60
    assert (run / "model" / "preprocessor_config.json").is_file()


def test_weights_held_for_several_runs_give_the_model_that_is_read(recipe):
    loaded = load_recipe(recipe)
    one = Library().model(loaded).model.state_dict()
    library = Library(keep_weights=True)
    library.model(loaded)
    other = library.model(loaded).model.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_an_image_that_is_spoilt_while_a_run_goes_on_is_named(train, recipe, squares, monkeypatch):
    (recipe.parent / "squares").unlink()
    shutil.copytree(squares, recipe.parent / "squares")
    spoilt = recipe.parent / "squares" / "train" / "red" / "002.png"
    material = Library.material

    def then_spoilt(library, recipe):
        made = material(library, recipe)
        spoilt.write_bytes(spoilt.read_bytes()[:60])
        return made

    monkeypatch.setattr(Library, "material", then_spoilt)
    with pytest.raises(DataError) as refused:
        train("training.workers=2")
    assert str(refused.value).startswith(f"{spoilt} (row 65 of")
