"""Tiny tokenizers and chat templates in the manner of the families that people tune; words and merges are our own."""

import json
from functools import cache
from typing import Any, Final, NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_TEXT: Final = (
    "How warm is Rome? It is warm in Rome, said the king.\n\nWhat does a cat like? A cat likes fish, and the sun.\n"
    "Answer: the river. Question: where is the town? system user assistant model Human: Assistant: the name of the tool"
)


def _byte_level(specials: tuple[str, ...], *, trims: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if trims:  # Llama 3 and Qwen keep ends of lines together
        pattern = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        words = pre_tokenizers.Split(pattern, "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, False, False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [_TEXT, "A cat\n\n"] * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(specials),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trims)
    return tokenizer


def _sentencepiece(specials: tuple[str, ...], *, prefix: str) -> Tokenizer:
    """BPE over sentencepiece's symbols with fallback to bytes. prefix: normalizer, metaspace or none."""
    scratch = Tokenizer(models.BPE(unk_token="<unk>"))
    words = [f"{mark}{word}" for word in _TEXT.replace("\n", " \n ").split(" ") for mark in ("", "▁") if word]
    scratch.train_from_iterator(words * 3, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    state = scratch.get_vocab()
    pieces = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(state, key=lambda piece: state[piece])]
    merges = [tuple(merge) for merge in json.loads(scratch.to_str())["model"]["merges"]]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        first: list[Any] = [normalizers.Prepend("▁")] if prefix == "normalizer" else []
        tokenizer.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def _put_first(tokenizer: Tokenizer, name: str, *after: str) -> None:
    """Has `name` put before every text, and `after` behind it."""
    pattern = " ".join((name, "$A", *after))
    ids = [(one, tokenizer.token_to_id(one)) for one in (name, *after)]
    own = processors.TemplateProcessing(single=pattern, special_tokens=ids)
    before = tokenizer.post_processor
    tokenizer.post_processor = own if before is None else processors.Sequence([before, own])


class Family(NamedTuple):
    """How one family tokenizes, what its template is, and what it writes."""

    kind: str  # of tokenizer
    specials: tuple[str, ...]  # the first is the end-of-text token
    template: str
    answer: str  # what is learned of "It is warm."
    first: str | None = None  # put before every text
    unmarked: tuple[str, ...] = ()  # added as ordinary tokens
    takes_system: bool = True


_SYSTEMLESS: Final = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
FAMILIES: Final = {
    "chatml": Family(
        "bytes",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}[GEN]{{ m.content + '<|im_end|>' }}[/GEN]{{ '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "It is warm.<|im_end|>",
    ),
    "llama2": Family(
        "spm",
        ("</s>", "<unk>", "<s>"),
        "{% if messages[0].role == 'system' %}{% set start = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set start = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m.role == 'user' %}"
        "{{ bos_token + '[INST] ' + (start if loop.first else '') + m.content.strip() + ' [/INST]' }}{% else %}"
        "[GEN]{{ ' ' + m.content.strip() + ' ' + eos_token }}[/GEN]{% endif %}{% endfor %}",
        " It is warm. </s>",
        first="<s>",
    ),
    "llama3": Family(
        "trimming",
        ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "{% for m in messages %}{{ (bos_token if loop.first else '') + '<|start_header_id|>' + m.role + "
        "'<|end_header_id|>\n\n' }}[GEN]{{ m.content | trim + '<|eot_id|>' }}[/GEN]{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "It is warm.<|eot_id|>",
        first="<|begin_of_text|>",
    ),
    "gemma": Family(
        "spm_without_prefix",
        ("<eos>", "<unk>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        _SYSTEMLESS + "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' "
        "else m.role) + '\n' }}[GEN]{{ m.content | trim + '<end_of_turn>\n' }}[/GEN]{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "It is warm.<end_of_turn>",
        first="<bos>",
        takes_system=False,
    ),
    "mistral_v1": Family(
        "metaspace",
        ("</s>", "<unk>", "<s>"),
        _SYSTEMLESS + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}[GEN]{{ m.content + eos_token + ' ' }}[/GEN]{% endif %}"
        "{% endfor %}",
        "It is warm.</s>",
        first="<s>",
        takes_system=False,
    ),
    "mistral_v3": Family(
        "metaspace",
        ("</s>", "<unk>", "<s>", "[INST]", "[/INST]"),
        _SYSTEMLESS + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content + '[/INST]' }}{% else %}[GEN]{{ ' ' + m.content | trim + eos_token }}[/GEN]"
        "{% endif %}{% endfor %}",
        " It is warm.</s>",
        first="<s>",
        takes_system=False,
    ),
    "mistral_tekken": Family(
        "bytes",
        ("</s>", "<unk>", "<s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
        "{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}{% elif m.role == 'user' %}"
        "{{ '[INST]' + m.content + '[/INST]' }}{% else %}[GEN]{{ m.content + eos_token }}[/GEN]{% endif %}{% endfor %}",
        "It is warm.</s>",
        first="<s>",
    ),
    "zephyr": Family(
        "spm",
        ("</s>", "<unk>", "<s>"),
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' }}[GEN]{{ m.content + eos_token }}[/GEN]{{ '\n' }}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
        "It is warm.</s>",
        first="<s>",
    ),
    "phi3": Family(
        "spm",
        ("<|endoftext|>", "<unk>", "<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' }}[GEN]{{ m.content + '<|end|>\n' }}[/GEN]{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        "It is warm.<|end|> \n<|endoftext|>",  # this tokenizer puts a space before what follows a special token
    ),
    "phi4": Family(
        "bytes",
        ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' }}[GEN]{{ m.content + '<|im_end|>' }}[/GEN]"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
        "It is warm.<|im_end|>",
    ),
    "dialogpt": Family(
        "bytes",
        ("<|endoftext|>",),
        "{% for m in messages %}[GEN]{{ m.content + eos_token }}[/GEN]{% endfor %}",
        "It is warm.<|endoftext|>",
    ),
    "deepseek": Family(
        "bytes",
        ("<|end_of_sentence|>", "<|begin_of_sentence|>"),
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ 'User: ' + m.content + '\n\n' }}"
        "{% elif m.role == 'assistant' %}{{ 'Assistant:' }}[GEN]{{ ' ' + m.content + eos_token }}[/GEN]{% else %}"
        "{{ m.content + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
        " It is warm.<|end_of_sentence|>",
        first="<|begin_of_sentence|>",
    ),
    "cohere": Family(
        "bytes",
        (
            "<|END_OF_TURN_TOKEN|>",
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
        ),
        "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' + {'user': '<|USER_TOKEN|>', 'assistant': "
        "'<|CHATBOT_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>'}[m.role] }}[GEN]{{ m.content.strip() + "
        "'<|END_OF_TURN_TOKEN|>' }}[/GEN]{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}",
        "It is warm.<|END_OF_TURN_TOKEN|>",
        first="<BOS_TOKEN>",
    ),
    "qwen3": Family(
        "bytes",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}[GEN]"
        "{% if loop.last %}{% if '</think>' in m.content %}{{ m.content }}{% else %}{{ '<think>\n\n</think>\n\n' + "
        "m.content }}{% endif %}{% else %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% endif %}"
        "{{ '<|im_end|>' }}[/GEN]{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<think>\n\n</think>\n\nIt is warm.<|im_end|>",
        unmarked=("<think>", "</think>"),
    ),
    "qwen3_thinking": Family(
        "trimming",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n' }}[GEN]{{ '\n</think>\n\n' + m.content + '<|im_end|>' }}[/GEN]{% else %}"
        "{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
        "\n\n</think>\n\nIt is warm.<|im_end|>",  # two ends of lines are one token, which the answer has whole
        unmarked=("<think>", "</think>"),
    ),
}


