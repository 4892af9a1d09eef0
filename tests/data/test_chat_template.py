"""What is learned of a conversation, held against transformers' own rendering and against answers written by hand."""

import re
from pathlib import Path
from typing import Any

import pytest
import trl

from sweeplab.data.prompts import Example, UnusableExampleError
from sweeplab.data.tokens import IGNORED, _encode_example, tokenize_examples
from tests.data.families import FAMILIES, make_byte_tokenizer, make_tokenizer

Message = dict[str, Any]


def chat(*turns: str, system: str | None = None) -> list[Message]:
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


CONVERSATIONS = [
    chat("How warm is Rome?", "It is warm."),
    chat("What does a cat like?", "Fish.", "How warm is Rome?", "It is warm."),
    chat("How warm is Rome?", "It is warm.", system="Answer in few words."),
]


def learned(tokenizer: Any, example: Example, mask_prompt: bool = True) -> tuple[list[int], list[int]]:
    """All ids, and those that are learned."""
    tokens = _encode_example(example, tokenizer, "template", mask_prompt)
    ids, labels = tokens.ids.tolist(), tokens.labels.tolist()
    assert all(label in (IGNORED, id_) for id_, label in zip(ids, labels, strict=True))
    return ids, [label for label in labels if label != IGNORED]


def whole_ids(tokenizer: Any, messages: list[Message], **settings: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **settings)
    return ids


def cases() -> list[tuple[str, list[Message]]]:
    return [
        (name, messages)
        for name, family in FAMILIES.items()
        for messages in CONVERSATIONS
        if family.takes_system or messages[0]["role"] != "system"
    ]


@pytest.mark.parametrize(("name", "messages"), cases())
def test_the_answer_as_the_template_writes_it_is_learned(name: str, messages: list[Message]) -> None:
    tokenizer = make_tokenizer(name)
    ids, targets = learned(tokenizer, Example(messages))
    whole = whole_ids(tokenizer, messages)
    assert ids == whole[: len(ids)]
    assert tokenizer.decode(whole[len(ids) :]).strip() == ""  # nothing but the end of a line
    assert targets == ids[-len(targets) :]
    assert tokenizer.decode(targets).lstrip(" ") == FAMILIES[name].answer.lstrip(" ")
    assert ids.count(tokenizer.bos_token_id) == whole.count(tokenizer.bos_token_id)


@pytest.mark.parametrize(("name", "messages"), cases())
def test_prompt_and_answer_meet_where_the_prompt_in_use_ends(name: str, messages: list[Message]) -> None:
    tokenizer = make_tokenizer(name)
    ids, targets = learned(tokenizer, Example(messages))
    prompt = whole_ids(tokenizer, messages[:-1], add_generation_prompt=True)
    if name != "qwen3_thinking":  # whose prompt's last token is another one once an answer follows
        assert ids[: -len(targets)] == prompt
    assert len(ids) - len(targets) in (len(prompt), len(prompt) - 1)


@pytest.mark.parametrize(("name", "messages"), cases())
def test_generation_marks_say_what_is_learned(name: str, messages: list[Message]) -> None:
    tokenizer = make_tokenizer(name, generation=True)
    ids, targets = learned(tokenizer, Example(messages))
    expected = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [place for place, mark in enumerate(expected["assistant_masks"]) if mark]
    last = [place for place in marked if all(between in marked for between in range(place, marked[-1] + 1))]
    assert ids == expected["input_ids"][: marked[-1] + 1]
    assert targets == [expected["input_ids"][place] for place in last]


def refusal(tokenizer: Any, example: Example) -> str:
    with pytest.raises(UnusableExampleError) as caught:
        learned(tokenizer, example)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CALL: Message = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Rome"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "How warm a town is"}}
WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.tool_calls %}"
    "{% for c in m.tool_calls %}{{ '<call>' + c.function.name + (c.function.arguments | tojson) + '</call>' }}"
    "{% endfor %}{% endif %}{{ (m.content or '') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def asking(*answers: Message) -> list[Message]:
    return [{"role": "user", "content": "How warm is Rome?"}, *answers]


def test_tool_calls_and_tools_are_written_by_the_template() -> None:
    tokenizer = make_tokenizer("chatml", template=WITH_TOOLS)
    call: Message = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    ids, targets = learned(tokenizer, Example(asking(call), tools=[TOOL]))
    assert tokenizer.decode(targets) == '<call>weather{"town": "Rome"}</call><|im_end|>'
    assert ids == whole_ids(tokenizer, asking(call), tools=[TOOL])[: len(ids)]
    answered: list[Message] = asking(
        call, {"role": "tool", "tool_call_id": "c1", "content": "22"}, *chat("", "22 degrees.")[1:]
    )
    ids, targets = learned(tokenizer, Example(answered, tools=[TOOL]))
    assert tokenizer.decode(targets) == "22 degrees.<|im_end|>"
    assert ids == whole_ids(tokenizer, answered, tools=[TOOL])[: len(ids)]


@pytest.mark.parametrize("content", ["", None, "absent"])
def test_arguments_as_json_text_are_not_encoded_twice(content: str | None) -> None:
    tokenizer = make_tokenizer("chatml", template=WITH_TOOLS)
    text = {**CALL, "function": {"name": "weather", "arguments": '{"town": "Rome"}'}}
    call: Message = {"role": "assistant", "content": content, "tool_calls": [text]}
    if content == "absent":
        del call["content"]
    _, targets = learned(tokenizer, Example(asking(call)))
    assert tokenizer.decode(targets) == '<call>weather{"town": "Rome"}</call><|im_end|>'


@pytest.mark.parametrize("arguments", [{"town": "Rome"}, '{"town": "Rome"}'])
def test_arguments_get_the_form_that_the_template_takes(arguments: Any) -> None:
    call = {"function": {"name": "weather", "arguments": arguments}}
    expected = '<call>weather{"town": "Rome"}</call><|im_end|>'
    own = "{% if c.function.arguments is string %}{{ 'text' }}{% endif %}{{ c.function.arguments | tojson }}"
    for written in ("(c.function.arguments | tojson)", "c.function.arguments", f"'' }}}}{own}{{{{ ''"):
        tokenizer = make_tokenizer("chatml", template=WITH_TOOLS.replace("(c.function.arguments | tojson)", written))
        _, targets = learned(tokenizer, Example(asking({"role": "assistant", "tool_calls": [call]})))
        assert tokenizer.decode(targets) == expected


def test_marks_that_transformers_misplaces_are_refused() -> None:
    turn = FAMILIES["chatml"].template.split("{% for m in messages %}")[1].split("{% endfor %}")[0]
    macro = "{% macro turn(m) %}" + turn + "{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}"
    tokenizer = make_tokenizer("chatml", template=macro, generation=True)
    assert "are not around its answers" in refusal(tokenizer, Example(chat("a?", "a")))
    _, targets = learned(make_tokenizer("chatml", template=macro), Example(chat("a?", "a")))
    assert tokenizer.decode(targets).endswith("a<|im_end|>")


def test_nothing_is_learned_after_the_end_token() -> None:
    always = FAMILIES["cohere"].template.replace("{% if add_generation_prompt %}", "{% if true %}")
    tokenizer = make_tokenizer("cohere", template=always)
    messages = CONVERSATIONS[1]
    assert tokenizer.decode(whole_ids(tokenizer, messages)).endswith("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>")
    weighted = [message | ({"weight": 1} if message["role"] == "assistant" else {}) for message in messages]
    _, targets = learned(tokenizer, Example(weighted))
    assert tokenizer.decode(targets) == "Fish.<|END_OF_TURN_TOKEN|>It is warm.<|END_OF_TURN_TOKEN|>"


