"""Which device a process computes on, and with which kernels."""

import pytest
import torch

from sweeplab.runtime.device import choose_kernels, plan_device, resolve_device
from sweeplab.runtime.errors import ConfigError
from tests.fakecuda.device import on_fake_cuda


def test_a_gpu_is_the_one_of_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="torch sees none"):
        resolve_device("cuda")
    with on_fake_cuda():
        assert resolve_device("auto").type == resolve_device("cuda").type == "cuda"
        assert resolve_device("cpu").type == "cpu"
        monkeypatch.setattr(torch.version, "hip", "7.1")
        assert resolve_device("auto").type == "cpu"
        assert plan_device("auto", "auto").kind == "cpu"
        with pytest.raises(ConfigError, match=r"this torch is for AMD \(ROCm\); use executor\.device=cpu"):
            resolve_device("cuda")


def test_attention_is_not_cudnn_s_on_a_gpu_and_products_in_32_bits_stay_so() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        choose_kernels(torch.device("cpu"))
        assert torch.backends.cuda.cudnn_sdp_enabled() == before
        choose_kernels(torch.device("cuda"))
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
