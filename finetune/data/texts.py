"""Text files before they are parsed: whether they are UTF-8 text, what else they are, and whether quoted cells end."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

OTHER_KINDS = {
    b"PAR1": "a parquet file; name it .parquet",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as csv",
    b"\xff\xfe": "UTF-16 or UTF-32 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"\x00\x00\xfe\xff": "UTF-32 text; save it as UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS, not the data; fetch them with git lfs pull",
}
"""What a file begins with that isn't of the kind that its name says ▶ what it is, and what to do."""


def other_kind(content: bytes) -> str | None:
    """Returns what a file is instead, and what to do about it, where its beginning tells."""
    if not content or content.isspace():
        return "empty"
    return next((kind for start, kind in OTHER_KINDS.items() if content.startswith(start)), None)


def read_utf8(path: Path) -> bytes:
    """Returns the content of a text file, without byte order marks.

    Raises ValueError where it is empty or isn't UTF-8; a NUL byte is the sign of UTF-16, or of a damaged file.
    """
    content = path.read_bytes()
    while content.startswith(codecs.BOM_UTF8):
        content = content.removeprefix(codecs.BOM_UTF8)
    kind, place = other_kind(content), _not_text(content)
    if kind and (place is not None or len(content) < 1000):
        raise ValueError(f"it is {kind}")
    if place is not None:
        raise ValueError(
            f"the byte 0x{content[place]:02x} in line {_line(content, place):,} isn't UTF-8 text; save it as UTF-8"
        )
    return content


def _not_text(content: bytes) -> int | None:
    """Returns the place of a byte that no UTF-8 text has."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.start
    place = content.find(0)
    return place if place >= 0 else None


def _line(content: bytes, place: int) -> int:
    return 1 + len(re.findall(rb"\r\n?|\n", content[:place]))


def check_quotes(content: bytes, delimiter: bytes) -> None:
    """Raises ValueError where a quoted cell is never closed, or goes on after its closing quote.

    Arrow takes the rest of the file for the cell, or the rest of the cell for more text, and says nothing.
    """
    ends = delimiter + rb"\r\n"
    quoted = rb'(?:\A|[%b])("[^"]*+(?:""[^"]*+)*+)(?:"(?=[%b]|\Z)|(?P<fault>"?))' % (ends, ends)
    cell = next((cell for cell in re.finditer(quoted, content) if cell["fault"] is not None), None)
    if cell:
        fault = "goes on after its closing quote" if cell["fault"] else "is never closed"
        start = content[cell.start(1) : cell.start(1) + 30].decode(errors="ignore")
        raise ValueError(
            f"the quoted cell {start!r} in line {_line(content, cell.start(1)):,} {fault}; within a quoted cell, write "
            "a quote as two"
        )
