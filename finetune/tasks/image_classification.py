"""Image classification: one label per image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from finetune.tasks.base import Outline
from finetune.tasks.classification import Classification
from finetune.tasks.columns import GIVEN, Labels, check_columns
from finetune.tasks.images import Examined, Images, check_pillow

if TYPE_CHECKING:
    import numpy as np

    from finetune.data import Keep, Rows
    from finetune.tasks.image_batches import ImageBatches, ImageSplit
    from finetune.tasks.pretrained import LoadedModel, Pretrained

    Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class LabelledImages:
    """The examples of one split: images, what they are, and class numbers, shape (n,)."""

    images: Images
    examined: Examined
    labels: Integers

    def __len__(self) -> int:
        return len(self.images)

    @property
    def hashes(self) -> Integers:
        """Numbers that are equal for images of equal bytes, shape (n,)."""
        import numpy as np

        return np.ascontiguousarray(self.examined.digests[:, :8]).view(np.int64)[:, 0]


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Classification):
    """Settings. `image`, `label`: column names; `augment`: how images are changed in training, and in training alone.

    Folders of images have the columns that these are by default.
    """

    name: Literal["image_classification"] = "image_classification"
    image: str = "image"
    label: str = "label"
    augment: Literal["none", "flip", "crop_flip"] = "none"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return self.image, self.label

    @property
    def naming_files(self) -> tuple[str, ...]:
        """The column of images, if it holds the names of files."""
        return (self.image,)

    def fingerprint(self, rows: Rows, examples: LabelledImages) -> str:
        """Returns the SHA-256 of the bytes of all images, and of the labels as they are stored, in order.

        It is the same for images in files, whatever their names, and for the same ones in a column.
        """
        digest = hashlib.sha256(examples.examined.digests.tobytes())
        for (labels,) in rows.batches((self.label,), size=1000):
            digest.update(json.dumps(labels, ensure_ascii=False).encode())
        return digest.hexdigest()

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, LabelledImages]]:
        """Returns the class names, and split ▶ its examples, as text classification does of its labels.

        Every image is read once, by which it is known and found whole. Raises DataError as that does, and for an image
        that isn't there, is none, is cut short, has more pixels than are read, or more bits to a pixel.
        """
        check_pillow()
        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        labels = {split: Labels.of(split, rows, self.label) for split, rows in splits.items()}
        classes = labels["train"].classes()
        numbers = {split: labels[split].numbers(list(classes)) for split in splits}
        return tuple(classes.values()), {
            split: self._examples(split, rows, numbers[split]) for split, rows in splits.items()
        }

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> LabelledImages:
        """As the base's; labels are matched by the names of their classes."""
        import numpy as np

        check_pillow()
        check_columns(GIVEN, rows, self.columns if labelled else (self.image,))
        if not labelled:
            return self._examples(GIVEN, rows, np.zeros(len(rows), dtype=np.int64))
        return self._examples(GIVEN, rows, Labels.of(GIVEN, rows, self.label).numbers_by_name(classes))

    def _examples(self, split: str, rows: Rows, labels: Integers) -> LabelledImages:
        images = Images.of(split, rows, self.image)
        return LabelledImages(images, images.examine(), labels)

    def outline(self, examples: LabelledImages, classes: Sequence[str]) -> Outline:
        """Returns how many examples there are of each class, and the sizes of the images."""
        import numpy as np

        of_each = np.bincount(examples.labels, minlength=len(classes)).tolist()
        return Outline(len(examples), dict(zip(classes, of_each, strict=True)), (), examples.examined.sizes)

    def cautions(self, splits: Mapping[str, LabelledImages], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: images that are in two splits, or twice
        in one."""
        from finetune.tasks.cautions import find_cautions

        return find_cautions(splits, classes, noun="images")

    def encode(
        self, examples: LabelledImages, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> ImageSplit:
        """Returns the examples, whose images are opened when they are needed; nothing is kept of them."""
        import numpy as np

        from finetune.tasks.image_batches import ImageSplit

        return ImageSplit(examples.images, examples.labels, np.arange(len(examples)))

    def collator(self, processor: Any) -> ImageBatches:
        """Returns what makes a batch of examples by the model's own image processor."""
        from finetune.tasks.image_batches import ImageBatches

        return ImageBatches.of(processor, self.augment)

    def load_processor(self, source: Pretrained) -> Any:
        """Returns the model's own image processor; raises ModelError."""
        from finetune.tasks.pretrained import load_image_processor

        return load_image_processor(source)

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under a new head, the class names stored in its config."""
        from finetune.tasks.pretrained import load_classifier

        return load_classifier("AutoModelForImageClassification", source, classes=classes, seed=seed)

    def label_columns(self, split: ImageSplit, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the name of each image's file, where it has one, and its class."""
        paths = split.paths
        named = {"image": paths} if any(path is not None for path in paths) else {}
        return named | super().label_columns(split, classes)
