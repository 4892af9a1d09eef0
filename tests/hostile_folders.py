"""Damaged model folders from a seed, and what reading one comes to, in a process forked from this one."""

import faulthandler
import json
import os
import random
import select
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from sweeplab.config.trial import TrialConfig
from sweeplab.data.sources import load_splits
from sweeplab.data.tokens import refuse_unknown_tokens, tokenize_examples
from sweeplab.models.base import count_embeddings, load_base
from sweeplab.planning.probe import describe_probe
from sweeplab.runtime.errors import ConfigError
from tests.models.folders import copy_base

Random = random.Random

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 3, 7, 10**6, 2**31, 2**63, 10**30, -(2**70), 0.5, -1.5, 1e308, float("nan")),
    *(
        "",
        "two",
        "128",
        "\x00",
        "\u202e",
        "é" * 50,
        "a" * 5000,
        "../../x",
        "/dev/zero",
        "{{ 1/0 }}",
        "__import__('os')",
    ),
    *([], [1], [[[]]], {}, {"a": {"b": []}}, [None] * 3, {"type": "BPE"}, ["full_attention"] * 9),
)
KEYS: Final = (
    *("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "hidden_act", "model_type", "architectures", "rope_parameters", "rope_scaling", "dtype"),
    *("torch_dtype", "tie_word_embeddings", "max_position_embeddings", "rms_norm_eps", "eos_token_id", "pad_token_id"),
    *("bos_token_id", "sliding_window", "layer_types", "attention_dropout", "initializer_range", "pretraining_tp"),
    *("quantization_config", "auto_map", "attention_bias", "is_decoder", "text_config", "transformers_weights"),
    *("use_cache", "attn_implementation", "_attn_implementation", "id2label", "num_labels", "output_attentions"),
)
FAMILIES: Final = (
    *(
        "gpt2",
        "bert",
        "t5",
        "mamba",
        "vit",
        "clip",
        "whisper",
        "mixtral",
        "gemma3",
        "bloom",
        "opt",
        "qwen3_next",
        "gpt_oss",
    ),
    *(
        "deepseek_v3",
        "llama4",
        "rwkv",
        "xlnet",
        "bart",
        "falcon_h1",
        "phi3",
        "encoder-decoder",
        "llava",
        "timm_wrapper",
    ),
)
TEMPLATES: Final = (
    "{% if %}",
    "{{ 1 / 0 }}",
    "{{ messages[99].content }}",
    "{{ messages | tojson | length + 'a' }}",
    "{{ 'a' * 10**11 }}",
    "{% for a in range(10**12) %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{{ raise_exception('no') }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ [].append([]) }}{{ 10 ** 10 ** 8 }}",
    "{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{{ messages[0].content.replace('', 'x' * 10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ none.x.y }}",
    "{% include 'config.json' %}",
    "{% extends '/etc/passwd' %}",
    "(" * 5000,
    "{{" + "(" * 3000 + "1" + ")" * 3000 + "}}",
    "{% if true %}" * 300 + "{% endif %}" * 300,
    "{{ messages[0].content | wordwrap(0) }}",
    "{{ messages | map('x') | list }}",
    "",
)
REGEXES: Final = (
    "(a+)+$",
    "(?:a|a)*b",
    "(",
    "[",
    "(?<=a*)b",
    "\\",
    "(x+x+)+y",
    "\\p{Nope}",
    "(?i)" + "(" * 400 + ")" * 400,
    "",
)
PARTS: Final = (
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
    "added_tokens",
    "truncation",
    "padding",
)


def make_part(rng: Random) -> Any:
    """A part of a tokenizer.json that is well formed, and does what it should not."""
    pattern = {"Regex": rng.choice(REGEXES)} if rng.random() < 0.6 else {"String": rng.choice(("", "a", " ", "e"))}
    replace = {"type": "Replace", "pattern": pattern, "content": rng.choice(("", "b", "ee", "a" * 1000))}
    choices: list[Any] = [
        replace,
        {"type": "Sequence", "normalizers": [replace] * rng.choice((1, 3, 40))},
        {"type": "Split", "pattern": pattern, "behavior": rng.choice(("Isolated", "Removed", "Nope")), "invert": False},
        {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * 3},
        {"type": "Precompiled", "precompiled_charsmap": rng.choice(("", "AAAA", "////", "QUJD" * 50))},
        {"type": "Prepend", "prepend": "x" * rng.choice((1, 100_000))},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "no", "type_id": 0}}], "pair": []},
        {"type": "BPE", "vocab": {}, "merges": []},
        {"type": "BPE", "vocab": {"a": 0, "b": 10**9}, "merges": ["a b", "c"]},
        {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 9},
        {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
        {"type": "WordPiece", "vocab": {}, "unk_token": "[UNK]"},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        {"type": "Metaspace", "replacement": "ab", "prepend_scheme": "always"},
        {"type": "Digits", "individual_digits": True},
        {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
        {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 5},
        [{"id": rng.choice((0, 5, 2**32, -1)), "content": rng.choice(("", "a", "<eos>")), "special": True}] * 2,
    ]
    return rng.choice(choices)


def spoil_bytes(path: Path, rng: Random) -> None:
    """Other, missing or additional bytes; or a file of another kind."""
    data = path.read_bytes()
    kind = rng.randrange(6)
    if kind == 0:
        data = data[: rng.randrange(len(data) + 1)]
    elif kind == 1:
        data = rng.randbytes(rng.randrange(200))
    elif kind == 2:
        data = rng.choice(
            (
                b"[" * 10**5,
                b'{"a":' * 10**5,
                b"null",
                b"[]",
                b"{}",
                b"\xff\xfe",
                data.decode("latin-1").encode("utf-16"),
            )
        )
    else:
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(data) + 1)
            new = rng.choice((b"{", b"}", b'"', b",", b"\\u", b"\xff", b"\x00", b"9" * 30, b"-", rng.randbytes(3)))
            data = data[:start] + new + data[start + rng.randrange(4) :]
    path.write_bytes(data)


