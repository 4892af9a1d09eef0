from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from sweeplab.config.compose import compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.parse import parse_section, trial_config_from_dict
from sweeplab.config.study import StudyConfig
from sweeplab.runtime.errors import ConfigError
from tests.configs import OF_PYTHON, PLAIN


@pytest.fixture
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def study(*overrides: str) -> StudyConfig:
    chosen = ["study.name=one", *overrides]
    return to_study_config(compose_conf(chosen), "single", chosen)


REFUSED = {
    "action=pause": r"action is unknown, got 'pause'; choose one of run, recommend, plan",
    "adapter.method=loha": r"adapter.method is unknown, got 'loha'; choose one of lora, none",
    "adapter.method=prompt": r"adapter.method is set by adapter=OPTION, got prompt; write adapter=prompt$",
    "adapter.rank=0": r"adapter.rank must be at least 1, got 0; use a whole number from 1, or adapter=none quant",
    "adapter.alpha=0": r"adapter.alpha must be above 0, got 0",
    "adapter.alpha_ratio=-1": r"adapter.alpha must be above 0, got -8",
    "adapter.dropout=1": r"adapter.dropout must be from 0 to below 1, got 1",
    "adapter.dropout=-0.1": r"adapter.dropout must be from 0 to below 1, got -0.1",
    "adapter.dropout=nan": r"adapter.dropout must be from 0 to below 1, got nan",
    "++adapter.rank_pattern={*: 4}": r"adapter.rank_pattern must hold regular expressions .*, got '\*'; mend it",
    "++adapter.lr_pattern={*: 2.0}": r"adapter.lr_pattern must hold regular expressions .*, got '\*'; mend it",
    "data.source=web": r"data.source is unknown, got 'web'; choose one of world, json, hub",
    "data.style=markdown": r"data.style is unknown, got 'markdown'; choose one of plain, alpaca, chatml, template",
    "data.target=poems": r"data.target is unknown, got 'poems'; choose one of new_facts, ",
    "data=digits": r"data.name=digits does not go with model.name=tiny_base; choose model=tiny_vit$",
    "model=tiny_vit": r"data.name=tiny_facts does not go with model.name=tiny_vit; choose data=digits$",
    "model.name=small": r"model.name is unknown, got 'small'; choose one of tiny_base, tiny_vit$",
    "data.path=missing.json": r"data.path has no effect with data.source=world, got missing.json; choose data=json",
    "data.heldout_path=missing.json": r"data.heldout_path has no effect with data.source=world, .*; choose data=json",
    "data.subset=en": r"data.subset has no effect with data.source=world, got en; choose data=hub, or leave data.sub",
    "data=json": r"data.path is missing; give a JSON, JSONL, CSV or Parquet file of records: data.path=FILE",
    "data=hub": r"data.name",
    "data.heldout_fraction=1": r"data.heldout_fraction must be between 0 and 1, got 1",
    "data.num_examples=1": r"data.num_examples must be at least 2, got 1; leave it null for all",
    "model.path=base": r"model.path has no effect with model.source=embedded, got base; choose model=local, or leave",
    "model.revision=main": r"model.revision has no effect with model.source=embedded, got main; choose model=hub, or",
    "model.source=disk": r"model.source is unknown, got 'disk'",
    "model=local": r"model.path is missing; give a folder in Hugging Face's layout: model.path=DIR",
    "++model.modules={gate:[a]}": r"model.modules is unknown, got 'gate'; choose one of query, key",
    "quantization.scheme=int3": r"quantization.scheme is unknown, got 'int3'; choose one of none, nf4, fp4, int8",
    "optimizer._target_=os.system": r"optimizer._target_ must name an optimizer of torch.optim or .*, got os.system",
    "optimizer.lr=0": r"optimizer.lr must be a number above 0, got 0; try 3e-4",
    "optimizer.lr=inf": r"optimizer.lr must be a number above 0, got inf",
    "optimizer.lr=nan": r"optimizer.lr must be a number above 0, got nan",
    "optimizer.lr=fast": r"optimizer.lr must be a number above 0, got fast",
    "optimizer.lr=true": r"optimizer.lr must be a number above 0, got true",
    "optimizer.betas=[2,3]": r"optimizer.betas must be numbers from 0 to below 1, got \[2, 3\]; try \[0.9,0.999\]",
    "optimizer.betas=0.9": r"optimizer.betas must be numbers from 0 to below 1, got 0.9; try",
    "optimizer.weight_decay=-1": r"optimizer.weight_decay must be a number from 0, got -1; use 0 for none",
    "+optimizer.foo=1": r"optimizer.foo is no argument of torch.optim.AdamW, which takes lr, betas, eps, weight_decay",
    "training.epochs=0": r"training.epochs must be at least 1, got 0",
    "training.max_steps=0": r"training.max_steps must be at least 1, got 0",
    "training.micro_batch_size=0": r"training.micro_batch_size must be at least 1, got 0",
    "training.accumulation=0": r"training.accumulation must be at least 1, got 0",
    "training.heldout_interval=0": r"training.heldout_interval must be above 0, got 0; use a whole number from 1, or",
    "training.heldout_interval=2.5": r"training.heldout_interval must be a whole number of steps, or a share below 1",
    "training.log_interval=0": r"training.log_interval must be at least 1, got 0",
    "training.max_length=1": r"training.max_length must be at least 2, got 1",
    "training.precision=fp8": r"training.precision is unknown, got 'fp8'; choose one of auto, float32",
    "training.gradient_clip=0": r"training.gradient_clip must be above 0, got 0.*; use null for no clipping",
    "schedule.shape=step": r"schedule.shape is unknown, got 'step'; choose one of constant, linear, cosine",
    "schedule.warmup_steps=-1": r"schedule.warmup_steps must be at least 0, got -1",
    "schedule.warmup_ratio=1.5": r"schedule.warmup_ratio must be from 0 to 1, got 1.5",
    "schedule.end_factor=-1": r"schedule.end_factor must be from 0 to 1, got -1",
    "evaluation.batch_size=0": r"evaluation.batch_size must be at least 1, got 0",
    "evaluation.limit=0": r"evaluation.limit must be at least 1, got 0; use null for all items",
    "evaluation.num_fewshot=-1": r"evaluation.num_fewshot must be at least 0, got -1",
    "evaluation.bootstrap_iters=0": r"evaluation.bootstrap_iters must be at least 1, got 0",
    "adapter=none": r"adapter=none trains weights of the base, which quantization=nf4_dq freezes; choose",
    "sampler.name=luck": r"sampler.name is unknown, got 'luck'; choose one of grid, race, random, qmc, tpe",
    "sampler.popsize=8": r"sampler.popsize has no effect with sampler=grid, got 8; choose sampler=cmaes, or leave samp",
    "pruner.name=axe": r"pruner.name is unknown, got 'axe'; choose one of none, schedule, asha, hyperband",
    "sampler=tpe": r"study.num_trials is missing; sampler=tpe needs one, such as 30",
    "executor.device=tpu": r"executor.device is unknown, got 'tpu'; choose one of auto, cpu, cuda",
    "executor.num_threads=0": r"executor.num_threads must be at least 1, got 0",
    "tracking.name=paper": r"tracking.name is unknown, got 'paper'",
    "tracking.mode=loud": r"tracking.mode is unknown, got 'loud'",
    "study.num_trials=0": r"study.num_trials must be at least 1, got 0",
    "study.seeds=[]": r"study.seeds must be distinct whole numbers, got \[\]",
    "study.seeds=[0,-1]": r"study.seeds must be from 0 to 4294967295, got \[0, -1\]; try",
    "study.seeds=[4294967296]": r"study.seeds must be from 0 to 4294967295, got \[4294967296\]",
    "training.precision=float16": r"training.precision is unknown, got 'float16'; choose one of auto, float32",
    "study.seeds=[1,1]": r"study.seeds must be distinct whole numbers, got \[1, 1\]",
    "study.objectives=[]": r"study.objectives is empty; try study.objectives=\[heldout_loss_nats_per_token\]",
    "study.objectives=[beauty]": r"study.objectives must name metrics of a record, got beauty; choose from held",
    "study.name=a/b": r"study.name must be letters, digits, '-', '_' or '.', got 'a/b'",
    "study.name=.hidden": r"study.name must be letters, digits",
}