def test_a_template_without_an_end_and_one_with_the_date_are_noted() -> None:
    endless = "{{ strftime_now('%Y') }}{% for m in messages %}{{ '\\n' + m.content + '\\n' }}{% endfor %}"
    for template, words in ((endless, ["current date", "no end is learned"]), (None, [])):
        tokenizer = make_tokenizer("chatml", template=template)
        split = tokenize_examples([Example(CONVERSATIONS[0])] * 2, tokenizer, "template", True, 64)
        assert len(split.notes) == len(words)
        assert all(word in note for word, note in zip(words, split.notes, strict=True))


def test_a_template_for_parts_gets_parts() -> None:
    parts_only = (
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
        "{% endfor %}{{ eos_token }}{% endfor %}"
    )
    ids, targets = learned(make_tokenizer("dialogpt", template=parts_only), Example(CONVERSATIONS[1]))
    assert (ids, targets) == learned(make_tokenizer("dialogpt"), Example(CONVERSATIONS[1]))


def test_reasoning_of_a_learned_answer_is_written_or_refused() -> None:
    reasons = "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}"
    own = FAMILIES["chatml"].template.replace("[GEN]", f"[GEN]{reasons}")
    messages = chat("What?", "Fish.", "How warm is Rome?", "It is warm.")
    messages[3] |= {"reasoning_content": "sun"}
    _, targets = learned(tokenizer := make_tokenizer("chatml", template=own), Example(messages))
    assert tokenizer.decode(targets) == "<think>sun</think>It is warm.<|im_end|>"
    assert "leaves out the reasoning" in refusal(make_tokenizer("chatml"), Example(messages))
    stripping = make_tokenizer("chatml", template=own.replace("m.content +", "m.content.split('</think>')[-1] +"))
    thinking = chat("How warm is Rome?", "<think>sun</think>It is warm.")
    assert "leaves out a part of an answer" in refusal(stripping, Example(thinking))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("generation", [False, True])
def test_what_a_template_leaves_out_is_refused(name: str, generation: bool) -> None:
    tokenizer = make_tokenizer(name, generation=generation)
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    end = {"role": "assistant", "content": "22 degrees."}
    for messages in (asking(call), asking(call, {"role": "tool", "content": "22"}, end)):
        assert re.search(
            "leaves out the name of a tool call|refuses the messages: ", refusal(tokenizer, Example(messages))
        )
    assert "leaves out the tools" in refusal(tokenizer, Example(asking(end), tools=[TOOL]))


def test_a_role_that_a_template_passes_over_is_refused() -> None:
    silent = "{% for m in messages if m.role != 'system' %}{{ m.content + eos_token }}{% endfor %}"
    tokenizer = make_tokenizer("dialogpt", template=silent)
    assert "leaves out a message of role system" in refusal(tokenizer, Example(CONVERSATIONS[2]))


def test_parts_of_text_are_put_together_where_the_template_takes_text_only() -> None:
    parts = [{"type": "text", "text": "How warm "}, {"type": "text", "text": "is Rome?"}]
    messages: list[Message] = [{"role": "user", "content": parts}, {"role": "assistant", "content": "It is warm."}]
    for template in (None, "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"):
        tokenizer = make_tokenizer("chatml", template=template)
        assert learned(tokenizer, Example(messages)) == learned(tokenizer, Example(CONVERSATIONS[0]))
    own = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for part in m.content %}{{ part.text + '/' }}{% endfor %}{% endif %}{{ eos_token }}{% endfor %}"
    )
    tokenizer = make_tokenizer("chatml", template=own)
    assert learned(tokenizer, Example(messages))[0] == whole_ids(tokenizer, messages)


