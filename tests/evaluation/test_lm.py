"""Log-likelihoods against lm-eval's own class, with logits of the positions that are asked for only."""

from contextlib import nullcontext
from typing import Any, Final

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import Gemma2Config, Gemma2ForCausalLM

from sweeplab.evaluation.lm import CohortLM
from sweeplab.logits import states
from sweeplab.models.base import Base
from sweeplab.runtime.errors import ConfigError
from tests.data.families import make_tokenizer
from tests.logits.largest import LargestLogits
from tests.random_models import SIZES
from tests.trials import small_llama

BATCH: Final = 4
POSITIONS: Final = 3  # that fit into one chunk
ODD_V: Final = 131  # no other size of the models

TEXTS: Final = (
    ("Where does Ada live?", " In Rome", " In Oslo", " Rome"),
    ("Who?", " A", " B", " C", " Ada lives in Rome and works in Oslo"),
    ("A question that is longer than what is read at once. " * 2, "A", "B", "An answer"),
)


def make_requests(kind: str) -> list[Instance]:
    if kind == "loglikelihood_rolling":
        arguments: list[Any] = [(text + end,) for text, *ends in TEXTS for end in ends]
    else:
        arguments = [(text, end) for text, *ends in TEXTS for end in ends]
    return [Instance(kind, {}, one, number, metadata=("task", number, 1)) for number, one in enumerate(arguments)]


@pytest.fixture(params=["llama", "capped"])
def model(request: Any) -> Any:
    if request.param == "llama":
        return small_llama(vocab_size=ODD_V, max_position_embeddings=512).float().eval()
    sizes = SIZES["qwen3"] | {"vocab_size": ODD_V, "final_logit_softcapping": 0.3, "initializer_range": 0.5}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Gemma2ForCausalLM(Gemma2Config(**sizes)).eval()


def make_lm(model: Any, base: Base) -> CohortLM:
    return CohortLM(model, base.tokenizer, BATCH, 1, lambda numbers: nullcontext())


def test_an_answer_that_the_tokenizer_joins_to_its_question_is_refused(model: Any, embedded_base: Base) -> None:
    """lm-eval ends in an assertion without words."""
    tokenizer = make_tokenizer("chatml")
    assert len(tokenizer.encode("It is w")) == len(tokenizer.encode("It is warm"))
    lm = CohortLM(model, tokenizer, BATCH, 1, lambda numbers: nullcontext())
    pair = Instance("loglikelihood", {}, ("It is w", "arm"), 0, metadata=("task", 0, 1))
    with pytest.raises(ConfigError, match=r"^evaluation\.tasks: the answer 'arm' adds no token to its question "):
        lm.loglikelihood([pair], disable_tqdm=True)


@pytest.mark.parametrize("dtype", [None, torch.float64])
@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling"])
def test_answers_are_lm_evals(
    kind: str, dtype: torch.dtype | None, model: Any, embedded_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = HFLM(pretrained=model, tokenizer=embedded_base.tokenizer, batch_size=BATCH)
    lm = make_lm(model, embedded_base)
    for one in (own, lm):
        one._max_length = 40  # longer texts are cut
        one.softmax_dtype = dtype
    expected = getattr(own, kind)(make_requests(kind), disable_tqdm=True)
    assert getattr(lm, kind)(make_requests(kind), disable_tqdm=True) == expected  # to the last bit
    monkeypatch.setattr(states, "_CHUNK_BYTES", 4 * ODD_V * POSITIONS)
    found = getattr(lm, kind)(make_requests(kind), disable_tqdm=True)
    values = [[one[0] for one in answers] if kind == "loglikelihood" else answers for answers in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=2e-6)
    if kind == "loglikelihood":
        assert [one[1] for one in found] == [one[1] for one in expected]


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling", "generate_until"])
def test_all_logits_never_stand_at_once(
    kind: str, model: Any, embedded_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = make_requests(kind)
    if kind == "generate_until":
        requests = [Instance(kind, {}, (text, {"max_gen_toks": 2}), 0) for text, *_ in TEXTS]
    lm = make_lm(model, embedded_base)
    monkeypatch.setattr(states, "_CHUNK_BYTES", 4 * ODD_V * POSITIONS)
    with LargestLogits(model.get_output_embeddings(), ODD_V) as seen:
        getattr(lm, kind)(requests, disable_tqdm=True)
    assert 0 < seen.largest <= 2 * BATCH * ODD_V  # two columns are tried, and generating reads the last one
    if kind != "generate_until":
        with LargestLogits(model.get_output_embeddings(), ODD_V) as again:
            getattr(lm, kind)(requests, disable_tqdm=True)
        assert again.largest == POSITIONS * ODD_V
