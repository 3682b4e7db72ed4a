"""Count a language model's parameters, bytes and floating-point operations in closed form.

One multiply-add is two operations. Only matrix products count (not biases, norms, activations, the
softmax, rotary embeddings and embedding look-ups), as in Hoffmann et al. 2022,
"Training Compute-Optimal Large Language Models", appendix F, and as in PyTorch's
`torch.utils.flop_counter.FlopCounterMode`, with which these formulas agree to the last operation.
Attention counts the full square of query and key positions, including masked pairs; a kernel that
skips masked pairs does about half of that part.
"""

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


@dataclass(frozen=True)
class FlopModel:
    """The three constants that fix the operations of a transformer language model.

    Attributes:
        body_per_token: FLOPs per token of the weight matrices below the head, 2 x their elements.
        attention_per_token_per_context: FLOPs per pair of a query token and a key token of QK^T
            and AV together, summed over layers: 4 x layers x query heads x head dimension.
            Grouped-query attention does not lower it: each query head does its own products.
        head_per_token: FLOPs per position at which logits are computed. 2 x hidden x vocabulary
            in a causal model; a masked model's prediction layer before the decoder is added.
    """

    body_per_token: int
    attention_per_token_per_context: int
    head_per_token: int

    @classmethod
    def from_model(cls, model: Any) -> "FlopModel":
        """Read the constants off a Hugging Face causal or masked language model.

        Args:
            model: a `PreTrainedModel` with an output head, on any device ("meta" included).

        Raises:
            UserError: the architecture's operations are not fixed by three constants
                (encoder-decoder, several modalities, mixture of experts, state space or linear
                attention, latent attention, shared layers), or the model has no output head.
        """
        _refuse_unsupported(model)
        config = model.config
        output = model.get_output_embeddings()
        inside = {id(module) for module in model.base_model.modules() if module is not output}
        body = head = 0
        for module in _matrices(model):
            if id(module) in inside and module is not output:
                body += 2 * _elements(module)
            else:
                head += 2 * _elements(module)
        heads = int(config.num_attention_heads)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        attention = 4 * int(config.num_hidden_layers) * heads * int(head_dim)
        return cls(int(body), attention, int(head))

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


def _matrices(model: Any) -> Iterator[Any]:
    """Yield each distinct module that multiplies by a weight matrix."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield module


def _elements(module: Any) -> int:
    """Elements of a weight matrix; of a quantised one as if it were not packed."""
    if hasattr(module, "in_features"):
        return int(module.in_features * module.out_features)
    return int(module.weight.numel())


def _numel(tensor: Any) -> int:
    """Elements of a parameter; 4-bit ones are stored two to a byte."""
    state = getattr(tensor, "quant_state", None)
    return int(tensor.numel() if state is None else state.shape.numel())


def _refuse_unsupported(model: Any) -> None:
    config = model.config
    text = config.get_text_config()
    layer_types = getattr(text, "layer_types", None) or []
    odd_layers = sorted({str(kind) for kind in layer_types} - _ATTENTION_LAYERS)
    if getattr(config, "is_encoder_decoder", False):
        reason = "is an encoder-decoder"
    elif text is not config:
        reason = "has more than one modality"
    elif odd_layers:
        reason = f"has {odd_layers[0]} layers"
    elif getattr(config, "kv_lora_rank", None):
        reason = "has latent attention"
    elif getattr(config, "num_hidden_groups", None):
        reason = "shares its layers"
    elif model.get_output_embeddings() is None:
        reason = "has no output head"
    elif any(tensor.dim() > 2 for tensor in model.parameters()):
        reason = "has experts or convolutions"
    else:
        return
    raise UserError(
        f"FLOPs are counted for dense causal and masked transformers only, but this "
        f"{config.model_type} model {reason}; choose another architecture"
    )


_ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
