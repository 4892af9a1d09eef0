"""The matrices that the six toggles of `adapter` select, found by what they are called in any architecture."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Final, NamedTuple

from sweeplab.config.adapter import BASE_CHANGING, TOGGLES, LowRankAdapter
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, refuse

_ATTENTION_NAMES: Final[dict[str, tuple[str, ...]]] = {  # the last part of a name -> toggles; of one matrix several
    **dict.fromkeys(("q_proj", "query", "query_proj", "q_lin", "project_q", "Wq"), ("query",)),
    **dict.fromkeys(("q_a_proj", "q_b_proj"), ("query",)),  # of DeepSeek: down to a latent vector, and up again
    **dict.fromkeys(("k_proj", "key", "key_proj", "k_lin", "project_k", "Wk"), ("key",)),
    **dict.fromkeys(("v_proj", "value", "value_proj", "v_lin", "project_v", "Wv"), ("value",)),
    **dict.fromkeys(("v_proj_current", "v_proj_delayed"), ("value",)),
    **dict.fromkeys(("kv_proj", "kv_a_proj_with_mqa", "kv_b_proj"), ("key", "value")),
    "query_key": ("query", "key"),
    **dict.fromkeys(("qkv_proj", "query_key_value", "c_attn", "Wqkv"), ("query", "key", "value")),
    **dict.fromkeys(("o_proj", "out_proj", "dense", "c_proj", "out_lin", "attention_out", "Wo"), ("projection",)),
    **dict.fromkeys(("o_a_proj", "o_b_proj"), ("projection",)),
}
_UNMISTAKABLE: Final = ("q_proj", "k_proj", "v_proj", "o_proj")  # also where nothing around them is called attention
_MLP_NAMES: Final = (
    *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3", "proj_up", "proj_up_gate", "proj_down"),
    *("fc1", "fc2", "c_fc", "c_proj", "fc_in", "fc_out", "dense_h_to_4h", "dense_4h_to_h", "dense", "lin1", "lin2"),
    *("input_linear", "output_linear", "Wi", "Wo", "w_0", "w_1", "w_out"),
)
_HEADS: Final = re.compile(
    r"(.+\.)?(lm_head|embed_out|output_projection|proj_out|lm_loss|generator_lm_head|classifier)"
    r"|(lm_head|cls\.predictions)\.decoder|pred_layer\.proj|head|output|decoder"
)
_IS_ATTENTION: Final = re.compile(r"attn|attention|mlstm")
_IS_NEITHER: Final = re.compile(  # what chooses experts, gates, mixes without attention or scales
    r"router|^gate$|norm|conv|mamba|compressor|indexer|relative_pos|adapter_modules"
)


class Targets(NamedTuple):
    """What PEFT is to adapt."""

    modules: list[str]  # its `target_modules`: endings of names
    parameters: list[str]  # for its `target_parameters`: whole names of tensors that no module of their own stands for


def classify_module(name: str) -> tuple[str, ...]:
    """The toggles that a matrix belongs to, by its name; several where it is fused, none where it belongs to none."""
    *around, last = name.split(".")
    if last == "linear" and around:  # Moshi's are wrapped
        *around, last = around
    if not any(segment.isdigit() for segment in around):  # in no layer
        return ("head",) if _HEADS.fullmatch(name) else ()
    # from the list of layers on, which in XLM is one of attentions
    layer = [segment for place, segment in enumerate(around) if any(one.isdigit() for one in around[: place + 2])]
    if any(_IS_NEITHER.search(segment) for segment in layer):
        return ()
    if any(_IS_ATTENTION.search(segment) for segment in layer) or last in _UNMISTAKABLE:
        return _ATTENTION_NAMES.get(last, ())
    return ("mlp",) if last in _MLP_NAMES else ()


def find_matching_modules(module_names: Iterable[str], target: str) -> list[str]:
    """The modules that PEFT's suffix rule selects for `target`."""
    return [name for name in module_names if name == target or name.endswith(f".{target}")]


