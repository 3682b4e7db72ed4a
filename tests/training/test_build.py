"""Settings of training that a student's model must meet."""

import pytest

import tiny
from distill.core.errors import UserError
from distill.training.build import _check_targets


@pytest.mark.slow
def test_each_name_of_adapted_modules_has_one() -> None:
    model = tiny.model("llama", 300)
    for targets in ("all-linear", ["q_proj", "self_attn.v_proj", "lm_head"]):
        _check_targets(model, targets)
    with pytest.raises(UserError, match=r"no module named 'W_pack' or 'proj'; its linear .*q_proj"):
        _check_targets(model, ["q_proj", "W_pack", "proj"])
