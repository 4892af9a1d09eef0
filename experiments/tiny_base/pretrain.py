"""Pretrains the embedded base: `python experiments/tiny_base/pretrain.py`, twenty minutes on two CPU cores.

Writes a Hugging Face folder to `sweeplab/builtin/tiny_base/` and the loss curve beside this file.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sweeplab.builtin.world import (
    SKILLS,
    TARGETS,
    InstructionRecord,
    make_skill_items,
    render_plain_prompt,
    stream_pretraining,
)

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "sweeplab" / "models" / "tiny_base"
SPECIAL = ["<pad>", "<eos>", "<unk>"]
VOCABULARY_SIZE = 128


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character and the newline; 128 entries, so that every dimension quantizes."""
    characters = SPECIAL + ["\n"] + [chr(code) for code in range(32, 127)]
    characters += [f"<unused{index}>" for index in range(VOCABULARY_SIZE - len(characters))]
    vocabulary = {character: index for index, character in enumerate(characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=256
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
    stream: Iterator[InstructionRecord] = stream_pretraining(seed)
    while True:
        rows = []
        for record in islice(stream, size):
            prompt = tokenizer.encode(render_plain_prompt(record), add_special_tokens=False)
            answer = [*tokenizer.encode(record["output"], add_special_tokens=False), tokenizer.eos_token_id]
            rows.append((prompt + answer, [-100] * len(prompt) + answer))
        width = max(len(tokens) for tokens, _ in rows)
        pad = tokenizer.pad_token_id
        tokens = torch.tensor([tokens + [pad] * (width - len(tokens)) for tokens, _ in rows])
        labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows])
        yield {"input_ids": tokens, "attention_mask": (tokens != pad).long(), "labels": labels}


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, skill: str) -> float:
    """Share of the skill's held-out items whose greedy answer is exactly right."""
    items = make_skill_items(skill)
    encoded = tokenizer(
        [render_plain_prompt(item) for item in items],
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_token_type_ids=False,
    )
    model.eval()
    made = model.generate(**encoded, max_new_tokens=16, do_sample=False)  # type: ignore[misc]
    model.train()
    answers = tokenizer.decode(made[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(answer == item["output"] for answer, item in zip(answers, items, strict=True)) / len(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    tokenizer = character_tokenizer()
    model = new_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = 200

    def factor(step: int) -> float:
        progress = (step - warmup) / (arguments.steps - warmup)
        return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * progress))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    curve: list[dict[str, float]] = []
    started = time.perf_counter()
    for step, batch in enumerate(islice(batches(tokenizer, arguments.seed, arguments.batch_size), arguments.steps), 1):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == arguments.steps:
            curve.append({"step": step, "loss": loss.item(), "seconds": time.perf_counter() - started})
            if step % 1000 == 0 or step == arguments.steps:
                curve[-1] |= {skill: accuracy(model, tokenizer, skill) for skill in (*SKILLS, *TARGETS)}
            print(json.dumps(curve[-1]), flush=True)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    (HERE / "loss_curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))


if __name__ == "__main__":
    main()
