"""What a response is worth, against values written by hand and other implementations of the same scores."""

import random
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.filters.extraction import RegexFilter
from lm_eval.tasks.qasper.metrics import f1_abstractive

from sweeplab.evaluation.answers import SCORERS, extract_answer, find_number, normalize_answer
from tests.evaluation.conftest import settings

RIGHT: Final[dict[str, list[tuple[str, Any, dict[str, Any], Fraction | int]]]] = {
    "exact": [
        ("Rome", "Rome", {}, 1),
        (" Rome\n", "Rome", {}, 1),
        ("rome.", "Rome", {}, 0),
        ("rome.", "Rome", {"normalize": True}, 1),
        ("The  city of Rome!", "city of rome", {"normalize": True}, 1),
        ("Roma", ["Rome", "Roma"], {}, 1),
        ("a.", "A", {"normalize": True}, 1),  # an article, and nothing else
        ("", "A", {"normalize": True}, 0),
        ("The", "A", {"normalize": True}, 0),
        ("the Rome", ["A", "rome"], {"normalize": True}, 1),
        ("?", "!", {"normalize": True}, 0),
        (" ! ", "!", {"normalize": True}, 1),
        ("", "Rome", {}, 0),
        ("cafe\u0301", "caf\u00e9", {}, 1),  # one text, written in two ways
        ("CAFE\u0301.", "caf\u00e9", {"normalize": True}, 1),
    ],
    "number": [
        ("12", 12, {}, 1),
        ("It is 1,234.50 in all", 1234.5, {}, 1),
        ("5 + 7 = 12", "12", {}, 1),
        ("12 apples, so 13", 12, {}, 0),
        ("3-4", 4, {}, 1),
        ("it fell to -4", -4, {}, 1),
        ("it fell to \u22124", -4, {}, 1),
        (".5", 0.5, {}, 1),
        ("-.5", -0.5, {}, 1),
        ("1e3", 1000, {}, 1),
        ("0.3", 0.2, {"tolerance": 0.1}, 1),  # in binary they are more than 0.1 apart
        ("0.30001", 0.2, {"tolerance": 0.1}, 0),
        ("1,2,3", 3, {}, 1),
        ("no number", 0, {}, 0),
        ("it lost -$5", -5, {}, 1),
        ("it lost -\u20ac1,000.50", "-1000.5", {}, 1),
        ("\u20135", -5, {}, 1),
        ("3\u20134", 4, {}, 1),
        ("1\u202f000", 1000, {}, 1),
        ("1'234'567", 1234567, {}, 1),
        ("12 300", 300, {}, 1),  # two numbers
        ("1e1000", 0, {}, 0),
        ("1e99999999999999999999", 0, {}, 0),
        ("01.02.2024", 2024, {}, 1),
        ("3/4", 0.75, {}, 0),  # nothing is computed
        ("50 %", 50, {}, 1),
        ("7", [6, 7], {}, 1),
        ("9e999 is too large", 1, {}, 0),
    ],
    "regex": [
        ("on 2024-05-06.", r"\d{4}-\d\d-\d\d", {}, 1),
        ("May 6", r"\d{4}-\d\d-\d\d", {}, 0),
        ("YES", r"(?i)^yes$", {}, 1),
        ("b", ["a", "b"], {}, 1),
    ],
    "f1": [
        ("the cat sat", "a cat sat down", {}, Fraction(4, 5)),
        ("dog", "cat", {}, 0),
        ("cat cat cat", "cat", {}, Fraction(1, 2)),
        ("", "cat", {}, 0),
        ("The", "a", {}, 1),  # nothing is left of both
        ("red cat", ["dog", "red cat!"], {}, 1),
    ],
    "rouge_l": [
        ("a cat sat down", "the cat sat", {}, Fraction(4, 7)),
        ("down sat cat", "cat sat down", {}, Fraction(1, 3)),
        ("", "cat", {}, 0),
        ("Cats!", "cats", {}, 1),
        ("one", ["two", "one two"], {}, Fraction(2, 3)),
    ],
}
CASES: Final = [(score, *case) for score, cases in RIGHT.items() for case in cases]


