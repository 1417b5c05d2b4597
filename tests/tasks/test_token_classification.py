"""Tags of words: what is read and refused, where tags stand among tokens, and what the tags of tokens come to."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from pyarrow import Table, parquet

from finetune.data import Rows
from finetune.errors import DataError, ModelError, SettingError
from finetune.evaluation.record import MODEL, read_history
from finetune.metrics import load_metric
from finetune.tasks import TASKS, TokenClassification
from finetune.tasks.pretrained import Pretrained
from finetune.tasks.tagged_tokens import load_tokenizer_of_words
from finetune.training.cache import Cache
from finetune.training.losses import ClassLoss
from tests import tiny

TASK = TokenClassification(max_length=16)
ALL = TokenClassification(max_length=16, label_all=True)
NAMES = ("B-X", "I-X", "O")


def rows(tokens, tags=None):
    columns = {"tokens": tokens} if tags is None else {"tokens": tokens, "tags": tags}
    return Rows.of_table(Table.from_pydict(columns))


def read(tokens, tags):
    return TASK.read({"train": rows(tokens, tags)})[1]["train"]


GOOD = rows([["a", "film"], ["new"]], [["B-X", "O"], ["I-X"]])


def numbered(tags, names):
    features = Features({"tokens": Sequence(Value("string")), "tags": Sequence(ClassLabel(names=names))})
    return Rows.of_dataset(Dataset.from_dict({"tokens": [["a"] * len(each) for each in tags], "tags": tags}, features))


def test_the_task_is_known_by_its_name():
    assert TASKS["token_classification"]().name == "token_classification"


def test_the_tags_are_the_sorted_names_of_the_train_split():
    classes, examples = TASK.read({"train": GOOD, "validation": rows([["a"], ["b", "c"]], [["O"], ["I-X", "B-X"]])})
    assert classes == NAMES
    assert examples["train"].tags.tolist() == [0, 2, 1]
    assert examples["validation"].tags_of(1).tolist() == [1, 0]
    assert examples["validation"].words.of(0, 2) == [["a"], ["b", "c"]]
    assert list(examples["train"].texts) == ["a film", "new"]
    assert (examples["train"].texts[1], examples["train"].texts[0:5]) == ("new", ["a film", "new"])


def test_numbers_of_classes_are_matched_by_name():
    splits = {"train": numbered([[0, 2]], ["O", "B-X", "I-X"]), "validation": numbered([[0, 1]], ["I-X", "O"])}
    classes, examples = TASK.read(splits)
    assert classes == ("O", "B-X", "I-X")
    assert examples["train"].tags.tolist() == [0, 2]
    assert examples["validation"].tags.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": GOOD, "validation": rows([["a"], ["b", "c"], ["d"]], [["O"], ["O"], ["O", "O"]])},
            'row 2 of the validation split has 2 words in "tokens" and 1 tags in "tags" (2 rows of this kind in all): '
            "give each word one tag",
        ),
        (
            {"train": GOOD, "test": rows([["a"], ["b", "c"]], [["O"], ["O", "B-Y"]])},
            "column \"tags\" of the test split holds 'B-Y' in row 2 (1 row of this kind in all), which is no class of the "
            "train split; those are 'B-X', 'I-X', 'O'",
        ),
        (
            {"train": rows([["a"], []], [["O"], []])},
            'column "tokens" of the train split has no word in 1 row, the first of them row 2: fill or remove them',
        ),
        (
            {"train": rows([["a", None]], [["O", "O"]])},
            'column "tokens" of the train split has an empty item in 1 row, the first of them row 1: fill or remove it',
        ),
        (
            {"train": rows([["a", "b"]], [["O", ""]])},
            'column "tags" of the train split has an empty item in 1 row, the first of them row 1: fill or remove it',
        ),
        (
            {"train": rows([[1, 2]], [["O", "B-X"]])},
            'column "tokens" of the train split holds lists of int64, not of words; write them as strings',
        ),
        (
            {"train": rows(["a film"], [["O", "B-X"]])},
            'column "tokens" of the train split holds string, not lists: name a column of lists, as json, jsonl and '
            "parquet have them",
        ),
        (
            {"train": rows([["a", "b"]], [[0, 1]])},
            'column "tags" of the train split holds lists of int64 without the names that they stand for; write the '
            "names of the tags, such as B-PER and O, or a ClassLabel of datasets",
        ),
        (
            {"train": rows([["a", "b"]], [["O", "O"]])},
            "column \"tags\" of the train split has only one class, 'O'; two are needed",
        ),
        ({"train": rows([["a"]])}, 'the train split has no column "tags"; it has tokens'),
    ],
    ids=[
        *("unequal", "unknown tag", "no words", "null word", "empty tag", "numbers for words", "text", "bare numbers"),
        *("one tag", "no column"),
    ],
)
def test_unfit_data_is_refused(splits, message):
    with pytest.raises(DataError) as caught:
        TASK.read(splits)
    assert str(caught.value) == message


def test_fewer_than_eight_tokens_are_refused():
    with pytest.raises(SettingError, match="max_length: 7 must be at least 8 tokens"):
        TokenClassification(max_length=7)


def test_later_data_is_matched_by_name_and_needs_no_tags():
    assert TASK.read_for(GOOD, NAMES, labelled=True).tags.tolist() == [0, 2, 1]
    assert TASK.read_for(rows([["a", "b"], ["c"]]), NAMES, labelled=False).words.of(0, 2) == [["a", "b"], ["c"]]


def test_the_outline_counts_the_examples_of_each_tag():
    classes, examples = TASK.read({"train": rows([["a", "b"], ["c"]], [["O", "O"], ["B-X"]])})
    outline = TASK.outline(examples["train"], classes)
    assert (outline.count, outline.shares) == (2, {"B-X": 1, "O": 1})
    assert list(outline.texts[0]) == ["a b", "c"]


def test_sentences_that_two_splits_share_are_told_with_their_other_tags():
    other = rows([["a", "film"], ["new"], ["new"]], [["B-X", "O"], ["O"], ["O"]])
    classes, examples = TASK.read({"train": GOOD, "validation": other})
    assert TASK.cautions(examples, classes) == [
        "3 of 3 validation texts are in train too, 2 of them with another label",
        "1 of 3 validation texts repeat an earlier one",
    ]


@pytest.fixture
def pieces():
    """A tokenizer that cuts words into pieces, and makes nothing of what isn't seen."""
    from transformers import BertTokenizerFast

    words = f"{tiny.SPECIAL} a film new play ##ing ##s ##ed un ##do".split()
    return BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})


