"""Tokenised examples in files that are mapped into memory, known by all that decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import tokenizers
import transformers
from numpy.lib import format as npy

from finetune.data import Keep
from finetune.tasks.encoding import Chunk, Integers, Tokens, in_memory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1
KIND = "tokens"
FACTS, OFFSETS = "tokens.json", "offsets.npy"


class MappedFeatures(dict[str, Integers]):
    """Name ▶ the values in a file of that name, mapped; another process is given the names, not the values."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        super().__init__({name: _mapped(folder / f"{name}.npy") for name in names})
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, list(self))


def tokens_of(
    chunks: Callable[[], Iterable[Chunk]],
    *,
    made: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    fingerprint: str | None,
    keep: Keep | None,
) -> Tokens:
    """Returns the examples of `chunks()`, which are made by `tokenizer`: in files that `keep` keeps, if it does.

    `fingerprint`: of the columns that they are read from, in order; `made`: whatever else decides them. Only what
    wholly lies in data is kept: not what code does that comes with a model, or a tokenizer in Python.
    """
    # So that it is the same, to be known by and to be saved, whether it is used below or not.
    tokenizer("", truncation=max_length is not None, max_length=max_length, padding=False, verbose=False)
    identity = None if keep is None or fingerprint is None else _identity(tokenizer)
    if keep is None or identity is None:
        return in_memory(chunks())
    key = {
        "format": FORMAT,
        "data": fingerprint,
        **made,
        "max_length": max_length,
        "tokenizer": identity,
        "tokenizers": tokenizers.__version__,
        "transformers": transformers.__version__,
    }
    kept: Tokens | None = keep(KIND, key, make=lambda folder: _write(folder, chunks()), read=_read)
    return in_memory(chunks()) if kept is None else kept


def _identity(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Returns the SHA-256 of what decides the tokens of a text; None where that isn't all data."""
    kind = type(tokenizer)
    if not tokenizer.is_fast or not kind.__module__.startswith("transformers."):
        return None
    settings = json.dumps([kind.__qualname__, tokenizer.model_input_names, tokenizer.split_special_tokens])
    try:
        pipeline = tokenizer.backend_tokenizer.to_str()
    except Exception:  # noqa: BLE001 - of parts in Python tokenizers says no more than that they can't be saved
        return None
    return hashlib.sha256(f"{settings}\n{pipeline}".encode("utf-8", "surrogatepass")).hexdigest()


def _write(folder: Path, chunks: Iterable[Chunk]) -> None:
    features: dict[str, _GrowingArray] = {}
    truncated = 0
    with ExitStack() as files:

        def array(name: str, dtype: str) -> _GrowingArray:
            return _GrowingArray(files.enter_context((folder / name).open("wb")), dtype)

        offsets, end = array(OFFSETS, "<i8"), 0
        offsets.append(np.zeros(1, dtype=np.int64))
        for chunk in chunks:
            for name, values in chunk.features.items():
                if name not in features:
                    features[name] = array(f"{name}.npy", "<i4")
                features[name].append(values)
            offsets.append(end + np.cumsum(chunk.lengths))
            end += int(chunk.lengths.sum())
            truncated += chunk.truncated
        for each in (offsets, *features.values()):
            each.finish()
    facts = {"features": list(features), "truncated": truncated}
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _read(folder: Path) -> Tokens:
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return Tokens(MappedFeatures(folder, facts["features"]), _mapped(folder / OFFSETS), facts["truncated"])


def _mapped(path: Path) -> Integers:
    # As a plain array, of which a slice takes a fifth of the time that one of a numpy.memmap does.
    values: Integers = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return values


class _GrowingArray:
    """A .npy file of a number of values that is known at the end; its header has room for that number."""

    def __init__(self, file: IO[bytes], dtype: str) -> None:
        self._file = file
        self._dtype = np.dtype(dtype)
        self._count = 0
        self._write_header()

    def append(self, values: Integers) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self._count += len(values)

    def finish(self) -> None:
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        descr = npy.dtype_to_descr(self._dtype)
        npy.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": (self._count,)})