def scored(score: str, response: str, item: dict[str, Any], **changes: Any) -> float:
    return SCORERS[score](response, item, settings("own", path="items.jsonl", score=score, **changes))


@pytest.mark.parametrize(("score", "response", "answer", "changes", "value"), CASES)
def test_a_response_is_worth_what_was_worked_out_by_hand(
    score: str, response: str, answer: Any, changes: dict[str, Any], value: Fraction | int
) -> None:
    assert scored(score, response, {"question": "?", "answer": answer}, **changes) == pytest.approx(
        float(value), rel=1e-12
    )


@pytest.mark.parametrize(
    ("response", "answer", "changes", "value"),
    [
        ("It is B.", "B", {}, 1),
        ("It is B, not A.", "B", {}, 0),  # names two
        ("BA", "B", {}, 0),  # no whole word
        ("b", "B", {}, 0),
        ("b", "B", {"normalize": True}, 1),
        ("B", 1, {}, 1),
        ("not B", "not B", {}, 1),  # B stands within it
        ("not B", "B", {}, 0),
        ("neither", "B", {}, 0),
        ("B. I say B", "B", {}, 1),
    ],
)
def test_a_choice_is_right_where_it_alone_is_named(response: str, answer: Any, changes: Any, value: int) -> None:
    item = {"question": "?", "choices": ["A", "B", "not B"], "answer": answer}
    assert scored("choice_generated", response, item, **changes) == value


@pytest.mark.parametrize(
    ("choices", "response", "right"),
    [
        (["10", "20"], "10,000", None),
        (["1", "2"], "1.5", None),
        (["3", "4"], "3.14", None),
        (["1", "2"], "-1", None),
        (["1", "2"], "1.", "1"),
        (["1", "2"], "It is 2, or two.", "2"),
        (["C", "C++"], "C++", "C++"),
        (["A", "B"], "A_1", None),
        (
            ["\u5317\u4eac", "\u4e0a\u6d77"],
            "\u7b54\u6848\u662f\u5317\u4eac\u3002",
            "\u5317\u4eac",
        ),  # Chinese has no blanks
        (["A", "B"], "\u7b54\u6848\u662fB\u3002", "B"),
        (["A", "B"], "\uc815\ub2f5\uc740 A\uc785\ub2c8\ub2e4", "A"),  # Korean puts words behind others
        (["\u0915\u092e", "x"], "\u0915\u092e\u0940", None),  # a Hindi word with a vowel more
        (["re", "x"], "re\u0301", None),
        (["re\u0301", "x"], "r\u00e9.", "re\u0301"),
    ],
)
def test_a_choice_within_a_longer_word_or_number_is_not_named(
    choices: list[str], response: str, right: str | None
) -> None:
    for answer in choices:
        item = {"question": "?", "choices": choices, "answer": answer}
        assert scored("choice_generated", response, item) == float(answer == right), answer


@pytest.mark.parametrize(
    ("choices", "response", "right"),
    [
        (["A", "B"], "It is A.", "A"),  # an article
        (["A", "B"], "a", "A"),
        (["A", "B"], "It is b, a guess", None),  # names both
        (["A", "B"], "", None),
        (["the cat", "A dog"], "A Cat!", "the cat"),
        (["C", "C++", "C#"], "C++", "C++"),  # alike without punctuation
        (["C", "C++", "C#"], "I like c", "C"),
        (["b", "B"], "B", "B"),
        (["5", "-5"], "-5", "-5"),
        (["a hat", "the hat"], "The hat.", "the hat"),  # alike without articles
        (["+", "-"], "-", "-"),
        (["+", "-"], "", None),
    ],
)
def test_normalizing_keeps_choices_apart(choices: list[str], response: str, right: str | None) -> None:
    for answer in choices:
        item = {"question": "?", "choices": choices, "answer": answer}
        assert scored("choice_generated", response, item, normalize=True) == float(answer == right), answer


