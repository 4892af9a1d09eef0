"""Loads a base model and its tokenizer: embedded, from a folder, or from the hub; safetensors only, no remote code."""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants, try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sweeplab.config.model import LocalModel, ModelConfig
from sweeplab.config.quantization import HQQ_BITS, QuantizationConfig
from sweeplab.models.behavior import try_short_texts
from sweeplab.models.folder import (
    check_files,
    check_sizes,
    check_values,
    fingerprint_settings,
    read_config,
    read_headers,
)
from sweeplab.models.layers import list_quantizable_shapes
from sweeplab.models.quantization.layers import quantize_layers
from sweeplab.models.quantization.schemes import choose_schemes, keep_packing, make_bitsandbytes_config, measure_storage
from sweeplab.models.random_weights import RANDOM_INIT_SEED, choose_attention, fill_layers, make_empty_model
from sweeplab.models.recomputation import keep_less
from sweeplab.models.rotary import forget_longer_texts
from sweeplab.models.row_limits import find_growing_length
from sweeplab.models.vision import choose_auto_class, find_image_head, is_image_classifier
from sweeplab.models.weights import refuse_encoder, refuse_non_numbers, refuse_other_weights
from sweeplab.runtime.errors import ConfigError, refuses_any_error
from sweeplab.runtime.out_of_memory import known_as_out_of_memory
from sweeplab.runtime.paths import expand_home

_EMBEDDED: Final = Path(__file__).parents[1] / "builtin" / "tiny_base"  # other embedded bases are beside it
_CONNECT_SECONDS: Final = 3.0  # huggingface_hub 2.4 tries each file six times, in 23 seconds and more


class Base(NamedTuple):
    """A frozen base model in evaluation mode on its device, with facts measured before any adapter is attached."""

    model: PreTrainedModel
    tokenizer: Any  # transformers' own; None where it reads images
    num_params: int  # of the weights as they were before quantization
    bits_per_param: float  # of all that is stored, measured; see `schemes.Storage`
    fingerprint: str
    draws_random_numbers: bool  # in training, as dropout of its own does
    settings_fingerprint: str | None = None  # of a folder's files beside the weights; a hub's commit names them all

    @property
    def pad_id(self) -> int:
        """The token that pads rows; images need none."""
        return 0 if self.tokenizer is None else int(self.tokenizer.pad_token_id)

    @property
    def growing_length(self) -> int | None:
        """The tokens beyond which a row changes what rows of other lengths in its batch compute; None: no row does."""
        return find_growing_length(self.model)


@cache
def is_hub_reachable() -> bool:
    """True where the hub accepts a connection. With a proxy also true, since only a request could test it."""
    address = urlsplit(constants.ENDPOINT)
    if constants.is_offline_mode() or address.hostname is None:
        return False
    if address.scheme in getproxies():
        return True
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def is_cache_only(model: ModelConfig) -> bool:
    """True for a model of the hub that must be loaded from the cache of earlier downloads, without a network."""
    return model.source == "hub" and not is_hub_reachable()


def _locate_model(model: ModelConfig) -> str:
    """The folder or hub name that transformers loads from."""
    if model.source == "embedded":
        return str(_EMBEDDED.with_name(model.name))
    return str(expand_home(model.path)) if isinstance(model, LocalModel) else model.name


def _find_folder(model: ModelConfig, commit: str | None = None) -> Path | None:
    """The folder of the model's files; None for one of the hub that was not downloaded."""
    if model.source != "hub":
        return Path(_locate_model(model))
    cached = try_to_load_from_cache(model.name, "config.json", revision=commit or model.hub_revision)
    return Path(cached).parent if isinstance(cached, str) else None


def _refuse_unreadable(model: ModelConfig, part: str, remedy: str) -> AbstractContextManager[None]:
    """Within it, whatever `part` brings about is refused in one line; without a network the remedy is a folder."""
    if is_cache_only(model):
        return _refuse_undownloaded(model, part)
    return refuses_any_error(f"model {_locate_model(model)} has no readable {part}", remedy)


@contextmanager
def _refuse_undownloaded(model: ModelConfig, part: str) -> Iterator[None]:
    """Raises `ConfigError` where `part` is not in the cache of earlier downloads, or is damaged there."""
    try:
        with refuses_any_error(f"model {model.name} has no readable {part}", "download it again", OSError):
            yield
    except OSError as error:
        raise ConfigError(
            f"model.name={model.name}: no network, and no {part} from an earlier download; "
            "download the folder and use model=local model.path=DIR"
        ) from error


