"""Broken data: every set is read as it can only be meant, or refused with one message before a model is loaded.

The corpus is three tables: what is read, and as which rows; what is refused, and with which message; what is read
with a caution that the plan of a run prints.
"""

import errno
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from pyarrow import parquet

from finetune.cli import main
from finetune.data import Rows, load_files, read_file
from finetune.errors import DataError
from finetune.recipe import load_recipe
from finetune.tasks import TextClassification
from finetune.tasks.labelled_texts import LabelledTexts
from finetune.tasks.pretrained import Pretrained, load_tokenizer
from finetune.training import fine_tuning
from finetune.training.material import Library

GOOD = "text,label\na,x\nb,y\n"
ROWS = [("a", "x"), ("b", "y")]
OTHERS = {"train": GOOD, "validation": "text,label\nc,x\nd,y\n"}
TASK = TextClassification(max_length=32)
LABELS = [("a", "1"), ("b", "2")]
LONG = "long" * 2_500_000  # 10 MB


def lines(*objects):
    return "".join(json.dumps(each) + "\n" for each in objects)


def nested(levels):
    return {"a": nested(levels - 1)} if levels else 1


def table(**columns):
    return pyarrow.table(columns)


def packed(table):
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.csv", content)
    return file.getvalue()


PARQUET = packed(table(text=["a", "b"], label=["x", "y"]))
OFFSETS = pyarrow.array([0, 1, 2], pyarrow.int32()).buffers()[1]
NO_UTF8 = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, OFFSETS, pyarrow.py_buffer(b"\xffb")])
NAMED = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
UNNAMED = Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=NAMED).with_format("arrow")[:]
BAD_FEATURES = table(text=["a"], label=["x"]).replace_schema_metadata({"huggingface": '{"info": 3}'})

