"""Writes the handwritten digits that scikit-learn comes with as folders of images, and a small model of random weights.

    .venv/bin/python scripts/write_digits.py

Needs scikit-learn and pillow, which the extra `dev` has, and no connection. The digits are 1,797 images of 8 × 8 pixels
(E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0;
their test set). The model is a vision transformer with 0.2M parameters, drawn by one seed: pretrained on nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VALIDATION, TEST = 200, 400
BRIGHTEST = 16
"""What the darkest ink has in the source; as a byte it is 255."""
SIDE = 8


def split_of(images: Sequence[Any]) -> dict[str, list[int]]:
    """Returns train, validation and test as places in `images`, by the hash of the pixels: the same wherever it's done.

    Images that are equal in every pixel, which would be in two splits, are there once.
    """
    first: dict[str, int] = {}
    for place, image in enumerate(images):
        first.setdefault(hashlib.sha256(image.tobytes()).hexdigest(), place)
    ordered = [first[digest] for digest in sorted(first)]
    return {
        "train": ordered[VALIDATION + TEST :],
        "validation": ordered[:VALIDATION],
        "test": ordered[VALIDATION : VALIDATION + TEST],
    }


def write_digits(folder: Path) -> None:
    """Writes SPLIT/DIGIT/PLACE.png into `folder`."""
    from PIL import Image
    from sklearn.datasets import load_digits

    source = load_digits()
    images = (source.images * 255 / BRIGHTEST).round().astype("uint8")
    for split, places in split_of(images).items():
        for place in places:
            path = folder / split / str(source.target[place]) / f"{place:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[place]).save(path)


def write_model(folder: Path) -> None:
    """Writes a vision transformer of random weights for the digits, without a head, and its image processor."""
    import torch
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=SIDE,
        patch_size=2,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "assets"
    parser.add_argument("--directory", type=Path, default=default, help="where to put them (default: %(default)s)")
    assets = parser.parse_args(arguments).directory
    for folder, write in ((assets / "digits", write_digits), (assets / "vit_of_random_weights", write_model)):
        if folder.exists():
            print(f"{folder}: already there")
            continue
        try:
            write(folder)
        except (ImportError, OSError) as error:
            print(f"write_digits: {error}", file=sys.stderr)
            return 2
        print(f"{folder}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
