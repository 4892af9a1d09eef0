"""What a response to an item of a user's own file is worth: one function for each `evaluation.score`."""

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, DecimalException
from functools import cache
from typing import Any, Final

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.json_schemas import choose_validator
from sweeplab.config.own_items import Item, list_answers

_MINUS: Final = "-\u2212\u2013\uff0d"  # as keyboards, formulas, print and wide letters have it
_SIGN: Final = rf"(?<![\w.)])[{_MINUS}+]"  # in 3-4 there is none
_CURRENCY: Final = r"[$\u00a2-\u00a5\u20a0-\u20cf]"
_PARTS: Final = "[,_'\u2019\u00a0\u2009\u202f]"  # of thousands; a plain blank also stands between two numbers
_WHOLE: Final = rf"(?:\d{{1,3}}(?:{_PARTS}\d{{3}})+(?!\d)|\d+)"
_NUMBER: Final = re.compile(
    rf"(?P<sign>{_SIGN}(?=[\d.]|{_CURRENCY}))?{_CURRENCY}?(?P<size>(?:{_WHOLE}(?:\.\d+)?|(?<!\d)\.\d+)(?:[eE][-+]?\d+)?)"
)
# Han, kana, Hangul, Thai, Lao, Burmese and Khmer: words stand side by side, or with what is put behind them
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_NUMBER_BEFORE: Final = re.compile(rf"(?:\d[.,]|(?<!\w)[{_MINUS}])\Z")  # 3. of 3.14, - of -1
_NUMBER_AFTER: Final = re.compile(r"[.,]\d")
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_FENCED: Final = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)


def _lower(text: str) -> str:
    """Lower case, single blanks."""
    return " ".join(_compose(text).lower().split())


def _compose(text: str) -> str:
    """Without blanks around it; an accent is a part of its letter, however the file or the model wrote it."""
    return unicodedata.normalize("NFC", text.strip())


def _drop_marks(text: str) -> str:
    """Without punctuation, too."""
    return _lower("".join(letter for letter in text if letter not in string.punctuation))


def normalize_answer(text: str) -> str:
    """SQuAD's: lower case, without punctuation and articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", _drop_marks(text)).split())


def _choose_spelling(texts: Sequence[str], asked: EvaluationConfig) -> Callable[[str], str]:
    """How `texts` and a response are spelled to be compared: in the most normalized way that leaves something of each
    text and keeps unlike ones apart. `A` is an article, and without punctuation `C++` is `C#`."""
    for spell in (normalize_answer, _drop_marks, _lower) if asked.normalize else ():
        spelled = [spell(one) for one in texts]
        if all(spelled) and len(set(spelled)) == len(set(texts)):
            return spell
    return _compose


def score_exact(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where it is one of the answers, blanks around it aside."""
    spellings = [(_choose_spelling([one], asked), one) for one in list_answers(item)]
    return float(any(spell(response) == spell(one) for spell, one in spellings))


def find_number(text: str) -> Decimal | None:
    """The last number in a text; commas and the like may part its thousands. None: there is none.

    Raises `DecimalException` for one that is too large to be written.
    """
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    number = Decimal(re.sub(_PARTS, "", found[-1]["size"]))
    return number if found[-1]["sign"] in (None, "+") else -number