WORDS = [["a", "playings", "film"], ["undoing", "new", "plays", "\u200b", "a"], ["film"] * 20]
TAGS = [["O", "B-X", "I-X"], ["B-X", "I-X", "B-X", "O", "I-X"], ["B-X", "O"] * 10]


def align_as_transformers_example(tokenizer, words, tags, *, label_all):
    """examples/pytorch/token-classification/run_ner.py of transformers: tokenize_and_align_labels, with B- ▶ I-."""
    encoded = tokenizer(words, truncation=True, max_length=16, is_split_into_words=True)
    inside = [NAMES.index(name.replace("B-", "I-")) for name in NAMES]
    labels = []
    for i, label in enumerate(tags):
        previous, ids = None, []
        for word in encoded.word_ids(batch_index=i):
            if word is None:
                ids.append(-100)
            elif word != previous:
                ids.append(NAMES.index(label[word]))
            else:
                ids.append(inside[NAMES.index(label[word])] if label_all else -100)
            previous = word
        labels.append(ids)
    return encoded["input_ids"], labels


@pytest.mark.parametrize("task", [TASK, ALL], ids=["first", "all"])
def test_tags_stand_where_the_example_of_transformers_puts_them(pieces, task):
    encoded = task.encode(read(WORDS, TAGS), pieces)
    ids, labels = align_as_transformers_example(pieces, WORDS, TAGS, label_all=task.label_all)
    assert [encoded[row]["input_ids"].tolist() for row in range(3)] == ids
    assert [encoded[row]["labels"].tolist() for row in range(3)] == labels
    assert encoded.truncated == 1
    counted = [label for each in labels for label in each if label != -100]
    assert encoded.labels_of_tokens().tolist() == counted
    assert task.label_counts(encoded, NAMES).tolist() == [counted.count(number) for number in range(3)]


