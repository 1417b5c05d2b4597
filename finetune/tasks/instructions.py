"""Prompts with their answers, and conversations: which tokens are of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.data import CHUNK
from finetune.errors import DataError, ModelError
from finetune.tasks.on_demand import OnDemand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from finetune.data import Column, Rows
    from finetune.tasks.encoding import Chunk

ASSISTANT = "assistant"
Parts = list[tuple[str, bool]]
"""A text in parts, each with whether it is of an answer."""


@dataclass(frozen=True)
class JoinedTexts(OnDemand[str]):
    """Two columns of texts as one."""

    first: Sequence[str]
    second: Sequence[str]

    def __len__(self) -> int:
        return len(self.first)

    def between(self, start: int, end: int) -> list[str]:
        return [one + two for one, two in zip(self.first[start:end], self.second[start:end], strict=True)]


@dataclass(frozen=True)
class WrittenOut(OnDemand[str]):
    """Conversations as texts to compare them by."""

    messages: Sequence[list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.messages)

    def between(self, start: int, end: int) -> list[str]:
        return [json.dumps(each) for each in self.messages[start:end]]


@dataclass(frozen=True)
class PromptedAnswers:
    """The examples of one split: prompts, and the completion of each."""

    split: str
    prompts: Sequence[str]
    completions: Sequence[str]

    templated = False

    def __len__(self) -> int:
        return len(self.prompts)

    def parts(self, start: int, end: int, tokenizer: PreTrainedTokenizerBase, *, told_apart: bool) -> list[Parts]:
        """Returns the examples from `start` to `end`."""
        pairs = zip(self.prompts[start:end], self.completions[start:end], strict=True)
        return [[(prompt, not told_apart), (completion, True)] for prompt, completion in pairs]


@dataclass(frozen=True)
class Conversations:
    """The examples of one split: lists of messages, each with its role and its content, of which some are answers."""

    split: str
    column: str
    messages: Sequence[list[dict[str, Any]]]

    templated = True

    def __len__(self) -> int:
        return len(self.messages)

    def parts(self, start: int, end: int, tokenizer: PreTrainedTokenizerBase, *, told_apart: bool) -> list[Parts]:
        """Returns the examples from `start` to `end` as the tokenizer's template writes them.

        Raises DataError where the template refuses one, or doesn't tell where in it the answers are.
        """
        found = []
        for row, messages in enumerate(self.messages[start:end], start=start):
            turns = [{"role": message["role"], "content": message["content"]} for message in messages]
            try:
                found.append(_written(turns, tokenizer) if told_apart else [(_rendered(turns, tokenizer), True)])
            except Exception as error:  # a template is a program, and raises what it likes
                raise DataError(
                    f'column "{self.column}" of the {self.split} split: the chat template of the model fails in row '
                    f"{row + 1:,}: {error}"
                ) from error
        return found


def _rendered(turns: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, *, asks: bool = False) -> str:
    text: Any = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=asks)
    return str(text)


def _written(turns: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> Parts:
    whole, parts, end = _rendered(turns, tokenizer), [], 0
    for place, turn in enumerate(turns):
        if turn["role"] != ASSISTANT:
            continue
        asked = _rendered(turns[:place], tokenizer, asks=True) if place else ""
        answered = _rendered(turns[: place + 1], tokenizer)
        if not (whole.startswith(answered) and answered.startswith(asked)):
            raise ValueError(
                "what it writes of a turn depends on the turns that follow, so that answers can't be told from "
                "prompts; set task.loss_on to all, or give task.prompt and task.completion"
            )
        parts += [(whole[end : len(asked)], False), (whole[len(asked) : len(answered)], True)]
        end = len(answered)
    return [*parts, (whole[end:], False)]


def conversations_of(split: str, rows: Rows, column: str) -> Column:
    """Returns a column of conversations; raises DataError where a cell is none, or nobody answers in it."""
    kind = str(rows.table.schema.field(column).type)
    where = f'column "{column}" of the {split} split'
    needed = "a list of messages, each of which has a role and a content, both texts"
    if rows.kind(column) != "lists":
        raise DataError(f"{where} holds {rows.kind(column)}; a conversation is {needed}")
    values = rows.column(column)
    for start in range(0, len(values), CHUNK):
        for row, messages in enumerate(values[start : start + CHUNK], start=start + 1):
            if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
                raise DataError(f"{where} holds in row {row:,} what is no conversation ({kind}); it is {needed}")
            if all(message["role"] != ASSISTANT for message in messages):
                raise DataError(f'{where} has no message of the role "{ASSISTANT}" in row {row:,}: nothing to learn')
    return values


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(name), str) for name in ("role", "content"))


def answered_texts(
    examples: PromptedAnswers | Conversations,
    *,
    tokenizer: PreTrainedTokenizerBase,
    end: int,
    told_apart: bool,
    max_length: int,
    chunk_size: int = CHUNK,
) -> Iterator[Chunk]:
    """Yields the examples tokenised, `chunk_size` at a time and cut to `max_length`, with a label for each token.

    That is the token that follows it, −100 where that isn't of an answer or is cut off; without `told_apart` all are.
    A completion is followed by the token `end`, as part of the answer; a template says itself how a turn ends. A token
    over the border of a prompt and its answer is of the answer. Raises ModelError where the tokenizer can't tell where
    in a text its tokens are.
    """
    import numpy as np

    from finetune.tasks.encoding import NO_LABEL, Chunk

    if not tokenizer.is_fast:
        raise ModelError(
            f"{tokenizer.name_or_path}: its tokenizer can't tell where in a text its tokens are, and so not which are "
            "of an answer; choose a model that has a tokenizer.json"
        )
    for start in range(0, len(examples), chunk_size):
        parts = examples.parts(start, start + chunk_size, tokenizer, told_apart=told_apart)
        ids, labels, lengths, truncated = [], [], [], 0
        for each, flagged in _tokens(parts, tokenizer, special=not examples.templated):
            whole, counts = each, flagged
            if not examples.templated and (not len(each) or each[-1] != end):
                whole, counts = np.append(each, end), np.append(flagged, True)
            kept = whole[:max_length]
            truncated += len(kept) < len(whole)
            ids.append(kept)
            labels.append(np.append(np.where(counts[1 : len(kept)], kept[1:], NO_LABEL), NO_LABEL))
            lengths.append(len(kept))
        yield Chunk(
            {
                "input_ids": np.concatenate(ids).astype(np.int32),
                "labels": np.concatenate(labels).astype(np.int32),
            },
            np.asarray(lengths, dtype=np.int64),
            truncated,
        )


def _tokens(
    examples: Sequence[Parts], tokenizer: PreTrainedTokenizerBase, *, special: bool
) -> Iterator[tuple[Any, Any]]:
    """Yields the tokens of each example, shape (tokens,), and whether each of them is of an answer."""
    import numpy as np

    texts = ["".join(text for text, _ in parts) for parts in examples]
    encoded = tokenizer(texts, add_special_tokens=special, truncation=False, return_offsets_mapping=True, verbose=False)
    for parts, ids, offsets in zip(examples, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        borders = np.cumsum([len(text) for text, _ in parts])
        # Special tokens are nowhere in the text, at (0, 0): those at its end are of what is before them.
        ends = np.maximum.accumulate(np.asarray([last for _, last in offsets], dtype=np.int64))
        flags = np.asarray([flag for _, flag in parts])
        yield np.asarray(ids, dtype=np.int64), flags[np.searchsorted(borders, ends)]
