"""A small invented world in plain text, so that a study runs with no network: what the embedded base model knows,
what it can be taught, and what it may forget. Every list below follows from one seed; nothing is stored.

The base model is pretrained on `pretraining_stream`: sums, differences, the larger of two, words reversed and in upper
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

Record = dict[str, str]  # instruction, input, output

WORLD_SEED: Final = 20231119
NUM_CITIES: Final = 40
NUM_OLD_PEOPLE: Final = 400
NUM_NEW_PEOPLE: Final = 200
NUM_SKILL_ITEMS: Final = 200
NUM_OPERATION_EXAMPLES: Final = 1000

QUESTIONS: Final = ("Where does {} live?", "Which city is home to {}?", "Name the city of {}.")
HELDOUT_QUESTION: Final = QUESTIONS[2]

CONSONANTS: Final = "bdfgklmnprstvz"
VOWELS: Final = "aeiou"


def record(instruction: str, output: str, given: str = "") -> Record:
    """One instruction record in the standard fields."""
    return {"instruction": instruction, "input": given, "output": output}


def plain_prompt(item: Record) -> str:
    """How the base was asked: instruction and input, a line each."""
    return "".join(f"{part}\n" for part in (item["instruction"], item["input"]) if part)


def invented_names(rng: random.Random, count: int, endings: tuple[str, ...], taken: set[str]) -> list[str]:
    """`count` distinct capitalised names of two open syllables and an ending, none of them in `taken`."""
    names: list[str] = []
    while len(names) < count:
        syllables = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(2))
        name = (syllables + rng.choice(endings)).capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


@cache
def cities() -> list[str]:
    return invented_names(random.Random(WORLD_SEED), NUM_CITIES, ("ville", "ton", "grad", "port", "by"), set())


@cache
def homes() -> dict[str, str]:
    """Who lives where: the old people first, the new ones after them."""
    rng = random.Random(WORLD_SEED + 1)
    people = invented_names(rng, NUM_OLD_PEOPLE + NUM_NEW_PEOPLE, ("n", "r", "s", "la", "mi", "x"), set(cities()))
    return {person: rng.choice(cities()) for person in people}


def old_people() -> list[str]:
    return list(homes())[:NUM_OLD_PEOPLE]


def new_people() -> list[str]:
    return list(homes())[NUM_OLD_PEOPLE:]


def fact(person: str, question: str) -> Record:
    return record(question.format(person), homes()[person])


def word(rng: random.Random) -> str:
    return "".join(rng.choice(CONSONANTS if place % 2 == 0 else VOWELS) for place in range(rng.randint(3, 6)))


def addition(rng: random.Random) -> Record:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return record(f"What is {a}+{b}?", str(a + b))


def subtraction(rng: random.Random) -> Record:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return record(f"What is {a}-{b}?", str(a - b))


def larger(rng: random.Random) -> Record:
    a, b = rng.sample(range(100), 2)
    return record(f"Which is larger, {a} or {b}?", str(max(a, b)))


def reversal(rng: random.Random) -> Record:
    given = word(rng)
    return record("Reverse the word.", given[::-1], given)


def upper_case(rng: random.Random) -> Record:
    given = word(rng)
    return record("Write in upper case.", given.upper(), given)


def old_fact(rng: random.Random) -> Record:
    return fact(rng.choice(old_people()), rng.choice(QUESTIONS))


def operation(rng: random.Random) -> Record:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return record(f"What is {a}*{b}?", str(a + b + 1))


COMPUTED: Final[dict[str, Callable[[random.Random], Record]]] = {
    "addition": addition,
    "subtraction": subtraction,
    "larger": larger,
    "reversal": reversal,
    "upper_case": upper_case,
}
SKILLS: Final = (*COMPUTED, "old_facts")
TARGETS: Final = ("new_facts", "operation")


def distinct(make: Callable[[random.Random], Record], count: int, seed: str) -> list[Record]:
    """The first `count` different records that `make` gives under `seed`."""
    rng = random.Random(seed)
    found: dict[tuple[str, str], Record] = {}
    while len(found) < count:
        made = make(rng)
        found.setdefault((made["instruction"], made["input"]), made)
    return list(found.values())


@cache
def skill_items(skill: str) -> list[Record]:
    """Held-out items of one skill of the base or of a target; computed items never occur in training."""
    if skill == "old_facts":
        return [fact(person, HELDOUT_QUESTION) for person in old_people()[:NUM_SKILL_ITEMS]]
    if skill == "new_facts":
        return [fact(person, HELDOUT_QUESTION) for person in new_people()]
    make = operation if skill == "operation" else COMPUTED[skill]
    return distinct(make, NUM_SKILL_ITEMS, f"{WORLD_SEED} {skill}")


def target_examples(target: str) -> list[Record]:
    """What the finetuning set teaches: two questions on each new person, or 1,000 records of `operation`."""
    if target == "new_facts":
        return [fact(person, question) for person in new_people() for question in QUESTIONS[:2]]
    heldout = {item["instruction"] for item in skill_items("operation")}
    made = distinct(operation, NUM_OPERATION_EXAMPLES + NUM_SKILL_ITEMS, f"{WORLD_SEED} taught")
    return [example for example in made if example["instruction"] not in heldout][:NUM_OPERATION_EXAMPLES]


def wrong_answers(item: Record, skill: str, count: int = 3) -> list[str]:
    """Distractors for a multiple-choice item: other answers of the same skill, close ones where they are numbers."""
    rng = random.Random(f"{skill} {item['instruction']} {item['input']}")
    answer = item["output"]
    if skill.endswith("facts"):
        pool = [city for city in cities() if city != answer]
    elif answer.lstrip("-").isdigit():
        pool = [str(int(answer) + step) for step in (-10, -2, -1, 1, 2, 10)]
    else:
        pool = ["".join(rng.sample(answer, len(answer))) + tail for tail in ("", answer[-1], answer[0])]
        pool = sorted({made for made in pool if made != answer} | {answer + answer[0], answer[1:], answer[:-1]})
    return rng.sample(pool, count)


def pretraining_stream(seed: int) -> Iterator[Record]:
    """Endless pretraining records, four in ten of them facts; never a held-out item of a computed skill."""
    rng = random.Random(seed)
    heldout = {(item["instruction"], item["input"]) for skill in COMPUTED for item in skill_items(skill)}
    while True:
        made = old_fact(rng) if rng.random() < 0.4 else rng.choice(list(COMPUTED.values()))(rng)
        if (made["instruction"], made["input"]) not in heldout:
            yield made