def test_the_collator_pads_labels_and_gives_the_model_nothing_else(pieces):
    encoded = TASK.encode(read(WORDS[:2], TAGS[:2]), pieces)
    batch = TASK.collator(pieces)([encoded[0], encoded[1]])
    assert sorted(batch) == ["attention_mask", "input_ids", "labels", "token_type_ids"]
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 16)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


@pytest.mark.parametrize("task", [TASK, ALL], ids=["first", "all"])
def test_the_first_token_answers_for_a_word_and_words_without_one_are_outside(pieces, task):
    encoded = task.encode(read(WORDS, TAGS), pieces)
    width = max(encoded.lengths)
    outputs = np.full((3, width), -100)
    for row in range(3):
        for place, word in enumerate(encoded[row]["words"]):
            outputs[row, place] = 0 if word >= 0 else 1  # B-X at first tokens, I-X at all others
    judgement = task.judge({"tags": outputs, "losses": np.array([1.0, 2.0, 4.5])}, encoded, NAMES)
    kept = [3, 5, 14]  # words before the cut: 16 tokens but two special ones
    assert judgement.answers.predictions == [
        ["B-X"] * 3,
        ["B-X", "B-X", "B-X", "O", "B-X"],
        ["B-X"] * kept[2] + ["O"] * 6,
    ]
    assert judgement.answers.references == TAGS
    assert judgement.loss == pytest.approx(7.5 / len(encoded.labels_of_tokens()))
    right = 1 + 2 + 1 + 7 + 3
    assert load_metric("token_accuracy").value(judgement.answers) == pytest.approx(right / 28)


def test_outputs_are_told_by_example_wherever_it_lies(pieces):
    encoded = TASK.encode(read(WORDS, TAGS), pieces).select(np.array([2, 0]))
    assert encoded.true() == [TAGS[2], TAGS[0]]
    assert [len(tags) for tags in encoded.predicted(np.zeros((2, 16), dtype=np.int64))] == [20, 3]


def test_an_example_of_which_the_tokenizer_makes_nothing_is_refused(pieces):
    encoded = TASK.encode(read([["a", "film", "new"], ["\u200b", ""]], [["O", "B-X", "I-X"], ["O", "O"]]), pieces)
    with pytest.raises(DataError) as caught:
        encoded.check("train")
    assert str(caught.value) == (
        "the tokenizer makes no token of any word of 1 of the 2 examples of the train split, the first of them row 2: "
        "fill or remove them"
    )


def test_kept_tokens_are_those_of_the_same_tags(pieces, tmp_path):
    keep = Cache(tmp_path / "cache").keep
    examples = read(WORDS, TAGS)
    first, again = (TASK.encode(examples, pieces, fingerprint="x", keep=keep) for _ in range(2))
    every = ALL.encode(examples, pieces, fingerprint="x", keep=keep)
    assert [again[row]["labels"].tolist() for row in range(3)] == [first[row]["labels"].tolist() for row in range(3)]
    assert again.predicted(np.zeros((3, 16), dtype=np.int64)) == first.predicted(np.zeros((3, 16), dtype=np.int64))
    assert len(every.labels_of_tokens()) > len(first.labels_of_tokens())


LOGITS = torch.tensor(np.random.default_rng(0).normal(size=(2, 4, 3)) * 5, dtype=torch.float32)
LABELS = torch.tensor([[0, -100, 2, 1], [-100, 1, -100, -100]])


def test_the_loss_is_the_mean_over_tags_or_their_share_of_the_whole_batch():
    expected = torch.nn.functional.cross_entropy(LOGITS.reshape(-1, 3), LABELS.reshape(-1)).item()
    outputs = SimpleNamespace(logits=LOGITS)
    assert TASK.training_loss(outputs, LABELS).item() == pytest.approx(expected, rel=1e-6)
    assert TASK.training_loss(outputs, LABELS, torch.tensor(8)).item() == pytest.approx(expected / 2, rel=1e-6)