# name ▶ file, content, rows
READ = {
    "a byte order mark": ("train.csv", GOOD.encode("utf-8-sig"), ROWS),
    "two byte order marks": ("train.csv", b"\xef\xbb\xbf" + GOOD.encode("utf-8-sig"), ROWS),
    "a byte order mark in jsonl": ("train.jsonl", b"\xef\xbb\xbf" + lines({"text": "a", "label": 1}, {"text": "b", "label": 2}).encode(), LABELS),
    "CR-only line ends": ("train.csv", GOOD.replace("\n", "\r"), ROWS),
    "mixed line ends": ("train.csv", "text,label\r\na,x\nb,y\r", ROWS),
    "mixed line ends in jsonl": ("train.jsonl", '{"text": "a", "label": 1}\r\n{"text": "b", "label": 2}\r', LABELS),
    "no last line end": ("train.csv", GOOD.rstrip(), ROWS),
    "blank lines": ("train.csv", "text,label\n\na,x\n\nb,y\n\n", ROWS),
    "blank lines in jsonl": ("train.jsonl", '\n{"text": "a", "label": 1}\n\n{"text": "b", "label": 2}\n\n', LABELS),
    "objects without line ends": ("train.jsonl", '{"text": "a", "label": 1}{"text": "b", "label": 2}', LABELS),
    "a list named jsonl": ("train.jsonl", '[{"text": "a", "label": 1}, {"text": "b", "label": 2}]', LABELS),
    "lines named json": ("train.json", lines({"text": "a", "label": 1}, {"text": "b", "label": 2}), LABELS),
    "a column without a name": ("train.csv", ",text,label\n0,a,x\n1,b,y\n", ROWS),
    "a trailing comma": ("train.csv", "text,label,\na,x,\nb,y,\n", ROWS),
    "quotes within a cell": ("train.csv", 'text,label\nan "odd" film,x\n"an ""odd"" one, too",y\n', [('an "odd" film', "x"), ('an "odd" one, too', "y")]),
    "a line break within quotes": ("train.csv", 'text,label\n"a\nb",x\n"","y"\n', [("a\nb", "x"), ("", "y")]),
    "words that others read as nulls": ("train.csv", "text,label\nNone,NA\nnull,None\nnan,NULL\n", [("None", "NA"), ("null", "None"), ("nan", "NULL")]),
    "texts like numbers among words": ("train.csv", "text,label\n12,x\n1e3,y\nword,x\n", [("12", "x"), ("1e3", "y"), ("word", "x")]),
    "texts with leading zeros": ("train.csv", "text,label\n007,x\n08,y\n", [("007", "x"), ("08", "y")]),
    "labels with leading zeros": ("train.csv", "text,label\na,007\nb,7\n", [("a", "007"), ("b", "7")]),
    "labels in hexadecimal": ("train.csv", "text,label\na,0x1\nb,1\n", [("a", "0x1"), ("b", "1")]),
    "labels of 1 and true": ("train.csv", "text,label\na,1\nb,true\nc,0\n", [("a", "1"), ("b", "true"), ("c", "0")]),
    "labels of true and FALSE": ("train.csv", "text,label\na,True\nb,FALSE\n", [("a", "true"), ("b", "false")]),
    "labels of numbers and words": ("train.csv", "text,label\na,1\nb,two\n", [("a", "1"), ("b", "two")]),
    "numbers with spaces before them": ("train.csv", "text,label\na, 1\nb, 2\n", LABELS),
    "labels that are dates": ("train.csv", "text,label\na,2020-01-01\nb,2020-01-02\n", [("a", "2020-01-01"), ("b", "2020-01-02")]),
    "labels with gaps": ("train.csv", "text,label\na,1\nb,5\nc,100\n", [("a", "1"), ("b", "5"), ("c", "100")]),
    "-1 among other labels": ("train.csv", "text,label\na,-1\nb,1\n", [("a", "-1"), ("b", "1")]),
    "labels beyond 63 bits": ("train.parquet", packed(table(text=["a", "b"], label=pyarrow.array([2**63 + 5, 1], pyarrow.uint64()))), [("a", "9223372036854775813"), ("b", "1")]),
    "labels with markup": ("train.csv", "text,label\na,[red]x[/red]\nb,<b>&y</b>\nc,[/]\n", [("a", "[red]x[/red]"), ("b", "<b>&y</b>"), ("c", "[/]")]),
    "labels with emoji": ("train.csv", "text,label\na,👩\u200d👧\nb,👩👨\n", [("a", "👩\u200d👧"), ("b", "👩👨")]),
    "1,500 classes of two rows": ("train.csv", "text,label\n" + "".join(f"t{row},c{row % 1500}\n" for row in range(3000)), [(f"t{row}", f"c{row % 1500}") for row in range(3000)]),
    "right to left, zero width, emoji": ("train.csv", "text,label\n\u202eabc\u202c\u200b,x\n👩\u200d👧,y\n", [("\u202eabc\u202c\u200b", "x"), ("👩\u200d👧", "y")]),
    "a surrogate pair": ("train.jsonl", '{"text": "\\ud83d\\ude00", "label": "x"}\n{"text": "b", "label": "y"}\n', [("😀", "x"), ("b", "y")]),
    "an escaped NUL": ("train.jsonl", '{"text": "a\\u0000b", "label": "x"}\n{"text": "b", "label": "y"}\n', [("a\0b", "x"), ("b", "y")]),
    "an unused column of NaN and Infinity": ("train.jsonl", '{"text": "a", "label": 1, "n": NaN}\n{"text": "b", "label": 2, "n": -Infinity}\n', LABELS),
    "an unused nested column": ("train.jsonl", lines({"text": "a", "label": 1, "meta": {"of": [{"b": 2}]}}, {"text": "b", "label": 2, "meta": None}), LABELS),
    "an unused column of 10 levels": ("train.jsonl", lines({"text": "a", "label": 1, "tree": nested(10)}, {"text": "b", "label": 2}), LABELS),
    "a column name of 100,000 characters": ("train.csv", f"text,label,{'n' * 100_000}\na,x,1\nb,y,2\n", ROWS),
    "10 MB in one cell": ("train.csv", f"text,label\n{LONG},x\nb,y\n", [(LONG, "x"), ("b", "y")]),
    "a folder that names a column": ("label=3/train.parquet", PARQUET, ROWS),
}  # fmt: skip

