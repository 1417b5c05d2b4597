"""What makes scores worth less than they seem: texts that two splits share, that are repeated, or that say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from finetune.data import CHUNK
from finetune.errors import listed

if TYPE_CHECKING:
    import numpy as np

    from finetune.tasks.labelled_texts import LabelledTexts

    Array = np.ndarray[Any, Any]
    Integers = np.ndarray[Any, np.dtype[np.int64]]


@runtime_checkable
class Hashed(Protocol):
    """n examples that aren't texts: numbers that are the same for the same ones, and labels, of shape (n,) each."""

    @property
    def hashes(self) -> Integers: ...
    @property
    def labels(self) -> Integers: ...


def find_cautions(
    splits: Mapping[str, LabelledTexts | Hashed], classes: Sequence[str], *, noun: str = "texts"
) -> list[str]:
    """Returns a line about each such thing, and about classes that look like others or like none.

    Texts are the same where every character is, and those of a second part. They are told apart by Python's own 64-bit
    hashes, keyed anew in every process: of ten million, two that differ pass as one once in 400,000 times. Takes time
    and memory in proportion to their number, not to their length.
    """
    order = sorted(splits, key=lambda split: split != "train")
    found = {split: _Texts.of(splits[split]) for split in order}

    def line(split: str, count: int, what: str, contradicted: int = 0) -> str:
        otherwise = f", {contradicted:,} of them with another label" if contradicted else ""
        return f"{count:,} of {len(found[split].labels):,} {split} {noun} {what}{otherwise}" if count else ""

    lines = []
    for earlier, split in combinations(order, 2):
        shared, contradicted = found[split].in_common_with(found[earlier])
        lines.append(line(split, shared, f"are in {earlier} too", contradicted))
    for split, texts in found.items():
        _, contradicted = texts.in_common_with(texts)
        lines.append(line(split, len(texts.hashes) - len(texts.distinct), "repeat an earlier one", contradicted))
        lines.append(line(split, texts.blank, "are blank"))
    return [*filter(None, lines), *_same_but_for_case(classes), *_no_label(classes)]


@dataclass(frozen=True)
class _Texts:
    """The n texts of a split by their hashes, and their labels, shape (n, …); the distinct ones, ascending, with the
    label of the first of each; how many are blank."""

    hashes: Integers
    labels: Array
    distinct: Integers
    first_labels: Array
    blank: int

    @classmethod
    def of(cls, examples: LabelledTexts | Hashed) -> _Texts:
        import numpy as np

        hashes, blank = (examples.hashes, 0) if isinstance(examples, Hashed) else cls._hashed(examples)
        labels = np.asarray(examples.labels)
        distinct, first = np.unique(hashes, return_index=True)
        return cls(hashes, labels, distinct, labels[first], blank)

    @staticmethod
    def _hashed(examples: LabelledTexts) -> tuple[Integers, int]:
        """Returns the hash of each text, shape (n,), and how many are blank."""
        import numpy as np

        parts, blank = [], 0
        for start in range(0, len(examples.texts), CHUNK):
            texts = examples.texts[start : start + CHUNK]
            pairs = None if examples.pairs is None else examples.pairs[start : start + CHUNK]
            whole: Any = texts if pairs is None else zip(texts, pairs, strict=True)
            parts.append(np.fromiter(map(hash, whole), dtype=np.int64, count=len(texts)))
            blank += sum(not text.strip() for text in texts)
        return np.concatenate(parts), blank

    def in_common_with(self, other: _Texts) -> tuple[int, int]:
        """Returns how many texts are among those of `other`, and how many of them have not the label of its first."""
        import numpy as np

        places = np.searchsorted(other.distinct, self.hashes)
        places[places == len(other.distinct)] = 0
        shared = other.distinct[places] == self.hashes
        differ = (other.first_labels[places] != self.labels).reshape(len(shared), -1).any(axis=1)
        return int(shared.sum()), int((shared & differ).sum())


def _same_but_for_case(classes: Sequence[str]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(name.strip().casefold(), []).append(name)
    return [f"the classes {listed(names)} differ in case or spaces alone" for names in alike.values() if len(names) > 1]


def _no_label(classes: Sequence[str]) -> list[str]:
    is_likely = {"-1", "0"} <= {*classes} and all(name == "-1" or name.isdecimal() for name in classes)
    return ["the class -1 often stands for no label: if it does here, leave its rows out"] if is_likely else []
