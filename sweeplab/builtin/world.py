"""A small invented world in plain text, so that a study runs with no network: what the embedded base model knows,
what it can be taught, and what it may forget. Every list below follows from one seed; nothing is stored.

The base model is pretrained on `stream_pretraining`: sums, differences, the larger of two, words reversed and in upper
case, and where four hundred invented people live, asked in three ways. It is taught a *target* that it cannot know:

- `new_facts`: where two hundred other people live. They are taught by two questions and held out by the third, so that
  the held-out score measures what was learned, not a string repeated. Diverse knowledge: wants rank.
- `operation`: `a*b`, which here means a + b + 1. A simple skill beside one that it has: wants almost no rank.

*Retention* is what the base could do before: `old_facts`, `addition`, and the other skills of `SKILLS`.
"""

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

InstructionRecord = dict[str, str]  # instruction, input, output

_WORLD_SEED: Final = 20231119
_NUM_CITIES: Final = 40
_NUM_OLD_PEOPLE: Final = 400
_NUM_NEW_PEOPLE: Final = 200
_NUM_SKILL_ITEMS: Final = 200
_NUM_OPERATION_EXAMPLES: Final = 1000

_QUESTIONS: Final = ("Where does {} live?", "Which city is home to {}?", "Name the city of {}.")
_HELDOUT_QUESTION: Final = _QUESTIONS[2]

_CONSONANTS: Final = "bdfgklmnprstvz"
_VOWELS: Final = "aeiou"


def _make_record(instruction: str, output: str, given: str = "") -> InstructionRecord:
    """One instruction record in the standard fields."""
    return {"instruction": instruction, "input": given, "output": output}


def render_plain_prompt(item: InstructionRecord) -> str:
    """How the base was asked: instruction and input, a line each."""
    return "".join(f"{part}\n" for part in (item["instruction"], item["input"]) if part)


def _invent_names(rng: random.Random, count: int, endings: tuple[str, ...], taken: set[str]) -> list[str]:
    """`count` distinct capitalised names of two open syllables and an ending, none of them in `taken`."""
    names: list[str] = []
    while len(names) < count:
        syllables = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(2))
        name = (syllables + rng.choice(endings)).capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


@cache
def list_cities() -> list[str]:
    return _invent_names(random.Random(_WORLD_SEED), _NUM_CITIES, ("ville", "ton", "grad", "port", "by"), set())


@cache
def assign_homes() -> dict[str, str]:
    """Who lives where: the old people first, the new ones after them."""
    rng = random.Random(_WORLD_SEED + 1)
    people = _invent_names(rng, _NUM_OLD_PEOPLE + _NUM_NEW_PEOPLE, ("n", "r", "s", "la", "mi", "x"), set(list_cities()))
    return {person: rng.choice(list_cities()) for person in people}


def list_old_people() -> list[str]:
    return list(assign_homes())[:_NUM_OLD_PEOPLE]


def list_new_people() -> list[str]:
    return list(assign_homes())[_NUM_OLD_PEOPLE:]


def _make_fact(person: str, question: str) -> InstructionRecord:
    return _make_record(question.format(person), assign_homes()[person])


def _invent_word(rng: random.Random) -> str:
    return "".join(rng.choice(_CONSONANTS if index % 2 == 0 else _VOWELS) for index in range(rng.randint(3, 6)))


def _make_addition(rng: random.Random) -> InstructionRecord:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return _make_record(f"What is {a}+{b}?", str(a + b))


def _make_subtraction(rng: random.Random) -> InstructionRecord:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return _make_record(f"What is {a}-{b}?", str(a - b))


def _make_larger(rng: random.Random) -> InstructionRecord:
    a, b = rng.sample(range(100), 2)
    return _make_record(f"Which is larger, {a} or {b}?", str(max(a, b)))


def _make_reversal(rng: random.Random) -> InstructionRecord:
    given = _invent_word(rng)
    return _make_record("Reverse the word.", given[::-1], given)