NEEDED = {"data.heldout_fraction=1": ["data=hub", "data.name=x/y"]}  # the option whose key it is


@pytest.mark.usefixtures("hydra")
class TestStudy:
    def test_the_defaults_can_run(self) -> None:
        study()

    @pytest.mark.parametrize("override", REFUSED)
    def test_what_cannot_run_is_refused_with_key_value_rule_and_remedy(self, override: str) -> None:
        with pytest.raises(ConfigError, match=REFUSED[override]) as refusal:
            study(*NEEDED.get(override, []), override)
        assert "\n" not in str(refusal.value)
        assert not OF_PYTHON.search(str(refusal.value))

    @pytest.mark.parametrize(
        "override",
        ["trainin.epochs=1", "training.epoch=1", "training.epochs=many", "adapter.lora_query=maybe", "data=none_such"],
    )
    def test_mistyped_keys_and_types_are_refused_by_name(self, override: str) -> None:
        with pytest.raises((ConfigCompositionException, ConfigError)) as refusal:
            study(override)
        told = f"{refusal.value} {refusal.value.__cause__}"
        assert override.partition("=")[0].rpartition(".")[2] in told or override.partition("=")[2] in told

    def test_every_toggle_off_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"switch on at least one of lora_query, .*lora_head"):
            study("adapter.lora_query=false", "adapter.lora_value=false")

    def test_warmup_ends_before_the_last_step(self) -> None:
        study("training.max_steps=4", "schedule.warmup_steps=3")
        with pytest.raises(ConfigError, match=r"^schedule.warmup_steps must be below training.max_steps=4, got 4; lo"):
            study("training.max_steps=4", "schedule.warmup_steps=4")

    def test_a_file_is_not_held_out_from_itself(self, tmp_path: Path) -> None:
        (tmp_path / "rows.json").write_text("[]")
        (tmp_path / "other.json").write_text("[]")
        (tmp_path / "link.json").symlink_to(tmp_path / "rows.json")
        path = f"data.path={tmp_path}/rows.json"
        study("data=json", path, f"data.heldout_path={tmp_path}/other.json")
        for same in ("rows.json", "link.json", f"../{tmp_path.name}/rows.json"):
            with pytest.raises(
                ConfigError, match=r"^data\.heldout_path must be another file than data\.path=.*leave i"
            ):
                study("data=json", path, f"data.heldout_path={tmp_path}/{same}")

    def test_a_heldout_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.json").write_text("[]")
        with pytest.raises(ConfigError, match=r"data\.heldout_path must be a file, got missing\.json; check the path"):
            study("data=json", f"data.path={tmp_path}/rows.json", "data.heldout_path=missing.json")

    @pytest.mark.parametrize("scheme", ["none", "int8"])
    def test_double_quantization_goes_with_four_bits_only(self, scheme: str) -> None:
        with pytest.raises(
            ConfigError, match=rf"quantization.double has no effect with quantization={scheme}, got true; .*=nf4"
        ):
            study(f"quantization.scheme={scheme}", "quantization.double=true")

    def test_a_folder_without_safetensors_is_refused_unless_weights_are_random(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"model.path must be a folder with a config.json"):
            study("model=local", f"model.path={tmp_path}")
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(
            ConfigError, match=r"model.path must hold \*.safetensors \(pickled weights are not loaded\)"
        ):
            study("model=local", f"model.path={tmp_path}")
        study("model=local", f"model.path={tmp_path}", "model.random_init=true")

    @pytest.mark.parametrize(
        ("group", "option"),
        [
            (path.parent.name, path.stem)
            for path in sorted(CONF.glob("*/*.yaml"))
            if path.parent.name not in ("experiment", "hydra") and not path.stem.startswith("_")
        ],
    )
    def test_every_option_of_conf_gives_a_whole_configuration(self, group: str, option: str) -> None:
        needed = {
            "model=local": ["model.path=x"],
            "model=hub": ["model.name=x/y"],
            "data=json": ["data.path=x"],
            "data=hub": ["data.name=x/y"],
            "evaluation=own": ["evaluation.path=x"],
            "evaluation=judge": ["evaluation.path=x", "evaluation.judge_url=x", "evaluation.judge_model=x"],
        }
        config = compose_conf([f"{group}={option}", *needed.get(f"{group}={option}", [])])
        assert "???" not in str(OmegaConf.to_container(config, resolve=True))

    def test_a_trial_survives_its_journey_as_plain_values(self) -> None:
        trial = study("adapter.rank=3", "optimizer=sgd", "model=qwen").trial_config()
        assert trial_config_from_dict(trial.to_dict()) == trial

    def test_full_finetuning_needs_an_unquantized_base(self) -> None:
        study("adapter=none", "quantization=none")


