"""Fields of rows: which rows are used, left out or mistaken, and how that is told."""

import json
from pathlib import Path
from typing import Any

import pytest

import data_files
from distill.core.errors import UserError
from distill.core.rows.reading import DataSet

FIELDS = {"prompt": "q", "response": "a"}


def read(folder: Path, rows: list[Any], fields: Any = FIELDS, **spec: Any) -> tuple[list[Any], Any]:
    """The usable rows of a JSONL file, and the counts."""
    (folder / "x.jsonl").write_text(data_files.lines(rows))
    data = DataSet({"path": str(folder / "x.jsonl"), "fields": fields, **spec})
    return list(data.rows()), data.picker.record


def told(folder: Path, rows: list[Any], fields: Any = FIELDS, **spec: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, rows, fields, **spec)
    return str(caught.value).replace(f"{folder}/", "")


def whole(count: int) -> list[dict[str, Any]]:
    return [{"q": f"Question {n}", "a": f"Answer {n}"} for n in range(count)]


LACKING: list[dict[str, Any]] = [
    {"q": "w", "a": None}, {"q": "w"}, {"q": "w", "a": " \n"}, {"q": "w", "a": float("nan")},
    {"q": "w", "a": "nan"}, {"q": "w", "a": "<NA>"}, {"q": "w", "a": []},
]  # fmt: skip


def test_rows_without_an_answer_are_left_out_where_a_teacher_takes_it(tmp_path: Path) -> None:
    rows, counts = read(tmp_path, whole(20) + LACKING, answered=True)
    assert [row["response"] for row in rows] == [row["a"] for row in whole(20)]
    assert counts == {"read": 27, "usable": 20, "left_out": {"a": 7}}
    rows, counts = read(tmp_path, whole(20) + LACKING)
    assert len(rows) == 27
    assert [row["response"] for row in rows[20:]] == [None, None, " \n", None, None, None, None]
    assert counts == {"read": 27, "usable": 27, "left_out": {}}


def test_rows_without_a_prompt_or_text_are_left_out(tmp_path: Path) -> None:
    rows, counts = read(tmp_path, [*whole(9), {"q": "", "a": "x"}, {"a": "x"}, {"q": None}])
    assert len(rows) == 9
    assert counts == {"read": 12, "usable": 9, "left_out": {"q": 3}}
    texts = [{"t": "a"}, {"t": " "}, {"t": "b"}]
    rows, counts = read(tmp_path, texts, {"text": "t"})
    assert ([row["text"] for row in rows], counts["left_out"]) == (["a", "b"], {"t": 1})
    rows, counts = read(tmp_path, texts, {"text": "t"}, begins="^=")
    assert [row["text"] for row in rows] == ["a", " ", "b"]


def test_too_many_rows_left_out_are_an_error_that_names_the_limit(tmp_path: Path) -> None:
    assert told(tmp_path, whole(6) + LACKING, answered=True) == (
        "x.jsonl: 7 of 13 rows would be left out, more than 50%: 7 without a (x.jsonl, rows 7, 8, "
        "9, 10, 11 and 2 more); fill or remove them, or raise the source's max_left_out"
    )
    rows, _ = read(tmp_path, whole(6) + LACKING, answered=True, max_left_out=0.6)
    assert len(rows) == 6
    rows = [*whole(9), {"q": "", "a": ""}, {"q": "x"}]
    both = told(tmp_path, rows, answered=True, max_left_out=0)
    assert "1 without q (x.jsonl, row 10); 1 without a (x.jsonl, row 11)" in both
    assert told(tmp_path, LACKING, answered=True, max_left_out=1.0).endswith(
        "7 of 7 rows would be left out, all of them: 7 without a (x.jsonl, rows 1, 2, 3, 4, 5 and "
        "2 more); fill them, or correct the source's fields"
    )


def test_all_mistakes_are_told_at_once_with_their_rows(tmp_path: Path) -> None:
    rows = whole(40)
    for number in (2, 5, 7, 11, 13, 17):
        rows[number]["a"] = 1.5
    rows[3]["q"], rows[21]["q"] = "\ud83d", "\udc00"
    rows[30] = ["x"]  # type: ignore[call-overload]
    rows[31]["q"] = {"text": "x"}
    assert told(tmp_path, rows) == (
        "x.jsonl, rows 3, 6, 8, 12, 14 and 1 more: a is not text but a number; write it as text; "
        "x.jsonl, rows 4, 22: q has an unpaired surrogate; correct it; "
        "x.jsonl, row 31: not an object with named fields; and 1 more kinds of mistake"
    )


