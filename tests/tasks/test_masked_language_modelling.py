"""Masked tokens: which are drawn, by what, what becomes of them, and what the model learns of them."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForMaskedLM

from finetune.data import Rows
from finetune.errors import DataError, ModelError, SettingError
from finetune.tasks import MaskedLanguageModelling, as_task
from finetune.tasks.masking import maskable
from finetune.training.cache import Cache
from tests import tiny

TEXTS = [row["sentence"] for row in tiny.sentences(200, seed=3)]
TASK = MaskedLanguageModelling(packing=False, max_length=32)


def rows(texts):
    return Rows.of_dataset(Dataset.from_dict({"text": texts}))


def encoded(task, tokenizer, texts=TEXTS):
    _, examples = task.read({"train": rows(texts)})
    return task.encode(examples["train"], tokenizer)


def items(split, positions=None):
    return [split[int(index)] for index in (range(len(split)) if positions is None else positions)]


def ids_of(split):
    return [example["input_ids"].tolist() for example in items(split)]


def masked(collator, split):
    """Returns the whole split in one batch as numpy arrays: what was there, what the model is given, the labels."""
    batch = {name: tensor.numpy() for name, tensor in collator(items(split)).items()}
    there = np.zeros_like(batch["input_ids"])
    for row, example in enumerate(items(split)):
        there[row, : len(example["input_ids"])] = example["input_ids"]
    return there, batch["input_ids"], batch["labels"]


def test_texts_are_packed_with_a_separator_after_each_and_special_tokens_around(tokenizer):
    split = encoded(MaskedLanguageModelling(max_length=16), tokenizer)
    stream = [
        token
        for text in TEXTS
        for token in [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
    ]
    blocks = [stream[start : start + 14] for start in range(0, len(stream), 14)]
    assert ids_of(split) == [[tokenizer.cls_token_id, *block, tokenizer.sep_token_id] for block in blocks]


def test_without_packing_texts_are_what_the_tokenizer_gives(tokenizer):
    assert ids_of(encoded(TASK, tokenizer)) == tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    assert TASK.one_to_one
    assert not MaskedLanguageModelling().one_to_one


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_is_exact_in_each_sequence_and_at_least_one_token(tokenizer, share):
    task = MaskedLanguageModelling(packing=False, max_length=32, mask=share)
    split = encoded(task, tokenizer)
    _, _, labels = masked(task.collator(tokenizer), split)
    # All tokens of a text may be masked but [CLS] and [SEP].
    assert (labels != -100).sum(axis=1).tolist() == [max(1, round(share * (n - 2))) for n in split.lengths]


def test_labels_are_what_was_there_and_all_else_stays(tokenizer):
    there, given, labels = masked(TASK.collator(tokenizer), encoded(TASK, tokenizer))
    chosen = labels != -100
    assert (labels[chosen] == there[chosen]).all()
    assert (given[~chosen] == there[~chosen]).all()


def test_special_tokens_are_never_masked_wherever_they_are(tokenizer):
    texts = [f"[UNK] film [SEP] {text}" for text in TEXTS]
    for packing in (True, False):
        task = MaskedLanguageModelling(packing=packing, max_length=16, mask=0.9)
        _, _, labels = masked(task.collator(tokenizer), encoded(task, tokenizer, texts))
        assert not np.isin(labels, tokenizer.all_special_ids).any()


def test_eight_in_ten_are_hidden_one_is_replaced_and_one_left(tokenizer):
    task = MaskedLanguageModelling(max_length=64, mask=0.5)
    there, given, labels = masked(task.collator(tokenizer), encoded(task, tokenizer, TEXTS * 20))
    chosen = labels != -100
    count = chosen.sum()
    shares = {
        "hidden": (given[chosen] == tokenizer.mask_token_id).mean(),
        "left": (given[chosen] == there[chosen]).mean(),
    }
    replacements = maskable(tokenizer).sum()
    # A replacement is, once in `replacements` times, what was there.
    expected = {"hidden": 0.8, "left": 0.1 + 0.1 / replacements}
    for name, share in expected.items():
        assert abs(shares[name] - share) < 4 * np.sqrt(share * (1 - share) / count), name
    replaced = given[chosen & (given != there) & (given != tokenizer.mask_token_id)]
    assert set(replaced) == set(np.flatnonzero(maskable(tokenizer)))


def test_tokens_are_chosen_evenly(tokenizer):
    split = encoded(TASK, tokenizer, ["film " * 10] * 2000)
    _, _, labels = masked(TASK.collator(tokenizer), split)
    shares = (labels[:, 1:11] != -100).mean(axis=0)
    assert np.abs(shares - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 2000)


def test_an_evaluation_masks_the_same_whatever_the_batch_and_the_order(tokenizer):
    collator, split = TASK.collator(tokenizer), encoded(TASK, tokenizer)
    whole = collator(items(split))
    order = np.random.default_rng(0).permutation(len(split))
    ordered = split.select(order)
    for start in range(0, len(split), 7):
        part = collator(items(ordered, range(start, min(start + 7, len(split)))))
        places = torch.from_numpy(order[start : start + 7])
        width = part["labels"].shape[1]
        for name in part:
            assert torch.equal(part[name], whole[name][places][:, :width]), name


def test_training_masks_anew_in_each_epoch_and_for_each_seed(tokenizer):
    collator, split = TASK.collator(tokenizer), encoded(TASK, tokenizer)

    def labels(*drawn_from):
        return (collator.in_epoch(*drawn_from) if drawn_from else collator)(items(split))["labels"]

    assert torch.equal(labels(1, 2), labels(1, 2))
    others = [labels(), labels(0, 0), labels(0, 1), labels(1, 0), labels(1, 2)]
    for number, one in enumerate(others):
        assert not any(torch.equal(one, other) for other in others[number + 1 :])


WORDPIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] film ##ing ##s un ##believ ##able story".split()


@pytest.fixture
def wordpiece():
    from transformers import BertTokenizerFast

    return BertTokenizerFast(vocab={piece: number for number, piece in enumerate(WORDPIECES)})


def test_whole_words_are_masked_together(wordpiece):
    task = MaskedLanguageModelling(packing=False, max_length=64, whole_words=True, mask=0.3)
    texts = ["films unbelievable story filmings story story films unbelievable"] * 50
    split = encoded(task, wordpiece, texts)
    _, _, labels = masked(task.collator(wordpiece), split)
    words, ids, count = [], split[0]["input_ids"], 0
    for place, number in enumerate(ids):
        if WORDPIECES[number].startswith("##"):
            words[-1].append(place)
        else:
            words.append([place])
    for row in labels != -100:
        flags = [row[word] for word in words]
        assert all(flag.all() or not flag.any() for flag in flags)
        # Words are taken until there are as many tokens as asked for: the last goes over by 2 at most.
        assert 0 <= row.sum() - max(1, round(0.3 * (len(ids) - 2))) <= 2
        count += row.sum()
    assert len({tuple(row) for row in labels != -100}) > 10


def test_whole_words_need_tokens_that_say_where_words_begin(causal_source, source, monkeypatch):
    task = MaskedLanguageModelling(whole_words=True, max_length=16)
    with pytest.raises(ModelError, match="its tokens don't say which of them continue a word"):
        task.load_processor(source)  # whose every token is a word


def test_a_tokenizer_that_cannot_mask_is_refused(causal_source):
    with pytest.raises(ModelError, match="its tokenizer has no mask_token"):
        MaskedLanguageModelling(max_length=16).load_processor(causal_source)


def test_a_text_without_a_token_to_mask_is_refused_where_it_would_be_a_sequence(tokenizer):
    message = "2 of the 3 texts of the train split have no token to mask, the first of them row 2: fill or remove them"
    with pytest.raises(DataError, match=message):
        encoded(TASK, tokenizer, ["film", "", "[SEP]"])


def test_a_last_sequence_of_nothing_but_a_separator_says_nothing(tokenizer):
    task = MaskedLanguageModelling(max_length=8)
    split = encoded(task, tokenizer, ["film " * 6])
    assert ids_of(split)[-1] == [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.sep_token_id]
    _, _, labels = masked(task.collator(tokenizer), split)
    assert (labels != -100).sum(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("mask", [0.0, 1.0, -0.1])
def test_the_share_lies_between_0_and_1(mask):
    with pytest.raises(SettingError, match=r"mask: .* must be a share of the tokens, above 0 and below 1"):
        MaskedLanguageModelling(mask=mask)


def test_the_settings_survive_as_plain_values():
    task = MaskedLanguageModelling(text="sentence", whole_words=True, mask=0.2, packing=False)
    assert as_task(task.to_dict()) == task


def test_the_loss_is_that_of_transformers(source, tokenizer):
    model = TASK.load_model(source, classes=(), processor=tokenizer, seed=0).model
    batch = TASK.collator(tokenizer)(items(encoded(TASK, tokenizer)))
    with torch.no_grad():
        outputs = model(**batch)
    assert TASK.training_loss(outputs, batch["labels"]).item() == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_a_head_that_was_never_pretrained_is_new_and_its_decoder_the_embeddings(source, tokenizer, tmp_path):
    loaded = TASK.load_model(source, classes=(), processor=tokenizer, seed=0)
    model = loaded.model
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert {name.rpartition(".")[0] for name in loaded.new_tensors} <= {
        "cls.predictions",
        "cls.predictions.decoder",
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
    }
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    from finetune.tasks.pretrained import Pretrained

    again = TASK.load_model(Pretrained(str(tmp_path), local=True), classes=(), processor=tokenizer, seed=1)
    assert again.new_tensors == ()
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.model.state_dict().items())


OTHERS = {"length": MaskedLanguageModelling(max_length=24), "not packed": TASK}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_kept_tokens_are_those_of_the_task_at_hand(tokenizer, tmp_path, other):
    keep = Cache(tmp_path).keep
    task = MaskedLanguageModelling(max_length=32)
    _, examples = task.read({"train": rows(TEXTS)})
    for each in (task, other, task):
        kept = each.encode(examples["train"], tokenizer, fingerprint="f", keep=keep)
        assert ids_of(kept) == ids_of(each.encode(examples["train"], tokenizer))
        collator = each.collator(tokenizer)
        assert torch.equal(collator(items(kept))["labels"], collator(items(encoded(each, tokenizer)))["labels"])