def test_tags_can_be_weighed_and_smoothed_over_a_batch():
    weights = torch.tensor([4.0, 1.0, 0.5])
    settings = {"weight": weights, "label_smoothing": 0.1}
    expected = torch.nn.functional.cross_entropy(LOGITS.reshape(-1, 3), LABELS.reshape(-1), **settings).item()
    loss = ClassLoss(TASK, smoothing=0.1, weights=weights)
    assert loss(SimpleNamespace(logits=LOGITS), LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_of_outputs_the_likeliest_tags_and_each_example_s_loss_are_kept():
    kept = TASK.kept_outputs(SimpleNamespace(logits=LOGITS), LABELS)
    assert kept["tags"].tolist() == LOGITS.argmax(-1).tolist()
    each = [torch.nn.functional.cross_entropy(LOGITS[row], LABELS[row], reduction="sum").item() for row in range(2)]
    assert kept["losses"].tolist() == pytest.approx(each, rel=1e-6)


def test_a_tokenizer_that_can_t_tell_words_apart_is_refused(tmp_path):
    from transformers import ByT5Tokenizer, T5Config

    ByT5Tokenizer().save_pretrained(tmp_path)
    T5Config(vocab_size=384).save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match="ByT5Tokenizer, can't say which word a token is of; token_classification needs"
    ):
        load_tokenizer_of_words(Pretrained(str(tmp_path), local=True), max_length=16)


def test_words_of_a_list_have_the_space_before_them_that_they_have_in_texts(tmp_path):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["a film a film new film"] * 20, vocab_size=300, special_tokens=specials)
    trained.save_model(str(tmp_path))
    RobertaTokenizerFast.from_pretrained(tmp_path).save_pretrained(tmp_path)
    RobertaConfig(vocab_size=300).save_pretrained(tmp_path)
    tokenizer = load_tokenizer_of_words(Pretrained(str(tmp_path), local=True), max_length=16)
    words = tokenizer.convert_ids_to_tokens(tokenizer(["new", "film"], is_split_into_words=True)["input_ids"])
    assert words == ["<s>", "Ġnew", "Ġfilm", "</s>"]


def splits():
    return {
        name: tiny.tagged(count, seed) for seed, (name, count) in enumerate({"train": 320, "validation": 60}.items())
    }


TINY = "{name: token_classification, max_length: 32}"


@pytest.mark.slow
def test_a_run_learns_tags_and_its_model_finds_the_recorded_entities(train_task):
    record, run = train_task(TINY, splits())
    validation = record.results.splits["validation"]
    assert record.identity.classes == ["B-BAD", "B-GOOD", "I-BAD", "I-GOOD", "O"]
    assert record.results.select == "entity_f1"
    assert validation.metrics["entity_f1"].value > 0.8
    table = parquet.read_table(run / "predictions" / "validation.parquet").to_pydict()
    assert table["label"] == [row["tags"] for row in splits()["validation"]]

    from transformers import pipeline

    sentences = [" ".join(row["tokens"]) for row in splits()["validation"]]
    tag = pipeline("token-classification", model=str(run / MODEL), device="cpu", aggregation_strategy="simple")
    for found, predicted in zip(tag(sentences), table["prediction"], strict=True):
        assert [entity["entity_group"] for entity in found if entity["entity_group"] != "O"] == groups(predicted)


def groups(tags):
    """Returns the type of each run of tags as the pipeline of transformers groups them: a B- begins one, and so does
    another type."""
    found, before = [], None
    for tag in tags:
        letter, _, kind = tag.partition("-")
        if kind and (letter == "B" or kind != before):
            found.append(kind)
        before = kind
    return found


@pytest.mark.slow
def test_accumulation_changes_no_loss(train_task, steady_model):
    brief = (f"model.path={steady_model}", "training.duration=1ep", "evaluation.every=null")
    _, whole = train_task(TINY, splits(), *brief)
    _, parts = train_task(TINY, splits(), *brief, "name=parts", "training.micro_batch_size=6")
    losses = [[row["loss"] for row in read_history(run) if "rates" in row] for run in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
