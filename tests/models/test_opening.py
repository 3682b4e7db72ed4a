"""What is chosen for this machine does not depend on what else it does."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoConfig

from distill.core.errors import UserError
from distill.models.opening import _check_nf4, bf16_gains, check_context

pytestmark = pytest.mark.slow  # 30 choices beside a busy process

_BUSY = """
import torch
matrix = torch.ones(1500, 1500)
print(1, flush=True)
while True:
    matrix @ matrix
"""


def test_precision_is_the_same_beside_a_busy_process() -> None:
    """By the clock one choice in ten was another: a run in fp32 among those in bf16."""
    alone = bf16_gains()
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE) as busy:
        try:
            assert busy.stdout is not None
            busy.stdout.readline()
            time.sleep(0.5)
            assert [bf16_gains() for _ in range(30)] == [alone] * 30
        finally:
            busy.kill()


@pytest.mark.parametrize(("kind", "context"), [("roberta", 62), ("bert", 64), ("gpt2", 64)])
def test_roberta_reads_two_tokens_fewer_than_it_has_positions(kind: str, context: int) -> None:
    config = AutoConfig.for_model(kind, max_position_embeddings=64)
    check_context(config, context, kind)
    with pytest.raises(UserError, match=f"{kind} reads at most {context} tokens but up to "):
        check_context(config, context + 1, kind)


def test_a_layer_that_is_not_run_in_four_bits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shape '[32, 0]' is invalid")

    layer = Linear4bit(48, 32, bias=False)
    model = SimpleNamespace(modules=lambda: [layer], dtype=torch.float32)
    monkeypatch.setattr(Linear4bit, "forward", fail)
    with pytest.raises(UserError, match=r"m has a layer with inputs of width 48.*to none or int8"):
        _check_nf4(model, "m")
    monkeypatch.setattr(Linear4bit, "forward", lambda *_: None)
    _check_nf4(model, "m")