def test_lines_that_are_not_json_are_told_at_once(tmp_path: Path) -> None:
    text = data_files.lines(whole(4)).splitlines()
    text[1], text[3] = '{"q": "w"', "nothing"
    (tmp_path / "x.jsonl").write_text("\n".join(text))
    with pytest.raises(UserError, match=r"x\.jsonl, lines 2, 4: Expecting ',' delimiter"):
        list(DataSet({"path": str(tmp_path / "x.jsonl"), "fields": FIELDS}).rows())


def test_uneven_rows_of_a_csv_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("q,a\n1,2\n1\n1,2,3\n1,2\n1,2,3\n4\n")
    with pytest.raises(UserError) as caught:
        list(DataSet({"path": str(tmp_path / "x.csv"), "fields": FIELDS}).rows())
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "x.csv, rows 2 (line 3), 6 (line 7): 1 cells but 2 columns; add the missing ones, or quote "
        "a cell with line breaks; x.csv, rows 3 (line 4), 5 (line 6): more cells than columns; "
        "quote cells with commas"
    )


def test_mistakes_in_several_files_name_each(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.jsonl").write_text(data_files.lines([*whole(2), {"q": 1.5}]))
    with pytest.raises(UserError) as caught:
        list(DataSet({"path": str(tmp_path / "*.jsonl"), "fields": {"prompt": "q"}}).rows())
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "row 3 of 1.jsonl, row 3 of 2.jsonl: q is not text but a number; write it as text"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (-12, "-12"), (10**30, str(10**30)), ("7.0", "7.0"), ("NaN", "NaN"),
     ("None", "None"), ("a\0b\u2028c", "a\0b\u2028c")],
)  # fmt: skip
def test_whole_numbers_are_text_and_text_stays_as_it_is(
    tmp_path: Path, value: Any, text: str
) -> None:
    rows, _ = read(tmp_path, [{"q": "w", "a": value}])
    assert rows[0]["response"] == text


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (True, "a is not text but true or false; write it as text"),
        (0.5, "a is not text but a number"),
        (["x"], r"a list; name one of its items, such as a[0], or write it as text"),
        ({"text": ["x"]}, "an object; name one of its parts (text), such as a.text"),
    ],
)
def test_values_that_are_not_text_are_refused_with_a_way_out(
    tmp_path: Path, value: Any, sentence: str
) -> None:
    assert sentence in told(tmp_path, [*whole(2), {"q": "w", "a": value}])


def test_a_way_out_works(tmp_path: Path) -> None:
    rows, _ = read(
        tmp_path, [{"q": "w", "a": {"text": ["x"]}}], {"prompt": "q", "response": "a.text[0]"}
    )
    assert rows[0]["response"] == "x"


def test_a_wrong_column_or_path_names_the_right_one(tmp_path: Path) -> None:
    rows = [{"Question": "w", "answers": {"text": []}}]
    assert told(tmp_path, rows) == ("x.jsonl: no column 'q'; there are Question, answers")
    assert told(tmp_path, rows, {"prompt": "question"}).endswith("; did you mean 'Question'?")
    assert told(tmp_path, rows, {"prompt": "Qestion"}).endswith("; did you mean 'Question'?")
    assert told(tmp_path, rows, {"prompt": "Question", "response": "answers.txt"}) == (
        "x.jsonl: no row has a value at 'answers.txt'; correct the path under fields"
    )


def test_a_column_that_is_only_in_later_rows_is_there(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, [{"q": "w"}, {"q": "w", "a": "x"}])
    assert [row["response"] for row in rows] == [None, "x"]


def test_a_system_column_is_the_rows_own(tmp_path: Path) -> None:
    fields = {**FIELDS, "system": "s"}
    rows, _ = read(tmp_path, [{"q": "w", "a": "x", "s": "Be brief."}, {"q": "w"}], fields)
    assert [row["system"] for row in rows] == ["Be brief.", None]


# Chats.

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
SYSTEM = {"role": "system", "content": "Be brief."}


def chat(folder: Path, turns: list[Any], **more: Any) -> dict[str, Any]:
    """The row of a chat."""
    fields = {"prompt": "m", **({"system": "s"} if "s" in more else {})}
    ((row,), _) = read(folder, [{"m": turns, **more}], fields)
    return {name: row[name] for name in ("prompt", "response", "system", "turns")}


