import hashlib
import json
from itertools import islice

import pytest

from sweeplab.builtin import world
from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.data.prompts import Example, render_prompt
from sweeplab.evaluation.catalog import make_task_manager

EVERY_SKILL = (*world.SKILLS, *world.TARGETS)

# The embedded base was pretrained on exactly these lists: a change here asks for a new base.
LISTS_SHA256 = "d1aa532dc77786bd48c21d84f1a5027a9e5d03874408b0f6fd73008f7c7d538f"
STREAM_SHA256 = "69054da76efbd45e4e90d609cc05146864abaea1e53b1fb988d9e3d51e8c986c"


def sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def asked(item: world.InstructionRecord) -> tuple[str, str]:
    return item["instruction"], item["input"]


def solved(item: world.InstructionRecord) -> str:
    """The answer, worked out from the question's text alone."""
    text = item["instruction"]
    if text.startswith("What is"):
        body = text.removeprefix("What is ").removesuffix("?")
        sign = next(sign for sign in "+*-" if sign in body)
        a, b = (int(part) for part in body.split(sign))
        return str({"+": a + b, "*": a + b + 1, "-": a - b}[sign])
    if text.startswith("Which is larger"):
        return max((part.strip("?,") for part in text.split() if part.strip("?,").isdigit()), key=int)
    return item["input"].upper() if "upper" in text else "".join(reversed(item["input"]))


def test_lists_are_the_recorded_ones() -> None:
    items = {skill: world.make_skill_items(skill) for skill in EVERY_SKILL}
    taught = {target: world.make_target_examples(target) for target in world.TARGETS}
    distractors = {
        skill: [world.make_wrong_answers(item, skill) for item in world.make_skill_items(skill)]
        for skill in EVERY_SKILL
    }
    assert sha256([world.list_cities(), world.assign_homes(), items, taught, distractors]) == LISTS_SHA256
    assert sha256(list(islice(world.stream_pretraining(0), 20_000))) == STREAM_SHA256


def test_streams_of_two_seeds_differ() -> None:
    first, second = (list(islice(world.stream_pretraining(seed), 50)) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("skill", [*world.COMPUTED, "operation"])
def test_answers_follow_from_the_questions(skill: str) -> None:
    assert [item["output"] for item in world.make_skill_items(skill)] == [
        solved(item) for item in world.make_skill_items(skill)
    ]


def test_pretraining_never_meets_heldout_items_or_new_people() -> None:
    stream = list(islice(world.stream_pretraining(0), 20_000))
    seen = {asked(item) for item in stream}
    for skill in (*world.COMPUTED, "operation"):
        assert seen.isdisjoint(asked(item) for item in world.make_skill_items(skill)), skill
    words = {word.strip("?.") for item in stream for word in item["instruction"].split()}
    assert words.isdisjoint(world.list_new_people())
    assert words >= set(world.list_old_people())


def test_base_learns_the_true_home_of_every_old_person() -> None:
    stream = list(islice(world.stream_pretraining(0), 20_000))
    told: dict[str, set[str]] = {}
    for item in stream:
        person = next(
            (word.strip("?.") for word in item["instruction"].split() if word.strip("?.") in world.assign_homes()), ""
        )
        if person:
            told.setdefault(person, set()).add(item["output"])
    assert told == {person: {world.assign_homes()[person]} for person in world.list_old_people()}


@pytest.mark.parametrize("target", world.TARGETS)
def test_taught_and_heldout_questions_are_disjoint(target: str) -> None:
    taught = [asked(item) for item in world.make_target_examples(target)]
    heldout = [asked(item) for item in world.make_skill_items(target)]
    assert len(set(taught)) == len(taught) == {"operation": 1000}.get(target, 2 * len(heldout))
    assert len(set(heldout)) == len(heldout)
    assert set(taught).isdisjoint(heldout)


def test_every_heldout_fact_is_taught_by_two_other_questions() -> None:
    answers: dict[str, list[str]] = {}
    for item in world.make_target_examples("new_facts"):
        person = next(
            word.strip("?.") for word in item["instruction"].split() if word.strip("?.") in world.assign_homes()
        )
        answers.setdefault(person, []).append(item["output"])
    heldout = {
        item["instruction"].removeprefix("Name the city of ").strip("."): item["output"]
        for item in world.make_skill_items("new_facts")
    }
    assert answers == {person: [city, city] for person, city in heldout.items()}


@pytest.mark.parametrize("skill", EVERY_SKILL)
def test_distractors_are_distinct_and_wrong(skill: str) -> None:
    for item in world.make_skill_items(skill):
        wrong = world.make_wrong_answers(item, skill)
        assert len({*wrong, item["output"]}) == 4, item


@pytest.mark.parametrize("skill", EVERY_SKILL)
def test_choices_hold_the_answer_where_the_label_says_and_labels_vary(skill: str) -> None:
    from sweeplab.builtin.tasks import make_documents

    rows = list(make_documents(skill)["test"])
    assert [row["choices"][row["label"]] for row in rows] == [item["output"] for item in world.make_skill_items(skill)]
    shares = [sum(row["label"] == place for row in rows) / len(rows) for place in range(4)]
    assert max(shares) < 0.4  # always answering one letter must not look like knowledge


@pytest.mark.parametrize("skill", EVERY_SKILL)
def test_training_and_evaluation_ask_with_the_same_prompt(skill: str) -> None:
    for name in (f"tiny_{skill}", f"tiny_{skill}_choice"):
        task = make_task_manager((), None).load([WORLD_TASKS[name]])["tasks"][name]
        asked_by_lm_eval = [task.doc_to_text(document) for document in task.test_docs()]
        pretrained = [world.render_plain_prompt(item) for item in world.make_skill_items(skill)]
        finetuned = [
            render_prompt(
                Example(
                    [{"role": "user", "content": item["instruction"]}, {"role": "assistant", "content": ""}],
                    item["input"],
                ),
                "plain",
            )
            for item in world.make_skill_items(skill)
        ]
        assert asked_by_lm_eval == pretrained == finetuned