def _build(kind: str, specials: tuple[str, ...]) -> Tokenizer:
    if kind in ("bytes", "trimming"):
        return _byte_level(specials, trims=kind == "trimming")
    prefixes = {"spm": "normalizer", "metaspace": "metaspace", "spm_without_prefix": "none"}
    return _sentencepiece(specials, prefix=prefixes[kind])


@cache
def make_tokenizer(name: str, *, generation: bool = False, template: str | None = None) -> Any:
    """The tokenizer of a family, with the template that has generation marks or the one that has none."""
    family = FAMILIES[name]
    backend = _build(family.kind, family.specials)
    if family.first is not None:
        _put_first(backend, family.first)
    names = {"eos_token": family.specials[0], "bos_token": family.first}
    if "<unk>" in family.specials:
        names["unk_token"] = "<unk>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        additional_special_tokens=[one for one in family.specials if one not in names.values()],
        **names,
    )
    if family.unmarked:
        tokenizer.add_tokens(list(family.unmarked))
    tokenizer.chat_template = mark_generation(template or family.template, generation)
    return tokenizer


def make_byte_tokenizer(specials: tuple[str, ...]) -> Any:
    """A tokenizer without a template; the first of `specials` begins and ends a text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(specials),
        eos_token=specials[0],
        bos_token=specials[0],
        additional_special_tokens=list(specials[1:]),
    )


def mark_generation(template: str, generation: bool) -> str:
    """[GEN] as the marks around what the assistant writes, or as nothing."""
    if not generation:
        return template.replace("[GEN]", "").replace("[/GEN]", "")
    opened = "{% if m.role == 'assistant' %}{% generation %}"
    parts = template.split("[GEN]")
    marked = [parts[0]]
    for part in parts[1:]:
        inner, rest = part.split("[/GEN]")
        marked.append(f"{opened}{inner}{{% endgeneration %}}{{% else %}}{inner}{{% endif %}}{rest}")
    return "".join(marked)
