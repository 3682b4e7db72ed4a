"""Fixtures that several test files share."""

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

import tiny

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chat() -> Any:
    """A tokenizer with a chat template."""
    return tiny.tokenizer(chat=True)


@pytest.fixture(scope="session")
def plain() -> Any:
    """A tokenizer without one."""
    return tiny.tokenizer(chat=False)