SCHEMA: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ('{"name": "a", "age": 3}', 1),
        (' {"name": "a"}\n', 1),
        ('```json\n{"name": "a"}\n```', 1),
        ('Here: {"name": "a"}', 0),
        ('{"name": 3}', 0),
        ('{"age": 3}', 0),
        ('{"name": "a", "age": -1}', 0),
        ('{"name": "a", "more": 1}', 0),
        ('{"name": "a"', 0),
        ('{"name": "a", "age": NaN}', 0),
        ("[" * 100_000, 0),
        ("", 0),
    ],
)
def test_json_is_worth_what_the_schema_says(response: str, value: int) -> None:
    assert scored("json", response, {"question": "?", "schema": SCHEMA}) == value


WORDS: Final = st.lists(st.sampled_from(["a", "the", "cat", "Cat", "sat!", "on", "mat."]), max_size=7).map(" ".join)


@given(WORDS, WORDS)
def test_f1_is_that_of_squads_script(response: str, answer: str) -> None:
    if normalize_answer(response) or normalize_answer(answer):  # of nothing and nothing the script says 0
        expected = f1_abstractive([response], [answer])
        assert scored("f1", response, {"answer": answer}) == pytest.approx(expected, rel=1e-12)


def longest_common(left: list[str], right: list[str]) -> int:
    """By trying every selection of the shorter one's words, the longest first."""
    shorter, longer = sorted((left, right), key=len)
    for size in range(len(shorter), 0, -1):
        for chosen in combinations(shorter, size):
            rest = iter(longer)
            if all(word in rest for word in chosen):
                return size
    return 0


def test_rouge_l_is_that_of_the_longest_common_subsequence() -> None:
    draw = random.Random(0)
    for _ in range(200):
        left, right = ([draw.choice("abcd") for _ in range(draw.randint(1, 7))] for _ in range(2))
        shared = longest_common(left, right)
        expected = 2 * shared / (len(left) + len(right))
        found = scored("rouge_l", " ".join(left), {"answer": " ".join(right)})
        assert found == pytest.approx(expected, rel=1e-12, abs=0), (left, right)


@given(st.decimals(-(10**9), 10**9, places=3), st.sampled_from(["{}", "so {} apples", "1 and {}.", "={}"]))
def test_a_written_number_is_found(number: Any, sentence: str) -> None:
    for written in (f"{number}", f"{number:,}"):
        assert find_number(sentence.format(written)) == number


@pytest.mark.parametrize(
    ("response", "pattern", "found"),
    [
        ("5 #### 6\n#### 7", "#### (.*)", "7"),
        ("5 6", r"\d", "6"),
        ("none", r"\d", ""),
        ("ab", "a(x)?", ""),
        ("all", None, "all"),
        ("#### 7\n#### ", "#### (.*)", "7"),
        ("it is 5.", r"\d*", "5"),
        ("so = 5", r"is (\d+)|= (\d+)", "5"),
    ],
)
def test_the_last_match_is_extracted(response: str, pattern: str | None, found: str) -> None:
    assert extract_answer(response, pattern) == found


@given(st.text("0123456789$.,- a", max_size=12))
def test_groups_are_those_of_lm_evals_flexible_extract(response: str) -> None:
    """With the pattern of gsm8k, which has two groups."""
    pattern = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
    (expected,) = RegexFilter(pattern, group_select=-1, fallback="").apply([[response]], [{}])[0]
    assert extract_answer(response, pattern) == expected


def test_every_score_is_tested_here() -> None:
    functions: list[Callable[..., float]] = list(SCORERS.values())
    assert {*RIGHT, "choice_generated", "json"} == SCORERS.keys()
    assert len(set(functions)) == len(functions)
