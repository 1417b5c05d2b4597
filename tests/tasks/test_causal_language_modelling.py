"""Sequences and labels of causal language models, against transformers' own loss and its masks of answers."""

import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from finetune.data import Rows
from finetune.errors import DataError, ModelError, SettingError
from finetune.tasks import CausalLanguageModelling, as_task
from finetune.tasks.pretrained import Weights
from finetune.training.cache import Cache
from tests import tiny
from tests.tasks.model_folders import configure, local

TEXTS = tiny.successions(40, seed=5)
WITH_MASKS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What `tiny.CHAT_TEMPLATE` writes, with marks around the answers by which transformers knows them."""


def rows(**columns):
    return Rows.of_dataset(Dataset.from_dict(columns))


def encoded(task, tokenizer, **columns):
    _, examples = task.read({"train": rows(**columns)})
    return task.encode(examples["train"], tokenizer)


def batch_of(split, task, tokenizer):
    return task.collator(tokenizer)([split[index] for index in range(len(split))])


def ids_of(split):
    return [split[index]["input_ids"].tolist() for index in range(len(split))]


def labels_of(split, task, tokenizer):
    """Returns the labels of each sequence, without those of its padding."""
    labels = batch_of(split, task, tokenizer)["labels"].tolist()
    return [each[:length] for each, length in zip(labels, split.lengths, strict=True)]


def test_texts_are_packed_end_to_end_with_the_end_token_after_each(causal_tokenizer):
    split = encoded(CausalLanguageModelling(max_length=16), causal_tokenizer, text=TEXTS)
    stream = [
        token for text in TEXTS for token in [*causal_tokenizer(text)["input_ids"], causal_tokenizer.eos_token_id]
    ]
    assert ids_of(split) == [stream[start : start + 16] for start in range(0, len(stream), 16)]
    assert split.truncated == 0


def test_without_packing_each_text_is_a_sequence_and_its_end_counts_against_the_length(causal_tokenizer):
    task = CausalLanguageModelling(max_length=12, packing=False)
    split = encoded(task, causal_tokenizer, text=TEXTS)
    whole = [[*causal_tokenizer(text)["input_ids"], causal_tokenizer.eos_token_id] for text in TEXTS]
    assert ids_of(split) == [each[:12] for each in whole]
    assert split.truncated == sum(len(each) > 12 for each in whole) > 0


def test_whether_texts_are_sequences_of_their_own_is_known_beforehand():
    assert not CausalLanguageModelling().one_to_one
    assert CausalLanguageModelling(packing=False).one_to_one
    assert CausalLanguageModelling(messages="messages").one_to_one


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_is_that_of_transformers(causal_source, causal_tokenizer, packing):
    task = CausalLanguageModelling(max_length=16, packing=packing)
    model = task.load_model(causal_source, classes=(), processor=causal_tokenizer, seed=0).model
    batch = batch_of(encoded(task, causal_tokenizer, text=TEXTS), task, causal_tokenizer)
    labels = batch.pop("labels")
    theirs = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.no_grad():
        outputs = model(**batch, labels=theirs)
    assert task.training_loss(outputs, labels).item() == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert labels.ne(-100).sum() == (batch["attention_mask"].sum(dim=1) - 1).sum()


def test_the_labels_of_an_answer_are_its_tokens_and_the_end(causal_tokenizer):
    task = CausalLanguageModelling(prompt="prompt", completion="answer", max_length=32)
    split = encoded(task, causal_tokenizer, prompt=["film story", "stage"], answer=[" music night", " a"])
    end = causal_tokenizer.eos_token_id
    for index, (prompt, answer) in enumerate([("film story", " music night"), ("stage", " a")]):
        asked, answered = causal_tokenizer(prompt)["input_ids"], [*causal_tokenizer(answer)["input_ids"], end]
        assert ids_of(split)[index] == asked + answered
        assert labels_of(split, task, causal_tokenizer)[index] == [-100] * (len(asked) - 1) + answered + [-100]


def test_a_token_over_the_border_is_of_the_answer(causal_tokenizer):
    task = CausalLanguageModelling(prompt="prompt", completion="answer", max_length=32)
    split = encoded(task, causal_tokenizer, prompt=["film "], answer=["story"])
    whole = [*causal_tokenizer("film story")["input_ids"], causal_tokenizer.eos_token_id]
    (over,) = causal_tokenizer(" story")["input_ids"]
    assert ids_of(split) == [whole]
    answered = whole[whole.index(over) :]
    assert labels_of(split, task, causal_tokenizer)[0][-len(answered) - 1 :] == [*answered, -100]


def test_on_request_prompts_count_too(causal_tokenizer):
    task = CausalLanguageModelling(prompt="prompt", completion="answer", max_length=32, loss_on="all")
    split = encoded(task, causal_tokenizer, prompt=["film story"], answer=[" music"])
    assert labels_of(split, task, causal_tokenizer)[0] == [*ids_of(split)[0][1:], -100]


def conversation(*contents):
    return [{"role": ("user", "assistant")[turn % 2], "content": content} for turn, content in enumerate(contents)]


CONVERSATIONS = [
    conversation("film story", "music night"),
    [{"role": "system", "content": "stage"}, *conversation("one two", "war way", "time", "to town", "plot")],
    conversation("drama", "écran – “été”", "ending", ""),
]


def test_what_counts_of_conversations_is_what_transformers_marks(causal_tokenizer):
    task = CausalLanguageModelling(messages="messages", max_length=128)
    split = encoded(task, causal_tokenizer, messages=CONVERSATIONS)
    labels = labels_of(split, task, causal_tokenizer)
    for index, messages in enumerate(CONVERSATIONS):
        theirs = causal_tokenizer.apply_chat_template(
            messages,
            chat_template=WITH_MASKS,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"verbose": False},
        )
        ids, answered = theirs["input_ids"], theirs["assistant_masks"]
        assert ids_of(split)[index] == ids
        counted = [token if flag else -100 for token, flag in zip(ids, answered, strict=True)][1:]
        assert labels[index] == [*counted, -100]


def test_a_template_that_rewrites_earlier_turns_is_refused(causal_tokenizer):
    causal_tokenizer.chat_template = "{{ messages | length }}" + tiny.CHAT_TEMPLATE
    task = CausalLanguageModelling(messages="messages", max_length=64)
    with pytest.raises(
        DataError, match=r'"messages" of the train split: the chat template of the model fails in row 1:'
    ):
        encoded(task, causal_tokenizer, messages=CONVERSATIONS)
    everything = CausalLanguageModelling(messages="messages", max_length=64, loss_on="all")
    assert len(encoded(everything, causal_tokenizer, messages=CONVERSATIONS)) == 3


def test_answers_that_are_cut_are_counted(causal_tokenizer):
    task = CausalLanguageModelling(prompt="prompt", completion="answer", max_length=8)
    words = " ".join(["film"] * 20)
    split = encoded(task, causal_tokenizer, prompt=["film story", "film story"], answer=[f" {words}", " a"])
    assert split.truncated == 1
    assert split.lengths[0] == 8
    assert labels_of(split, task, causal_tokenizer)[0][-1] == -100


def test_an_answer_that_is_wholly_cut_off_is_refused(causal_tokenizer):
    task = CausalLanguageModelling(prompt="prompt", completion="answer", max_length=8)
    words = " ".join(["film"] * 20)
    with pytest.raises(DataError) as caught:
        encoded(task, causal_tokenizer, prompt=["film", words, words], answer=[" a", " a", " a"])
    assert str(caught.value) == (
        "of 2 of the 3 examples of the train split, the first of them row 2, nothing of the answer is left, as they are "
        "cut to 8 tokens: raise task.max_length, or remove them"
    )


def test_an_empty_text_is_refused_where_it_would_be_a_sequence(causal_tokenizer):
    task = CausalLanguageModelling(packing=False)
    with pytest.raises(
        DataError, match="1 of the 2 texts of the train split have no token to predict, the first of them"
    ):
        encoded(task, causal_tokenizer, text=["film", ""])
    assert len(encoded(CausalLanguageModelling(), causal_tokenizer, text=["film", ""])) == 1


NOBODY = [{"role": "user", "content": "film"}]


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ({}, {"texts": ["a"]}, 'the train split has no column "text"; it has texts (did you mean texts?)'),
        (
            {"prompt": "question", "completion": "answer"},
            {"question": ["a", "b"], "answer": ["a", None]},
            'column "answer" of the train split is empty in row 2: fill or remove it',
        ),
        (
            {"messages": "messages"},
            {"messages": ["film"]},
            'column "messages" of the train split holds string; a conversation is a list of messages, each of which has '
            "a role and a content, both texts",
        ),
        (
            {"messages": "messages"},
            {"messages": [CONVERSATIONS[0], []]},
            'column "messages" of the train split holds in row 2 what is no conversation',
        ),
        (
            {"messages": "messages"},
            {"messages": [[{"role": "user", "content": None}, {"role": "assistant", "content": "a"}]]},
            'column "messages" of the train split holds in row 1 what is no conversation',
        ),
        (
            {"messages": "messages"},
            {"messages": [CONVERSATIONS[0], NOBODY]},
            'column "messages" of the train split has no message of the role "assistant" in row 2: nothing to learn',
        ),
    ],
    ids=["no column", "null", "no list", "no message", "no content", "no answer"],
)
def test_unfit_data_is_refused(task, columns, message):
    with pytest.raises(DataError) as caught:
        CausalLanguageModelling(**task).read({"train": rows(**columns)})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "a"}, "completion: required, and missing: a prompt and its completion go together"),
        ({"completion": "a"}, "prompt: required, and missing: a prompt and its completion go together"),
        (
            {"messages": "a", "prompt": "b", "completion": "c"},
            "messages: can't be had with prompt: give a column of one kind",
        ),
        ({"messages": "a", "text": "b"}, "messages: can't be had with text: give a column of one kind"),
        (
            {"messages": "a", "packing": True},
            "packing: is for texts; each instruction is a sequence by itself: leave it out",
        ),
        ({"loss_on": "all"}, "loss_on: is for prompts and messages; every token of a text counts: leave it out"),
        ({"max_length": 7}, "max_length: 7 must be at least 8 tokens"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        CausalLanguageModelling(**settings)
    assert str(caught.value) == message


def test_a_column_of_texts_is_called_text_unless_it_is_named():
    assert CausalLanguageModelling().to_dict()["text"] == "text"
    assert CausalLanguageModelling(messages="chat").to_dict()["text"] is None


def test_the_settings_survive_as_plain_values():
    assert as_task(CausalLanguageModelling().to_dict()) == CausalLanguageModelling()
    task = CausalLanguageModelling(prompt="question", completion="answer", loss_on="all")
    assert as_task(task.to_dict()) == task


def test_repeated_and_shared_examples_are_cautions():
    for task, columns in (
        (CausalLanguageModelling(), {"text": ["a b", "a b", "c d"]}),
        (CausalLanguageModelling(prompt="p", completion="c"), {"p": ["a", "a", "a"], "c": ["b", "b", "c"]}),
        (
            CausalLanguageModelling(messages="m"),
            {"m": [CONVERSATIONS[0], CONVERSATIONS[0], conversation("film", "story")]},
        ),
    ):
        classes, examples = task.read({"train": rows(**columns)})
        assert task.cautions(examples, classes) == ["1 of 3 train texts repeat an earlier one"]


def test_later_data_is_read_in_the_same_columns(causal_tokenizer):
    task = CausalLanguageModelling(max_length=16)
    later = task.read_for(rows(text=TEXTS), (), labelled=False)
    assert ids_of(task.encode(later, causal_tokenizer)) == ids_of(encoded(task, causal_tokenizer, text=TEXTS))


OTHERS = {
    "length": CausalLanguageModelling(max_length=24),
    "not packed": CausalLanguageModelling(max_length=16, packing=False),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_kept_tokens_are_those_of_the_task_at_hand(causal_tokenizer, tmp_path, other):
    keep = Cache(tmp_path).keep
    task = CausalLanguageModelling(max_length=16)
    _, examples = task.read({"train": rows(text=TEXTS)})
    for each in (task, other, task):
        kept = each.encode(examples["train"], causal_tokenizer, fingerprint="f", keep=keep)
        assert ids_of(kept) == ids_of(each.encode(examples["train"], causal_tokenizer))


def test_kept_conversations_are_those_of_the_template_at_hand(causal_tokenizer, tmp_path):
    keep = Cache(tmp_path).keep
    task = CausalLanguageModelling(messages="messages", max_length=64)
    _, examples = task.read({"train": rows(messages=CONVERSATIONS)})
    for template in (tiny.CHAT_TEMPLATE, tiny.CHAT_TEMPLATE.replace("<|im_end|>", "<|im_end|> ")):
        causal_tokenizer.chat_template = template
        kept = task.encode(examples["train"], causal_tokenizer, fingerprint="f", keep=keep)
        fresh = task.encode(examples["train"], causal_tokenizer)
        assert ids_of(kept) == ids_of(fresh)
        assert labels_of(kept, task, causal_tokenizer) == labels_of(fresh, task, causal_tokenizer)


@pytest.fixture
def folder(tiny_causal_model, tmp_path):
    return shutil.copytree(tiny_causal_model, tmp_path / "model")


def load(folder, task=None):
    task = task or CausalLanguageModelling(max_length=16)
    source = local(folder)
    return task.load_model(source, classes=(), processor=task.load_processor(source), seed=0)


def test_a_head_that_is_tied_to_the_embeddings_is_not_missing(folder):
    model = GPT2LMHeadModel.from_pretrained(folder)
    GPT2Model.from_pretrained(folder).save_pretrained(folder)
    loaded = load(folder)
    assert loaded.new_tensors == ()
    assert torch.equal(loaded.model.lm_head.weight, model.transformer.wte.weight)


def test_a_head_that_is_missing_is_refused(folder):
    config = GPT2Config.from_pretrained(folder, tie_word_embeddings=False)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"its weights lack lm_head.weight, so it is no causal language model that was"
    ):
        load(folder)


def test_a_missing_block_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"its weights lack 1 of the \d+ tensors of the encoder of GPT2LMHeadModel"):
        load(folder)


def test_a_model_that_sees_what_it_is_to_predict_is_refused(tmp_path, source, tokenizer):
    from transformers import BertConfig, BertLMHeadModel

    BertLMHeadModel(BertConfig.from_pretrained(source.location)).save_pretrained(tmp_path)
    tokenizer.add_special_tokens({"eos_token": "[SEP]"})
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is no causal language model, as its tokens attend to those that follow"):
        load(tmp_path)


def test_a_tokenizer_without_an_end_is_refused(source):
    with pytest.raises(ModelError, match="its tokenizer has no end token"):
        CausalLanguageModelling(max_length=16).load_processor(source)


def test_a_tokenizer_without_a_template_can_write_no_messages(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="its tokenizer has no chat template"):
        load(folder, CausalLanguageModelling(messages="messages", max_length=16))


def test_a_trained_model_generates_by_the_settings_it_came_with(folder, tmp_path):
    configure(folder, "generation_config.json", repetition_penalty=1.5)
    loaded = load(folder)
    for number, each in enumerate((loaded, Weights.of(loaded).load(seed=0))):
        each.model.save_pretrained(tmp_path / str(number))
        again = GPT2LMHeadModel.from_pretrained(tmp_path / str(number))
        assert again.generation_config.repetition_penalty == 1.5
        assert again.generation_config.use_cache is not False
        assert np.shape(again.generate(torch.tensor([[5, 6]]), max_new_tokens=3, pad_token_id=0))[1] <= 5