def change_deep(values: Any, rng: Random) -> None:
    """Another value somewhere in a JSON value."""
    while True:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        key = rng.choice(keys)
        inner = values[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            values = inner
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del values[key]
        else:
            values[key] = (
                rng.choice(ODD) if kind < 3 or not isinstance(inner, int) else inner * rng.choice((-1, 0, 10**6))
            )
        return


def spoil_json(path: Path, rng: Random) -> None:
    values = json.loads(path.read_text())
    for _ in range(rng.randint(1, 3)):
        if isinstance(values, dict | list) and values:
            change_deep(values, rng)
    path.write_text(json.dumps(values))


def spoil_config(folder: Path, rng: Random) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    if rng.random() < 0.25:
        values["model_type"] = rng.choice(FAMILIES)
    for _ in range(rng.randint(1, 2)):
        values[rng.choice(KEYS)] = rng.choice(ODD)
    path.write_text(json.dumps(values))


def spoil_tokenizer(folder: Path, rng: Random) -> None:
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    for _ in range(rng.randint(1, 2)):
        values[rng.choice(PARTS)] = make_part(rng)
    path.write_text(json.dumps(values))


def spoil_tokenizer_config(folder: Path, rng: Random) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    keys = (
        *("tokenizer_class", "eos_token", "pad_token", "unk_token", "bos_token", "model_max_length", "chat_template"),
        *(
            "added_tokens_decoder",
            "extra_special_tokens",
            "backend",
            "padding_side",
            "auto_map",
            "clean_up_tokenization",
        ),
        *("additional_special_tokens", "add_bos_token", "legacy", "use_fast", "tokenizer_file", "vocab_file"),
    )
    classes = ("LlamaTokenizer", "GPT2Tokenizer", "BertTokenizer", "T5Tokenizer", "Nope", "PreTrainedTokenizerFast", "")
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(keys)
        values[key] = rng.choice(classes) if key == "tokenizer_class" and rng.random() < 0.7 else rng.choice(ODD)
    path.write_text(json.dumps(values))


def spoil_template(folder: Path, rng: Random) -> None:
    template = rng.choice(TEMPLATES)
    if rng.random() < 0.5:
        (folder / "chat_template.jinja").write_text(template)
    else:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))


def spoil_header(folder: Path, rng: Random) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(names)
        kind = rng.randrange(6)
        if kind == 0:
            header.pop(name, None)
        elif kind == 1:
            header[rng.choice(ODD) if rng.random() < 0.1 else f"x.{name}"] = header.pop(name, {})
        elif kind == 2:
            header.setdefault(name, {})["dtype"] = rng.choice(("F16", "I8", "F8_E4M3", "BOOL", "nope", 7, None, "U8"))
        elif kind == 3:
            header.setdefault(name, {})["shape"] = rng.choice(
                ([], [0], [-1], [2**40], "x", [1.5], [2**63, 2**63], None)
            )
        elif kind == 4:
            header.setdefault(name, {})["data_offsets"] = rng.choice(([0, 4], [4, 0], [0, 2**60], [], "x", [-1, 3]))
        else:
            header["__metadata__"] = rng.choice(({"format": "tf"}, {"format": 1}, {}, None, {"format": "np"}))
    spelled = json.dumps({str(name): value for name, value in header.items()}).encode()
    said = rng.choice((len(spelled), len(spelled), len(spelled), 2**62, 0, size))
    path.write_bytes(struct.pack("<Q", said) + spelled + data[8 + size :])


