"""What may stand where a name or a path is asked for, so that none leads out of the folder it belongs in."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator

LONGEST_NAME, LONGEST_PART, LONGEST_PATH = 200, 255, 3000
_AnyPath = TypeVar("_AnyPath", str, Path)

_NAME = re.compile(r"\w[\w.+-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # no names of files on Windows
_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"\w[\w.+/-]{0,199}", re.ASCII)
_CONFIGURATION = re.compile(r'[^<>:/\\|?*"\s.][^<>:/\\|?*"]{0,199}')  # as datasets has it


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{json.dumps(name, ensure_ascii=False)} must be letters, digits, and . _ + - after the first")
    if _RESERVED.fullmatch(name):
        raise ValueError(f'"{name}" is no name for a folder on Windows; choose another')
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{len(name.encode())} bytes are too long for a folder's name; {LONGEST_NAME} are the most")
    return name


def _check_repository(name: str) -> str:
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise ValueError(
            f'"{name}" is no repository of the Hub, such as google-bert/bert-base-uncased; what is on this machine is '
            "named by model.path or data.files"
        )
    return name


def _check_revision(revision: str) -> str:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise ValueError(f'"{revision}" is no branch, tag or commit of a repository')
    return revision


def _check_configuration(name: str) -> str:
    if not _CONFIGURATION.fullmatch(name):
        raise ValueError(f'"{name}" is no configuration of a data set')
    return name


def _check_path(path: _AnyPath) -> _AnyPath:
    parts = Path(path).parts
    if parts and parts[0].endswith(":"):
        raise ValueError("is a URL, and only what is on this machine is read or written: give a path")
    if len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_PART for part in parts):
        raise ValueError(f"is too long for a path: {LONGEST_PATH} bytes are the most, {LONGEST_PART} between slashes")
    return path


FolderName = Annotated[str, AfterValidator(_check_name)]
Repository = Annotated[str, AfterValidator(_check_repository)]
Revision = Annotated[str, AfterValidator(_check_revision)]
Configuration = Annotated[str, AfterValidator(_check_configuration)]
LocalPath = Annotated[Path, AfterValidator(_check_path)]
LocalPathText = Annotated[str, AfterValidator(_check_path)]
