"""The software that decides what a run computes: our own sources, and the versions of libraries."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
PACKAGE = Path(__file__).parents[1]


def version_of(distribution: str) -> str | None:
    """Returns the installed version, None where there is none, as of what is run from a folder of sources."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def package_hash() -> str:
    """Returns the SHA-256 of the names and contents of all Python files of this package.

    By it copies of one version that differ are told apart.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
