"""Images: found in folders and columns, opened as they are meant, and refused in words where they can't be."""

import io
import os
import shutil

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from finetune.data import Rows, load_files, load_folders
from finetune.errors import DataError
from finetune.tasks import ImageClassification
from finetune.tasks.images import MOST_PIXELS, Images

TASK = ImageClassification()


def gradient(width=20, height=10):
    """Returns an image whose red grows to the right and whose green grows downwards."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([across * 255 // width, down * 255 // height, np.full_like(down, 77)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def as_bytes(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def images_of(*contents):
    return Images.of(
        "train", Rows.of_table(pyarrow.table({"image": pyarrow.array(contents, pyarrow.binary())})), "image"
    )


def pixels(image):
    return np.asarray(image)


def read(folders, task=TASK):
    rows = load_folders(folders)
    classes, examples = task.read(rows)
    return rows, classes, examples


def fingerprints(rows, task=TASK):
    return {split: task.fingerprint(each, task.read(rows)[1][split]) for split, each in rows.items()}


@pytest.fixture
def folders(tmp_path):
    """Folders of two classes, two images to train on and one to validate."""
    for name, blue in {"train/b/2.png": 2, "train/a/1.png": 1, "validation/a/3.png": 3}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4 + blue, 5), (0, 0, blue)).save(path)
    return {"train": tmp_path / "train", "validation": tmp_path / "validation"}


def test_sub_folders_are_classes_and_files_are_in_the_order_of_their_names(folders):
    for name in ("a/nested/0.png", "a/10.png"):
        path = folders["train"] / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 3)).save(path)
    (folders["train"] / ".DS_Store").touch()
    (folders["train"] / "a" / ".hidden").touch()
    _, classes, examples = read(folders)
    assert classes == ("a", "b")
    train = examples["train"]
    assert [train.images.path(row) for row in range(len(train))] == ["a/1.png", "a/10.png", "a/nested/0.png", "b/2.png"]
    assert train.labels.tolist() == [0, 0, 0, 1]
    assert train.examined.sizes.tolist() == [[5, 5], [3, 3], [3, 3], [6, 5]]


def test_an_outline_has_shares_and_sizes(folders):
    _, classes, examples = read(folders)
    outline = TASK.outline(examples["train"], classes)
    assert (outline.count, outline.shares, outline.texts) == (2, {"a": 1, "b": 1}, ())
    assert outline.sizes.tolist() == [[5, 5], [6, 5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train: shutil.rmtree(train), "train: no such folder (data.folders.train)"),
        (lambda train: (shutil.rmtree(train), train.touch()), "train: is a file, not a folder (data.folders.train)"),
        (lambda train: (shutil.rmtree(train), train.mkdir()), "train: has no sub-folder; the train split needs one"),
        (
            lambda train: [file.unlink() for file in train.rglob("*.png")],
            "train: no file in its sub-folders: the train",
        ),
        (
            lambda train: (train / "list.txt").touch(),
            "list.txt: lies beside the sub-folders of the train split, so it is",
        ),
        (lambda train: shutil.rmtree(train / "b"), "has only one class, 'a'; two are needed"),
        (lambda train: (train / "b" / "notes.txt").write_text("hello"), "is no image that is read (BMP, GIF, JPEG,"),
        (
            lambda train: (train / "b" / "loop").symlink_to(train),
            'loop (row 3 of column "image" of the train split): is no',
        ),
        (
            lambda train: os.mkfifo(train / "b" / "pipe"),
            'pipe (row 3 of column "image" of the train split): is no regular',
        ),
    ],
)
def test_folders_that_are_no_data_are_refused(folders, change, message):
    change(folders["train"])
    with pytest.raises(DataError) as refused:
        read(folders)
    assert message in str(refused.value)


def test_an_image_of_a_class_that_is_not_trained_on_is_refused(folders):
    (folders["validation"] / "a").rename(folders["validation"] / "c")
    with pytest.raises(
        DataError, match=r"of the validation split holds 'c' in row 1 .*, which is no class of the train"
    ):
        read(folders)


def write_columns(folder, folders, kind):
    """Writes the images of `folders` as a column of one kind; returns split ▶ file."""
    files = {}
    for split, place in folders.items():
        paths = sorted(place.rglob("*.png"))
        labels = [path.parent.name for path in paths]
        relative = [os.path.relpath(path, folder) for path in paths]
        if kind == "csv":
            files[split] = folder / f"{split}.csv"
            rows = [f"{path},{label}" for path, label in zip(relative, labels, strict=True)]
            files[split].write_text("\n".join(["image,label", *rows]))
            continue
        values = {
            "names": relative,
            "absolute": list(map(str, paths)),
            "bytes": [path.read_bytes() for path in paths],
            "objects": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
            "objects of names": [{"bytes": None, "path": path} for path in relative],
        }[kind]
        files[split] = folder / f"{split}.parquet"
        parquet.write_table(pyarrow.table({"image": values, "label": labels}), files[split])
    return {split: [file] for split, file in files.items()}


@pytest.mark.parametrize("kind", ["csv", "names", "absolute", "bytes", "objects", "objects of names"])
def test_a_column_of_images_is_the_same_data_as_folders_of_them(folders, tmp_path, kind):
    files = write_columns(tmp_path, folders, kind)
    rows = load_files(files, naming_files=TASK.naming_files)
    in_folders = load_folders(folders)
    assert fingerprints(rows) == fingerprints(in_folders)
    one, other = (TASK.read(each)[1]["train"] for each in (rows, in_folders))
    for row in range(2):
        assert (pixels(one.images.decoded(row)) == pixels(other.images.decoded(row))).all()


def test_names_are_seen_from_the_folder_of_each_file(folders, tmp_path):
    for label in "ab":
        place = tmp_path / f"part_{label}"
        (folders["train"] / label).rename(place)
        file = next(place.glob("*.png")).rename(place / "image.png")
        (place / "rows.csv").write_text(f"image,label\n{file.name},{label}\n")
    files = {"train": [tmp_path / "part_a" / "rows.csv", tmp_path / "part_b" / "rows.csv"]}
    rows = load_files(files, naming_files=("image",))["train"]
    images = Images.of("train", rows, "image")
    assert [images.decoded(row).size for row in range(2)] == [(5, 5), (6, 5)]
    assert [images.decoded(row).size for row in (0, 1)] == [
        Images.of("train", rows.select(np.array([row])), "image").decoded(0).size for row in (0, 1)
    ]


def test_a_data_set_of_the_hub_keeps_images_in_a_form_that_is_read(folders):
    import datasets

    files = sorted(map(str, folders["train"].rglob("*.png")))
    dataset = datasets.Dataset.from_dict({"image": files, "label": ["a", "b"]}).cast_column("image", datasets.Image())
    images = Images.of("train", Rows.of_dataset(dataset), "image")
    assert [images.decoded(row).size for row in range(2)] == [(5, 5), (6, 5)]


def test_the_fingerprint_is_of_every_byte_and_label_but_of_no_name(folders):
    before = fingerprints(load_folders(folders))
    (folders["train"] / "a" / "1.png").rename(folders["train"] / "a" / "0.png")
    assert fingerprints(load_folders(folders)) == before
    Image.new("RGB", (5, 5), (0, 1, 1)).save(folders["train"] / "a" / "0.png")
    changed = fingerprints(load_folders(folders))
    assert changed["train"] != before["train"]
    assert changed["validation"] == before["validation"]
    (folders["train"] / "a").rename(folders["train"] / "c")
    (folders["train"] / "b").rename(folders["train"] / "a")
    assert fingerprints({"train": load_folders(folders)["train"]}) != {"train": changed["train"]}


def test_images_that_splits_share_or_repeat_are_cautions(folders):
    shutil.copy(folders["train"] / "a" / "1.png", folders["validation"] / "a" / "1.png")
    shutil.copy(folders["train"] / "a" / "1.png", folders["train"] / "b" / "1.png")
    _, classes, examples = read(folders)
    assert TASK.cautions(examples, classes) == [
        "1 of 2 validation images are in train too",
        "1 of 3 train images repeat an earlier one, 1 of them with another label",
    ]


def test_every_kind_of_image_becomes_rgb():
    image = gradient()
    with_alpha = image.copy()
    with_alpha.putalpha(128)
    kinds = {
        "RGB": as_bytes(image),
        "L": as_bytes(image.convert("L")),
        "1": as_bytes(image.convert("1")),
        "LA": as_bytes(image.convert("LA")),
        "RGBA": as_bytes(with_alpha),
        "P": as_bytes(image.quantize(64), transparency=bytes(range(64))),
        "CMYK": as_bytes(image.convert("CMYK"), "JPEG", quality=95),
        "GIF": as_bytes(image.convert("P"), "GIF"),
        "BMP": as_bytes(image, "BMP"),
        "TIFF": as_bytes(image, "TIFF"),
        "WEBP": as_bytes(image, "WEBP", lossless=True),
        "PPM": as_bytes(image, "PPM"),
    }
    images = images_of(*kinds.values())
    assert images.examine().sizes.tolist() == [[20, 10]] * len(kinds)
    for row, kind in enumerate(kinds):
        decoded = images.decoded(row)
        assert (decoded.mode, decoded.size) == ("RGB", (20, 10)), kind
        if kind in ("RGB", "RGBA", "BMP", "TIFF", "WEBP", "PPM"):
            assert (pixels(decoded) == pixels(image)).all(), kind
    grey = np.repeat(pixels(image.convert("L"))[..., None], 3, axis=-1)
    assert (pixels(images.decoded(1)) == grey).all()
    assert np.abs(pixels(images.decoded(6)).astype(int) - pixels(image)).mean() < 8


def test_an_image_is_turned_as_its_camera_was_held():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    images = images_of(as_bytes(gradient(), "JPEG", quality=100, subsampling=0, exif=exif))
    decoded = images.decoded(0)
    assert decoded.size == (10, 20)
    turned = pixels(gradient().transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pixels(decoded) - turned).mean() < 3


def png_of_size(width, height):
    """Returns a whole PNG whose header claims a size."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


