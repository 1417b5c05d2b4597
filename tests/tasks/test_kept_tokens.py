"""Tokens that are kept: the same as those made in memory, found by all that decides them and by nothing else."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import BertTokenizerFast

from finetune.tasks import TextClassification
from finetune.tasks.encoding import EncodedSplit
from finetune.tasks.labelled_texts import LabelledTexts
from finetune.tasks.pretrained import load_tokenizer
from finetune.training.cache import Cache

TASK = TextClassification(max_length=16)
TEXTS = [" ".join(["film", "dull", "a"] * (row % 11)) for row in range(1200)]
LABELS = np.arange(1200) % 2
SINGLES = LabelledTexts(TEXTS, None, LABELS)
PAIRS = LabelledTexts(TEXTS, TEXTS[::-1], LABELS)


class Unread(list):
    """Texts that must not be looked at."""

    def __getitem__(self, index):
        pytest.fail("a text is read although its tokens are kept")


@pytest.fixture
def keep(tmp_path):
    return Cache(tmp_path / "cache").keep


def encode(examples, tokenizer, keep, *, task=TASK, fingerprint="f"):
    return task.encode(examples, tokenizer, fingerprint=fingerprint, keep=keep)


def assert_equal(one, other):
    assert list(one.features) == list(other.features)
    for name in one.features:
        assert np.array_equal(one.features[name], other.features[name])
        assert one.features[name].dtype == other.features[name].dtype
    for name in ("starts", "lengths", "labels", "rows"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.truncated == other.truncated


@pytest.mark.parametrize("examples", [SINGLES, PAIRS], ids=["singles", "pairs"])
def test_kept_tokens_are_those_made_in_memory(tokenizer, keep, examples):
    expected = TASK.encode(examples, tokenizer)
    assert expected.truncated > 0
    assert_equal(encode(examples, tokenizer, keep), expected)
    unread = replace(examples, texts=Unread(examples.texts))
    assert_equal(encode(unread, tokenizer, keep), expected)


CHANGES = {
    "the data": {"fingerprint": "g"},
    "the length": {"task": TextClassification(max_length=17)},
    "pairs": {"examples": PAIRS},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_tokens_are_told_apart(tokenizer, keep, change):
    encode(SINGLES, tokenizer, keep)
    settings = {"examples": SINGLES, "task": TASK} | change
    found = encode(tokenizer=tokenizer, keep=keep, **settings)
    assert_equal(found, settings["task"].encode(settings["examples"], tokenizer))


def test_tokenizers_are_told_apart_by_what_they_do(source, tokenizer, keep):
    encode(SINGLES, tokenizer, keep)
    other = BertTokenizerFast(
        vocab={word: number for number, word in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] film".split())}
    )
    assert_equal(encode(SINGLES, other, keep), TASK.encode(SINGLES, other))


def test_labels_are_no_part_of_what_is_kept(tokenizer, keep):
    encode(SINGLES, tokenizer, keep)
    found = encode(LabelledTexts(Unread(TEXTS), None, 1 - LABELS), tokenizer, keep)
    assert np.array_equal(found.labels, 1 - LABELS)


def test_a_tokenizer_is_known_again_whatever_it_was_used_for(source, tokenizer, keep):
    encode(SINGLES, tokenizer, keep)
    for used in (tokenizer, load_tokenizer(source, max_length=64)):
        used("film", padding="max_length", truncation=True, max_length=9)
        encode(replace(SINGLES, texts=Unread(TEXTS)), used, keep)


def test_a_tokenizer_is_saved_the_same_whether_the_tokens_were_kept_or_not(source, keep, tmp_path):
    saved = []
    for number, kept in enumerate([None, keep, keep]):
        tokenizer = load_tokenizer(source, max_length=64)
        encode(SINGLES, tokenizer, kept)
        tokenizer.save_pretrained(tmp_path / str(number))
        saved.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert saved[0] == saved[1] == saved[2]


class Custom(BertTokenizerFast):
    """One whose code isn't of transformers."""


class Commas:
    """A part of a tokenizer that is written in Python."""

    def pre_tokenize(self, text):
        text.split(lambda _, part: part.split(",", "removed"))


def with_commas(folder):
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = PreTokenizer.custom(Commas())
    return tokenizer


@pytest.mark.parametrize("load", [Custom.from_pretrained, with_commas])
def test_what_code_from_elsewhere_does_is_not_kept(tiny_model, load):
    def keep(*args, **settings):
        pytest.fail("it is kept")

    tokenizer = load(tiny_model)
    assert_equal(encode(SINGLES, tokenizer, keep), TASK.encode(SINGLES, tokenizer))


def test_texts_of_no_token_are_kept_too(tokenizer, keep):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")))
    examples = LabelledTexts(["", ""], None, [0, 1])
    for _ in range(2):
        assert list(encode(examples, bare, keep).lengths) == [0, 0]


def test_another_process_is_given_the_place_of_the_tokens_not_the_tokens(tokenizer, keep):
    kept = encode(SINGLES, tokenizer, keep)
    selected = kept.select(np.array([5, 3]))
    assert len(pickle.dumps(kept.features)) < 1000
    there: EncodedSplit = pickle.loads(pickle.dumps(selected))
    assert_equal(there, selected)
    assert list(there[0]["input_ids"]) == list(kept[5]["input_ids"])
