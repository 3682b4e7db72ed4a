"""Count a language model's parameters, bytes and floating-point operations.

One multiply-add is two operations. Only matrix products and convolutions count (not biases, norms,
activations, the softmax, rotary embeddings and embedding look-ups), as in Hoffmann et al. 2022,
"Training Compute-Optimal Large Language Models", appendix F, and as in PyTorch's
`torch.utils.flop_counter.FlopCounterMode`, with which these formulas agree to the last operation.
Attention counts the full square of query and key positions, including masked pairs; a kernel that
skips masked pairs does about half of that part. Of experts, those that a token is routed to count.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distill.core.errors import UserError
from distill.core.units import BYTES_PER_MB


def count_parameters(model: Any) -> tuple[int, int]:
    """Count a model's parameters, tied tensors once.

    Args:
        model: a Hugging Face `PreTrainedModel`, on any device ("meta" included).

    Returns:
        (total, non-embedding). The second leaves out every look-up table (token, learned position
        and token-type embeddings) and the output head, as in Kaplan et al. 2020, "Scaling Laws
        for Neural Language Models", section 2.1.
    """
    from torch import nn

    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    tables += [model.get_input_embeddings(), model.get_output_embeddings()]
    embedding = {
        id(tensor) for table in tables if table is not None for tensor in table.parameters()
    }
    total = body = 0
    for tensor in model.parameters():
        total += _numel(tensor)
        body += 0 if id(tensor) in embedding else _numel(tensor)
    return total, body


def model_size_mb(model: Any) -> float:
    """Return the size of a model's parameters in MB of 1024**2 bytes, tied tensors once."""
    return (
        sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()) / BYTES_PER_MB
    )


def active_parameters(model: Any) -> int:
    """Parameters that a token's forward pass uses: all but those of experts it is not routed to."""
    total = count_parameters(model)[0]
    for module in model.modules():
        if (chosen := routed_experts(model, module)) is not None:
            stored = sum(tensor.numel() for tensor in _matrices(module))
            total -= stored - _active_elements(module, chosen)
    return total


@dataclass(frozen=True)
class FlopModel:
    """The three constants that fix the operations of a language model.

    Attributes:
        body_per_token: FLOPs per token of the weight matrices below the head, 2 x their elements,
            and of recurrent layers; of experts those that a token is routed to.
        attention_per_token_per_context: FLOPs per pair of a query token and a key token of QK^T
            and AV together, summed over layers: 2 x layers x query heads x (width of queries +
            width of values). Grouped-query attention does not lower it: each query head does its
            own products.
        head_per_token: FLOPs per position at which logits are computed. 2 x hidden x vocabulary
            in a causal model; a masked model's prediction layer before the decoder is added.
        counted: Whether the first two come from torch's counter on short sequences (see
            `flop_counting.counted`) rather than from the shapes of weights.
    """

    body_per_token: int
    attention_per_token_per_context: int
    head_per_token: int
    counted: bool = False

    @classmethod
    def from_model(cls, model: Any) -> "FlopModel":
        """Read the constants off a Hugging Face causal or masked language model.

        Args:
            model: a `PreTrainedModel` with an output head, on any device ("meta" included).

        Raises:
            UserError: the model has no output head or is an encoder-decoder, or its operations
                depend on the tokens.
        """
        _refuse_unsupported(model)
        output = model.get_output_embeddings()
        inside = {id(module) for module in model.base_model.modules()} - {id(output)}
        body = head = 0
        known = _plain_attention(model)
        for module in model.modules():
            elements = _multiplied(model, module)
            known = known and elements is not None
            if id(module) in inside:
                body += 2 * (elements or 0)
            else:
                head += 2 * (elements or 0)
        from distill.models.flop_counting import attention_per_pair, counted

        try:
            if known:
                return cls(body, attention_per_pair(model), head)
            per_token, per_pair = counted(model)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the FLOPs of a {model.config.model_type} model cannot be counted ({reason}); "
                "choose another architecture"
            ) from error
        logging.info("FLOPs of %s: by torch's counter on short sequences", type(model).__name__)
        return cls(per_token - head, per_pair, head, counted=True)

    def forward(self, tokens: int, context_sum: int, head_tokens: int) -> int:
        """Return the FLOPs of a forward pass.

        Args:
            tokens: tokens run through the body.
            context_sum: sum over those tokens of the key positions each one's scores are computed
                for, masked ones and itself included; length**2 for an unpadded sequence.
            head_tokens: positions whose logits are computed.
        """
        return (
            self.body_per_token * tokens
            + self.attention_per_token_per_context * context_sum
            + self.head_per_token * head_tokens
        )

    def sequence_forward(self, length: int, head_tokens: int) -> int:
        """Return the FLOPs of one forward pass over an unpadded sequence of `length` tokens.

        The attention term is the full square, length**2; logits are computed at `head_tokens`
        positions.
        """
        return self.forward(length, length**2, head_tokens)

    def sequence_training(self, length: int, loss_tokens: int) -> int:
        """Return the FLOPs of one forward and backward pass over an unpadded sequence.

        The backward pass is taken as twice the forward pass (gradients by inputs and by weights),
        without recomputation: 3 x `sequence_forward` with logits at `loss_tokens` positions.
        """
        return 3 * self.sequence_forward(length, loss_tokens)

    def generation(self, prompt_tokens: int, new_tokens: int) -> int:
        """Return the FLOPs of generating `new_tokens` tokens after a prompt with a key-value cache.

        The prefill runs the prompt with the head on its last position and gives the first new
        token. Each further token takes one step of one token over the prompt and all new tokens
        so far, so there are `new_tokens` - 1 steps: the last token is never fed back. No new
        token costs nothing.

        Raises:
            ValueError: `prompt_tokens` is below 1 or `new_tokens` is negative.
        """
        if prompt_tokens < 1 or new_tokens < 0:
            raise ValueError("generation needs a prompt token and no negative number of new tokens")
        if new_tokens == 0:
            return 0
        steps = new_tokens - 1
        contexts = steps * prompt_tokens + steps * (steps + 1) // 2
        return self.forward(prompt_tokens + steps, prompt_tokens**2 + contexts, new_tokens)

    def per_generated_token(self, context: int = 128) -> int:
        """Return the FLOPs of one cached step: one token, its logits, `context` keys with its own.

        `context` counts the key positions, the token itself included.
        """
        return self.forward(1, context, 1)