@pytest.mark.parametrize("generation", [False, True])
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"phi3", "qwen3", "qwen3_thinking"}))
def test_weights_say_which_answers_are_learned(name: str, generation: bool) -> None:
    tokenizer = make_tokenizer(name, generation=generation)
    messages = chat("What does a cat like?", "It is warm.", "Is it?", "Yes.", "How?", "No.")
    first, last = (learned(tokenizer, Example(part))[1] for part in (messages[:2], messages))
    messages[3] |= {"weight": 0}
    whole = whole_ids(
        tokenizer, [{key: one for key, one in message.items() if key != "weight"} for message in messages]
    )
    ids, targets = learned(tokenizer, Example(messages))
    assert targets == first + last
    assert ids == whole[: len(ids)]
    messages[5] |= {"weight": 0}
    assert learned(tokenizer, Example(messages))[1] == first
    _, unmasked = learned(tokenizer, Example(messages[:5] + chat("How?", "No.")[1:]), mask_prompt=False)
    assert len(unmasked) < len(ids)


def test_earlier_answers_before_another_end_are_learned_or_refused() -> None:
    messages = chat("What does a cat like?", "Fish.", "Is it?", "Yes.")
    messages[1] |= {"weight": 1}
    tokenizer = make_tokenizer("phi3")
    assert tokenizer.decode(learned(tokenizer, Example(messages))[1]).startswith("Fish.<|end|>Yes.<|end|>")
    for name in ("qwen3", "qwen3_thinking"):  # which write no thought before an earlier answer
        tokenizer = make_tokenizer(name)
        ids, targets = learned(tokenizer, Example(messages))
        assert ids == whole_ids(tokenizer, [messages[0], chat("", "Fish.")[1], *messages[2:]])[: len(ids)]
        assert tokenizer.decode(targets).removeprefix("Fish.<|im_end|>") in (
            "<think>\n\n</think>\n\nYes.<|im_end|>",
            "\n\n</think>\n\nYes.<|im_end|>",
        )
    messages[1]["content"] = "<think>sea</think>Fish."
    assert "try data.targets=last" in refusal(make_tokenizer("qwen3"), Example(messages))


