"""What every test process is set up with, and the order of the test files. Everything runs offline on one thread."""

import gc
import os
from pathlib import Path

import hypothesis
import pytest

for name, value in (("HF_HUB_OFFLINE", "1"), ("TQDM_DISABLE", "1"), ("TOKENIZERS_PARALLELISM", "false")):
    os.environ[name] = value  # before anything of Hugging Face is imported
os.environ["OMP_NUM_THREADS"] = "1"  # also of what tests start: several test processes share the cores

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one takes its time
hypothesis.settings.load_profile("any machine")

FIXTURES = ("tests.composed_once", "tests.study_runs", "tests.random_models", "tests.report_records", "tests.trials")
pytest.register_assert_rewrite(*FIXTURES)  # a conftest.py of a folder may import them before they are plugins

LONGEST_FIRST = (  # so that no test process ends with a long file while the other has nothing left to do
    "execution/test_driver.py",
    "execution/test_wishes.py",
    "trial/test_divided.py",
    "trial/test_cohort_numbers.py",
    "test_fuzz.py",
    "trial/test_lifecycle.py",
    "experiments/test_gpu_benchmark.py",
    "execution/test_executor.py",
    "cli/test_export.py",
    "cli/test_plan.py",
    "config/test_conf.py",
    "search/test_samplers.py",
    "trial/test_rungs.py",
    "config/test_conf_headings.py",
    "tracking/test_wandb_runs.py",
    "planning/test_probe.py",
    "tracking/test_wandb_dashboards.py",
    "report/test_browser.py",
    "api/test_fit.py",
    "execution/test_scheduler.py",
    "models/quantization/test_schemes.py",
    "trial/test_vision_trial.py",
    "test_security.py",
    "execution/test_on_slurm.py",
    "execution/test_isolation.py",
    "evaluation/test_options.py",
    "search/test_rebuild.py",
    "adapters/test_targets.py",
    "cli/test_mistakes.py",
    "trial/test_retries.py",
    "cli/test_reproduce.py",
    "adapters/test_merging.py",
    "execution/test_ranks.py",
    "execution/test_on_ray.py",
    "search/test_resume.py",
    "cli/test_watch.py",
    "search/test_pruners.py",
    "models/quantization/test_layers.py",
    "evaluation/test_lora_insights.py",
    "planning/test_phases.py",
    "search/test_outcome.py",
    "evaluation/test_harness.py",
    "search/test_search.py",
    "trial/test_profile.py",
    "test_every_architecture.py",
    "evaluation/test_kinds.py",
    "training/test_trajectories.py",
    "data/test_packing.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Fixtures for a process that runs tests; one that only hands them out to others need not import torch."""
    if hasattr(config, "workerinput") or config.getoption("dist") == "no":
        gc.disable()  # until all is imported: it would look through ever more objects that stay
        for name in FIXTURES:
            config.pluginmanager.import_plugin(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end; each full collection would look through its 600,000 objects again."""
    gc.collect()
    gc.freeze()
    gc.enable()