def shorten_names(wanted: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The shortest suffixes that PEFT's rule selects exactly the `wanted` of all `names` by."""
    rest, suffixes = dict.fromkeys(wanted), list[str]()
    while rest:
        parts = next(iter(rest)).split(".")
        endings = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        ending = next(one for one in endings if set(find_matching_modules(names, one)) <= set(wanted))
        suffixes.append(ending)
        for name in find_matching_modules(list(rest), ending):
            del rest[name]
    return tuple(suffixes)


def find_modules(modules: Mapping[str, Iterable[str]], linear_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """PEFT's `target_modules` of each toggle: the user's own in `modules`, or what the names of the model's linear
    layers say."""
    if modules:
        return {toggle: tuple(modules.get(toggle, ())) for toggle in TOGGLES}
    found: dict[str, list[str]] = {toggle: [] for toggle in TOGGLES}
    for name in linear_names:
        for toggle in classify_module(name):
            found[toggle].append(name)
    return {toggle: shorten_names(wanted, linear_names) for toggle, wanted in found.items()}


def _find_experts(modules: Mapping[str, Iterable[str]], expert_names: Sequence[str]) -> dict[str, list[str]]:
    """The tensors of experts that belong to each toggle, by the same rules as modules."""
    if modules:
        return {
            toggle: [name for target in modules.get(toggle, ()) for name in find_matching_modules(expert_names, target)]
            for toggle in TOGGLES
        }
    return {toggle: [name for name in expert_names if toggle in classify_module(name)] for toggle in TOGGLES}


def _refuse_unequal_fused(matched: Mapping[str, set[str]], enabled: set[str]) -> None:
    """Raises `ConfigError` where a matrix belongs to several toggles and only some of them are on."""
    for toggle in sorted(enabled):
        for sharing in TOGGLES:
            shared = {name.rpartition(".")[2] for name in matched[toggle] & matched[sharing]}
            if shared and sharing not in enabled:
                raise ConfigError(
                    f"adapter.lora_{toggle}=true with lora_{sharing}=false: this architecture keeps both in one "
                    f"matrix ({', '.join(sorted(shared))}), so they are adapted together; set both alike"
                )


def _is_taken_for_experts(model_type: str, target: str) -> bool:
    """Whether PEFT looks for `target` in no module: what experts were called before they stood in one tensor."""
    from peft import LoraConfig  # which a plan of most models does not need, and which takes a second
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config, model = LoraConfig(target_modules=[target]), SimpleNamespace(config=SimpleNamespace(model_type=model_type))
    try:
        convert_peft_config_for_transformers(config, model, None)  # type: ignore[arg-type]  # it reads the type only
    except ValueError:  # one of the names that stand in one tensor, without the others
        return True
    return target not in (config.target_modules or ())


def _refuse_with_parameters(adapter: LowRankAdapter, toggle: str, model_type: str, parameter: str) -> None:
    """Raises `ConfigError` for what PEFT's `ParamWrapper` cannot do."""
    for key, value, is_refused, why, remedy in (
        ("dropout", adapter.dropout, adapter.dropout > 0, "has no input of its own to drop", "0"),
        ("dora", "true", adapter.dora, "has no DoRA", "false"),
        (
            "initialization",
            adapter.initialization,
            adapter.initialization in BASE_CHANGING,
            "takes no start from it",
            "default",
        ),
    ):
        if is_refused:
            rule = f"must be {remedy} with adapter.lora_{toggle}=true on a {model_type}: PEFT adapts {parameter} as a "
            raise refuse(
                f"adapter.{key}",
                f"{rule}parameter, and {why}",
                value,
                f"choose adapter.{key}={remedy}, or adapter.lora_{toggle}=false",
            )


def describe_parameters(parameters: Sequence[str]) -> str | None:
    """Why a trial that adapts `parameters` trains alone; None where there are none."""
    if not parameters:
        return None
    return f"PEFT adapts {parameters[0]} as a parameter, for all rows of a batch at once"


def refuse_parameters_in_parts(config: TrialConfig, why: str) -> None:
    """Raises `ConfigError` where a trial that trains alone would have the base in parts only."""
    if config.training.strategy == "fsdp":
        raise ConfigError(
            f"training.strategy=fsdp does not go with this trial: {why}, and no device has the whole base; choose "
            "training.strategy=single or ddp"
        )


def refuse_quantized_parameters(parameters: Iterable[str], quantized: Iterable[str], model_type: str) -> None:
    """Raises `ConfigError` where PEFT would have to adapt the packed weights of a quantized matrix."""
    packed = {f"{name}.weight" for name in quantized}
    for parameter in parameters:
        if parameter in packed:
            raise ConfigError(
                f"adapter.lora_mlp=true adapts {parameter} of a {model_type} as a parameter, since PEFT takes its name "
                "for that of experts, and a packed weight cannot be one; give it the scheme none in "
                "quantization.pattern, or choose adapter.lora_mlp=false"
            )


def find_targets(
    adapter: LowRankAdapter,
    model_type: str,
    modules: Mapping[str, Iterable[str]],
    linear_names: Sequence[str],
    expert_names: Sequence[str] = (),
) -> Targets:
    """PEFT's targets for the toggles that are on, given the names of the model's linear layers.

    `expert_names` are those of the tensors that hold the matrices of several experts. A matrix that PEFT would take for
    one of them is adapted as a parameter, too. Raises `ConfigError` where a toggle matches nothing, listing what there
    is, is fused with one that is off, or selects a parameter where the adapter has what PEFT cannot do there.
    """
    names, experts = find_modules(modules, linear_names), _find_experts(modules, expert_names)
    matched = {
        toggle: {name for target in targets for name in find_matching_modules(linear_names, target)}
        for toggle, targets in names.items()
    }
    _refuse_unequal_fused(matched, set(adapter.enabled()))
    found = Targets([], [])
    for toggle in adapter.enabled():
        known = [*linear_names, *experts[toggle]]
        is_empty = not names[toggle] and not experts[toggle]
        if is_empty or not all(find_matching_modules(known, target) for target in names[toggle]):
            there = ", ".join(sorted({name.rpartition(".")[2] for name in [*linear_names, *expert_names]}))
            asked = ", ".join(names[toggle]) or ("none named" if modules else "none is called as one")
            raise ConfigError(
                f"adapter.lora_{toggle}=true matches no module of a {model_type} ({asked}); linear modules here: "
                f"{there}; name the right ones, such as model.modules={{query:[q_proj],value:[v_proj]}}"
            )
        parameters = list(experts[toggle])
        for target in names[toggle]:
            named = find_matching_modules(linear_names, target)
            if expert_names and named and _is_taken_for_experts(model_type, target):
                parameters += [f"{name}.weight" for name in named]
            elif named and target not in found.modules:
                found.modules.append(target)
        if parameters:
            _refuse_with_parameters(adapter, toggle, model_type, parameters[0])
        found.parameters.extend(one for one in parameters if one not in found.parameters)
    return found
