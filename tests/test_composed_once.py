"""What the tests compose is what Hydra composes: the whole configuration, Hydra's own part too, and every refusal."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from sweeplab.config.conf import CONF
from tests.composed_once import composed_anew


def compose_all(overrides: list[str]) -> tuple[str, list[bool | None]] | str:
    """All values, those that are missing too, and which parts are closed; or what is refused."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            made = compose("config", overrides=overrides, return_hydra_config=True)
        except HydraException as error:
            return str(error)
    assert not GlobalHydra.instance().is_initialized()
    parts = [made, *(part for part in made.values() if isinstance(part, DictConfig))]
    return OmegaConf.to_yaml(made), [OmegaConf.is_struct(part) for part in parts]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["adapter.rank=4", "training.max_steps=3"],
        ["adapter.rank=5", "++adapter.dora=true"],
        ["adapter=norms", "optimizer=sgd", "optimizer.lr=0.1"],
        ["optimizer.lr=0.1", "optimizer=sgd", "adapter=norms"],
        ["+experiment=rank_sweep", "~claims"],
        ["+experiment=rank_sweep", "study.name=other", "optimizer=sgd"],
        ["hydra.job.name=other", "hydra/job_logging=disabled"],
        ["adapter=nothing"],
        ["~adapter=norms"],
        ["nothing.at_all=1"],
        ["+adapter.rank=1"],
    ],
    ids=" ".join,
)
def test_options_that_are_put_together_once_are_what_hydra_composes(overrides: list[str]) -> None:
    for _ in range(2):  # what was composed before is not changed by what is done with it
        found = compose_all(overrides)
    with composed_anew():
        assert found == compose_all(overrides)