TURNS = chat("What does a cat like?", "Fish.", "Is it warm?", "It is warm.", "How?", "The sun.")
ALL_TURNS = [message | ({"weight": 1} if message["role"] == "assistant" else {}) for message in TURNS]


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"qwen3_thinking"}))
def test_all_answers_are_those_that_transformers_masks(name: str) -> None:
    """Against the template with generation marks; up to the last answer's end, system message and all."""
    tokenizer = make_tokenizer(name, generation=True)
    system = chat(system="Answer in few words.") if FAMILIES[name].takes_system else []
    expected = tokenizer.apply_chat_template(
        system + TURNS, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [id_ for id_, mark in zip(expected["input_ids"], expected["assistant_masks"], strict=True) if mark]
    ids, targets = learned(tokenizer, Example(system + ALL_TURNS))
    assert targets == marked
    assert ids == expected["input_ids"][: len(ids)]


def test_marks_around_the_last_answer_only_leave_one_remedy() -> None:
    said = refusal(make_tokenizer("qwen3_thinking", generation=True), Example(ALL_TURNS))
    assert "not around its answers" in said
    assert "try data.targets=last" in said
    reasoned = [*ALL_TURNS[:-1], ALL_TURNS[-1] | {"reasoning_content": "sky"}]
    assert "leaves out the reasoning" in (said := refusal(make_tokenizer("chatml"), Example(reasoned)))
    assert "try data.targets=last" in said


def test_all_answers_by_hand_in_the_template_and_in_chatml() -> None:
    tokenizer = make_tokenizer("chatml")
    messages = chat(system="Answer in few words.") + ALL_TURNS
    text = "<|im_start|>system\nAnswer in few words.<|im_end|>\n"
    parts = [(text, False)]
    for question, answer in (("What does a cat like?", "Fish."), ("Is it warm?", "It is warm."), ("How?", "The sun.")):
        parts += [(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", False)]
        parts += [(f"{answer}<|im_end|>", True), ("\n", False)]
    pieces = [(tokenizer.encode(part, add_special_tokens=False), is_target) for part, is_target in parts[:-1]]
    for style in ("template", "chatml"):
        tokens = _encode_example(Example(messages), tokenizer, style, True)
        assert tokens.ids.tolist() == [id_ for ids, _ in pieces for id_ in ids]
        assert tokens.labels.tolist() == [id_ if is_target else IGNORED for ids, is_target in pieces for id_ in ids]


REAL = Path(trl.__file__).parent / "chat_templates"  # of published models, with their variants for training
NAMES = re.compile(r"<\|\w+\|>|<(?:start|end)_of_turn>")


@pytest.mark.parametrize(
    "name",
    [
        "cohere",
        "cohere2",
        "gemma",
        "gemma3",
        "lfm2",
        "llama3",
        "phi3",
        "phi3_5",
        "qwen2_5",
        "qwen2_5_vl",
        "qwen3_instruct_2507",
        "qwen3_vl",
    ],
)
def test_a_published_template_gives_what_its_variant_with_marks_masks(name: str) -> None:
    """TRL's variants write the same text; their marks hold the end of a line that follows an answer as well."""
    source = (REAL / f"{name}.jinja").read_text()
    tokenizer = make_byte_tokenizer(("<eos>", *sorted(set(NAMES.findall(source)))))
    tokenizer.chat_template = (REAL / f"{name}_training.jinja").read_text()
    expected = tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    tokenizer.chat_template = source
    tokens = _encode_example(Example(ALL_TURNS), tokenizer, "template", True)
    assert tokens.ids.tolist() == expected["input_ids"][: tokens.num_tokens]
    assert not tokenizer.decode(expected["input_ids"][tokens.num_tokens :]).strip()
    found = [label != IGNORED for label in tokens.labels.tolist()]
    for id_, is_learned, mark in zip(expected["input_ids"], found, expected["assistant_masks"], strict=False):
        assert is_learned == bool(mark) or (mark and not tokenizer.decode([id_]).strip())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for m in messages %}{{ m.content }}|{% endfor %}{% if add_generation_prompt %}<go>{% endif %}",
            "as the prompt",
        ),
        (
            "{% for m in messages %}{{ m.content if loop.last else m.content[:-1] }}|{% endfor %}",
            "leaves out|as the prompt",
        ),
        ("{{ messages | length }}{% for m in messages %}{{ m.content }}|{% endfor %}", "as the prompt"),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}|{% endfor %}", "leaves out"),
        ("{{ messages[0].content + messages[0].missing.more }}", "refuses the messages: "),
        (
            "{% for m in messages %}{% generation %}{% endgeneration %}{{ m.content }}{% endfor %}",
            "are not around its answers",
        ),
        (
            "{% for m in messages %}{{ m.content | replace('It is warm.', '') }}<|im_end|>{% endfor %}",
            "nothing for an answer but its end",
        ),
    ],
)
def test_a_template_that_does_not_tell_the_answer_is_refused(template: str, message: str) -> None:
    tokenizer = make_tokenizer("chatml", template=template)
    assert re.search(message, refusal(tokenizer, Example(CONVERSATIONS[0])))


def test_earlier_thoughts_are_left_out_as_the_template_does() -> None:
    tokenizer = make_tokenizer("qwen3")
    messages = chat(
        "How warm is Rome?", "<think>\nsun\n</think>\n\nIt is warm.", "Is it?", "<think>\nsun\n</think>\n\nYes."
    )
    ids, targets = learned(tokenizer, Example(messages))
    assert ids == whole_ids(tokenizer, messages)[: len(ids)]
    assert tokenizer.decode(targets) == "<think>\nsun\n</think>\n\nYes.<|im_end|>"
    assert targets[0] == tokenizer.convert_tokens_to_ids("<think>")
