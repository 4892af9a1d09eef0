"""Claims of a committed experiment are judged on the model and data that it names, and on no others."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir

from sweeplab.cli.arguments import check_arguments
from sweeplab.cli.foreign_claims import leave_out_foreign_claims
from sweeplab.config.compose import compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.study import StudyConfig

SWEEP = "+experiment=rank_sweep"


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        ([SWEEP], None),
        ([SWEEP, "data=tiny_facts", "model=tiny"], None),
        ([SWEEP, "model.random_init=true"], None),
        ([SWEEP, "data=json", "data.path=a.json"], "data"),
        ([SWEEP, "model=llama2_7b"], "model"),
        ([SWEEP, "model=local", "model.path=m", "data=json", "data.path=a.json"], "model and data"),
        ([SWEEP, "data=json", "data.path=a.json", "~claims"], None),
        ([SWEEP, "data=json", "data.path=a.json", "claims=[]"], None),
        (["+experiment=smollm2_rates", "model=local", "data.path=a.json"], None),
        (["+experiment=smollm2_rates", "model=qwen"], "model"),
        (["+experiment=smollm2_rates", "data=tiny_facts"], "data"),
        (["+experiment=recommend", "data=json", "data.path=a.json"], None),
        (["data=json", "data.path=a.json"], None),
    ],
)
def test_claims_go_where_model_or_data_are_others(arguments: list[str], left_out: str | None) -> None:
    chosen, sentence = leave_out_foreign_claims(arguments)
    if left_out is None:
        assert (chosen, sentence) == (arguments, None)
    else:
        assert chosen == [*arguments, "study.question=null", "~claims"]
        assert f"its own {left_out}, and are left out" in str(sentence)


def compose(arguments: list[str]) -> StudyConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_study_config(compose_conf(arguments), "single", arguments)


def test_a_sweep_of_own_data_asks_nothing_of_the_toy_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.json"
    path.write_text('[{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]')
    typed = [SWEEP, f"data={path}", "study.name=mine", "space.adapter.rank.choices=[2,3]", "evaluation.limit=null"]
    config = compose(check_arguments(typed))
    assert config.claims == []
    assert config.study.question is None
    assert config.study.objectives == ["heldout_loss_nats_per_token"]
    said = capsys.readouterr().err
    assert said.startswith("The question and the claims of experiment=rank_sweep are about its own data")
    assert said.count("\n") == 1
    config = compose(check_arguments([*typed, "study.question=Which rank?"]))
    assert config.study.question == "Which rank?"
