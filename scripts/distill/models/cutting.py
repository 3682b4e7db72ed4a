"""Keep some layers of a model, with all entries of its config that depend on a layer's number."""

from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from distill.core.errors import UserError
from distill.models.forward import fills_masks
from distill.models.layers import cut_config, evenly_spaced, stacks_of
from distill.models.weights import open_weights

_TOKENS = 64
"""Length of the text on which a saved student is compared."""


def cut(model: Any, count: int) -> Any:
    """Reduce a model to `count` evenly spaced layers, in place.

    Raises:
        UserError: It has fewer layers, or not one stack of them.
    """
    config = model.config.get_text_config()
    depth = config.num_hidden_layers
    stacks = stacks_of(model, depth)
    if len(stacks) > 1 and hasattr(model, "get_decoder"):
        stacks = stacks_of(model.get_decoder(), depth)
    if len(stacks) != 1:
        raise UserError(
            f"a {model.config.model_type} model has {len(stacks)} stacks of layers where one is "
            "expected, so no student can be cut from it; use init: random or pretrained"
        )
    parent, name, stack = stacks[0]
    chosen = evenly_spaced(count, depth)
    setattr(parent, name, torch.nn.ModuleList([stack[number] for number in chosen]))
    try:
        cut_config(config, chosen)
        config.validate()
    except (ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise UserError(
            f"no student can be cut to {count} layers from this {model.config.model_type} model "
            f"({reason}); use another number of layers, or init: pretrained or random"
        ) from None
    return model


@torch.inference_mode()
def check_saved(model: Any, folder: Any, how: str) -> None:
    """Check that a saved model, opened again, gives the logits of the model that was saved.

    What a layer computes can depend on its number (scales, positions, kinds of attention), which
    changes when layers are left out.

    Args:
        model: The model in fp32, which was saved.
        folder: Its directory.
        how: What was done to it, for the error.

    Raises:
        UserError: It cannot be opened, or its logits differ.
    """
    opened: Any = None
    try:
        opened = open_weights(folder, dtype=torch.float32).eval()
    except (UserError, ValueError, ArithmeticError, LookupError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
    if opened is not None:
        config = model.config.get_text_config()
        generator = torch.Generator().manual_seed(0)
        context = getattr(config, "max_position_embeddings", None) or _TOKENS
        shape = (1, max(2, min(_TOKENS, context // 2)))
        ids = torch.randint(config.vocab_size, shape, generator=generator)
        # A cache has a place per layer number.
        plain = {} if fills_masks(model) else {"use_cache": False}
        before, after = (each.eval()(input_ids=ids, **plain).logits for each in (model, opened))
        gap = float((before - after).abs().max())
        if gap <= 1e-3 * float(before.std()) or not bool(before.isfinite().all()):
            return
        reason = f"its logits differ by up to {gap:.2g}"
    raise UserError(
        f"a student {how} a {model.config.model_type} model is another one when it is opened "
        f"again ({reason}), because its layers depend on their number; use init: pretrained or "
        "random, or another number of layers"
    )