def test_a_chat_is_split_at_its_last_question(tmp_path: Path) -> None:
    short = {"prompt": "Hi", "response": "Ho", "system": None, "turns": None}
    assert chat(tmp_path, [USER, ANSWER]) == short
    assert chat(tmp_path, [SYSTEM, USER, ANSWER]) == short | {"system": "Be brief."}
    assert chat(tmp_path, [SYSTEM, USER]) == short | {"system": "Be brief.", "response": None}
    assert chat(tmp_path, [{"role": "system", "content": " "}, USER, ANSWER]) == short
    assert chat(tmp_path, [USER, ANSWER], s="Be brief.") == short | {"system": "Be brief."}
    again = [USER | {"content": "And?"}, ANSWER | {"content": "So."}]
    long = chat(tmp_path, [SYSTEM, USER, ANSWER, *again])
    assert (long["prompt"], long["response"], long["system"]) == ("And?", "So.", "Be brief.")
    assert json.loads(long["turns"]) == [USER, ANSWER]
    greeted = chat(tmp_path, [ANSWER, USER, ANSWER])
    assert json.loads(greeted["turns"]) == [ANSWER]


@pytest.mark.parametrize(
    ("user", "assistant"), [("human", "gpt"), ("User", "Assistant"), ("prompter", "bot")]
)
def test_roles_have_many_names(tmp_path: Path, user: str, assistant: str) -> None:
    turns = [{"from": user, "value": "Hi"}, {"from": assistant, "value": "Ho", "weight": None}]
    assert chat(tmp_path, turns)["response"] == "Ho"


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}


@pytest.mark.parametrize(
    ("turns", "sentence"),
    [
        ([USER, CALL], "a chat with turns of tools, which are not supported; remove it"),
        ([USER, {"role": "tool", "content": "7"}, ANSWER], "turns of tools"),
        ([{"from": "human", "value": "x"}, {"from": "function_call", "value": "x"}], "of tools"),
        ([USER, {"role": "critic", "content": "x"}], "a chat with the role 'critic'; rename it"),
        ([USER, {"role": "assistant", "content": 7}], "a chat whose content is not text"),
        ([USER | {"content": [{"type": "image_url"}]}], "content of type 'image_url'; only text"),
        ([USER, ANSWER, ANSWER], "a chat without a user turn before its last answer"),
        ([SYSTEM], "a chat without a user turn"),
        ([USER | {"content": "\ud83d"}, ANSWER], "m has an unpaired surrogate"),
    ],
)
def test_chats_that_cannot_be_rows_are_refused_with_their_rows(
    tmp_path: Path, turns: list[Any], sentence: str
) -> None:
    rows = [{"m": [USER, ANSWER]}, {"m": turns}, {"m": turns}]
    text = told(tmp_path, rows, {"prompt": "m"})
    assert text.startswith("x.jsonl, rows 2, 3: ")
    assert sentence in text


def test_two_system_texts_are_refused(tmp_path: Path) -> None:
    rows = [{"m": [SYSTEM, USER], "s": "Be long."}]
    assert "two system texts" in told(tmp_path, rows, {"prompt": "m", "system": "s"})
    rows = [{"m": [SYSTEM, USER], "s": SYSTEM["content"]}]
    assert read(tmp_path, rows, {"prompt": "m", "system": "s"})[0][0]["system"] == "Be brief."


def test_chats_without_an_answer_are_left_out_where_a_teacher_takes_it(tmp_path: Path) -> None:
    rows = [{"m": [USER, ANSWER]}, {"m": [USER]}, {"m": []}, {"m": [USER, ANSWER]}]
    kept, counts = read(tmp_path, rows, {"prompt": "m"}, answered=True)
    left_out = {"m": 1, "an answer in m": 1}
    assert (len(kept), counts) == (2, {"read": 4, "usable": 2, "left_out": left_out})


def test_each_user_turn_of_a_chat_may_be_a_row(tmp_path: Path) -> None:
    names = ["user 1", "assistant 1", "user 2", "assistant 2", "user 3"]
    chat = [
        {"role": "system", "content": "S"},
        {"role": "assistant", "content": "Hello"},
        *({"role": name.split()[0], "content": name} for name in names),
    ]
    rows = [{"m": chat}, {"m": chat[:2]}]
    told_last = told(tmp_path, rows, {"prompt": "m"})
    assert "without a user turn" in told_last
    assert "without a user turn" in told(tmp_path, rows, {"prompt": "m"}, turns="all")
    fields = {"prompt": "m", "response": "m"}
    kept, counts = read(tmp_path, rows[:1], fields, turns="all", answered=True)
    assert [(row["prompt"], row["response"]) for row in kept] == [
        ("user 1", "assistant 1"), ("user 2", "assistant 2"),
    ]  # fmt: skip
    assert [len(json.loads(row["turns"])) for row in kept] == [1, 3]
    assert {row["system"] for row in kept} == {"S"}
    assert counts == {"read": 1, "usable": 2, "left_out": {}}
    kept, _ = read(tmp_path, rows[:1], fields, turns="all")
    assert [row["response"] for row in kept] == ["assistant 1", "assistant 2", None]
