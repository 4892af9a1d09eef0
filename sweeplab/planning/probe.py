"""Reads a model's folder in a process of its own, with a limit on time and memory, before a driver or worker does.

A folder is made by somebody else: a tokenizer's pattern or a chat template may never end, take all memory or abort the
process. Started as `python -m sweeplab.planning.probe`; a configuration comes as a line of JSON, and lines of JSON say
which step has begun, and how it ended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import IO, Any, Final

from sweeplab.config.data import TextData
from sweeplab.config.model import LocalModel, ModelConfig
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.trial import TrialConfig
from sweeplab.data.prompts import Example
from sweeplab.runtime.errors import ConfigError, describe_error_with_kind
from sweeplab.runtime.paths import expand_home

MOST_SECONDS: Final = 15  # of processor time for one model with its data's texts; most take one
_MOST_WAIT_SECONDS: Final = 120.0  # on a machine that others use too
_START_SECONDS: Final = 300.0  # for torch to be imported there
_MOST_BYTES: Final = 2**32  # of memory, beside what the imports take and the weights' files
_MOST_DATA_BYTES: Final = 2**26  # more is read by the worker only
_MOST_WEIGHT_BYTES: Final = 2**26  # of weights that are loaded and tried; larger ones are by the worker only
_ASKED: Final = f"What is {'a' * 60}, 1234567890? \n\n  Crème brûlée, 漢字 & <tags> 🙂... {'ab ' * 20}"
_ANSWERED: Final = f"It's {'x' * 60}! {'the ' * 20}"
_SAMPLE: Final = [Example([{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}])]
_ENVIRONMENT: Final = {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
_MEND: Final = "copy the model's files again, or choose another model"


def probe_models(configs: Iterable[TrialConfig]) -> None:
    """Has every model of a folder read, with the data that it goes with. Raises `ConfigError` for one that cannot be.

    The embedded bases are known, and files of the hub may not be here yet.
    """
    asked = {_describe_inputs(config): config for config in configs if _is_folder(config)}
    if not asked:
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeplab.planning.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | _ENVIRONMENT,
    )
    try:
        _receive_end(process, "the imports", "", _START_SECONDS)
        for config in asked.values():
            assert isinstance(config.model, LocalModel)
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps({"seconds": MOST_SECONDS, "config": config.to_dict()}) + "\n")
                process.stdin.flush()
            _receive_end(process, "config.json", f"model.path={config.model.path}", _MOST_WAIT_SECONDS)
    finally:
        process.kill()
        process.communicate()


def _is_folder(config: TrialConfig) -> bool:
    """True where the folder is on this machine; a cluster's may be on others only."""
    return isinstance(config.model, LocalModel) and expand_home(config.model.path).is_dir()


def _describe_inputs(config: TrialConfig) -> str:
    """The same text for trials that read the same."""
    return json.dumps([config.model.to_dict(), config.data.to_dict()], sort_keys=True, default=str)


def _receive_end(process: "subprocess.Popen[str]", step: str, subject: str, seconds: float) -> None:
    """Waits until the process has read one model. Raises `ConfigError` for a refusal, its end, and a step too long."""
    assert process.stdout is not None
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            match json.loads(line):
                case {"step": str(step)}:
                    pass
                case {"refused": str(message)}:
                    raise ConfigError(message)
                case _:
                    return
    finally:
        is_late = not timer.is_alive()
        timer.cancel()
    code = process.wait()
    if is_late or code == -signal.SIGXCPU:
        most = f"{seconds:g} seconds" if is_late else f"{MOST_SECONDS} seconds of processor time"
        raise ConfigError(f"{subject}: reading {step} takes more than {most}; {_MEND}")
    how = f"signal {-code}, as where memory is not enough" if code < 0 else f"exit code {code}"
    raise ConfigError(f"{subject}: reading {step} ended its process with {how}; {_MEND}")


def probe_model(config: TrialConfig, begin: Callable[[str], None]) -> None:
    """Reads what a plan and a worker will read of a folder. Raises `ConfigError`.

    The values of large weights are left to the worker. `begin` is told each step. Mistakes in the data are left to
    those who read all of it.
    """
    from sweeplab.adapters.counting import build_skeleton
    from sweeplab.data.tokens import refuse_unknown_tokens, tokenize_examples
    from sweeplab.models.base import load_pretrained, load_tokenizer, read_architecture
    from sweeplab.planning.lengths import measure_data_extent

    begin("config.json and the weights' headers")
    architecture = read_architecture(config.model)
    build_skeleton(config.model)
    if not config.model.random_init:
        load_pretrained(config.model, {"device_map": {"": "meta"}})
    if _has_small_weights(config.model):
        begin("the weights")
        _try_small_base(config.model)
    if isinstance(config.data, TextData):
        begin("the tokenizer and its chat template")
        tokenizer = load_tokenizer(config.model)
        with _leaving_mistakes():
            split = tokenize_examples(_SAMPLE, tokenizer, config.data.style, config.data.mask_prompt, 4096)
            refuse_unknown_tokens(split.examples, architecture.get_text_config().vocab_size)
    begin("the data with its tokenizer and chat template")
    if _count_data_bytes(config) <= _MOST_DATA_BYTES:
        with _leaving_mistakes():
            measure_data_extent(config)