DEEP = Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no bytes; restore or remove it"),
        (None, "empty; fill or remove it"),
        (b"no image", "is no image that is read"),
        (as_bytes(gradient())[:-30], "is damaged or cut short"),
        (as_bytes(gradient())[:50] + b"\0" + as_bytes(gradient())[51:], "is damaged or cut short"),
        (as_bytes(gradient(200, 200), "JPEG")[:-500], "is damaged or cut short"),
        (as_bytes(gradient(200, 200), "WEBP")[:-500], "is damaged or cut short"),
        (as_bytes(gradient(200, 200), "BMP")[:-500], "is damaged or cut short"),
        (png_of_size(10_000, 10_000), f"has 10,000 × 10,000 pixels, more than {MOST_PIXELS:,}: make it smaller"),
        (png_of_size(100_000, 100_000), "or too large: Image size (10000000000 pixels) exceeds limit"),
        (png_of_size(0, 4), "is no image that is read"),
        (as_bytes(DEEP), "has grey values of more than 8 bits (mode I;16), which RGB has no room for"),
        (as_bytes(Image.new("F", (2, 2)), "TIFF"), "has grey values of more than 8 bits (mode F)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image that is read"),
    ],
)
def test_an_image_that_is_none_is_refused_with_its_row(content, message):
    with pytest.raises(DataError) as refused:
        images_of(as_bytes(gradient()), content).examine()
    assert str(refused.value).startswith('row 2 of column "image" of the train split: ')
    assert message in str(refused.value)