# name ▶ file, content or what makes the file, message; FILE stands for its path
REFUSED = {
    "Latin-1": ("train.csv", "text,label\na,x\ncafé,y\n".encode("latin-1"), "FILE: can't be read as csv: the byte 0xe9 in line 3 isn't UTF-8 text; save it as UTF-8"),
    "Latin-1 in the header": ("train.csv", "text,label,é\na,x,1\n".encode("latin-1"), "FILE: can't be read as csv: the byte 0xe9 in line 1 isn't UTF-8 text; save it as UTF-8"),
    "Latin-1 with CR-only line ends": ("train.csv", b"text,label\ra,x\rb,\xe9\r", "FILE: can't be read as csv: the byte 0xe9 in line 3 isn't UTF-8 text; save it as UTF-8"),
    "Latin-1 in jsonl": ("train.jsonl", b'{"text": "a", "label": 1}\n{"text": "\xe9", "label": 2}\n', "FILE: can't be read as jsonl: the byte 0xe9 in line 2 isn't UTF-8 text; save it as UTF-8"),
    "UTF-16": ("train.csv", GOOD.encode("utf-16"), "FILE: can't be read as csv: it is UTF-16 or UTF-32 text; save it as UTF-8"),
    "UTF-16 in jsonl": ("train.jsonl", lines({"text": "a"}).encode("utf-16"), "FILE: can't be read as jsonl: it is UTF-16 or UTF-32 text; save it as UTF-8"),
    "UTF-16 without its mark": ("train.csv", GOOD.encode("utf-16-be"), "FILE: can't be read as csv: the byte 0x00 in line 1 isn't UTF-8 text; save it as UTF-8"),
    "UTF-32": ("train.csv", b"\x00\x00\xfe\xff" + GOOD.encode("utf-32-be"), "FILE: can't be read as csv: it is UTF-32 text; save it as UTF-8"),
    "NUL in a text": ("train.csv", b"text,label\na\0b,x\nb,y\n", "FILE: can't be read as csv: the byte 0x00 in line 2 isn't UTF-8 text; save it as UTF-8"),
    "NULs at the end": ("train.jsonl", b'{"text": "a", "label": 1}\n' + bytes(512), "FILE: can't be read as jsonl: the byte 0x00 in line 2 isn't UTF-8 text; save it as UTF-8"),
    "surrogates in UTF-8": ("train.csv", b"text,label\n\xed\xa0\xbd,x\nb,y\n", "FILE: can't be read as csv: the byte 0xed in line 2 isn't UTF-8 text; save it as UTF-8"),
    "no UTF-8 in parquet": ("train.parquet", packed(table(text=NO_UTF8, label=["x", "y"])), "FILE: can't be read as parquet: it is damaged or cut short: Column 0: In chunk 0: Invalid: Invalid UTF8 sequence at string index 0"),
    "a lone surrogate": ("train.jsonl", '{"text": "a\\ud83d", "label": 1}\n', "FILE: can't be read as jsonl: 'a\\ud83d' holds half of a surrogate pair, which is no character; mend or remove it"),
    "a lone surrogate in a name": ("train.jsonl", '{"text": "a", "\\ud83d": 1}\n', "FILE: can't be read as jsonl: '\\ud83d' holds half of a surrogate pair, which is no character; mend or remove it"),
    "an empty csv": ("train.csv", "", "FILE: can't be read as csv: it is empty"),
    "an empty json": ("train.json", "", "FILE: can't be read as json: it is empty"),
    "an empty parquet": ("train.parquet", "", "FILE: can't be read as parquet: it is empty"),
    "nothing but white space": ("train.jsonl", " \n\n", "FILE: can't be read as jsonl: it is empty"),
    "nothing but a byte order mark": ("train.csv", b"\xef\xbb\xbf", "FILE: can't be read as csv: it is empty"),
    "a header alone": ("train.csv", "text,label\n", "FILE: no rows: the train split is empty"),
    "a header without a line end": ("train.csv", "text,label", "FILE: no rows: the train split is empty"),
    "an empty list": ("validation.json", "[]", "FILE: no rows: the validation split is empty"),
    "parquet without rows": ("test.parquet", packed(table(text=[], label=[])), "FILE: no rows: the test split is empty"),
    "no header": ("train.csv", "a,x\nb,y\n", 'the train split has no column "text"; it has a, x'),
    "a header in capitals": ("train.csv", "Text,Label\na,x\nb,y\n", 'the train split has no column "text"; it has Text, Label (did you mean Text?)'),
    "spaces in the header": ("train.csv", "text, label\na, x\nb, y\n", "the train split has no column \"label\"; it has text, ' label' (did you mean ' label'?)"),
    "bars in a csv": ("train.csv", GOOD.replace(",", "|"), 'the train split has no column "text"; it has text|label'),
    "no label": ("validation.csv", "text,stars\na,x\n", 'the validation split has no column "label"; it has text, stars'),
    "500 columns": ("train.jsonl", lines({f"c{number}": 1 for number in range(500)}), f'the train split has no column "text"; it has {", ".join(f"c{number}" for number in range(20))} and 480 more'),
    "a wrong name of 100,000 characters": ("train.csv", f"text,{'n' * 100_000}\na,x\n", f'the train split has no column "label"; it has text, {"n" * 40}…'),
    "repeated columns": ("train.csv", "text,label,text\na,x,c\nb,y,d\n", "FILE: column names are repeated: text"),
    "repeated columns of parquet": ("train.parquet", packed(pyarrow.table([["a"], ["b"], [0]], names=["text", "text", "label"])), "FILE: column names are repeated: text"),
    "repeated columns without a name": ("train.csv", ",,text,label\n0,0,a,x\n", "FILE: column names are repeated: ''"),
    "a repeated key": ("train.jsonl", '{"text": "a", "label": 1, "label": 2}\n', 'FILE: can\'t be read as jsonl: an object has "label" more than once: {"text": "a", "label": 2}'),
    "a repeated key among 50,000": ("train.json", json.dumps(dict.fromkeys(range(50_000), 1))[:-1] + ', "49999": 2}', 'FILE: can\'t be read as json: an object has "49999" more than once: {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, "7"'),
    "a short row": ("train.csv", "text,label\na,x\nb\n", "FILE: can't be read as csv: row 3, the header being row 1, has 1 cell, not 2: 'b'; fill a short row, and put quotes around a cell that holds a delimiter"),
    "a long row": ("train.csv", "text,label\na,x\nb, c,y\n", "FILE: can't be read as csv: row 3, the header being row 1, has 3 cells, not 2: 'b, c,y'; fill a short row, and put quotes around a cell that holds a delimiter"),
    "a comment before the header": ("train.csv", "# ours\n" + GOOD, "FILE: can't be read as csv: row 2, the header being row 1, has 2 cells, not 1: 'text,label'; fill a short row, and put quotes around a cell that holds a delimiter"),
    "a control character at the end": ("train.csv", GOOD + "\x1a", "FILE: can't be read as csv: row 4, the header being row 1, has 1 cell, not 2: '\\x1a'; fill a short row, and put quotes around a cell that holds a delimiter"),
    "a web page": ("train.csv", "<!DOCTYPE html>\n<p>Not found, alas</p>\n", "FILE: can't be read as csv: row 2, the header being row 1, has 2 cells, not 1: '<p>Not found, alas</p>'; fill a short row, and put quotes around a cell that holds a delimiter"),
    "an unclosed quote": ("train.csv", 'text,label\n"a,x\nb,y\n', "FILE: can't be read as csv: the quoted cell '\"a,x\\nb,y\\n' in line 2 is never closed; within a quoted cell, write a quote as two"),
    "an unclosed quote in the last column": ("train.csv", 'label,text\nx,a\ny,"b\nx,c\ny,d\n', "FILE: can't be read as csv: the quoted cell '\"b\\nx,c\\ny,d\\n' in line 3 is never closed; within a quoted cell, write a quote as two"),
    "a quote at the start of a cell": ("train.tsv", 'text\tlabel\n"Odd" is all\tx\nb\ty\n', "FILE: can't be read as tsv: the quoted cell '\"Odd\" is all\\tx\\nb\\ty\\n' in line 2 goes on after its closing quote; within a quoted cell, write a quote as two"),
    "quotes escaped by backslashes": ("train.csv", 'text,label\n"an \\"odd\\" film",x\n', "FILE: can't be read as csv: the quoted cell '\"an \\\\\"odd\\\\\" film\",x\\n' in line 2 goes on after its closing quote; within a quoted cell, write a quote as two"),
    "parquet named csv": ("train.csv", PARQUET, "FILE: can't be read as csv: it is a parquet file; name it .parquet"),
    "gzip named csv": ("train.csv", gzip.compress(GOOD.encode()), "FILE: can't be read as csv: it is compressed by gzip; unpack it"),
    "gzip named parquet": ("train.parquet", gzip.compress(PARQUET), "FILE: can't be read as parquet: it is compressed by gzip; unpack it"),
    "zip named csv": ("train.csv", zipped(GOOD), "FILE: can't be read as csv: it is a zip archive or a spreadsheet; unpack it, or save it as csv"),
    "csv named parquet": ("train.parquet", GOOD, "FILE: can't be read as parquet: it is no parquet file"),
    "csv named jsonl": ("train.jsonl", GOOD, "FILE: can't be read as jsonl: Expecting value: line 1 column 1, at 'text,label\\na,x\\nb,y'"),
    "jsonl named csv": ("train.csv", lines({"text": "a", "label": 1}, {"text": "b", "label": 2}), "the train split has no column \"text\"; it has {\"text\": \"a\", ' \"label\": 1}'"),
    "a pointer of Git LFS": ("train.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "FILE: can't be read as csv: it is a pointer of Git LFS, not the data; fetch them with git lfs pull"),
    "another suffix": ("train.csv.gz", gzip.compress(GOOD.encode()), "FILE: a data file must end in .csv, .tsv, .json, .jsonl, .parquet"),
    "truncated parquet": ("train.parquet", PARQUET[:-20], "FILE: can't be read as parquet: it is damaged or cut short: Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file."),
    "parquet with a damaged page": ("train.parquet", PARQUET[:20] + b"\xff" * 20 + PARQUET[40:], "FILE: can't be read as parquet: it is damaged or cut short: Invalid BYTE_ARRAY value"),
    "parquet with damaged features": ("train.parquet", packed(BAD_FEATURES), "FILE: can't be read as parquet: what datasets left in its metadata is damaged"),
    "truncated json": ("train.json", '[{"text": "a", "label": 1}, {"text": "b", "la', "FILE: can't be read as json: Unterminated string starting at: line 1 column 43, at '\"la'"),
    "json without its end": ("train.json", '[{"text": "a", "label": 1},', "FILE: can't be read as json: Expecting value: line 1 column 28, where the file ends"),
    "truncated jsonl": ("train.jsonl", '{"text": "a", "label": 1}\n{"text":', "FILE: can't be read as jsonl: Expecting value: line 2 column 9, where the file ends"),
    "garbage after jsonl": ("train.jsonl", lines({"text": "a", "label": 1}) + "<!-- end -->\n", "FILE: can't be read as jsonl: Expecting value: line 2 column 1, at '<!-- end -->'"),
    "garbage after json": ("train.json", '[{"text": "a", "label": 1}]; end', "FILE: can't be read as json: Extra data: line 1 column 28, at '; end'"),
    "lists in jsonl": ("train.jsonl", '["a", 1]\n["b", 2]\n', "FILE: can't be read as jsonl: Extra data: line 2 column 1, at '[\"b\", 2]'"),
    "a number in json": ("train.json", "3", "FILE: can't be read as json: row 1 is 3, not an object"),
    "one object of all rows": ("train.json", '{"data": [{"text": "a", "label": 1}]}', 'the train split has no column "text"; it has data'),
    "deeply nested json": ("train.jsonl", f'{{"text": "a", "label": 1, "tree": {"[" * 100_000}{"]" * 100_000}}}', "FILE: can't be read as jsonl: its values are nested too deeply"),
    "a column of 11 levels": ("train.jsonl", lines({"text": "a", "label": 1, "tree": nested(11)}), "FILE: nested more than 10 levels deep: tree; flatten or remove it"),
    "nested texts": ("train.jsonl", lines({"text": {"en": "a"}, "label": 1}, {"text": {"en": "b"}, "label": 2}), "column \"text\" of the train split holds objects, not text; name the column of texts, or write them as strings"),
    "nested labels": ("train.jsonl", lines({"text": "a", "label": ["x", "y"]}), "column \"label\" of the train split holds lists; classes are whole numbers, true/false or strings"),
    "texts of token ids": ("train.jsonl", lines({"text": [101, 30_523], "label": 1}, {"text": [101], "label": 2}), "column \"text\" of the train split holds lists, not text; name the column of texts, or write them as strings"),
    "texts of bytes": ("train.parquet", packed(table(text=[b"a", b"\xff"], label=["x", "y"])), 'column "text" of the train split holds binary, not text; name the column of texts, or write them as strings'),
    "texts that are all numbers": ("train.csv", "text,label\n12,x\n3,y\n", 'column "text" of the train split holds int64, not text; name the column of texts, or write them as strings'),
    "NaN for a text": ("train.jsonl", '{"text": "a", "label": 1}\n{"text": NaN, "label": 2}\n', "FILE: can't be read as jsonl: the values of \"text\" are of several types: text in row 1, a number in row 2"),
    "labels of several types": ("train.jsonl", lines({"text": "a", "label": 1}, {"text": "b", "label": "two"}), "FILE: can't be read as jsonl: the values of \"label\" are of several types: a number in row 1, text in row 2"),
    "true among numbers": ("train.jsonl", lines({"text": "a", "label": True}, {"text": "b", "label": 1}), "FILE: can't be read as jsonl: the values of \"label\" are of several types: true or false in row 1, a number in row 2"),
    "an unused column of several shapes": ("train.jsonl", lines({"text": "a", "label": 1, "meta": [1, {"b": 2}]}), "FILE: can't be read as jsonl: the values of \"meta\" fit no column: cannot mix struct and non-struct, non-null values"),
    "labels beyond 64 bits": ("train.jsonl", lines({"text": "a", "label": 10**30}), "FILE: can't be read as jsonl: the values of \"label\" fit no column: Python int too large to convert to C long"),
    "labels that are fractions": ("train.csv", "text,label\na,1.0\nb,0.0\n", 'column "label" of the train split holds float64; classes are whole numbers, true/false or strings'),
    "labels that are NaN and Infinity": ("train.jsonl", '{"text": "a", "label": NaN}\n{"text": "b", "label": Infinity}\n', 'column "label" of the train split holds float64; classes are whole numbers, true/false or strings'),
    "labels that are dates of parquet": ("train.parquet", packed(table(text=["a", "b"], label=pyarrow.array([1, 2], pyarrow.date32()))), 'column "label" of the train split holds date32; classes are whole numbers, true/false or strings'),
    "a null text": ("train.jsonl", lines({"text": "a", "label": 1}, {"text": None, "label": 2}), 'column "text" of the train split is empty in row 2: fill or remove it'),
    "a text left out": ("validation.jsonl", lines({"text": "a", "label": "x"}, {"label": "y"}), 'column "text" of the validation split is empty in row 2: fill or remove it'),
    "no text at all": ("train.csv", "text,label\n,x\n,y\n", 'column "text" of the train split is empty in 2 rows, the first of them row 1: fill or remove them'),
    "a null label": ("train.parquet", packed(table(text=["a", "b"], label=["x", None])), 'column "label" of the train split is empty in row 2: fill or remove it'),
    "an empty label": ("train.csv", "text,label\na,1\nb,\nc,0\n", 'column "label" of the train split is empty in row 2: fill or remove it'),
    "one class": ("train.csv", "text,label\na,x\nb,x\n", "column \"label\" of the train split has only one class, 'x'; two are needed"),
    "1,200 classes of one row": ("train.csv", "text,label\n" + "".join(f"t{row},{row}\n" for row in range(1200)), 'column "label" of the train split has 1,200 classes in 1,200 rows, too few of each to learn from; is it a column of numbers or names?'),
    "labels padded by spaces": ("train.csv", "text,label\na,x\nb,x \nc,y\n", "column \"label\" of the train split has the classes 'x' and 'x ', which look alike: they differ in white space or invisible characters alone; make them one"),
    "labels padded by nothing visible": ("train.jsonl", lines({"text": "a", "label": "x"}, {"text": "b", "label": "x\u200b"}), "column \"label\" of the train split has the classes 'x' and 'x\\u200b', which look alike: they differ in white space or invisible characters alone; make them one"),
    "labels composed and decomposed": ("train.jsonl", lines({"text": "a", "label": "caf\u00e9"}, {"text": "b", "label": "cafe\u0301"}), "column \"label\" of the train split has the classes 'cafe\u0301' and 'caf\u00e9', which look alike: they differ in white space or invisible characters alone; make them one"),
    "a label of two lines": ("train.csv", 'text,label\na,"x\ny"\nb,y\n', "column \"label\" of the train split holds 'x\\ny'; the name of a class is one line of 200 characters at most"),
    "a label that commands the terminal": ("train.csv", "text,label\na,\x1b[31mx\nb,y\n", "column \"label\" of the train split holds '\\x1b[31mx'; the name of a class is one line of 200 characters at most"),
    "a label of 10 MB": ("train.csv", f"text,label\na,{LONG}\nb,y\n", "column \"label\" of the train split holds 'longlonglong...glonglonglong'; the name of a class is one line of 200 characters at most"),
    "a class that train lacks": ("validation.csv", "text,label\nc,x\nd,z\n", "column \"label\" of the validation split holds 'z' in row 2 (1 row of this kind in all), which is no class of the train split; those are 'x', 'y'"),
    "a class of test that train lacks": ("test.csv", "text,label\nc,X\nd,x\n", "column \"label\" of the test split holds 'X' in row 1 (1 row of this kind in all), which is no class of the train split; those are 'x', 'y'"),
    "a long label that train lacks": ("test.csv", f"text,label\nc,{'long' * 1000}\n", "column \"label\" of the test split holds 'longlonglong...glonglonglong' in row 1 (1 row of this kind in all), which is no class of the train split; those are 'x', 'y'"),
    "a test split without labels": ("test.csv", "text,label\nc,-1\nd,-1\n", 'column "label" of the test split is -1 in every row: it has no labels, so it can\'t be scored; leave the split out'),
    "a train split without labels": ("train.csv", "text,label\na,-1\nb,-1\n", 'column "label" of the train split has only one class, -1; two are needed'),
    "a number that is no class's": ("train.parquet", packed(UNNAMED), "column \"label\" of the train split holds -1 in row 2 (1 row of this kind in all), which is no class of the train split; those are 'x', 'y'"),
    "a directory": ("train.csv", Path.mkdir, "FILE: is a directory, not a file"),
    "a link to itself": ("train.csv", lambda path: path.symlink_to(path), "FILE: can't be read as csv: Too many levels of symbolic links"),
    "a link to nothing": ("train.csv", lambda path: path.symlink_to("gone.csv"), "FILE: is a link to gone.csv, which isn't there"),
    "no file": ("train.csv", lambda path: None, "FILE: no such file (did you mean validation.csv?)"),
    "a pipe": ("train.csv", os.mkfifo, "FILE: is a pipe or a device; write what it gives to a file"),
    "a device": ("train.csv", lambda path: path.symlink_to("/dev/zero"), "FILE: is a pipe or a device; write what it gives to a file"),
}  # fmt: skip

# name ▶ rows of the splits, cautions
CAUTIONED = {
    "test in train": (
        {"train": "a,x b,y", "validation": "c,x d,y", "test": "a,x e,y b,y f,x"},
        ["2 of 4 test texts are in train too"],
    ),
    "test in train, contradicting it": (
        {"train": "a,x b,y", "validation": "c,x d,y", "test": "a,y b,y"},
        ["2 of 2 test texts are in train too, 1 of them with another label"],
    ),
    "test in validation": (
        {"train": "a,x b,y", "validation": "c,x d,y", "test": "c,x e,y"},
        ["1 of 2 test texts are in validation too"],
    ),
    "validation in train, train named last": (
        {"validation": "c,x b,x", "train": "a,x b,y"},
        ["1 of 2 validation texts are in train too, 1 of them with another label"],
    ),
    "repeated in train": (
        {"train": "a,x b,y a,x a,y", "validation": "c,x d,y"},
        ["2 of 4 train texts repeat an earlier one, 1 of them with another label"],
    ),
    "repeated within a split": ({"train": "a,x b,y", "validation": "c,x c,x"}, ["1 of 2 validation texts repeat an earlier one"]),
    "blank texts": ({"train": "a,x ,y", "validation": "\u3000,x d,y"}, ["1 of 2 train texts are blank", "1 of 2 validation texts are blank"]),
    "labels that differ in case": ({"train": "a,Good b,good c,bad", "validation": "d,good e,bad"}, ["the classes Good, good differ in case or spaces alone"]),
}  # fmt: skip

RECIPE = """
task: {{name: text_classification, max_length: 32}}
model: {{path: "{model}"}}
data: {{files: {files}}}
optimizer: {{name: adamw, learning_rate: 1e-3}}
training: {{duration: 1, batch_size: 2, precision: fp32}}
"""


def write(path, content):
    """Makes the file at `path`: of text, of bytes, or by calling `content` with the path."""
    path.parent.mkdir(exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def recipe_of(tmp_path, tiny_model):
    """Writes the files given by name, and good ones for the splits that none is of; returns the path of a recipe."""

    def make(contents):
        names = {next(split for split in ("train", "validation", "test") if split in name): name for name in contents}
        others = {split: f"{split}.csv" for split in OTHERS if split not in names}
        for name, content in [*contents.items(), *((others[split], OTHERS[split]) for split in others)]:
            write(tmp_path / name, content)
        recipe = tmp_path / "broken.yaml"
        files = json.dumps(names | others)
        recipe.write_text(RECIPE.format(model=tiny_model.as_posix(), files=files), encoding="utf-8")
        return recipe

    return make


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(Pretrained(str(tiny_model), local=True), max_length=32)


def of_rows(rows):
    return "text,label\n" + "".join(f"{row}\n" for row in rows.split(" "))


@pytest.mark.parametrize("name", READ)
def test_it_is_read_as_it_can_only_be_meant(tmp_path, name):
    file, content, rows = READ[name]
    classes, examples = TASK.read(load_files({"train": [write(tmp_path / file, content)]}))
    train = examples["train"]
    assert [(text, classes[label]) for text, label in zip(train.texts, train.labels, strict=True)] == rows


def test_whatever_is_read_can_be_encoded(tokenizer):
    texts = [text for _, _, rows in READ.values() for text, _ in rows if text != LONG]
    encoded = TASK.encode(LabelledTexts(texts, None, [0] * len(texts)), tokenizer)
    assert len(encoded) == len(texts)
    assert 2 <= encoded.lengths.min() <= encoded.lengths.max() <= 32
    assert encoded.features["input_ids"].max() < len(tokenizer)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_one_message_before_a_model_is_loaded(recipe_of, monkeypatch, capsys, name):
    file, content, message = REFUSED[name]
    monkeypatch.setattr(fine_tuning, "make_plan", lambda *args, **kwargs: pytest.fail("a model is loaded"))
    recipe = recipe_of({file: content})
    with pytest.raises(SystemExit) as end:
        main(["run", str(recipe)])
    assert end.value.code == 2
    expected = f"finetune: {message}\n".replace("FILE", str(recipe.parent / file))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == expected


@pytest.mark.parametrize("name", CAUTIONED)
def test_it_is_read_with_a_caution(recipe_of, name):
    splits, cautions = CAUTIONED[name]
    recipe = recipe_of({f"{split}.csv": of_rows(rows) for split, rows in splits.items()})
    assert Library().data(load_recipe(recipe, [])).cautions == cautions


def test_the_plan_of_a_run_prints_the_cautions(train, small_recipe):
    rows = (small_recipe.parent / "train.csv").read_text(encoding="utf-8").splitlines()
    (small_recipe.parent / "test.csv").write_text("\n".join(rows[:11]), encoding="utf-8")
    out = io.StringIO()
    train("training.duration=1", f"data.files.test={small_recipe.parent / 'test.csv'}", out=out)
    assert "caution    10 of 10 test texts are in train too" in out.getvalue()


def test_cautions_tell_pairs_by_both_parts():
    task = TextClassification(text_pair="pair")
    splits = {
        "train": Rows.of_table(table(text=["a", "a"], pair=["b", "c"], label=[0, 1])),
        "test": Rows.of_table(table(text=["a", "b", "a"], pair=["b", "a", "d"], label=[0, 1, 0])),
    }
    classes, examples = task.read(splits)
    assert task.cautions(examples, classes) == ["1 of 3 test texts are in train too"]


@pytest.mark.parametrize("access", ["stat", "read_bytes", "open"])
def test_no_permission_to_read(tmp_path, monkeypatch, access):
    path = write(tmp_path / ("train.parquet" if access == "open" else "train.csv"), PARQUET)

    def deny(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as denied:
        denied.setattr(Path, access, deny)
        with pytest.raises(DataError) as caught:
            read_file(path)
    assert str(caught.value) == f"{path}: can't be read as {path.suffix[1:]}: Permission denied"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read anything")
def test_a_file_that_its_owner_may_not_read(tmp_path):
    path = write(tmp_path / "train.csv", GOOD)
    path.chmod(0)
    with pytest.raises(DataError, match=r"train\.csv: can't be read as csv: Permission denied"):
        read_file(path)


def test_a_name_longer_than_the_system_takes(tmp_path):
    with pytest.raises(DataError, match=r"n\.csv: can't be read as csv: File name too long$"):
        read_file(tmp_path / f"{'n' * 300}.csv")


def test_a_part_without_rows_is_no_fault_of_a_split(tmp_path):
    parts = [write(tmp_path / "1.csv", GOOD), write(tmp_path / "2.csv", "text,label\n")]
    assert load_files({"train": parts})["train"].values("text") == ["a", "b"]
