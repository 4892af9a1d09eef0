"""The six toggles on the commonest architectures: the right matrices, as many parameters as PEFT counts, gradients, and
adapters that PEFT loads. What is right stands in `common_architectures`, by hand."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as OF_PEFT
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.adapters.budget import list_trained_names
from sweeplab.adapters.counting import Skeleton, build_skeleton, count_trainable_params
from sweeplab.adapters.lora import name_adapted
from sweeplab.adapters.merging import attach_trained, compute_probe_logits
from sweeplab.adapters.targets import classify_module, find_modules, find_targets
from sweeplab.config.adapter import TOGGLES, LoraAdapter
from sweeplab.config.model import HubModel
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.base import _EMBEDDED as BASE
from sweeplab.models.base import load_base
from sweeplab.models.layers import find_decoder_layers, list_expert_shapes, list_linear_shapes
from sweeplab.models.random_weights import make_empty_model
from sweeplab.planning.memory import find_adapted_matrices
from sweeplab.planning.phases import forecast_memory
from sweeplab.records.record import Status
from sweeplab.records.store import trial_folder, write_record
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.resources import Resources
from tests.architectures import ARCHITECTURES, build_tiny_model, make_tiny_config
from tests.common_architectures import ALL, write_page
from tests.configs import PLAIN
from tests.hostile import answer
from tests.planning.conftest import CPU, bound
from tests.study_runs import LOSS, SHORT
from tests.trials import run_alone

PEFT_SPEAKS_UP = pytest.mark.filterwarnings(  # of GPT-2's two kinds of matrix, and of heads tied to the embedding
    "ignore:fan_in_fan_out is set to:UserWarning", "ignore:Model has `tie_word_embeddings=True`:UserWarning"
)
PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
UNKNOWN_TO_TOGGLES = {"falcon_mamba", "jetmoe", "mamba", "mamba2", "rwkv", "xlnet", "xlstm"}  # no attention of matrices


class Tried(NamedTuple):
    """A random model, and what is planned of the same architecture."""

    name: str
    model: PreTrainedModel
    config: HubModel
    sizes: Skeleton

    def full_names(self, toggle: str) -> set[str]:
        """The modules that were written by hand, in those layers that have such matrices."""
        return {"lm_head"} if toggle == "head" else self._find(getattr(ALL[self.name], toggle))

    def parameters(self, toggle: str) -> set[str]:
        """What PEFT adapts as a parameter: experts, and modules whose names it takes for theirs."""
        if toggle != "mlp":
            return set()
        taken = self.full_names("mlp") if ALL[self.name].has_taken_names else set()
        return self._find(ALL[self.name].experts) | {f"{name}.weight" for name in taken}

    def modules(self, toggle: str) -> set[str]:
        """What PEFT adapts as a module."""
        return set() if toggle == "mlp" and ALL[self.name].has_taken_names else self.full_names(toggle)

    def _find(self, short: str) -> set[str]:
        layers = find_decoder_layers(self.model)
        (where,) = (name for name, module in self.model.named_modules() if module is layers)
        candidates = (f"{where}.{place}.{name}" for place in range(len(layers)) for name in short.split())
        there = {**dict(self.model.named_modules()), **dict(self.model.named_parameters())}
        return {name for name in candidates if name in there}


@pytest.fixture(scope="module", params=ALL)
def tried(request: Any) -> Tried:
    name, model = request.param, build_tiny_model(request.param)
    config = HubModel(name=name, random_init=True, architecture=make_tiny_config(name).to_dict())
    return Tried(name, model, config, build_skeleton(config))


def make_adapter(*toggles: str) -> LoraAdapter:
    return PLAIN.replaced(rank=3, dropout=0.0, **{f"lora_{toggle}": True for toggle in toggles})


def load_base_of(trial: TrialConfig) -> PreTrainedModel:
    return load_base(trial.model, trial.quantization, torch.float32, torch.device("cpu")).model


def find_adapted(model: nn.Module) -> set[str]:
    return {name_adapted(name, one) for name, one in model.named_modules() if isinstance(one, LoraLayer)}


def compute_loss(model: nn.Module) -> Tensor:
    ids = torch.arange(3, 43).view(2, 20)
    loss: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
    return loss


@PEFT_SPEAKS_UP
def test_toggles_adapt_what_they_mean_and_count_as_peft_does(tried: Tried) -> None:
    """Every adapted matrix has a gradient, and the base is as it was afterwards."""
    every, linears = TOGGLES, [one.name for one in tried.sizes.linears]
    for toggle in TOGGLES:
        assert {name for name in linears if toggle in classify_module(name)} == tried.full_names(toggle)
    modules = set.union(*(tried.modules(toggle) for toggle in TOGGLES))
    parameters = tried.parameters("mlp")
    before = compute_loss(tried.model).item()
    adapted = attach_adapter(tried.model, make_adapter(*every), tried.config, seed=0)
    assert find_adapted(adapted) == modules | parameters
    shapes = find_adapted_matrices(make_adapter(*every), tried.config, tried.sizes)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert sorted(list_trained_names(shapes)) == sorted(trained)
    compute_loss(adapted).backward()
    gradients = {name: weight.grad for name, weight in adapted.named_parameters() if "lora_B" in name}
    assert all(grad is not None and bool(grad.any()) for grad in gradients.values())
    detach_adapter(adapted)
    assert compute_loss(tried.model).item() == before
    exact = LoraConfig(
        r=3,
        target_modules=sorted(modules),
        target_parameters=sorted(parameters) or None,
        fan_in_fan_out=tried.name == "gpt2",
    )
    theirs = get_peft_model(tried.model, exact)
    num_trainable, _ = theirs.get_nb_trainable_parameters()
    theirs.unload()
    assert count_trainable_params(make_adapter(*every), tried.config, tried.sizes) == num_trainable


def test_each_toggle_alone_is_its_own_or_refused_where_matrices_are_fused(tried: Tried) -> None:
    linears = [one.name for one in tried.sizes.linears]
    names = {toggle: tried.full_names(toggle) for toggle in TOGGLES}
    for toggle in TOGGLES:
        sharing = [other for other in TOGGLES if other != toggle and names[toggle] & names[other]]
        adapter = make_adapter(toggle)
        if sharing:
            with pytest.raises(ConfigError, match=rf"lora_{toggle}=true with lora_{sharing[0]}=false.*set both alike"):
                find_targets(adapter, tried.name, {}, linears)
        else:
            adapted = find_targets(adapter, tried.name, {}, linears, [one.name for one in tried.sizes.experts])
            ends = re.compile(rf"(.*\.)?({'|'.join(map(re.escape, adapted.modules))})")
            assert {one for one in linears if ends.fullmatch(one)} == tried.modules(toggle)
            assert set(adapted.parameters) == tried.parameters(toggle)


def test_what_peft_cannot_do_with_parameters_is_refused(tried: Tried) -> None:
    if not tried.parameters("mlp"):
        pytest.skip("modules only")
    given: tuple[tuple[str, Any, str], ...] = (
        ("dropout", 0.1, "0"), ("dora", True, "false"), ("initialization", "pissa", "default"),
    )  # fmt: skip
    for key, value, remedy in given:
        said = rf"adapter\.{key} must be {remedy} with adapter.lora_mlp=true on a {tried.name}: PEFT adapts \S+ as a "
        with pytest.raises(ConfigError, match=said):
            count_trainable_params(make_adapter("mlp").replaced(**{key: value}), tried.config, tried.sizes)
    named: dict[str, Any] = {"target_modules": [], "target_parameters": sorted(tried.parameters("mlp"))}
    for asked in (LoraConfig(**named, lora_dropout=0.1), LoraConfig(**named, use_dora=True)):
        with pytest.raises(ValueError, match="ParamWrapper does not work with"):  # PEFT's own
            get_peft_model(build_tiny_model(tried.name), asked)


def test_experts_are_found(tried: Tried) -> None:
    named = dict(tried.model.named_parameters())
    found = {one.name: (one.num_experts, one.in_features * one.out_features) for one in tried.sizes.experts}
    ends = tuple(f".{name}" for name in ALL[tried.name].experts.split())
    expected = [name for name in named if ends and name.endswith(ends)]
    assert sorted(found) == sorted(expected)
    for name, (num_experts, entries) in found.items():
        assert (num_experts, num_experts * entries) == (named[name].shape[0], named[name].numel())


def test_the_page_is_what_is_tried_here() -> None:
    """Regenerate it by `python -m tests.common_architectures > docs/architectures.md`."""
    assert PAGE.read_text() == write_page()
    assert len(ALL) >= 30


def test_what_peft_adapts_by_default_belongs_to_a_toggle() -> None:
    """PEFT's own table, of query and value mostly, on every causal architecture of transformers that it names."""
    tried = [name for name in ARCHITECTURES if isinstance(OF_PEFT.get(name), list) and name not in UNKNOWN_TO_TOGGLES]
    assert len(tried) > 15
    for name in tried:
        linears = [one.name for one in list_linear_shapes(make_empty_model(make_tiny_config(name), torch.float32))]
        targets = [one for one in linears if one.endswith(tuple(f".{target}" for target in OF_PEFT[name]))]
        assert targets, name
        assert [one for one in targets if not classify_module(one)] == [], name