def _make_upper_case(rng: random.Random) -> InstructionRecord:
    given = _invent_word(rng)
    return _make_record("Write in upper case.", given.upper(), given)


def _make_old_fact(rng: random.Random) -> InstructionRecord:
    return _make_fact(rng.choice(list_old_people()), rng.choice(_QUESTIONS))


def _make_operation(rng: random.Random) -> InstructionRecord:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return _make_record(f"What is {a}*{b}?", str(a + b + 1))


COMPUTED: Final[dict[str, Callable[[random.Random], InstructionRecord]]] = {
    "addition": _make_addition,
    "subtraction": _make_subtraction,
    "larger": _make_larger,
    "reversal": _make_reversal,
    "upper_case": _make_upper_case,
}
SKILLS: Final = (*COMPUTED, "old_facts")
TARGETS: Final = ("new_facts", "operation")


def _draw_distinct(
    make: Callable[[random.Random], InstructionRecord], count: int, seed: str
) -> list[InstructionRecord]:
    """The first `count` different records that `make` gives under `seed`."""
    rng = random.Random(seed)
    distinct: dict[tuple[str, str], InstructionRecord] = {}
    while len(distinct) < count:
        item = make(rng)
        distinct.setdefault((item["instruction"], item["input"]), item)
    return list(distinct.values())


@cache
def make_skill_items(skill: str) -> list[InstructionRecord]:
    """Held-out items of one skill of the base or of a target; computed items never occur in training."""
    if skill == "old_facts":
        return [_make_fact(person, _HELDOUT_QUESTION) for person in list_old_people()[:_NUM_SKILL_ITEMS]]
    if skill == "new_facts":
        return [_make_fact(person, _HELDOUT_QUESTION) for person in list_new_people()]
    make = _make_operation if skill == "operation" else COMPUTED[skill]
    return _draw_distinct(make, _NUM_SKILL_ITEMS, f"{_WORLD_SEED} {skill}")


def make_target_examples(target: str) -> list[InstructionRecord]:
    """What the finetuning set teaches: two questions on each new person, or 1,000 records of `operation`."""
    if target == "new_facts":
        return [_make_fact(person, question) for person in list_new_people() for question in _QUESTIONS[:2]]
    heldout = {item["instruction"] for item in make_skill_items("operation")}
    taught = _draw_distinct(_make_operation, _NUM_OPERATION_EXAMPLES + _NUM_SKILL_ITEMS, f"{_WORLD_SEED} taught")
    return [example for example in taught if example["instruction"] not in heldout][:_NUM_OPERATION_EXAMPLES]


def make_wrong_answers(item: InstructionRecord, skill: str, count: int = 3) -> list[str]:
    """Distractors for a multiple-choice item: other answers of the same skill, close ones where they are numbers."""
    rng = random.Random(f"{skill} {item['instruction']} {item['input']}")
    answer = item["output"]
    if skill.endswith("facts"):
        pool = [city for city in list_cities() if city != answer]
    elif answer.lstrip("-").isdigit():
        pool = [str(int(answer) + step) for step in (-10, -2, -1, 1, 2, 10)]
    else:
        pool = ["".join(rng.sample(answer, len(answer))) + tail for tail in ("", answer[-1], answer[0])]
        pool = sorted({word for word in pool if word != answer} | {answer + answer[0], answer[1:], answer[:-1]})
    return rng.sample(pool, count)


def stream_pretraining(seed: int) -> Iterator[InstructionRecord]:
    """Endless pretraining records, four in ten of them facts; never a held-out item of a computed skill."""
    rng = random.Random(seed)
    heldout = {(item["instruction"], item["input"]) for skill in COMPUTED for item in make_skill_items(skill)}
    while True:
        item = _make_old_fact(rng) if rng.random() < 0.4 else rng.choice(list(COMPUTED.values()))(rng)
        if (item["instruction"], item["input"]) not in heldout:
            yield item
