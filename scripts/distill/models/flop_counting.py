"""Count the operations of an architecture where shapes of weights alone do not give them.

Attention through the library's interface is counted from the shapes that one token's forward pass
hands to it. Layers without a closed form (state spaces, linear attention, convolutions, attention
outside of that interface) are counted by torch's formulas: a copy of the architecture on the meta
device runs three short sequences; no weight is read and no matrix is multiplied.
"""

import copy
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from distill.models.attention import uncached

_STEPS = (2, 64, 128, 256)
"""Lengths to try: some layers work on chunks of 64 to 256 tokens and pad a shorter sequence."""
_CHUNKS = ("chunk_size", "mamba_chunk_size", "block_size")
"""Entries of a config that hold the tokens of such a chunk."""
_SHAPES = "shapes"


class _Shapes:
    """An attention function that adds up FLOPs per pair of positions, and computes nothing."""

    per_pair = 0

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        batch, heads, tokens, width = query.shape
        self.per_pair += 2 * heads * (width + value.shape[-1])
        return query.new_zeros(batch, tokens, heads, value.shape[-1]), None


def single_experts(model: Any) -> Any:
    """The model, whose experts work without values if it is on the meta device.

    The library's default experts read the numbers of tokens that each expert gets.
    """
    if model.device.type == "meta" and model._can_set_experts_implementation():
        model.set_experts_implementation("batched_mm")
    return model


@torch.inference_mode()
def attention_per_pair(model: Any) -> int:
    """FLOPs per pair of a query and a key position of QK^T and AV, summed over layers.

    Args:
        model: A language model on any device whose attention is the library's interface.
    """
    shapes, before, training = _Shapes(), model.config._attn_implementation, model.training
    AttentionInterface.register(_SHAPES, shapes)
    AttentionMaskInterface.register(_SHAPES, eager_mask)
    model.eval()
    try:
        single_experts(model).set_attn_implementation(_SHAPES)
        one = torch.ones(1, 1, dtype=torch.long, device=model.device)
        model(input_ids=one, attention_mask=one, **uncached(model))
    finally:
        model.set_attn_implementation(before)
        model.train(training)
    return shapes.per_pair


class _Counter(TorchDispatchMode):
    """Sum of `torch.utils.flop_counter`'s formulas over the operations of the block.

    `FlopCounterMode` tries to decompose each operation, which makes it several times slower, and
    the meta device has no values. Here a condition on values (whether a mask is empty) is false,
    which changes no shape.
    """

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return False if args[0].dtype == torch.bool else 0
        output = func(*args, **kwargs)
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **kwargs, out_val=output)
        return output


def counted_forward(model: Any, tokens: int) -> int:
    """FLOPs of a forward pass over one sequence, with logits at all its positions.

    Args:
        model: A language model on the meta device.
        tokens: Length of the sequence.
    """
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    with torch.inference_mode(False), torch.no_grad(), _Counter() as counter:
        model(input_ids=ids, **uncached(model))
    return counter.total


def without_weights(model: Any) -> Any:
    """The same architecture on the meta device, in eval mode, unquantised.

    Its attention is the library's plain one and each token's experts are computed alone, so that
    all matrix products are torch's.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.inference_mode(False), torch.device("meta"):
        return single_experts(type(model)._from_config(config, attn_implementation="eager")).eval()


def counted(model: Any) -> tuple[int, int]:
    """FLOPs per token, and per pair of a query and a key position, of a whole forward pass.

    A forward pass over n tokens takes a n^2 + b n + c operations, fitted to n, 2 n and 3 n tokens,
    where n is a chunk of the architecture, or the shortest length at which c is below a quarter of
    one token's work. The constant c (the outputs of a convolution beyond the sequence, which are
    dropped) is left out.

    Args:
        model: A language model.

    Returns:
        (b, a), with logits at every position.

    Raises:
        RuntimeError: The model's operations depend on values.
    """
    empty, config = without_weights(model), model.config.get_text_config()
    chunks = [size for key in _CHUNKS if isinstance(size := getattr(config, key, None), int)]
    linear = square = 0.0
    for step in chunks[:1] or _STEPS:
        one, two, three = (counted_forward(empty, times * step) for times in (1, 2, 3))
        square = (three - 2 * two + one) / (2 * step**2)
        linear = (two - one) / step - 3 * step * square
        if one - linear * step - square * step**2 <= linear / 4:
            break
    return round(linear), round(square)
