"""What makes scores worth less than they seem: texts that two splits share, that are repeated, or that say nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.tasks.text_classification import LabelledTexts


def find_cautions(splits: Mapping[str, LabelledTexts], classes: Sequence[str]) -> list[str]:
    """Returns a line about each such thing, and about classes that differ in case alone.

    Texts are the same where every character is, and those of a second part. Takes time in proportion to their number.
    """
    texts = {split: _whole_texts(splits[split]) for split in sorted(splits, key=lambda split: split != "train")}
    labels = {split: _first_labels(texts[split], splits[split].labels) for split in texts}

    def line(count: int, split: str, what: str, contradicted: int = 0) -> str:
        otherwise = f", {contradicted:,} of them with another label" if contradicted else ""
        return f"{count:,} of {len(texts[split]):,} {split} texts {what}{otherwise}" if count else ""

    def contradicted(split: str, earlier: str) -> int:
        pairs = zip(texts[split], splits[split].labels, strict=True)
        return sum(labels[earlier].get(text, label) != label for text, label in pairs)

    lines = []
    for earlier, split in combinations(texts, 2):
        shared = sum(text in labels[earlier] for text in texts[split])
        lines.append(line(shared, split, f"are in {earlier} too", contradicted(split, earlier)))
    for split in texts:
        repeated = len(texts[split]) - len(labels[split])
        lines.append(line(repeated, split, "repeat an earlier one", contradicted(split, split)))
        lines.append(line(sum(not text.strip() for text in splits[split].texts), split, "are blank"))
    return [*filter(None, lines), *_same_but_for_case(classes)]


def _whole_texts(examples: LabelledTexts) -> Sequence[Hashable]:
    return examples.texts if examples.pairs is None else list(zip(examples.texts, examples.pairs, strict=True))


def _first_labels(texts: Sequence[Hashable], labels: Sequence[int]) -> dict[Hashable, int]:
    first: dict[Hashable, int] = {}
    for text, label in zip(texts, labels, strict=True):
        first.setdefault(text, label)
    return first


def _same_but_for_case(classes: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    pairs = [(first.setdefault(name.casefold(), name), name) for name in classes]
    return [f"the classes {one} and {other} differ in case alone" for one, other in pairs if one != other]
