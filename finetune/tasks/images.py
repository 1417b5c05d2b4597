"""A column of images: files, or their bytes; opened one at a time, and examined before anything is trained on them."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import DataError, SettingError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from finetune.data import Column, Rows

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read. Others that PIL knows have other programs run on what a stranger wrote."""
MOST_PIXELS = 2**26
"""The most pixels of an image; decoded, so many take 200 MB."""
NOT_OF_BYTES = ("F", "I")
"""How the modes begin of images with a number to a pixel that isn't a byte, whose conversion to RGB cuts it off."""
JPEG_END = b"\xff\xd9"


def check_pillow() -> None:
    """Raises SettingError where images can't be opened."""
    if find_spec("PIL") is None:
        raise SettingError("task.name", "images need pillow: pip install 'finetune-schedules[images]'")


@dataclass(frozen=True)
class Examined:
    """What n images are. `digests`: shape (n, 32), uint8, the SHA-256 of the bytes of each; `sizes`: shape (n, 2), the
    width and the height of each as it is stored, in pixels."""

    digests: np.ndarray[Any, np.dtype[np.uint8]]
    sizes: np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Images:
    """The n images of a split: `column` holds names of files, as texts or as `Rows.beside` has them, or bytes, also as
    `datasets` keeps images, or texts with the folder. Nothing is opened before it is asked for, and nothing is kept."""

    split: str
    name: str
    column: Column

    @classmethod
    def of(cls, split: str, rows: Rows, column: str) -> Images:
        """Returns the images in a column; raises DataError where it can hold none."""
        from pyarrow import types

        kind = rows.table.schema.field(column).type
        has_parts = types.is_struct(kind) and any(kind.get_field_index(part) >= 0 for part in ("path", "bytes"))
        if not has_parts and rows.kind(column) not in {"string", "large_string", "binary", "large_binary"}:
            raise DataError(
                f'column "{column}" of the {split} split holds {rows.kind(column)}, not images; name the column of '
                "files' names, of bytes, or of objects with a path or bytes, as datasets writes images"
            )
        return cls(split, column, rows.column(column))

    def __len__(self) -> int:
        return len(self.column)

    def path(self, row: int) -> str | None:
        """Returns the name of a file as the data has it; None where it has bytes without a name."""
        return self._stored(row)[1]

    def content(self, row: int) -> bytes:
        """Returns the bytes of an image file; raises DataError where they can't be had."""
        content, path, folder = self._stored(row)
        if content is not None:
            return content
        if path is None:
            raise DataError(f"{self._where(row)}: empty; fill or remove it")
        if "://" in path:
            raise DataError(f"{self._where(row)}: is a URL, and only what is on this machine is read: give a path")
        file = Path(folder, path)
        try:
            if not file.is_file():
                what = "is no regular file" if file.exists() else "no such file"
                raise DataError(f"{self._where(row)}: {what}; the name of a file is seen from the folder of the data")
            return file.read_bytes()
        except OSError as error:
            raise DataError(f"{self._where(row)}: can't be read: {error.strerror}") from error

    def examine(self) -> Examined:
        """Reads every image once, without decoding what can be known to be whole; raises DataError for one that isn't.

        Those of PNG are checked by their checksums, those of JPEG by their header and their end; others are decoded.
        """
        import numpy as np

        digests, sizes = np.empty((len(self), 32), dtype=np.uint8), np.empty((len(self), 2), dtype=np.int64)
        for row in range(len(self)):
            content = self.content(row)
            digests[row] = np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)
            sizes[row] = self._examine(content, row)
        return Examined(digests, sizes)

    def _examine(self, content: bytes, row: int) -> tuple[int, int]:
        if not content:
            raise DataError(f"{self._where(row)}: has no bytes; restore or remove it")
        with self._opened(content, row) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{self._where(row)}: has {width:,} × {height:,} pixels, more than {MOST_PIXELS:,}: make it smaller"
                )
            if image.mode.startswith(NOT_OF_BYTES):
                raise DataError(
                    f"{self._where(row)}: has grey values of more than 8 bits (mode {image.mode}), which RGB has no "
                    "room for: write it with 8 bits"
                )
            if image.format == "PNG":
                image.verify()
            else:
                image.getexif()
                if image.format != "JPEG" or not content.rstrip(b"\0").endswith(JPEG_END):
                    image.load()
        return width, height

    def decoded(self, row: int) -> Image.Image:
        """Returns an image the right way up, in RGB; raises DataError where it can't be decoded."""
        from PIL import ImageOps

        with self._opened(self.content(row), row) as image:
            return ImageOps.exif_transpose(image).convert("RGB")

    @contextmanager
    def _opened(self, content: bytes, row: int) -> Iterator[Image.Image]:
        """Yields an image to be looked at; turns all that PIL raises, then or meanwhile, into one DataError."""
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                    yield image
        except DataError:
            raise
        except UnidentifiedImageError as error:
            raise DataError(
                f"{self._where(row)}: is no image that is read ({', '.join(FORMATS)}), or it is damaged"
            ) from error
        except Exception as error:  # PIL raises errors of nearly every kind for what is damaged
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise DataError(f"{self._where(row)}: is damaged or cut short, or too large: {reason[0]}") from error

    def _stored(self, row: int) -> tuple[bytes | None, str | None, str]:
        value: Any = self.column[row]
        if isinstance(value, bytes):
            return value, None, ""
        if isinstance(value, str):
            return None, value, ""
        parts = value or {}
        return parts.get("bytes"), parts.get("path"), parts.get("folder") or ""

    def _where(self, row: int) -> str:
        _, path, folder = self._stored(row)
        place = f'row {row + 1:,} of column "{self.name}" of the {self.split} split'
        return place if path is None else f"{Path(folder, path)} ({place})"
