"""Convert what a source holds to one language model in safetensors, once, when it is fetched.

GGUF files become plain weights, an adapter is merged into its base model, and of a model of several
modalities the language model is taken out.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.core.checksums import SAFE
from distill.core.errors import UserError
from distill.core.model_files import ADAPTER, has_tokenizer, read_object
from distill.data.model_saving import as_plain, replace_model

_ADAPTER_WEIGHTS = "adapter_model.safetensors"


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a GGUF model as fp32 safetensors with its tokenizer.

    Args:
        file: The model.
        folder: Where to.

    Raises:
        UserError: It is not a GGUF file, or of an architecture or kind that cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logging.info("converting %s to safetensors", file.name)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, **SAFE
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **SAFE)
    except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{file} is not a GGUF file that transformers reads ({reason}); name the model's "
            "safetensors files instead"
        ) from None
    as_plain(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def merge_adapter(adapter: Path, base: Path, name: str) -> None:
    """Merge an adapter into its base model, in the adapter's folder.

    Args:
        adapter: Folder of the adapter; it holds the merged model afterwards, with the adapter's
            tokenizer if there is one, else the base model's.
        base: Folder of the base model.
        name: The adapter's, for errors.

    Raises:
        UserError: Its weights are not safetensors, do not fit the base model, or cannot be merged.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoTokenizer

    from distill.models.weights import open_weights

    if not (adapter / _ADAPTER_WEIGHTS).is_file():
        raise UserError(
            f"the adapter {name} has no {_ADAPTER_WEIGHTS}; other formats can carry code and are "
            "not read; save the adapter again with save_pretrained"
        )
    settings = read_object(adapter / ADAPTER)
    for key in ("auto_mapping", "megatron_config"):
        if settings.get(key):
            raise UserError(
                f"the {ADAPTER} of the adapter {name} has an entry {key}, which names code to "
                "import; remove it, or merge the adapter where it was trained and save the result"
            )
    model = open_weights(base, dtype="auto")
    try:
        tuned = PeftModel.from_pretrained(model, str(adapter), use_safetensors=True, **SAFE)
        with safe_open(adapter / _ADAPTER_WEIGHTS, "np") as file:
            stored = set(file.keys())
        if wrong := sorted(stored ^ set(get_peft_model_state_dict(tuned))):
            raise ValueError(f"{wrong[0]} is not in both of adapter and base model")
        merged = tuned.merge_and_unload(safe_merge=True)
    except (ValueError, OSError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the adapter {name} cannot be merged into the model in {base} ({reason}); name its "
            "own base model under the source's base"
        ) from None
    words = AutoTokenizer.from_pretrained(adapter if has_tokenizer(adapter) else base, **SAFE)
    replace_model(adapter, merged, words)


def extract_text_model(folder: Path, name: str) -> None:
    """Reduce a model of several modalities to its language model, in place; leave others.

    The library has a causal class for the text config of most of them. For others (Qwen2-VL) it is
    the class of a text model whose name begins the same, if that gives the same logits.

    Args:
        folder: The model's files.
        name: The model's, for errors.

    Raises:
        UserError: No class of the library gives the same logits from text alone.
    """
    import torch
    from transformers import AutoConfig

    from distill.models.attention import close_logits
    from distill.models.weights import open_weights

    config = AutoConfig.from_pretrained(folder, **SAFE)
    if config.get_text_config(decoder=True) is config or config.is_encoder_decoder:
        return
    whole = open_weights(folder, name=name, dtype="auto").eval()
    text = whole.config.get_text_config(decoder=True)
    if text is whole.config:  # the library has opened the language model alone
        return replace_model(folder, whole)
    ids = torch.arange(3, 19).unsqueeze(0) % text.vocab_size
    with torch.inference_mode():
        expected = whole(input_ids=ids).logits
        for candidate in _candidates(whole, text):
            if close_logits(candidate.eval()(input_ids=ids).logits, expected):
                candidate.generation_config = whole.generation_config
                logging.info("%s: %s of %s", name, type(candidate).__name__, type(whole).__name__)
                return replace_model(folder, candidate)
    raise UserError(
        f"the model {name} has several modalities, and transformers has no class for its language "
        f"model alone ({text.model_type}); name a text-only model"
    )


def _candidates(whole: Any, text: Any) -> Iterator[Any]:
    """Causal models with the weights of the language model inside `whole`.

    Args:
        whole: The model of several modalities.
        text: The config of its language model.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    body, head = whole.get_decoder(), whole.get_output_embeddings()
    entries = {**text.to_dict(), "dtype": whole.dtype}
    entries["tie_word_embeddings"] = head.weight is whole.get_input_embeddings().weight
    kinds = [kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if text.model_type.startswith(kind)]
    for kind in sorted(kinds, key=len, reverse=True):
        try:
            config = AutoConfig.for_model(**{**entries, "model_type": kind})
            candidate = AutoModelForCausalLM.from_config(config, dtype=whole.dtype)
            candidate.base_model.load_state_dict(body.state_dict())
            candidate.get_output_embeddings().load_state_dict(head.state_dict())
        except (ValueError, TypeError, KeyError, RuntimeError, StrictDataclassError) as error:
            logging.info("%s is not %s: %s", text.model_type, kind, " ".join(str(error).split()))
            continue
        yield candidate