def score_number(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where the last number is within the tolerance of an answer, in decimal arithmetic: 0.3 is 0.1 from 0.2."""
    tolerance = Decimal(str(asked.tolerance))
    try:
        number = find_number(response)
        answers = [] if number is None else [abs(number - Decimal(str(one).strip())) for one in list_answers(item)]
    except DecimalException:  # too large to be subtracted
        return 0.0
    return float(any(difference <= tolerance for difference in answers))


def score_regex(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where a pattern of the answer is found in it."""
    return float(any(re.search(pattern, response) is not None for pattern in list_answers(item)))


def find_choice(item: Item) -> int:
    """The place of the right choice."""
    answer = item["answer"]
    return answer if isinstance(answer, int) else int(item["choices"].index(answer))


def score_choice(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where it names the right choice, as whole words, and no other; a choice within a longer one is not named."""
    spell = _choose_spelling(item["choices"], asked)
    choices = [spell(one) for one in item["choices"]]
    return float(_list_named(spell(response), choices) == {choices[find_choice(item)]})


def _list_named(text: str, choices: Sequence[str]) -> set[str]:
    longest_first = sorted(choices, key=len, reverse=True)
    named, place = set(), 0
    while place < len(text):
        here = (one for one in longest_first if text.startswith(one, place))
        found = next((one for one in here if _is_whole(text[:place], one, text[place + len(one) :])), None)
        place += 1 if found is None else len(found)
        named |= set() if found is None else {found}
    return named


def _is_whole(before: str, choice: str, after: str) -> bool:
    """Whether neither a word nor a number goes on beside it: 10 is not named in 10,000, nor `in` in `inn`."""
    if unicodedata.category(after[:1] or " ").startswith("M"):
        return False  # an accent or a vowel of its last letter
    if choice[0].isdecimal() and _NUMBER_BEFORE.search(before):
        return False
    if choice[-1].isdecimal() and _NUMBER_AFTER.match(after):
        return False
    return not (_goes_on(before[-1:], choice[0]) or _goes_on(after[:1], choice[-1]))


def _goes_on(beside: str, edge: str) -> bool:
    """Whether the character beside a choice belongs to the word at whose edge that is."""
    is_letter = beside.isalnum() or beside == "_" or unicodedata.category(beside or " ").startswith("M")
    return is_letter and not (_UNSPACED.match(beside) or _UNSPACED.match(edge))


def score_json(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where it is JSON, whole or in one block of code, and the item's schema allows it."""
    from referencing import Registry

    fenced = _FENCED.fullmatch(response.strip())
    schema = item["schema"]
    try:
        value = json.loads(response if fenced is None else fenced[1], parse_constant=_refuse_constant)
        return float(choose_validator(schema)(schema, registry=Registry()).is_valid(value))  # which loads nothing
    except (ValueError, RecursionError):
        return 0.0


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def score_f1(response: str, item: Item, asked: EvaluationConfig) -> float:
    """SQuAD's F1 of the normalized words, of the answer with the highest."""
    return max(
        _compute_f1(normalize_answer(response).split(), normalize_answer(one).split()) for one in list_answers(item)
    )


def _compute_f1(words: list[str], wanted: list[str]) -> float:
    """Of two bags of words; where one is empty, 1 if both are."""
    if not words or not wanted:
        return float(words == wanted)
    return 2 * sum((Counter(words) & Counter(wanted)).values()) / (len(words) + len(wanted))


def score_rouge_l(response: str, item: Item, asked: EvaluationConfig) -> float:
    """rouge-score's F-measure of the longest common subsequence of words, without stems, of the nearest answer."""
    scorer = _make_rouge()
    return max(float(scorer.score(one, response)["rougeL"].fmeasure) for one in list_answers(item))


@cache
def _make_rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


def extract_answer(response: str, pattern: str | None) -> str:
    """The last match of a pattern that is not blank, or the first of its groups that holds something, as in lm-eval;
    nothing without a match."""
    if pattern is None:
        return response
    matches = list(re.finditer(pattern, response))
    found = [next(filter(None, one.groups()), "") if one.re.groups else one[0] for one in reversed(matches)]
    return next((one for one in found if one.strip()), "")


Scorer = Callable[[str, Item, EvaluationConfig], float]
SCORERS: Final[Mapping[str, Scorer]] = {
    "exact": score_exact,
    "number": score_number,
    "regex": score_regex,
    "choice_generated": score_choice,
    "json": score_json,
    "f1": score_f1,
    "rouge_l": score_rouge_l,
}
