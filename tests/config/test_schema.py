"""Nothing is accepted that has no effect: every option of every group against the keys of the others."""

import re
from collections.abc import Iterator

import pytest
from omegaconf import OmegaConf

from sweeplab.config.compose import compose_conf, to_study_config
from sweeplab.config.conf import default_options, option_values, options
from sweeplab.config.given import refuse_given_deciders
from sweeplab.config.parse import parse
from sweeplab.config.schema import GROUPS, key_names, option_names
from sweeplab.config.study import StudyConfig
from sweeplab.runtime.errors import ConfigError


def foreign_keys() -> Iterator[tuple[str, str, str]]:
    """Every group, an option of it, and a key that only other options of the group have."""
    for name, group in GROUPS.items():
        everything = {key for kind in group.options.values() for key in key_names(kind)}
        for option, decided in option_names(name).items():
            own = key_names(group.options[decided])
            lacking = everything - own.keys() - {"pattern"}  # with a pattern a base is a mixed one, whatever the scheme
            yield from ((name, option, key) for key in sorted(lacking))


LOSS = "heldout_loss_nats_per_token"
EXPORT = ["action=export", "trial=0", "export.path=nowhere"]
FOREIGN = list(foreign_keys())


def test_every_group_but_those_of_one_option_has_keys_of_its_own() -> None:
    assert {group for group, _, _ in FOREIGN} == set(GROUPS)
    assert {option for group, option, _ in FOREIGN if group == "adapter"} == set(options("adapter"))


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("group", GROUPS)
def test_a_key_of_another_option_is_refused_by_name(group: str) -> None:
    whole = _plain(compose_conf([]))
    for option in options(group):
        section = _plain(compose_conf([f"{group}={option}"]))[group]
        for key in (key for one, other, key in FOREIGN if (one, other) == (group, option)):
            said = rf"^{re.escape(f'{group}.{key}')} (has no effect with|is no argument of) "
            with pytest.raises(ConfigError, match=said):
                parse(StudyConfig, {**whole, group: {**section, key: 1}})


def _plain(composed: object) -> dict[str, dict[str, object]]:
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    return {
        str(name): {key: one for key, one in value.items() if one != "???"} if isinstance(value, dict) else value
        for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["adapter=prompt", "adapter.rank=64"], "adapter.rank"),
        (["adapter=lora", "adapter.num_layers=7"], "adapter.num_layers"),
        (["quantization=none", "quantization.group_size=64"], "quantization.group_size"),
        (["schedule=constant", "schedule.end_factor=0.5"], "schedule.end_factor"),
        (["training.max_steps=4", "training.epochs=9"], "training.epochs"),
        (["executor.gpus_per_worker=4"], "executor.gpus_per_worker"),
        (["executor.timeout_minutes=5"], "executor.timeout_minutes"),
        (["data.instruction_field=q"], "data.instruction_field"),
        (["adapter.alpha=16", "adapter.alpha_ratio=2"], "adapter.alpha_ratio"),
        (["adapter.budget=9000", "adapter.rank=4"], "adapter.rank"),
        (["schedule.warmup_steps=2", "schedule.warmup_ratio=0.1"], "schedule.warmup_ratio"),
        (["trial=3"], "trial"),
        (["studies=[a,b]"], "studies"),
        (["export.kind=merged"], "export.kind"),
        (["watch.once=true"], "watch.once"),
        (["compare.uncontrolled=true"], "compare.uncontrolled"),
        (["evaluation.tasks=[]", f"study.objectives=[{LOSS}]", "evaluation.limit=4"], "evaluation.limit"),
        (["evaluation.limit_seed=4"], "evaluation.limit_seed"),
        (
            ["evaluation=none", f"study.objectives=[{LOSS}]", "evaluation.bootstrap_iters=9"],
            "evaluation.bootstrap_iters",
        ),
        (["executor=ray", "executor.device=cpu", "executor.gpus_per_worker=1"], "executor.gpus_per_worker"),
        (["executor=slurm", "executor.device=cpu", "executor.gpus_per_worker=2"], "executor.gpus_per_worker"),
        (["data=digits", "model=tiny_vit", "training.max_length=64"], "training.max_length"),
        (["optimizer=sgd", "optimizer.momentum=0", "optimizer.dampening=0.1"], "optimizer.dampening"),
        ([f"data.objective={LOSS}", "study.objectives=[adapter_bytes]"], "data.objective"),
        (["data.tasks=[tiny_addition]", "data.retained_tasks=[]", "evaluation.tasks=[tiny_new_facts]"], "data.tasks"),
        (["adapter=prompt", "executor.cohort_size=4"], "executor.cohort_size"),
        (["optimizer=sophia", "executor.cohort_size=2"], "executor.cohort_size"),
        ([*EXPORT, "export.dtype=float16"], "export.dtype"),
        ([*EXPORT, "export.combination=cat"], "export.combination"),
    ],
)
@pytest.mark.usefixtures("hydra")
def test_what_has_no_effect_is_refused_with_a_remedy(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} has no effect .*, got .*; \w+"):
        to_study_config(compose_conf(overrides), "single", overrides)


DECIDERS = [
    (f"{name}.{group.decider}", option, decided)
    for name, group in GROUPS.items()
    for option, decided in option_names(name).items()
    if decided != "mixed"
]


@pytest.mark.parametrize(("key", "option", "decided"), DECIDERS)
def test_what_an_option_decides_is_no_key_to_give(key: str, option: str, decided: str) -> None:
    """Else `adapter.method=prompt` would be blamed on a key that nobody gave."""
    group, _, decider = key.partition(".")
    values = {group: {**option_values(group, default_options()[group]), decider: decided}}
    with pytest.raises(ConfigError) as mistake:
        refuse_given_deciders(values, [f"{key}={decided}"])
    said = re.fullmatch(rf"{key} is set by {group}=OPTION, got {re.escape(decided)}; write (.*)", str(mistake.value))
    assert said is not None
    named = [one.removeprefix(f"{group}=") for one in said.group(1).split(" or ")]
    assert {option_names(group)[one] for one in named} == {decided}


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer._target_=torch.optim.NAdam"],
        ["quantization=mixed", "quantization.scheme=fp4", "quantization.pattern={mlp: int8}"],
    ],
)
def test_what_no_option_decides_can_be_given(overrides: list[str]) -> None:
    to_study_config(compose_conf(overrides), "single", overrides)
