"""Random models that are small, and still shaped like the families they stand for."""

from typing import Any, Final, NamedTuple

import torch
from peft import get_peft_model

from sweeplab.adapters.lora import make_lora_config, why_alone_on
from sweeplab.config.model import HubModel
from sweeplab.config.shared_base import takes_vectors, why_exclusive
from sweeplab.config.trial import TrialConfig
from sweeplab.models.base import read_architecture
from sweeplab.models.recomputation import keep_less
from sweeplab.models.vision import choose_auto_class
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.multilora.slots import Slot, list_lora_matrices, read_lora_weights
from tests.configs import PLAIN, adapter_of
from tests.trials import Compose

NUM_LAYERS: Final = 4
SIZES: Final = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
EXPERTS: Final[dict[str, dict[str, Any]]] = {  # sizes of the families whose MLPs are experts
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
}
SIDE: Final = 16  # of an image in patches of 2 x 2, which are 64, and the class token
PATCHES: Final = 65
QV: Final = ("query", "value")
LAYERS: Final = ("query", "key", "value", "projection", "mlp")


def planned(
    compose_trial: Compose, model_type: str, toggles: tuple[str, ...], *overrides: str, batch: int, vocab_size: int
) -> TrialConfig:
    """A trial on a random model of `model_type`, rank 8 unless the overrides say more; without toggles the base
    trains."""
    config = compose_trial(
        f"training.micro_batch_size={batch}", "quantization=none", "adapter.rank=8", "adapter.dropout=0", *overrides
    )
    more: dict[str, Any] = {"vocab_size": vocab_size}
    if model_type == "qwen3":
        more["head_dim"] = 32
    more |= EXPERTS.get(model_type, {})
    model = HubModel(name=model_type, random_init=True, architecture={"model_type": model_type, **SIZES, **more})
    given = ("rank", "dropout", "budget", "rank_pattern", "lr_pattern")
    chosen = {name: getattr(config.adapter, name) for name in given}
    on = {f"lora_{toggle}": True for toggle in toggles}
    adapter = PLAIN.replaced(**chosen, **on) if toggles else adapter_of("none")
    return config.replaced(model=model, adapter=adapter)


def planned_images(compose_trial: Compose, toggles: tuple[str, ...], *overrides: str, batch: int) -> TrialConfig:
    """The same on a random ViT."""
    config = planned(compose_trial, "vit", toggles, *overrides, batch=batch, vocab_size=0)
    sizes = {"image_size": SIDE, "patch_size": 2, "num_channels": 1, "num_labels": 10}
    model = config.model.replaced(architecture={**config.model.architecture, **sizes})
    return config.replaced(model=model, data=compose_trial("model=tiny_vit", "data=digits").data)


class Built(NamedTuple):
    """A model as a trial trains it; `packed` where its adapter stands beside the base."""

    model: Any
    packed: PackedAdapters | None
    trained: list[torch.nn.Parameter]

    def zero_gradients(self) -> None:
        if self.packed is not None:
            self.packed.zero_gradients()
        else:
            self.model.zero_grad()

    @property
    def gradients(self) -> list[torch.Tensor]:
        """Those that have their place at all times."""
        buckets = [] if self.packed is None else self.packed.buckets
        return [bucket.grads_KP for bucket in buckets if bucket.grads_KP is not None]

    @property
    def adapter_bytes(self) -> int:
        """Of weights and of gradients that stand from the start."""
        weights = [weight.nbytes for weight in self.trained]
        return sum(weights) + sum(one.nbytes for one in self.gradients)


def built(config: TrialConfig, dtype: torch.dtype, extent: Extent) -> Built:
    kind = read_architecture(config.model)
    base = choose_auto_class(kind).from_config(kind, dtype=dtype, attn_implementation="sdpa")
    base.requires_grad_(config.adapter.method == "none")
    keep_less(base)
    base.config.use_cache = False
    model: Any = base
    why = why_exclusive(config) or why_alone_on(base, config)
    packed, slot = None, None
    if config.adapter.method == "lora":
        model = get_peft_model(base, make_lora_config(config.adapter, config.model, base))
    if why is None:
        slot = Slot(list_lora_matrices(model), read_lora_weights(model), 0, takes_vectors(config))
        model = model.unload()
        packed = PackedAdapters(model, [slot])
        packed.begin_micro_batch([extent], [0])
    if config.training.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    weights = model.parameters() if slot is None else slot.parameters.values()
    return Built(model.train(), packed, [weight for weight in weights if weight.requires_grad])
