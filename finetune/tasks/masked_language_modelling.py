"""Masked language modelling: tokens that are hidden, from all that are around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from finetune.errors import ModelError, SettingError
from finetune.tasks.columns import check_length_setting
from finetune.tasks.language_modelling import Documents, LanguageModelling

if TYPE_CHECKING:
    from finetune.data import Keep
    from finetune.tasks.encoding import Chunk
    from finetune.tasks.masking import Masking, NumberedSplit
    from finetune.tasks.pretrained import LoadedModel, Pretrained


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling(LanguageModelling):
    """Settings. `text`: a column of texts; `mask`: the share of tokens to be predicted, of which 80% are hidden, 10%
    replaced by another, 10% left as they are (Devlin et al. 2019, arXiv 1810.04805), anew in every epoch, and in an
    evaluation always the same; `whole_words`: whether those of a word are chosen together.

    `packing`: whether texts are put end to end, with a separator after each, and cut into sequences of `max_length`
    tokens; attention then reaches over the borders of texts within a sequence. Else each is cut to `max_length`.
    """

    name: Literal["masked_language_modelling"] = "masked_language_modelling"
    text: str = "text"
    mask: float = 0.15
    whole_words: bool = False
    packing: bool = True
    max_length: int = 128

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)
        if not 0 < self.mask < 1:
            raise SettingError("mask", f"{self.mask:g} must be a share of the tokens, above 0 and below 1")

    @property
    def one_to_one(self) -> bool:
        """Whether each text is a sequence of its own."""
        return not self.packing

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is read."""
        return (self.text,)

    def load_processor(self, source: Pretrained) -> Any:
        """Returns the model's own tokenizer; raises ModelError where it can't mask."""
        from finetune.tasks.masking import continuing

        tokenizer = super().load_processor(source)
        for kind in ("mask", "sep"):
            if getattr(tokenizer, f"{kind}_token_id") is None:
                raise ModelError(
                    f"{source.location}: its tokenizer has no {kind}_token, which masked language modelling needs; "
                    "choose a model such as BERT or RoBERTa"
                )
        if self.whole_words and not continuing(tokenizer).any():
            raise ModelError(
                f"{source.location}: its tokens don't say which of them continue a word, as those of WordPiece do by "
                "##; set task.whole_words to false"
            )
        return tokenizer

    def encode(
        self, examples: Documents, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> NumberedSplit:
        """Returns the sequences, as the base's, unmasked; raises DataError for a text that has no token to mask."""
        from finetune.tasks.kept_tokens import tokens_of
        from finetune.tasks.masking import NumberedSplit

        tokens = tokens_of(
            partial(self._chunks, examples, processor),
            made={"task": self.name, "packed": self.packing, "length": self.max_length},
            tokenizer=processor,
            max_length=None if self.packing else self.max_length,
            fingerprint=fingerprint,
            keep=keep,
        )
        return NumberedSplit.of(tokens, None)

    def _chunks(self, examples: Documents, processor: Any) -> Iterator[Chunk]:
        from finetune.tasks.encoding import tokenise
        from finetune.tasks.masking import maskable
        from finetune.tasks.packing import ended_texts, none_empty, packed, special_around, sums_of_each

        if self.packing:
            texts = ended_texts(examples.texts, tokenizer=processor, end=processor.sep_token_id, special=False)
            before, after = special_around(processor)
            # The last of them may be nothing but a separator, which can't be masked, and then says nothing.
            return packed(texts, size=self.max_length, before=before, after=after)
        may_be_masked = maskable(processor)
        return none_empty(
            tokenise(examples.texts, None, tokenizer=processor, max_length=self.max_length),
            lambda chunk: sums_of_each(may_be_masked[chunk.features["input_ids"]], chunk.lengths),
            problem=lambda count, of, first: (
                f"{count:,} of the {of:,} texts of the {examples.split} split have no token to mask, the first of them "
                f"row {first:,}: fill or remove them"
            ),
        )

    def collator(self, processor: Any) -> Masking:
        """Returns what makes a batch of sequences: masks, and dynamic padding."""
        from finetune.tasks.masking import Masking

        return Masking.of(processor, share=self.mask, whole_words=self.whole_words)

    def load_model(self, source: Pretrained, *, classes: Any, processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under its head for masked tokens, which is new where it has none."""
        from transformers import AutoModelForMaskedLM

        from finetune.tasks.pretrained import load_model

        return load_model(AutoModelForMaskedLM, source, seed=seed)
