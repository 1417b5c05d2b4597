"""Images on their way into a model: a split that opens them one at a time, and the collator that makes batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageOps

from finetune.errors import ModelError
from finetune.tasks.images import Images

if TYPE_CHECKING:
    from PIL.Image import Image

Integers = np.ndarray[Any, np.dtype[np.int64]]
Augmentation = Literal["none", "flip", "crop_flip"]

AUGMENTING = 0xA06
"""Keeps what is drawn for an image apart from everything else that is drawn by the same seed."""
SHARES, RATIOS, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
PROBES = ((96, 64), (64, 96))


@dataclass(frozen=True)
class ImageSplit(torch.utils.data.Dataset[dict[str, Any]]):
    """n examples of one split, as the split protocol has them; each image is decoded when it is asked for.

    `labels`: shape (n,), class numbers; `rows`: shape (n,), the place of each in `images`, those of the whole split.
    """

    images: Images
    labels: Integers
    rows: Integers
    truncated: int = 0

    @property
    def lengths(self) -> Integers:
        """One for each: all images cost the same."""
        return np.ones(len(self.rows), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(self.rows[index])
        return {"image": self.images.decoded(row), "row": row, "labels": int(self.labels[index])}

    def check(self, split: str) -> None:
        """Finds nothing: images were examined when they were read."""

    def sorted_by_length(self) -> ImageSplit:
        """Returns the same examples."""
        return self

    def select(self, positions: Integers) -> ImageSplit:
        """Returns the examples at `positions`, in that order."""
        return replace(self, labels=self.labels[positions], rows=self.rows[positions])

    @property
    def paths(self) -> list[str | None]:
        """The name of each image's file, as the data has it."""
        return [self.images.path(int(row)) for row in self.rows]


@dataclass(frozen=True)
class ImageBatches:
    """A collator: gives decoded images to the model's `processor`, which resizes, crops and normalises them.

    Returns `pixel_values`, float32 of shape (examples, channels, height, width), and `labels`, int64 of shape
    (examples,). In an epoch of training, `in_epoch`, images are changed as `augment` says by what (seed, epoch) and an
    image's row draw, and "none" leaves them alone: "flip" mirrors half of them; "crop_flip" also cuts out a part, of 8%
    to 100% of the area and of a width of 3/4 to 4/3 of the height, and stretches it to what the model takes (Szegedy et
    al. 2015, arXiv 1409.4842; transformers' own example). `size`: the width and the height of what the model takes.
    """

    processor: Any
    augment: Augmentation = "none"
    size: tuple[int, int] | None = None
    drawn_from: tuple[int, int] | None = None

    @classmethod
    def of(cls, processor: Any, augment: Augmentation) -> ImageBatches:
        """Returns the collator of an evaluation; raises ModelError where images of several sizes fit in no batch."""
        batches = cls(processor, augment)
        height, width = batches._processed([PILImage.new("RGB", size) for size in PROBES]).shape[-2:]
        return replace(batches, size=(width, height))

    def in_epoch(self, seed: int, epoch: int) -> ImageBatches:
        """Returns the collator of an epoch of training."""
        return self if self.augment == "none" else replace(self, drawn_from=(seed, epoch))

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = [self._augmented(example["image"], example["row"]) for example in examples]
        pixels = self._processed(images)
        return {
            "pixel_values": torch.from_numpy(pixels),
            "labels": torch.tensor([example["labels"] for example in examples], dtype=torch.int64),
        }

    @property
    def _is_cropping(self) -> bool:
        return self.drawn_from is not None and self.augment == "crop_flip"

    def _processed(self, images: Sequence[Image]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Returns the images as the model takes them; those that were cropped have their size already."""
        keep: dict[str, Any] = {"do_resize": False, "do_center_crop": False} if self._is_cropping else {}
        made = [np.asarray(each) for each in self.processor(images=list(images), **keep)["pixel_values"]]
        shapes = {each.shape for each in made}
        if len(shapes) > 1:
            one, other = sorted(shapes)[:2]
            raise ModelError(
                f"its image processor ({type(self.processor).__name__}) makes arrays of several shapes, {one} and "
                f"{other}, which fit in no batch: have it crop, by do_center_crop and crop_size in its "
                "preprocessor_config.json"
            )
        return np.stack(made).astype(np.float32, copy=False)

    def _augmented(self, image: Image, row: int) -> Image:
        if self.drawn_from is None:
            return image
        seed, epoch = self.drawn_from
        generator = np.random.default_rng([seed, AUGMENTING, epoch, row])
        if self.augment == "crop_flip" and self.size is not None:
            # Not resize(…, box=…), which takes pixels beyond the edges of the box into account.
            image = image.crop(draw_crop(image.size, generator)).resize(self.size, resample=self._resampling)
        return ImageOps.mirror(image) if generator.random() < 0.5 else image

    @property
    def _resampling(self) -> Any:
        own = getattr(self.processor, "resample", None)
        return PILImage.Resampling.BILINEAR if own is None else PILImage.Resampling(int(own))


def draw_crop(size: tuple[int, int], generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Returns left, upper, right and lower of a part of an image of `size`, its width and its height.

    Its area is a share drawn evenly from 8% to 100%, its width over its height from 3/4 to 4/3, evenly in the
    logarithm; of ten draws the first that fits is taken, else the largest part in the middle whose ratio is allowed.
    """
    width, height = size
    for _ in range(TRIES):
        area = width * height * generator.uniform(*SHARES)
        ratio = np.exp(generator.uniform(*np.log(RATIOS)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            left, upper = (int(generator.integers(0, room, endpoint=True)) for room in (width - w, height - h))
            return left, upper, left + w, upper + h
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h