def read_architecture(model: ModelConfig) -> PretrainedConfig:
    """The model's Hugging Face config, from conf where it stands there, so that no network is needed.

    Raises `ConfigError` for one that cannot be read, and for sizes that nothing could be built of.
    """
    source, stored = _locate_model(model), None
    if model.source == "local" and not model.config_values:
        folder = Path(source)
        check_files(folder)
        if (folder / "config.json").exists():
            check_values(read_config(folder), f"model {source}")
            stored = None if model.random_init else read_headers(folder)
    with _refuse_unreadable(model, "config.json", "check model.path or model.name"):
        if model.config_values:
            values = dict(model.config_values)
            config = AutoConfig.for_model(values.pop("model_type"), **values)
        else:
            config = AutoConfig.from_pretrained(
                source,
                revision=model.hub_revision,
                trust_remote_code=False,
                local_files_only=is_cache_only(model),
            )
        values = config.to_dict()
    assert isinstance(config, PretrainedConfig)
    check_values(values, f"model {source}")
    check_sizes(config, f"model {source}", stored)
    return config


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding with its end token where it has no padding token. Raises `ConfigError`.

    An architecture of conf with random weights borrows the embedded base's: its memory and time need no words.
    """
    borrowed = model.random_init and bool(model.config_values)
    source = str(_EMBEDDED) if borrowed else _locate_model(model)
    if model.source == "local" and not borrowed:
        check_files(Path(source))
    with _refuse_unreadable(model, "tokenizer", "copy tokenizer.json from the model"):
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=model.hub_revision, trust_remote_code=False, local_files_only=is_cache_only(model)
        )
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"model {source}: its tokenizer has no end-of-text token, so no response would end; name it as "
                "eos_token in tokenizer_config.json"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer("a")  # a tokenizer that is damaged inside fails here, not in the middle of the data
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def load_model(
    model: ModelConfig, quantization: QuantizationConfig, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    """The base with `quantization` on `device`; what is not quantized is in `dtype`. Raises `ConfigError`.

    One scheme of bitsandbytes for all is quantized on the way to the device. HQQ, and schemes that differ by layer,
    take the whole base in `dtype` on the CPU first. Random weights are made where they stay, one matrix at a time.
    """
    if model.random_init:
        skeleton = make_empty_model(read_architecture(model), dtype)
        schemes = choose_schemes(quantization, list_quantizable_shapes(skeleton))
        return fill_layers(skeleton, schemes, quantization, dtype, device)
    if quantization.patterns or quantization.scheme in HQQ_BITS:
        loaded = load_pretrained(model, {"dtype": dtype})
        quantize_layers(
            loaded, choose_schemes(quantization, list_quantizable_shapes(loaded)), quantization, dtype, device
        )
        return loaded
    config = make_bitsandbytes_config(quantization, dtype, find_image_head(read_architecture(model)))
    return load_pretrained(model, {"dtype": dtype, "device_map": {"": device}, "quantization_config": config})


def load_pretrained(model: ModelConfig, settings: dict[str, Any]) -> PreTrainedModel:
    """The weights of `model`, as transformers loads them with `settings`. Raises `ConfigError`."""
    config, source = read_architecture(model), _locate_model(model)
    settings |= {"attn_implementation": choose_attention(config)}
    with _refuse_unloadable(model):
        loaded, report = choose_auto_class(config).from_pretrained(
            source,
            revision=model.hub_revision,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=is_cache_only(model),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **settings,
        )
    assert isinstance(loaded, PreTrainedModel)
    refuse_other_weights(source, report, len(loaded.state_dict()))
    if not is_image_classifier(config):
        refuse_encoder(config, loaded, source)
    return loaded


@contextmanager
def _refuse_unloadable(model: ModelConfig) -> Iterator[None]:
    if is_cache_only(model):
        with _refuse_undownloaded(model, "weights"):
            yield
        return
    subject = f"model {_locate_model(model)} cannot be loaded"
    remedy = "check model.path or model.name, and that it holds *.safetensors"
    with refuses_any_error(subject, remedy, torch.OutOfMemoryError), known_as_out_of_memory():
        yield


def _fingerprint_weights(model: ModelConfig, loaded: PreTrainedModel) -> str:
    """What identifies the weights: the hub's commit, or SHA-256 over the folder's safetensors files."""
    if model.random_init:
        drawn_on = next(loaded.parameters()).device.type  # devices draw other numbers from the same seed
        return f"random:{RANDOM_INIT_SEED}" if drawn_on == "cpu" else f"random:{RANDOM_INIT_SEED}:{drawn_on}"
    if model.source == "hub":
        return f"commit:{loaded.config._commit_hash}"
    digest = hashlib.sha256()
    for path in sorted(Path(_locate_model(model)).glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def load_base(model: ModelConfig, quantization: QuantizationConfig, dtype: torch.dtype, device: torch.device) -> Base:
    """Model, tokenizer and fingerprint; every weight frozen. Raises `ConfigError` for a base that cannot be loaded."""
    tokenizer = None if is_image_classifier(read_architecture(model)) else load_tokenizer(model)
    loaded = load_model(model, quantization, dtype, device)
    folder = _find_folder(model, getattr(loaded.config, "_commit_hash", None))
    if folder is not None and not model.random_init:
        refuse_non_numbers(folder)
    loaded.requires_grad_(False)
    keep_packing(loaded)
    keep_less(loaded)
    forget_longer_texts(loaded)
    if tokenizer is not None:
        loaded.config.use_cache = False
        _give_pad_id(tokenizer, loaded, _locate_model(model))
    if model.source == "embedded":
        loaded.name_or_path = model.name  # adapters name their base, and this one's folder says nothing elsewhere
    stored = measure_storage(loaded)
    fingerprint = _fingerprint_weights(model, loaded)
    draws = try_short_texts(loaded.eval(), _locate_model(model))
    settings = fingerprint_settings(Path(_locate_model(model))) if model.source == "local" else None
    return Base(loaded, tokenizer, stored.num_params, stored.bits_per_param, fingerprint, draws, settings)


def count_embeddings(model: PreTrainedModel) -> int:
    """The tokens that the model knows."""
    embedding: Any = model.get_input_embeddings()
    return int(embedding.num_embeddings)


def _give_pad_id(tokenizer: Any, loaded: PreTrainedModel, source: str) -> None:
    """Pads with the end token where the padding token lies outside the embedding: padding is masked, so any token that
    the model knows will do. Raises `ConfigError` where the end token is outside too."""
    vocab_size = count_embeddings(loaded)
    if tokenizer.eos_token_id >= vocab_size:
        raise ConfigError(
            f"model {source}: its tokenizer ends texts with token {tokenizer.eos_token_id}, and the model knows "
            f"{vocab_size} tokens only; use the tokenizer that belongs to the model"
        )
    if tokenizer.pad_token_id >= vocab_size:
        tokenizer.pad_token = tokenizer.eos_token