def spoil_values(folder: Path, rng: Random) -> None:
    """Bytes of the weights themselves; some become NaN."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", data[:8])
    for _ in range(rng.choice((1, 100))):
        start = rng.randrange(8 + size, len(data) - 4) // 4 * 4
        data[start : start + 4] = rng.choice((b"\xff" * 4, b"\x00\x00\x80\x7f", rng.randbytes(4)))
    path.write_bytes(data)


def spoil_index(folder: Path, rng: Random) -> None:
    named: Any = {
        f"layer.{number}": rng.choice(
            ("model-1.safetensors", "pytorch_model.bin", "../x", "", "\x00", "a/b", "/dev/zero")
        )
        for number in range(3)
    }
    if rng.random() < 0.5:
        named = rng.choice((named, [], None, 7, {"a": 1}, {"a": None}, {"a": ["model-1.safetensors"]}))
    if rng.random() < 0.8:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    content = {"metadata": rng.choice(({}, None, 7)), "weight_map": named}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def remove_file(folder: Path, rng: Random) -> None:
    """A file is gone, or is a folder, a link to nothing or to itself, or a pipe."""
    path = rng.choice(sorted(folder.iterdir()))
    path.unlink()
    kind = rng.randrange(5)
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to("nothing")
    elif kind == 3:
        path.symlink_to(path)
    elif kind == 4:
        os.mkfifo(path)


def spoil_any_bytes(folder: Path, rng: Random) -> None:
    spoil_bytes(rng.choice(sorted(folder.iterdir())), rng)


def spoil_any_json(folder: Path, rng: Random) -> None:
    spoil_json(rng.choice(sorted(folder.glob("*.json"))), rng)


def leave_whole(folder: Path, rng: Random) -> None:
    """What the damaged ones are made from is in order."""


DAMAGES: Final[tuple[Callable[[Path, Random], None], ...]] = (
    *(spoil_config, spoil_config, spoil_tokenizer, spoil_tokenizer, spoil_tokenizer_config, spoil_template),
    *(spoil_header, spoil_values, spoil_index, remove_file, spoil_any_bytes, spoil_any_bytes, spoil_any_json),
    *(spoil_any_json, leave_whole),
)


def make_folder(folder: Path, seed: int) -> str:
    """A damaged copy of the embedded base; the name of what was done to it."""
    rng = Random(seed)
    copy_base(folder)
    damage = DAMAGES[seed % len(DAMAGES)]
    damage(folder, rng)
    return damage.__name__


class Outcome(NamedTuple):
    """How reading a folder ended: `read`, `refused`, `limit`, `killed` by a signal, `traceback` or `hang`."""

    kind: str
    said: str
    seconds: float


def _read_and_train(config: TrialConfig, seconds: int) -> tuple[str, str]:
    """The driver's reading, then a worker's: base, tokens and a forward pass."""
    why = describe_probe(config, seconds, lambda _: None)
    if why is not None:
        return "refused", why
    try:
        base = load_base(config.model, config.quantization, torch.float32, torch.device("cpu"))
        splits = load_splits(config.data)
        split = tokenize_examples(splits.train, base.tokenizer, config.data.style, True, 64)
        refuse_unknown_tokens(split.examples, count_embeddings(base.model))
        loss = base.model(input_ids=split.examples[0].ids[None]).logits.float().sum()
        assert loss.isfinite(), "the logits are no numbers"
    except ConfigError as error:
        return "refused", str(error)
    return "read", ""


def read_in_fork(config: TrialConfig, seconds: int, most_wait: float) -> Outcome:
    """Reads the folder as driver and worker do, in a fork of this process: a fresh one would import for seconds."""
    receiving, sending = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            faulthandler.disable()  # an abort is an outcome like others
            try:
                answer = _read_and_train(config, seconds)
            except BaseException:
                answer = "traceback", traceback.format_exc()
            os.write(sending, json.dumps(answer).encode("utf-8", "backslashreplace")[:60_000])
        finally:
            os._exit(0)
    os.close(sending)
    try:
        if not select.select([receiving], [], [], most_wait)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome("hang", "", time.monotonic() - started)
        written = os.read(receiving, 65_536)
    finally:
        os.close(receiving)
    _, status = os.waitpid(child, 0)
    took = time.monotonic() - started
    if not written:
        by = os.WTERMSIG(status)
        return Outcome("limit" if by == signal.SIGXCPU else "killed", f"signal {by}", took)
    kind, said = json.loads(written)
    return Outcome(kind, said, took)


def discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
