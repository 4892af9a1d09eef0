"""What a response to an item of a user's own file is worth: one function for each `evaluation.score`."""

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, DecimalException
from functools import cache
from typing import Any, Final

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.own_items import Item, choose_validator, list_answers

_SIGN: Final = r"(?:(?<![\w.)])[-+\u2212])?"  # in 3-4 there is none
_WHOLE: Final = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER: Final = re.compile(rf"{_SIGN}(?:{_WHOLE}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{{1,3}})?")
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_FENCED: Final = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)


def _lower(text: str) -> str:
    """Lower case, single blanks."""
    return " ".join(text.lower().split())


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
    return str.strip


def score_exact(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where it is one of the answers, blanks around it aside."""
    spellings = [(_choose_spelling([one], asked), one) for one in list_answers(item)]
    return float(any(spell(response) == spell(one) for spell, one in spellings))


def find_number(text: str) -> Decimal | None:
    """The last number in a text; commas may part its thousands. None: there is none."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("\u2212", "-")) if found else None


def score_number(response: str, item: Item, asked: EvaluationConfig) -> float:
    """1 where the last number is within the tolerance of an answer, in decimal arithmetic: 0.3 is 0.1 from 0.2."""
    number, tolerance = find_number(response), Decimal(str(asked.tolerance))
    if number is None:
        return 0.0
    try:
        return float(any(abs(number - Decimal(str(one).strip())) <= tolerance for one in list_answers(item)))
    except DecimalException:  # too large to be subtracted
        return 0.0


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
    longest_first = sorted(choices, key=len, reverse=True)
    whole = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in longest_first))
    return float(set(whole.findall(spell(response))) == {choices[find_choice(item)]})


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
    """The last match of a pattern, or of its first group where it has one; nothing without a match."""
    if pattern is None:
        return response
    matches = list(re.finditer(pattern, response))
    return (matches[-1][1 if matches[-1].re.groups else 0] or "") if matches else ""


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
