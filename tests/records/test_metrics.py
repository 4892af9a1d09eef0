"""Names of metrics: their parts, which one stands for a task, and which way is better."""

import pytest

from sweeplab.records.metrics import choose_headline, direction, split_filter


@pytest.mark.parametrize(
    ("metric", "parts"),
    [
        ("acc", ("acc", "")),
        ("exact_match@strict-match", ("exact_match", "strict-match")),
        ("exact_match@maj@64", ("exact_match", "maj@64")),
        ("acc,none", ("acc", "")),
        ("exact_match,flexible-extract", ("exact_match", "flexible-extract")),
    ],
)
def test_a_metric_and_its_filter(metric: str, parts: tuple[str, str]) -> None:
    assert split_filter(metric) == parts


@pytest.mark.parametrize(
    ("task", "metrics", "headline"),
    [
        ("arc_challenge", "acc acc_norm", "acc_norm"),
        ("hellaswag", "acc acc_norm", "acc_norm"),
        ("leaderboard_bbh_navigate", "acc_norm", "acc_norm"),
        ("leaderboard_gpqa_main", "acc_norm acc", "acc_norm"),
        ("boolq", "acc acc_norm", "acc"),
        ("mmlu", "acc", "acc"),
        ("gsm8k", "exact_match@flexible-extract exact_match@strict-match", "exact_match@strict-match"),
        ("gsm8k", "exact_match@flexible-extract exact_match@strict-match exact_match", "exact_match"),
        ("ifeval", "inst_level_strict_acc prompt_level_strict_acc", "prompt_level_strict_acc"),
        ("lambada_openai", "perplexity acc", "acc"),
        ("wikitext", "byte_perplexity word_perplexity bits_per_byte", "word_perplexity"),
        ("wmt16-en-ro", "bleu ter chrf", "bleu"),
    ],
)
def test_the_metric_that_stands_for_a_task(task: str, metrics: str, headline: str) -> None:
    assert choose_headline(task, metrics.split()) == headline


def test_the_user_names_another_by_an_objective() -> None:
    wanted = ["heldout_loss_nats_per_token", "scores.piqa.acc", "scores.hellaswag.acc", "scores.hellaswag.acc_norm"]
    assert choose_headline("hellaswag", ["acc", "acc_norm"], wanted) == "acc"
    assert choose_headline("hellaswag", ["acc_norm"], ["scores.hellaswag.acc"]) == "acc_norm"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scores.hellaswag.acc", "maximize"),
        ("scores.wikitext.bits_per_byte@other", "minimize"),
        ("scores.longproc_0.5k.acc", "maximize"),
        ("scores.bertaqa_v1.1.ter", "minimize"),
        ("scores.lingoly_nocontext.exact_match", "minimize"),
        ("scores.lingoly_context.exact_match", "maximize"),
        ("heldout_loss_nats_per_token", "minimize"),
        ("tokens_per_second", "maximize"),
    ],
)
def test_directions(name: str, expected: str) -> None:
    assert direction(name) == expected