def _has_small_weights(model: ModelConfig) -> bool:
    """True where a folder's weights can be loaded and tried at once. Quantized ones may need a GPU for that."""
    from sweeplab.models.base import read_architecture
    from sweeplab.models.folder import list_weight_files

    if not isinstance(model, LocalModel) or model.random_init:
        return False
    if getattr(read_architecture(model), "quantization_config", None) is not None:
        return False
    files = list_weight_files(expand_home(model.path))
    return bool(files) and sum(file.stat().st_size for file in files) <= _MOST_WEIGHT_BYTES


def _try_small_base(model: ModelConfig) -> None:
    """Does what a worker does before its first trial: the weights must be numbers, and the model must be causal. Raises
    `ConfigError`."""
    import torch

    from sweeplab.models.base import load_pretrained
    from sweeplab.models.behavior import try_short_texts
    from sweeplab.models.weights import refuse_non_numbers

    assert isinstance(model, LocalModel)
    folder = expand_home(model.path)
    refuse_non_numbers(folder)
    loaded = load_pretrained(model, {"dtype": torch.float32, "device_map": {"": torch.device("cpu")}})
    try_short_texts(loaded.eval(), str(folder))


@contextmanager
def _leaving_mistakes() -> Iterator[None]:
    """Within it mistakes in the data are left to those who read all of it. They have no limit of memory, so that what
    does not fit here is refused. Raises `ConfigError`."""
    try:
        yield
    except ConfigError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise MemoryError(f"more than {_MOST_BYTES / 2**30:g} GiB are needed") from error
            cause = cause.__cause__ or cause.__context__


def _count_data_bytes(config: TrialConfig) -> int:
    """Of the files of the data; what stands elsewhere is not read."""
    paths = [getattr(config.data, name, None) for name in ("path", "heldout_path")]
    paths += [part.path for part in getattr(config.data, "parts", [])]
    files = [expand_home(path) for path in paths if path]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe_probe(config: TrialConfig, seconds: int, begin: Callable[[str], None]) -> str | None:
    """Why the model cannot be read; None where it can. Ends the process after so many `seconds` of its time."""
    steps = ["config.json"]

    def note(step: str) -> None:
        steps.append(step)
        begin(step)

    assert isinstance(config.model, LocalModel)
    try:
        with _limited(expand_home(config.model.path), seconds):
            probe_model(config, note)
    except ConfigError as error:
        return str(error)
    except Exception as error:  # whatever a library makes of a damaged folder
        return f"model.path={config.model.path}: {steps[-1]} cannot be read: {describe_error_with_kind(error)}; {_MEND}"
    return None


@contextmanager
def _limited(folder: Path, seconds: int) -> Iterator[None]:
    """Within it the process ends after so many `seconds`, and takes at most `_MOST_BYTES`.

    The weights' files are mapped into memory, and count beside it.
    """
    import resource

    import psutil

    mapped = sum(path.stat().st_size for path in folder.glob("*.safetensors") if path.is_file())
    limits = {
        resource.RLIMIT_AS: psutil.Process().memory_info().vms + mapped + _MOST_BYTES,
        resource.RLIMIT_CPU: int(time.process_time()) + 1 + seconds,
    }
    before = {kind: resource.getrlimit(kind) for kind in limits}
    for kind, most in limits.items():
        with suppress(ValueError, OSError):  # a system without this limit, or one that is lower already
            resource.setrlimit(kind, (most, before[kind][1]))
    try:
        yield
    finally:
        for kind in limits:
            with suppress(ValueError, OSError):
                resource.setrlimit(kind, before[kind])


def _serve(requests: IO[str], answers: IO[str]) -> None:
    """Answers one request after another."""

    def send(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    import sweeplab.planning.lengths  # noqa: F401  (imports torch and transformers)

    send(done=True)
    for line in requests:
        asked = json.loads(line)
        config = trial_config_from_dict(asked["config"])
        why = describe_probe(config, asked["seconds"], lambda step: send(step=step))
        send(**({"done": True} if why is None else {"refused": why}))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    _serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
