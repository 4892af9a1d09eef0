"""Pretrains the embedded vision base: `python experiments/tiny_vit/pretrain_digits.py`, less than a minute on a CPU.

Writes a Hugging Face folder to `sweeplab/builtin/tiny_vit/` and the loss curve beside this file.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import ViTConfig, ViTForImageClassification

from sweeplab.builtin.digits import NUM_CLASSES, ORIENTATIONS, ImageSize, split_digits
from sweeplab.data.images import ImageBatch, _list_image_rows, collate_images

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "sweeplab" / "models" / "tiny_vit"
SIZE = ImageSize(num_channels=1, side=8, num_tokens=17)


def new_model() -> ViTForImageClassification:
    """Patches of 2 x 2 pixels; every dimension but the classes is a multiple of 64, so that every matrix quantizes."""
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=SIZE.side,
            patch_size=2,
            num_channels=SIZE.num_channels,
            id2label={label: str(label) for label in range(NUM_CLASSES)},
            label2id={str(label): label for label in range(NUM_CLASSES)},
        )
    )


@torch.no_grad()
def accuracy(model: ViTForImageClassification, batch: ImageBatch) -> float:
    model.eval()
    hits = model(pixel_values=batch.pixels_BCHW).logits.argmax(-1) == batch.labels_B
    model.train()
    return float(hits.float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)  # these matrices are small: more threads wait for each other
    everything = {
        name: [collate_images(_list_image_rows(part, SIZE), 0) for part in split_digits(name)] for name in ORIENTATIONS
    }
    train, _ = everything["upright"]
    model = new_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.05)
    warmup = 50

    def factor(step: int) -> float:
        progress = (step - warmup) / (arguments.steps - warmup)
        return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * progress))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    curve: list[dict[str, float]] = []
    started = time.perf_counter()
    for step in range(1, arguments.steps + 1):
        chosen = torch.randint(len(train.labels_B), (arguments.batch_size,))
        loss = F.cross_entropy(model(pixel_values=train.pixels_BCHW[chosen]).logits, train.labels_B[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == arguments.steps:
            scores = {name: accuracy(model, heldout) for name, (_, heldout) in everything.items()}
            curve.append({"step": step, "loss": loss.item(), "seconds": time.perf_counter() - started, **scores})
            print(json.dumps(curve[-1]), flush=True)
    model.save_pretrained(arguments.out)
    (HERE / "loss_curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))


if __name__ == "__main__":
    main()