# slow: two hundred architectures; the commonest are checked above
@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_query_and_value_are_found_in_any_architecture(name: str) -> None:
    try:
        model = make_empty_model(make_tiny_config(name), torch.float32)
    except Exception as error:
        pytest.skip(f"{name} cannot be built tiny: {type(error).__name__} {error}")
    found = find_modules({}, [one.name for one in list_linear_shapes(model)])
    assert bool(found["query"] and found["key"] and found["value"] and found["projection"]) == (
        name not in UNKNOWN_TO_TOGGLES
    )
    assert found["head"]
    experts = [one.name for one in list_expert_shapes(model)]
    assert [one for one in experts if classify_module(one) != ("mlp",)] == []


# slow: a base is saved, planned, trained, scored and exported, forty times
@pytest.mark.slow
@PEFT_SPEAKS_UP
@pytest.mark.parametrize("name", ALL)
def test_it_is_planned_trained_scored_exported_and_loaded_by_peft(
    name: str, compose_trial: Any, tmp_path: Path
) -> None:
    """Through the commands; the exported adapter gives PEFT's model the logits of the one that was trained."""
    model, folder = build_tiny_model(name), tmp_path / "base"
    config = HubModel(name=name, random_init=True, architecture=make_tiny_config(name).to_dict())
    sizes = build_skeleton(config)
    model.config.eos_token_id, model.config.pad_token_id = 1, 0
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    for path in BASE.glob("tokenizer*"):
        shutil.copy(path, folder)
    dropout = 0 if sizes.experts else 0.1
    asked = [
        *SHORT, "model=local", f"model.path={folder}", "study.name=tried", "optimizer.lr=0.01",
        f"adapter.dropout={dropout}", "evaluation.tasks=[tiny_addition_choice]", "evaluation.limit=2",
        "training.max_length=48", LOSS, "tracking=none", *(f"adapter.lora_{toggle}=true" for toggle in TOGGLES),
    ]  # fmt: skip
    study = tmp_path / "runs" / "tried"
    trial = compose_trial(*(one for one in asked if not one.startswith(("study.", "tracking", "executor."))))
    spec = TrialSpec(0, 0, {}, trial, trial_folder(study, 0))
    record = run_alone(spec, Resources(torch.device("cpu")))
    assert record.status is Status.FINISHED, record.reason
    assert count_trainable_params(trial.adapter, trial.model, sizes) == record.num_trainable_params
    assert forecast_memory(trial, sizes, bound(48), CPU).needed_bytes > 0
    assert record.scores["tiny_addition_choice"]["acc"].num_items == 2
    write_record(study, record)
    code, _, err, _ = answer([*asked, "action=export", "trial=0", f"export.path={tmp_path / 'out'}"], tmp_path)
    assert (code, err) == (0, ""), err
    fresh = AutoModelForCausalLM.from_pretrained(folder)
    before = compute_probe_logits(fresh)
    loaded = PeftModel.from_pretrained(fresh, str(tmp_path / "out"))
    trained = attach_trained(load_base_of(trial), trial.adapter, trial.model, 0, spec.folder / "adapter")
    assert torch.equal(compute_probe_logits(loaded), compute_probe_logits(trained))
    kept = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert bool(kept["target_parameters"]) == bool(sizes.experts)
    assert not torch.allclose(compute_probe_logits(loaded), before, atol=1e-3)
