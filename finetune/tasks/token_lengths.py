"""How many tokens texts have, told by a model's tokenizer.json alone, without the model or its library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Returns the tokenizer in a model's folder, which neither pads nor cuts; None where it has no tokenizer.json.

    Raises ModelError where that can't be read.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    if not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"{path}: can't be read as a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_lengths(tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    """Returns how many tokens each example has, special ones included."""
    examples = texts if pairs is None else zip(texts, pairs, strict=True)
    return [len(tokens) for tokens in tokenizer.encode_batch_fast(list(examples))]
