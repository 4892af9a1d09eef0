"""`action=plan` as a user meets it: table, totals and `plan.json`."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from rich.console import Console

from sweeplab.cli.plan import count_seeds_per_point, plan_study
from sweeplab.cli.plan_tables import format_minutes
from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.runtime.errors import ConfigError

Plan = Callable[..., tuple[dict[str, Any], str]]
ALONE = """
import sys
from sweeplab.__main__ import main
main()
print("heavy:", [one for one in ("peft", "lightning", "lm_eval", "bitsandbytes", "datasets") if one in sys.modules])
"""


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """`plan.json` and the printed text of the study that the overrides make."""

    def make(*overrides: str, width: int = 200) -> tuple[dict[str, Any], str]:
        chosen = ["action=plan", f"study.runs_dir={tmp_path}", "study.name=planned", *overrides]
        console = Console(width=width)
        with console.capture() as printed:
            plan_study(Request(to_study_config(compose_conf(chosen), "single"), chosen, ""), console)
        return json.loads((tmp_path / "planned" / "plan.json").read_text()), printed.get()

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield make


EXACT = [
    ("llama2_7b", 6_738_415_616, ["adapter.rank=8"], 4_194_304),
    ("llama2_13b", 13_015_864_320, ["adapter.rank=8"], 6_553_600),
    ("phi_1_5", 1_418_270_720, ["adapter.rank=8"], 1_572_864),
    ("llama3_8b", 8_030_261_248, ["adapter.rank=8"], 32 * 8 * (4096 + 4096 + 4096 + 1024)),
    ("smollm2_135m", 134_515_008, ["adapter.rank=8"], 30 * 8 * (576 + 576 + 576 + 192)),
    ("vit_base", 86_567_656, ["adapter.rank=8", "data=digits"], 294_912),
    ("qwen", 8_190_735_360, ["adapter.rank=8"], 36 * 8 * (4096 + 4096 + 4096 + 1024)),
]


@pytest.mark.parametrize(("model", "num_total", "overrides", "num_trainable"), EXACT)
def test_known_models_are_counted_offline(
    plan: Plan, model: str, num_total: int, overrides: list[str], num_trainable: int
) -> None:
    values, printed = plan(f"model={model}", "executor.device=cuda", *overrides)
    [row] = values["rows"]
    assert (values["num_total_params"], row["num_trainable_params"]) == (num_total, num_trainable)
    assert f"{num_trainable:,}" in printed
    assert f"{num_total:,}" in printed


def test_the_rank_sweep_on_a_7b(plan: Plan) -> None:
    ranks = "++space.adapter.rank.choices=[8,16,256]"
    chosen = ("+experiment=rank_sweep", "model=llama2_7b", "executor.device=cuda", ranks)
    with pytest.raises(ConfigError, match=r"adapter\.rank must be a value of the space, got .*; drop the claims"):
        plan(*chosen)  # as a run would
    values, printed = plan(*chosen, "~claims")
    assert [row["num_trainable_params"] for row in values["rows"]] == [20_277_248, 40_554_496, 648_871_936]
    assert [row["num_seeds"] for row in values["rows"]] == [3, 3, 3]
    assert values["num_trials"] == 9
    for row in values["rows"]:
        assert sum(row["memory"].values()) == row["peak_memory_bytes"]
        assert f"{row['peak_memory_bytes'] / 1e9:.3f}" in printed
    assert "memory of the largest setting: rank=256, GB" in printed
    assert "upper bound" in printed


def test_a_cpu_plan_has_times_that_add_up(plan: Plan) -> None:
    values, printed = plan("executor.device=cpu", "++space.adapter.rank.choices=[1,64]", "study.seeds=[0,1]")
    seconds = [row["train_seconds"] for row in values["rows"]]
    assert values["train_seconds"] == pytest.approx(2 * sum(seconds))
    assert seconds[0] < seconds[1]
    assert "Planned for cpu" in printed
    assert "measured" in printed


def test_of_settings_with_one_peak_the_one_that_trains_the_most_is_the_largest(plan: Plan) -> None:
    values, printed = plan("executor.device=cpu", "++space.adapter.rank.choices=[4,8]", "training.max_steps=20")
    small, large = (row["peak_memory_bytes"] for row in values["rows"])
    assert small == large  # a rank of 4 has the place of 8 in a slot
    assert "memory of the largest setting: rank=8, MB" in printed


def test_examples_that_would_be_cut_are_counted(plan: Plan) -> None:
    values, printed = plan("executor.device=cpu", "training.max_length=20", "data.mask_prompt=false")
    assert values["rows"][0]["data"]["num_truncated"] == values["rows"][0]["data"]["num_examples"] == 400
    assert "training.max_length cuts 400" in printed


def test_heldout_examples_that_are_trained_on_are_counted(plan: Plan, tmp_path: Path) -> None:
    rows = [{"instruction": f"question {place}", "output": f"{place}"} for place in range(9)]
    paths = [tmp_path / name for name in ("train.json", "heldout.json")]
    unlike = [{**rows[0], "output": "other"}, {**rows[1], "input": "given"}, {"instruction": "new", "output": "1"}]
    for path, held in zip(paths, (rows, [*rows[:2], *unlike]), strict=True):
        path.write_text(json.dumps(held))
    data = ("executor.device=cpu", "data=json", f"data.path={paths[0]}", f"data.heldout_path={paths[1]}")
    values, printed = plan(*data)
    assert (values["rows"][0]["data"]["num_learned"], values["rows"][0]["data"]["num_heldout"]) == (2, 5)
    assert "2 of 5 held-out examples stand in training too" in " ".join(printed.split())
    assert "held-out examples stand in" not in plan("executor.device=cpu")[1]


def test_what_is_read_and_what_is_skipped_is_said(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "dirty.csv"
    rows = [f"question {place},{'' if place in (4, 7) else place}" for place in range(100)]
    path.write_bytes("\r\n".join(["prompt,completion", *rows]).encode("utf-16"))
    data = ("executor.device=cpu", "data=json", f"data.path={path}", "data.style=plain")
    values, printed = plan(*data, "data.max_skipped=0.02", width=1000)
    assert (values["rows"][0]["data"]["num_skipped"], values["rows"][0]["data"]["num_examples"]) == (2, 88)
    assert f"Read {path} as prompt and completion: prompt, completion." in printed
    named = "line 6: field 'completion' is empty; line 9: field 'completion' is empty"
    assert f"Skipped 2 of 100 records of {path}, which teach nothing ({named})." in printed
    with pytest.raises(ConfigError, match=r"^data\.max_skipped=0\.01 is the share .*, got 0\.02: 2 of 100 records of "):
        plan(*data)


def test_varied_models_and_precisions_are_all_named(plan: Plan) -> None:
    values, printed = plan(
        "executor.device=cuda",
        "++space.model.choices=[phi_1_5,llama2_7b]",
        "++space.training.precision.choices=[bfloat16,float32]",
    )
    names = ["microsoft/phi-1_5", "meta-llama/Llama-2-7b-hf"]
    assert [row["model"] for row in values["rows"]] == [name for name in names for _ in range(2)]
    assert [row["device"]["dtype"] for row in values["rows"]] == ["bfloat16", "float32"] * 2
    for text in (*names, "1,418,270,720", "6,738,415,616", "in bfloat16", "in float32"):
        assert text in printed


def test_bits_of_the_base_are_a_column(plan: Plan) -> None:
    schemes = "none,nf4,nf4_dq,hqq3,mixed"
    values, printed = plan("model=llama2_7b", "executor.device=cuda", f"++space.quantization.choices=[{schemes}]")
    quantized, total = 6_476_005_376, 6_738_415_616
    mlp = 32 * 3 * 4096 * 11008
    rest, mean = 16 * (total - quantized), 32 * 32
    by_hand = [
        16 * quantized,
        4.5 * quantized,
        4.126953125 * quantized + 7 * mean,
        (3.2 + 32 / 128) * quantized,  # scale and zero in bfloat16; the last of ten groups not counted
        4.126953125 * (quantized - mlp) + 4 * mean + (3.2 + 32 / 128) * mlp,
    ]
    for row, bits in zip(values["rows"], by_hand, strict=True):
        assert row["base_bits_per_param"] == pytest.approx((bits + rest) / total, rel=1e-4)
        assert f"{row['base_bits_per_param']:.3f}" in printed


def test_an_image_classifier_is_planned_by_its_patches(plan: Plan) -> None:
    values, printed = plan("model=tiny_vit", "data=digits", "training.epochs=2", "executor.device=cpu")
    [row] = values["rows"]
    assert (values["num_total_params"], row["num_trainable_params"]) == (69_194, 2 * 2 * 8 * (64 + 64))
    assert row["num_steps"] == 2 * 88  # windows of 16 in 1,397 images
    assert (row["data"]["num_examples"], row["data"]["longest"], row["data"]["mean"]) == (1397, 17, 17)
    assert (row["data"]["most_targets"], row["data"]["num_truncated"], row["data"]["measured"]) == (1, 0, True)
    assert row["moments"]["forward"]["logits_bytes"] == 0  # the last layer works on more than one position an image
    assert row["moments"]["loss"]["logits_bytes"] == 10 * 16 * 3 * 4
    assert row["train_seconds"] > 0
    assert "Examples have 17 tokens" in printed


def test_a_text_model_is_not_planned_for_images(plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"^data.name=digits does not go with this model, a llama"):
        plan("model=llama2_7b", "data=digits")


def test_steps_that_cannot_be_known_print_as_a_dash(plan: Plan) -> None:
    values, printed = plan("executor.device=cpu", "data=alpaca", "adapter.rank=1")
    assert values["train_seconds"] is None
    assert values["rows"][0]["num_steps"] is None
    assert "training – in all" in printed
    assert "training.max_steps sets them" in printed


def test_a_sampler_shows_the_configured_point_and_the_ranges(plan: Plan) -> None:
    values, printed = plan(
        "executor.device=cpu",
        "sampler=tpe",
        "study.num_trials=30",
        "study.seeds=[0,1]",
        "++space.optimizer.lr={low: 1e-4, high: 1e-2, log: true}",
    )
    assert [row["params"] for row in values["rows"]] == [{}]
    assert values["space"] == {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    assert values["train_seconds"] == pytest.approx(30 * values["rows"][0]["train_seconds"])
    assert "30 trials" in printed
    assert "sampler=tpe draws optimizer.lr 0.0001 to 0.01 (log)" in printed


LISTED = (
    "executor.device=cpu",
    "quantization=none",
    "sampler=random",
    "study.seeds=[0,1]",
    "++space.adapter={choices: [lora, none], rank: {choices: [4, 64], when: {adapter: lora}}}",
    "++space.optimizer.lr.choices=[0.001,0.003]",
    "study.enqueue=[{adapter: none, optimizer.lr: 0.001}, {adapter: lora, adapter.rank: 64, optimizer.lr: 0.003}]",
)


def test_a_study_of_nothing_but_enqueued_settings_is_planned_by_these(plan: Plan) -> None:
    values, printed = plan(*LISTED, "study.num_trials=4")
    full, lora = values["rows"]
    assert full["params"] == {"adapter": "none", "optimizer.lr": 0.001}
    assert lora["params"] == {"adapter": "lora", "optimizer.lr": 0.003, "adapter.rank": 64}
    assert full["num_trainable_params"] == 885_888, "every weight of the embedded base"
    assert lora["num_trainable_params"] == 131_072
    rows = [line.split() for line in printed.splitlines()]
    assert ["none", "0.001", "\u2013", "2", "885,888"] in [row[:5] for row in rows], printed
    assert ["lora", "0.003", "64", "2", "131,072"] in [row[:5] for row in rows]
    assert "draws" not in printed
    assert values["train_seconds"] == pytest.approx(2 * full["train_seconds"] + 2 * lora["train_seconds"])
    cut, narrow = plan(*LISTED, "study.num_trials=3", width=80)
    assert "131,072" in narrow
    assert "…" not in narrow
    assert [row["num_seeds"] for row in cut["rows"]] == [2, 1]


def test_a_setting_of_toggles_is_named_by_those_that_are_on(plan: Plan) -> None:
    toggles = [f"lora_{name}" for name in ("query", "value", "mlp", "head")]
    axes = ", ".join(f"{toggle}: {{choices: [true, false]}}" for toggle in toggles)
    _, printed = plan(
        "executor.device=cpu",
        "sampler=random",
        "study.num_trials=2",
        "study.seeds=[0]",
        f"++space.adapter={{{axes}, rank: {{choices: [4, 8]}}}}",
        "study.enqueue=[{adapter.lora_query: false, adapter.lora_value: true, adapter.lora_mlp: true, "
        "adapter.lora_head: false, adapter.rank: 4}, {adapter.lora_query: true, adapter.lora_value: true, "
        "adapter.lora_mlp: true, adapter.lora_head: true, adapter.rank: 8}]",
        width=80,
    )
    rows = [line.split() for line in printed.splitlines()]
    assert ["value", "+", "MLP", "4", "1"] in [row[:5] for row in rows]
    assert ["all", "4", "of", "lora", "8", "1"] in [row[:6] for row in rows]
    assert "memory of the largest setting: all 4 of lora, rank=8, MB" in printed


@pytest.mark.parametrize("more", [["study.num_trials=5"], ["study.num_trials=4", "study.enqueue=[{adapter: lora}]"]])
def test_what_is_left_to_draw_is_said(more: list[str], plan: Plan) -> None:
    values, printed = plan(*LISTED, *more)
    assert [row["params"] for row in values["rows"]] == [{}]
    assert "sampler=random draws adapter lora, none;" in printed


def test_brute_force_is_planned_as_the_grid_that_it_runs(plan: Plan) -> None:
    asked = ("executor.device=cpu", "++space.adapter.rank.choices=[1,64]", "study.seeds=[0,1]")
    (grid, _), (brute, printed) = (plan(f"sampler={name}", *asked) for name in ("grid", "brute_force"))
    assert [row["params"] for row in brute["rows"]] == [{"adapter.rank": 1}, {"adapter.rank": 64}]
    assert [row["num_seeds"] for row in brute["rows"]] == [2, 2]
    assert brute["num_trials"] == grid["num_trials"] == 4
    assert brute["train_seconds"] == pytest.approx(sum(2 * row["train_seconds"] for row in brute["rows"]))
    assert "draws" not in printed


def test_a_race_says_what_it_begins_with_and_what_may_end_it(plan: Plan) -> None:
    ranks = "++space.adapter.rank={choices: [4, 8, 16], begin: 2}"
    values, printed = plan("executor.device=cpu", "sampler=race", "study.budget=20min", ranks)
    assert [row["params"] for row in values["rows"]] == [{"adapter.rank": 4}, {"adapter.rank": 8}]
    assert "A race: 2 trials, then as many seeds as their places need, until study.within is known" in printed
    assert "or study.budget=20min is spent. 30 trials at most" in printed


def test_num_trials_cuts_the_last_seeds(plan: Plan) -> None:
    values, _ = plan(
        "executor.device=cpu", "++space.adapter.rank.choices=[1,2]", "study.seeds=[0,1]", "study.num_trials=3"
    )
    assert [row["num_seeds"] for row in values["rows"]] == [2, 1]
    assert count_seeds_per_point(2, to_study_config(compose_conf(["study.num_trials=9"]), "one")) == [
        1,
        1,
    ]


def test_what_could_not_run_is_refused_and_nothing_written(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter\.lora_query=true with lora_key=false: .* set both alike"):
        plan("model=llama2_7b", "model.architecture.model_type=gpt_neox")
    assert not (tmp_path / "planned").exists()


def test_the_plan_says_what_fits_and_the_largest_that_does(plan: Plan) -> None:
    values, printed = plan(
        "model=llama2_7b",
        "quantization=nf4",
        "executor.device=cuda",
        "training.micro_batch_size=4",
        "evaluation.batch_size=4",
        "++space.adapter.rank.choices=[1,8,256,4096]",
        "plan.device_memory=17GB",
    )
    needs = [row["needed_memory_bytes"] for row in values["rows"]]
    assert values["device_memory_bytes"] == 17_000_000_000
    for row in values["rows"]:
        highest = max(sum(parts.values()) for parts in row["moments"].values())
        assert row["needed_memory_bytes"] == highest + 500_000_000  # CUDA's context
        assert row["peak_memory_bytes"] == sum(row["moments"][row["peak_moment"]].values())
    expected = [
        "fits" if 1.2 * need <= 17e9 else "does not fit" if need / 1.2 > 17e9 else "uncertain" for need in needs
    ]
    assert [row["fit"] for row in values["rows"]] == expected
    assert expected[0] == "fits"
    assert expected[-1] == "does not fit"
    largest = values["rows"][expected.count("fits") - 1]
    assert f"The largest that fits: rank={largest['params']['adapter.rank']}, " in printed
    assert f"no, {needs[-1] / 1e9:.1f} in" in printed
    counts = (expected.count("fits"), expected.count("does not fit"))
    assert f"{counts[0]} {'fits' if counts[0] == 1 else 'fit'}, " in printed
    assert "± 20 %" in printed


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        ([], ["16,384", "1.85", "5.195", "as configured"]),
        (
            ["+experiment=rank_sweep", "model=llama2_7b", "executor.device=cuda", "plan.device_memory=14GB"],
            ["2,534,656", "162,217,984", "0.0376", "no, 19.8 in train"],
        ),
        (
            [
                "plan.device_memory=2GB",
                "++space.adapter.rank.choices=[8,64]",
                "++space.optimizer.choices=[adamw,sgd]",
                "++space.optimizer.lr.choices=[0.001,0.0001]",
            ],
            [" 8 ", "adamw", "0.0001", "131,072", "14.8", "yes"],
        ),
    ],
)
def test_every_number_is_whole_at_80_columns(overrides: list[str], asked: list[str], plan: Plan) -> None:
    values, _ = plan("executor.device=cpu", *overrides)
    printed = plan("executor.device=cpu", *overrides, width=80)[1]
    table = re.split(r" trials?, ", printed)[0]
    assert "…" not in table
    assert max(map(len, printed.partition("\ntiny_base")[0].partition("\nmeta-llama")[0].splitlines())) <= 80
    lines = table.splitlines()
    assert len(lines) == 4 + len(values["rows"]) + 1  # a title, three lines of head, and one a setting
    for text in asked:
        assert text in table


def test_sizes_below_a_gigabyte_are_in_megabytes(plan: Plan) -> None:
    values, printed = plan("executor.device=cuda")
    (row,) = values["rows"]
    assert row["peak_memory_bytes"] < 1e9
    assert f"{row['peak_memory_bytes'] / 1e6:.1f}" in printed
    assert f"{row['memory']['activations_bytes'] / 1e6:.1f}" in printed
    assert "as configured, MB" in printed


def test_where_nothing_fits_the_largest_part_and_a_remedy_are_named(plan: Plan) -> None:
    asked = ("model=llama2_7b", "executor.device=cuda", "plan.device_memory=14GB", "adapter.rank=8")
    values, printed = plan(*asked)
    activations = values["rows"][0]["memory"]["activations_bytes"] / 1e9
    assert "Of 1 setting in 14 GB: 1 does not fit. None fits for certain. as configured needs the least, " in printed
    remedy = "training.micro_batch_size=1 training.accumulation=16 or training.gradient_checkpointing=true"
    assert f"most of it activations {activations:.1f} GB: try {remedy}." in printed
    for one in remedy.split(" or "):
        assert plan(*asked, *one.split())[0]["rows"][0]["fit"] == "fits"
    assert "base weights 3.8 GB: try a smaller model." in plan(*asked, "plan.device_memory=1GB", *remedy.split()[:2])[1]
    whole = plan(*asked, *remedy.split()[:2], "quantization=none")[1]
    assert "base weights 13.5 GB: try quantization=nf4_dq or a smaller model." in whole


def test_without_a_size_nothing_is_said_of_fitting(plan: Plan) -> None:
    values, printed = plan("executor.device=cpu")
    assert (values["device_memory_bytes"], values["rows"][0]["fit"]) == (None, None)
    assert "fit" not in printed


def test_the_plan_names_what_must_train_alone_and_why(plan: Plan) -> None:
    values, printed = plan("++space.adapter.dora.choices=[false,true]", "executor.device=cuda")
    reason = "adapter.dora=true scales the base's own columns"
    assert [row["alone"] for row in values["rows"]] == [None, reason]
    assert f"Trains alone: dora=true: {reason}." in printed.splitlines()
    assert f"Trains alone: dora=true: {reason}." in values["assumptions"]
    values, printed = plan("executor.device=cuda")
    assert [row["alone"] for row in values["rows"]] == [None]
    assert "Trains alone" not in printed


def test_experts_in_one_tensor_are_counted_and_train_alone(plan: Plan) -> None:
    """Qwen3-30B-A3B: 48 layers of 128 experts, each of 2048 x 768, gate and up in one matrix."""
    sizes = "hidden_size:2048,intermediate_size:6144,moe_intermediate_size:768,num_hidden_layers:48,num_experts:128"
    more = "num_experts_per_tok:8,num_attention_heads:32,num_key_value_heads:4,head_dim:128,vocab_size:151936"
    base = ["model=hub", "model.name=moe", "model.random_init=true", "quantization=none", "executor.device=cuda"]
    base += [f"+model.architecture={{model_type:qwen3_moe,{sizes},{more}}}", "data=tiny_facts"]
    values, printed = plan(*base, "++space.adapter.lora_mlp.choices=[false,true]", "training.precision=bfloat16")
    attention, experts = values["rows"]
    added = experts["num_trainable_params"] - attention["num_trainable_params"]
    assert added == 48 * 128 * 8 * ((2048 + 2 * 768) + (768 + 2048))
    why = "PEFT adapts model.layers.0.mlp.experts.gate_up_proj as a parameter, for all rows of a batch at once"
    assert (attention["alone"], experts["alone"]) == (None, why)
    assert f"Trains alone: lora_mlp=true: {why}." in printed.splitlines()
    copies = 48 * 128 * 3 * 2048 * 768 * 2  # W + s B A of all of them, in 16 bits
    states = added * 4 * 4  # weights, gradients and two states
    more_bytes = experts["peak_memory_bytes"] - attention["peak_memory_bytes"]
    assert more_bytes == pytest.approx(copies + states, rel=0.05)


def test_missing_minutes_print_as_a_dash() -> None:
    assert (format_minutes(None), format_minutes(0.0), format_minutes(90.0)) == ("–", "0.0", "1.5")


def test_the_command_line_plans_a_7b_without_what_training_needs(tmp_path: Path) -> None:
    arguments = ["model=llama2_7b", "action=plan", "executor.device=cuda"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "4,194,304" in done.stdout
    assert "heavy: []" in done.stdout
    assert (tmp_path / "runs" / "single" / "plan.json").is_file()


def test_a_base_in_parts_is_planned_for_one_device(plan: Plan) -> None:
    """Llama-2-7B: 32 layers of four matrices 4096 x 4096 and three 4096 x 11008 in 4 bits, embedding and head in 16."""
    asked = ("model=llama2_7b", "executor.device=cuda", "adapter.rank=8", "training.micro_batch_size=4")
    [one], [divided] = (
        plan(*asked, *more)[0]["rows"] for more in ((), ("training.strategy=fsdp", "training.num_devices=2"))
    )
    layer = (4 * 4096 * 4096 + 3 * 4096 * 11008) // 2 + 2 * 2 * 4096
    outside = 2 * (2 * 32000 * 4096 + 4096)
    assert one["memory"]["base_weights_bytes"] == 32 * layer + outside
    assert divided["memory"]["base_weights_bytes"] == (32 * layer + outside) // 2
    assert divided["memory"]["gathered_bytes"] == 2 * layer + outside
    assert divided["memory"]["quantization_scales_bytes"] == one["memory"]["quantization_scales_bytes"]
    assert divided["base_bits_per_param"] == one["base_bits_per_param"]
    assert divided["moments"]["forward"]["activations_bytes"] == one["moments"]["forward"]["activations_bytes"] / 2
    assert divided["num_steps"] == one["num_steps"]


def test_a_model_on_several_devices_has_no_predicted_time(plan: Plan) -> None:
    values, printed = plan("training.strategy=ddp", "training.num_devices=2")
    assert values["train_seconds"] is None
    assert values["rows"][0]["memory"]["gathered_bytes"] == 0
    assert "training.strategy=ddp on 2 devices: memory is of one, with 1/2 of the rows. No time" in printed