def training_passes(train: Mapping[str, Any]) -> int:
    """Return the cost of a training step in forward passes: 1 for forward, 2 for backward.

    With adapters the backward pass costs 1, because frozen weights need no gradients; gradient
    checkpointing adds 1 forward pass.

    Args:
        train: lora and gradient_checkpointing, as in a config.
    """
    return 3 - bool(train["lora"]) + bool(train["gradient_checkpointing"])


def _matrices(module: Any) -> Iterator[Any]:
    """Yield the parameters of a module itself that have two dimensions or more."""
    for tensor in module.parameters(recurse=False):
        if tensor.dim() > 1:
            yield tensor


def _multiplied(model: Any, module: Any) -> int | None:
    """Elements of the weights that a module itself multiplies a token with; None if unknown."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear | Conv1D):
        return _elements(module)
    if isinstance(module, nn.Embedding):
        return 0
    if (chosen := routed_experts(model, module)) is not None:
        return _active_elements(module, chosen)
    shapes = {name: tensor.dim() for name, tensor in module.named_parameters(recurse=False)}
    shapes = {name: dim for name, dim in shapes.items() if dim > 1}
    if not shapes:
        return 0
    return int(module.weight.numel()) if shapes == {"weight": 2} else None  # a router of experts


def routed_experts(model: Any, module: Any) -> int | None:
    """Experts a token is routed to, of a module that stacks the matrices of experts; else None."""
    stacked = any(tensor.dim() == 3 for tensor in _matrices(module))
    if not stacked or not (hasattr(module, "num_experts") or hasattr(module, "num_routed_experts")):
        return None
    config = model.config.get_text_config()
    for key in ("num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts"):
        if isinstance(chosen := getattr(config, key, None), int):
            return chosen
    return None


def _active_elements(module: Any, chosen: int) -> int:
    """Elements of a stack [experts, ...] of matrices that a token is multiplied with."""
    return sum(chosen * t[0].numel() for t in _matrices(module) if t.dim() == 3)


def _elements(module: Any) -> int:
    """Elements of a weight matrix; of a quantised one as if it were not packed."""
    if hasattr(module, "in_features"):
        return int(module.in_features * module.out_features)
    return int(module.weight.numel())


def _plain_attention(model: Any) -> bool:
    """Whether all layers are attention through the library's interface, with nothing recurrent."""
    config = model.config.get_text_config()
    kinds = {str(kind) for kind in getattr(config, "layer_types", None) or []}
    return (
        kinds <= _ATTENTION_LAYERS
        and not model._is_stateful
        and model._can_set_attn_implementation()
        and not getattr(config, "num_hidden_groups", None)  # ALBERT shares its layers
    )


def _numel(tensor: Any) -> int:
    """Elements of a parameter; 4-bit ones are stored two to a byte."""
    state = getattr(tensor, "quant_state", None)
    return int(tensor.numel() if state is None else state.shape.numel())


def _refuse_unsupported(model: Any) -> None:
    if getattr(model.config, "is_encoder_decoder", False):
        reason = "is an encoder-decoder"
    elif model.get_output_embeddings() is None:
        reason = "has no output head"
    else:
        return
    raise UserError(
        f"FLOPs are counted for causal and masked language models only, but this "
        f"{model.config.model_type} model {reason}; choose another architecture"
    )


_ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
