"""Which task a table is for, told by the names of its columns and by what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from finetune.data import Rows
from finetune.errors import SettingError, did_you_mean, listed
from finetune.tasks import as_task

LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "topic",
    "intent",
    "rating",
    "score",
    "stars",
    "y",
)
TEXTS = ("text", "sentence", "review", "content", "body", "comment", "tweet", "message", "document", "description")
PAIRS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("query", "passage"),
)
TAGS = ("tags", "ner_tags", "pos_tags", "labels")
MOST_CLASSES = 50
"""More distinct numbers than these are taken for measurements, and more distinct texts for no classes."""
LOOK = 1000
"""How many rows are looked at where a part tells enough."""
TEXT = ("string", "large_string")


@dataclass(frozen=True)
class Proposal:
    """The `task` block, and in a few words why."""

    settings: Mapping[str, Any]
    why: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of texts that tell two examples apart."""
        own = self.settings
        names = (
            own.get(key)
            for key in ("text", "text_pair", "question", "context", "tokens", "prompt", "messages", "choices")
        )
        return tuple(name for name in names if isinstance(name, str))

    @property
    def longest(self) -> int | None:
        """How many tokens the task takes of an example unless told otherwise, if it is of texts."""
        return as_task(dict(self.settings)).longest

    @property
    def label(self) -> str | None:
        """The column of classes, of a task that has one."""
        return self.settings["label"] if self.settings["name"] in ("text_classification", "multiple_choice") else None


def propose_task(rows: Rows, *, task: str | None = None, text: str | None = None, label: str | None = None) -> Proposal:
    """Returns the task that `rows` are for; what is given is kept, and the rest found.

    Raises SettingError, with the option that decides it, where a column isn't there or nothing tells.
    """
    for option, column in (("--text", text), ("--label", label)):
        if column is not None and column not in rows.columns:
            raise SettingError(
                option,
                f'there is no column "{column}"; there are {listed(rows.columns)}{did_you_mean(column, rows.columns)}',
            )
    for found in _by_names(rows, text=text, label=label):
        if task in (None, found.settings["name"]):
            return found
    label = label or _label_of(rows, without=text)
    if label is None:
        return _language_model(rows, task=task, text=text or _text_of(rows, without=None))
    first, second = (text, None) if text else _texts_of(rows, label)
    settings = {"text": first, **({"text_pair": second} if second else {}), "label": label}
    name, why = _kind_of_label(rows, label)
    return Proposal({"name": task or name, **settings}, why)


def _by_names(rows: Rows, *, text: str | None, label: str | None) -> Iterator[Proposal]:
    """Yields what is told by several columns of usual names together."""
    has = {*rows.columns}.issuperset
    if "messages" in rows.columns and rows.kind("messages") == "lists" and label is None:
        settings = {"name": "causal_language_modelling", "messages": "messages", "loss_on": "answers"}
        yield Proposal(settings, "a column of messages")
    if has(("prompt", "completion")) and label is None:
        settings = {"name": "causal_language_modelling", "prompt": "prompt", "completion": "completion"}
        yield Proposal(settings | {"loss_on": "answers"}, "columns of prompts and completions")
    if has(("question", "context", "answers")) and rows.kind("answers") == "objects":
        yield Proposal({"name": "question_answering"}, "columns as in SQuAD")
    tags = label or next((name for name in TAGS if name in rows.columns), None)
    if "tokens" in rows.columns and tags and rows.kind("tokens") == rows.kind(tags) == "lists":
        yield Proposal({"name": "token_classification", "tokens": "tokens", "tags": tags}, "lists of words and of tags")
    if has(("choices", "label")) and rows.kind("choices") == "lists":
        own = text or next((name for name in (*TEXTS, "question") if name in rows.columns), None)
        settings = {"name": "multiple_choice", "choices": "choices", "label": label or "label"}
        yield Proposal(settings | ({"text": own} if own else {}), "a column of lists of choices")


def _language_model(rows: Rows, *, task: str | None, text: str | None) -> Proposal:
    if task not in ("causal_language_modelling", "masked_language_modelling") or text is None:
        raise SettingError(
            "--label",
            f"no column looks like labels, of {listed(rows.columns)}: name it; or, to train on texts alone, give "
            "--task masked_language_modelling or causal_language_modelling",
        )
    return Proposal({"name": task, "text": text}, "texts alone")


def _label_of(rows: Rows, *, without: str | None) -> str | None:
    by_lower = {name.lower(): name for name in reversed(rows.columns) if name != without}
    for name in LABELS:
        if name in by_lower:
            return by_lower[name]
    few = {name: len(set(values)) for name, values in _plain_columns(rows) if name != without}
    fitting = [name for name, count in few.items() if 2 <= count <= min(MOST_CLASSES, max(2, len(rows) // 10))]
    return min(fitting, key=few.__getitem__, default=None)


def _plain_columns(rows: Rows) -> Iterator[tuple[str, list[Any]]]:
    for name in rows.columns:
        if rows.kind(name) not in ("lists", "objects", "binary"):
            yield name, rows.column(name)[:LOOK]


def _texts_of(rows: Rows, label: str) -> tuple[str, str | None]:
    for first, second in PAIRS:
        if {first, second} <= {*rows.columns}:
            return first, second
    text = _text_of(rows, without=label)
    if text is None:
        raise SettingError("--text", f"no column holds text, of {listed(rows.columns)}: name it")
    return text, None


def _text_of(rows: Rows, *, without: str | None) -> str | None:
    texts = {name: values for name, values in _plain_columns(rows) if rows.kind(name) in TEXT and name != without}
    by_lower = {name.lower(): name for name in reversed(texts)}
    for name in TEXTS:
        if name in by_lower:
            return by_lower[name]
    return max(texts, key=lambda name: fmean(len(value or "") for value in texts[name]), default=None)


def _kind_of_label(rows: Rows, label: str) -> tuple[str, str]:
    kind, values = rows.kind(label), rows.column(label)
    if kind == "lists":
        return "multi_label", f"{label} holds lists"
    distinct = {value for value in values if value is not None}
    measures = kind.startswith("float") or (kind.startswith(("int", "uint")) and len(distinct) > MOST_CLASSES)
    if measures and label not in rows.class_names:
        return "text_regression", f"{label} holds {len(distinct):,} different numbers"
    if len(distinct) > max(MOST_CLASSES, len(rows) // 10):
        raise SettingError(
            "--label",
            f"{label} has {len(distinct):,} different values in {len(rows):,} rows, too many for classes: name "
            f"another column of {listed(rows.columns)}",
        )
    return "text_classification", f"{label} has {len(distinct)} different values"


def shares(labels: Sequence[Any]) -> list[tuple[str, float]]:
    """Returns each label with its share, the commonest first."""
    counts = Counter(map(str, labels))
    return [(name, count / len(labels)) for name, count in counts.most_common()]