def test_a_jpeg_with_something_behind_its_end_is_decoded_to_see_that_it_is_whole():
    assert images_of(as_bytes(gradient(), "JPEG") + b"behind").examine().sizes.tolist() == [[20, 10]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", "no such file; the name of a file is seen from the folder of the data"),
        ("https://example.org/a.png", "is a URL, and only what is on this machine is read: give a path"),
        (".", "is no regular file"),
        ("a\0b", "no such file"),
    ],
)
def test_a_name_of_no_file_is_refused_with_its_row(name, message, tmp_path):
    table = pyarrow.table({"image": [name]})
    with pytest.raises(DataError) as refused:
        Images.of("test", Rows.of_table(table).beside("image", tmp_path), "image").examine()
    assert '(row 1 of column "image" of the test split): ' in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "kind"), [([1, 2], "int64"), ([[1], [2]], "lists"), ([{"name": "a"}, {"name": "b"}], "objects")]
)
def test_a_column_that_holds_no_images_is_refused(values, kind):
    with pytest.raises(DataError, match=f'column "image" of the train split holds {kind}, not images; name the column'):
        Images.of("train", Rows.of_table(pyarrow.table({"image": values})), "image")


def test_an_image_that_is_spoilt_after_it_was_read_is_named_when_it_is_decoded(folders):
    _, _, examples = read(folders)
    path = folders["train"] / "b" / "2.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r'b/2\.png \(row 2 of column "image" of the train split\): is damaged or cut'):
        examples["train"].images.decoded(1)


def test_later_data_need_no_labels_and_are_matched_by_name(folders):
    rows = load_folders({"given": folders["train"]})["given"]
    assert TASK.read_for(rows, ["b", "a"], labelled=True).labels.tolist() == [1, 0]
    without = Rows.of_table(rows.table.drop_columns(["label"]))
    assert TASK.read_for(without, ["b", "a"], labelled=False).labels.tolist() == [0, 0]