def test_adapter_arithmetic() -> None:
    adapter = PLAIN.replaced(rank=8, lora_key=True, lora_head=True)
    assert adapter.enabled() == ["key", "head"]
    assert adapter.effective_alpha() == 16.0
    assert adapter.replaced(alpha=5.0).effective_alpha() == 5.0


@pytest.mark.parametrize(
    "optimizer", [None, "torch.optim.AdamW", {}, {"_target_": 3, "lr": 1}, {"_target_": "torch.optim.AdamW"}]
)
def test_malformed_optimizers_are_refused(optimizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\."):
        parse_section("optimizer", optimizer)


def test_a_single_trial_is_checked_too(compose_trial: Any) -> None:
    trial = compose_trial("adapter.rank=4")
    assert trial.adapter.rank == 4
    with pytest.raises(ConfigError, match=r"adapter.rank must be at least 1"):
        trial_config_from_dict(trial.replaced(adapter=trial.adapter.replaced(rank=0)).to_dict())


@pytest.mark.parametrize(
    ("overrides", "seeds"),
    [
        ([], [0]),
        (["adapter.rank=4"], [0]),
        (["space={}"], [0]),
        (["space.adapter.rank.choices=[4,8]"], [0, 1]),
        (["sampler=random", "study.num_trials=4", "space.optimizer.lr={low: 1e-4, high: 1e-2, log: true}"], [0, 1]),
        (["space.adapter.rank.choices=[4,8]", "study.seeds=[0]"], [0]),
        (["study.seeds=[7]"], [7]),
        (["+experiment=rank_sweep"], [0, 1, 2]),
        (["+experiment=lora_insights"], [0]),
    ],
)
def test_settings_are_compared_with_two_seeds(hydra: None, overrides: list[str], seeds: list[int]) -> None:
    """One seed decides nothing between settings; a single configuration is one run."""
    assert study(*overrides).study.seeds == seeds
