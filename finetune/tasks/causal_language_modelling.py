"""Causal language modelling: each token from those before it, of texts, or of the answers to instructions alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from finetune.errors import ModelError, SettingError
from finetune.tasks.base import Outline
from finetune.tasks.columns import check_length_setting, texts_of
from finetune.tasks.instructions import (
    Conversations,
    JoinedTexts,
    PromptedAnswers,
    WrittenOut,
    answered_texts,
    conversations_of,
)
from finetune.tasks.language_modelling import Documents, LanguageModelling, as_labelled

if TYPE_CHECKING:
    from finetune.data import Keep, Rows
    from finetune.tasks.encoding import Chunk, EncodedSplit
    from finetune.tasks.next_tokens import NextTokens
    from finetune.tasks.pretrained import LoadedModel, Pretrained

TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class CausalLanguageModelling(LanguageModelling):
    """Settings. One of: `text`, a column of texts; `prompt` and `completion`, columns of texts; `messages`, a column of
    lists of messages, each with a role and a content, which the model's chat template writes.

    `packing`: whether texts are put end to end, each followed by the end token, and cut into sequences of `max_length`
    tokens; attention then reaches over the borders of texts within a sequence. On unless it is false, and then each
    text is a sequence, as each instruction always is, of at most `max_length` tokens. `loss_on`: of instructions,
    "answers" alone, or "all".
    """

    name: Literal["causal_language_modelling"] = "causal_language_modelling"
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    packing: bool | None = None
    loss_on: Literal["answers", "all"] | None = None
    max_length: int = 512

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)
        if (self.prompt is None) != (self.completion is None):
            missing = "prompt" if self.prompt is None else "completion"
            raise SettingError(missing, "required, and missing: a prompt and its completion go together")
        given = [name for name in ("text", "prompt", "messages") if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingError(given[1], f"can't be had with {given[0]}: give a column of one kind")
        if not given:
            object.__setattr__(self, "text", TEXT)
        if self._is_instructed and self.packing:
            raise SettingError("packing", "is for texts; each instruction is a sequence by itself: leave it out")
        if not self._is_instructed and self.loss_on is not None:
            raise SettingError("loss_on", "is for prompts and messages; every token of a text counts: leave it out")

    @property
    def _is_instructed(self) -> bool:
        return self.prompt is not None or self.messages is not None

    @property
    def _packs(self) -> bool:
        return not self._is_instructed and self.packing is not False

    @property
    def one_to_one(self) -> bool:
        """Whether each example read is a sequence of its own."""
        return not self._packs

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        if self.messages is not None:
            return (self.messages,)
        if self.prompt is not None and self.completion is not None:
            return self.prompt, self.completion
        assert self.text is not None  # noqa: S101 - set where nothing else is
        return (self.text,)

    def _examples(self, split: str, rows: Rows) -> Documents | PromptedAnswers | Conversations:
        if self.messages is not None:
            return Conversations(split, self.messages, conversations_of(split, rows, self.messages))
        if self.prompt is not None:
            return PromptedAnswers(split, *(texts_of(split, rows, column) for column in self.columns))
        made: Documents = super()._examples(split, rows)
        return made

    def outline(self, examples: Any, classes: Sequence[str]) -> Outline:
        """Returns the texts; of conversations none, as only the model's template says how they are written."""
        if isinstance(examples, Conversations):
            return Outline(len(examples), {}, ())
        texts = examples.texts if isinstance(examples, Documents) else _joined(examples)
        return Outline(len(examples), {}, (texts,), added=1)

    def cautions(self, splits: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank texts."""
        from finetune.tasks.cautions import find_cautions

        return find_cautions({split: _comparable(each) for split, each in splits.items()}, ())

    def load_processor(self, source: Pretrained) -> Any:
        """Returns the model's own tokenizer; raises ModelError where it lacks an end token, or a template it needs."""
        tokenizer = super().load_processor(source)
        _end_of(tokenizer)
        if self.messages is not None and not tokenizer.chat_template:
            raise ModelError(
                f"{source.location}: its tokenizer has no chat template, by which messages are written; choose a model "
                "for conversations, or give task.prompt and task.completion"
            )
        return tokenizer

    def encode(
        self, examples: Any, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> EncodedSplit:
        """Returns the sequences, as the base's; the labels of tokens are theirs, or made of them by the collator.

        Raises DataError where there is nothing to learn of an example, as its answer is cut off.
        """
        from finetune.tasks.encoding import EncodedSplit
        from finetune.tasks.kept_tokens import tokens_of

        tokens = tokens_of(
            partial(self._chunks, examples, processor),
            made={
                "task": self.name,
                "columns": type(examples).__name__,
                "packed": self._packs,
                "loss_on": self.loss_on,
                "length": self.max_length,
                "end": _end_of(processor),
                "template": str(processor.chat_template) if self.messages is not None else None,
            },
            tokenizer=processor,
            max_length=None,
            fingerprint=fingerprint,
            keep=keep,
        )
        return EncodedSplit.of(tokens, None)

    def _chunks(self, examples: Any, processor: Any) -> Iterator[Chunk]:
        from finetune.tasks.encoding import NO_LABEL
        from finetune.tasks.packing import ended_texts, none_empty, packed, sums_of_each

        end, length = _end_of(processor), self.max_length
        if self._packs:
            return packed(ended_texts(examples.texts, tokenizer=processor, end=end, special=True), size=length)
        if not self._is_instructed:
            return none_empty(
                ended_texts(examples.texts, tokenizer=processor, end=end, special=True, max_length=length),
                lambda chunk: chunk.lengths - 1,
                problem=lambda count, of, first: (
                    f"{count:,} of the {of:,} texts of the {examples.split} split have no token to predict, the first "
                    f"of them row {first:,}: fill or remove them"
                ),
            )
        return none_empty(
            answered_texts(examples, tokenizer=processor, end=end, told_apart=self.loss_on != "all", max_length=length),
            lambda chunk: sums_of_each(chunk.features["labels"] != NO_LABEL, chunk.lengths),
            problem=lambda count, of, first: (
                f"of {count:,} of the {of:,} examples of the {examples.split} split, the first of them row {first:,}, "
                f"nothing of the answer is left, as they are cut to {length} tokens: raise task.max_length, or remove "
                "them"
            ),
        )

    def collator(self, processor: Any) -> NextTokens:
        """Returns what makes a batch of sequences: dynamic padding, and as labels the tokens that follow."""
        from finetune.tasks.next_tokens import NextTokens

        return NextTokens.of(processor)

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained model, all of it: a head that isn't pretrained would make its first words noise.

        Raises ModelError where a tensor is missing, and for a model in which a token attends to those that follow.
        """
        from transformers import AutoModelForCausalLM

        from finetune.tasks.next_tokens import sees_what_follows
        from finetune.tasks.pretrained import load_model

        loaded = load_model(AutoModelForCausalLM, source, seed=seed)
        if loaded.new_tensors:
            raise ModelError(
                f"{source.location}: its weights lack {', '.join(loaded.new_tensors)}, so it is no causal language "
                "model that was pretrained; choose one whose weights have its head"
            )
        if not source.without_weights and sees_what_follows(loaded.model):
            raise ModelError(
                f"{source.location}: is no causal language model, as its tokens attend to those that follow, which are "
                "to be predicted; for it take task.name: masked_language_modelling"
            )
        # Training has no use for a cache of what was attended to; what generates goes by its own configuration.
        loaded.model.config.use_cache = False
        return loaded


def _joined(examples: PromptedAnswers) -> JoinedTexts:
    return JoinedTexts(examples.prompts, examples.completions)


def _comparable(examples: Any) -> Any:
    if isinstance(examples, Conversations):
        return as_labelled(WrittenOut(examples.messages))
    if isinstance(examples, PromptedAnswers):
        return as_labelled(examples.prompts, examples.completions)
    return as_labelled(examples.texts)


def _end_of(tokenizer: Any) -> int:
    """Returns the token that ends a text; raises ModelError where there is none."""
    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise ModelError(
            f"{tokenizer.name_or_path}: its tokenizer has no end token (eos_token), by which a text ends; choose a "
            "causal language model, or name the token in its tokenizer_config.json"
        )
    return end
