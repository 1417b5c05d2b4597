"""Extractive question answering: the words of a text that answer a question, as in SQuAD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from finetune.errors import ModelError, SettingError
from finetune.tasks.base import Judgement, Outline, Task
from finetune.tasks.columns import GIVEN, check_columns, check_length_setting, texts_of
from finetune.tasks.questions import Accepted, Questions, read_answers

if TYPE_CHECKING:
    import torch

    from finetune.data import Keep, Rows
    from finetune.metrics.answers import Form
    from finetune.tasks.base import Array, Outputs
    from finetune.tasks.encoding import Padding
    from finetune.tasks.pretrained import LoadedModel, Pretrained
    from finetune.tasks.spans import BestSpans
    from finetune.tasks.windows import Windows

OF_ANSWER = 2
"""How many of a window's labels say where its answer is; the others say what the window is."""


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Task):
    """Settings. `question`, `context`, `answers`: column names, as in SQuAD: answers are {text: [...], answer_start:
    [...]}; `answer_text`, `answer_start`: columns of each instead. `max_length`: tokens of a window, which is a
    question and a part of its context; `stride`: those that two windows over a context share. `n_best`: how many starts
    and ends of a window, and spans of a question, are considered; `max_answer_length`: in tokens. `null_threshold`: by
    how much the score of no answer must be above that of the best for none to be given; null: there always is one."""

    form: ClassVar[Form] = "texts"
    metrics: ClassVar[tuple[str, ...]] = ("answer_f1", "exact_match")
    one_to_one: ClassVar[bool] = False

    name: Literal["question_answering"] = "question_answering"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    answer_text: str | None = None
    answer_start: str | None = None
    max_length: int = 384
    stride: int = 128
    n_best: int = 20
    max_answer_length: int = 30
    null_threshold: float | None = None

    def __post_init__(self) -> None:
        check_length_setting(self.max_length)
        if not 0 <= self.stride < self.max_length - OF_ANSWER:
            raise SettingError(
                "stride", f"{self.stride} must be 0 or more, and less than max_length ({self.max_length})"
            )
        for field in ("n_best", "max_answer_length"):
            if getattr(self, field) < 1:
                raise SettingError(field, f"{getattr(self, field)} must be 1 or more")
        if (self.answer_text is None) != (self.answer_start is None):
            missing = "answer_start" if self.answer_start is None else "answer_text"
            raise SettingError(
                missing, "is missing: answer_text and answer_start name two columns, or neither is given"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, in order."""
        return (self.question, self.context, *(self._flat or (self.answers,)))

    @property
    def _flat(self) -> tuple[str, str] | None:
        return None if self.answer_text is None or self.answer_start is None else (self.answer_text, self.answer_start)

    def read(self, splits: Mapping[str, Rows]) -> tuple[tuple[str, ...], dict[str, Questions]]:
        """Returns no classes, and split ▶ its questions.

        Raises DataError for a missing column, an empty split, an empty cell, texts that aren't text, answers that
        aren't in their context where they are said to start, and, without `null_threshold`, questions without one.
        """
        for split, rows in splits.items():
            check_columns(split, rows, self.columns)
        return (), {split: self._questions(split, rows, labelled=True) for split, rows in splits.items()}

    def read_for(self, rows: Rows, classes: Sequence[str], *, labelled: bool) -> Questions:
        """As the base's."""
        check_columns(GIVEN, rows, self.columns if labelled else (self.question, self.context))
        return self._questions(GIVEN, rows, labelled=labelled)

    def _questions(self, split: str, rows: Rows, *, labelled: bool) -> Questions:
        questions, contexts = (texts_of(split, rows, column) for column in (self.question, self.context))
        if not labelled:
            return Questions(split, questions, contexts, Accepted.none(len(rows)))
        accepted = read_answers(
            split, rows, contexts, column=self.answers, flat=self._flat, needed=self.null_threshold is None
        )
        return Questions(split, questions, contexts, accepted)

    def outline(self, examples: Questions, classes: Sequence[str]) -> Outline:
        """Returns how many questions there are, and the texts."""
        return Outline(len(examples), {}, (examples.questions, examples.contexts))

    def cautions(self, splits: Mapping[str, Questions], classes: Sequence[str]) -> list[str]:
        """Returns what is wrong with the examples of `read` but isn't refused: leaks, repetitions, blank questions."""
        from finetune.tasks.cautions import find_cautions
        from finetune.tasks.labelled_texts import LabelledTexts

        return find_cautions(
            {
                split: LabelledTexts(examples.questions, examples.contexts, examples.accepted.starts)
                for split, examples in splits.items()
            },
            classes,
        )

    def load_processor(self, source: Pretrained) -> Any:
        """Returns the model's own tokenizer; raises ModelError also where it can't say where its tokens stand."""
        tokenizer = super().load_processor(source)
        if not tokenizer.is_fast:
            raise ModelError(
                f"{source.location}: its tokenizer, written in Python, can't say where in a text its tokens stand, as "
                "question_answering needs; choose a model with a tokenizer.json"
            )
        return tokenizer

    def encode(
        self, examples: Questions, processor: Any, *, fingerprint: str | None = None, keep: Keep | None = None
    ) -> Windows:
        """Returns windows over the contexts, as the base's."""
        from finetune.tasks.kept_tokens import tokens_of
        from finetune.tasks.windows import Windows, windows_over

        settings: dict[str, Any] = {"tokenizer": processor, "max_length": self.max_length}
        tokens = tokens_of(
            lambda: windows_over(examples, stride=self.stride, **settings),
            made={"windows": True, "stride": self.stride},
            fingerprint=fingerprint,
            keep=keep,
            **settings,
        )
        return Windows.of(tokens, examples)

    def examples_in(self, split: Windows) -> int:
        """Returns the number of questions."""
        return len(split.examples)

    def collator(self, processor: Any) -> Padding:
        """Returns what makes a batch of windows: dynamic padding at the end, as labels count from the start."""
        from dataclasses import replace

        from finetune.tasks.encoding import Padding

        return replace(Padding.of(processor), side="right")

    def load_model(self, source: Pretrained, *, classes: Sequence[str], processor: Any, seed: int) -> LoadedModel:
        """Returns the pretrained encoder under a new head, which scores each token as a start and as an end."""
        from transformers import AutoModelForQuestionAnswering

        from finetune.tasks.pretrained import load_model

        return load_model(AutoModelForQuestionAnswering, source, seed=seed, pad_token_id=processor.pad_token_id)

    def kept_outputs(self, outputs: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the `n_best` starts and ends in the context of each window, and their scores, all of shape (windows,
        n_best); the score of its first token as both, which is that of no answer; and its loss."""
        import torch

        scores = _scores(outputs)
        losses = _losses(scores, labels).mean(dim=1)
        places = torch.arange(scores.shape[-1], device=scores.device)
        in_context = (places >= labels[:, None, 3:4]) & (places < labels[:, None, 4:5])
        best = scores.masked_fill(~in_context, -torch.inf).topk(min(self.n_best, len(places)), dim=-1)
        missing = (0, self.n_best - best.values.shape[-1])
        values = torch.nn.functional.pad(best.values, missing, value=-torch.inf)
        indices = torch.nn.functional.pad(best.indices, missing)
        return {
            "losses": losses,
            "none": scores[:, :, 0].sum(dim=1),
            "start_scores": values[:, 0],
            "end_scores": values[:, 1],
            "starts": indices[:, 0],
            "ends": indices[:, 1],
        }

    def training_loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the mean over windows of the mean of two cross-entropies, those of the start and of the end, as the
        base; each is over all tokens of the window, padding apart.

        `labels`, shape (windows, 5), are those of `Windows`. As all of them are counted, and two have a loss, the sum
        of losses is taken 5/2 times.
        """
        total = _losses(_scores(outputs), labels).sum() * (labels.shape[1] / OF_ANSWER)
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def judge(self, outputs: Outputs, split: Windows, classes: Sequence[str]) -> Judgement:
        """Returns the mean loss of the windows, and the best answer to each question in any of its windows."""
        import numpy as np

        from finetune.metrics.answers import Answers

        texts, _, _ = self._answers(outputs, split)
        loss = float(np.mean(outputs["losses"], dtype=np.float64))
        return Judgement(loss, Answers("texts", texts, split.examples.accepted.texts[:]))

    def label_columns(self, split: Windows, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the accepted answers to each question."""
        return {"label": [list(texts) for texts in split.examples.accepted.texts[:]]}

    def prediction_columns(self, outputs: Outputs, split: Windows, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the answer to each question, its first character in the context, -1 of none, and its probability."""
        texts, starts, best = self._answers(outputs, split)
        return {"prediction": texts, "start": starts, "probability": best.probabilities}

    def _answers(self, outputs: Outputs, split: Windows) -> tuple[list[str], Array, BestSpans]:
        """Returns the text of each answer, the character that it starts at, and its span."""
        import numpy as np

        from finetune.tasks.spans import Ends, best_spans

        best = best_spans(
            Ends(**{name: outputs[name] for name in ("start_scores", "starts", "end_scores", "ends", "none")}),
            split.questions,
            count=len(split.examples),
            longest=self.max_answer_length,
            n_best=self.n_best,
            may_be_none=self.null_threshold is not None,
        )
        is_given = best.windows >= 0
        if self.null_threshold is not None:
            is_given &= best.none - best.scores <= self.null_threshold
        starts, ends = np.full((2, len(is_given)), -1)
        spans = (best.windows[is_given], best.first[is_given], best.last[is_given])
        starts[is_given], ends[is_given] = split.characters(*spans)
        return split.examples.cut(starts, ends), starts, best


def _scores(outputs: Any) -> torch.Tensor:
    """Returns the scores of tokens as starts and as ends, fp32, of shape (windows, 2, tokens)."""
    import torch

    return torch.stack([outputs.start_logits, outputs.end_logits], dim=1).float()


def _losses(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of the start and of the end of each window, shape (windows, 2)."""
    import torch

    places = torch.arange(scores.shape[-1], device=scores.device)
    scores = scores.masked_fill(places >= labels[:, None, 2:3], -torch.inf)
    losses = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels[:, :OF_ANSWER].flatten(), reduction="none")
    return losses.view(-1, OF_ANSWER)
