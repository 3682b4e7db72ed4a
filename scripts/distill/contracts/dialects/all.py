"""All dialects, by the name that the config's `server.software` gives them."""

from distill.contracts.dialects.dialect import Dialect
from distill.contracts.dialects.llama_cpp import LLAMA_CPP
from distill.contracts.dialects.openai import OPENAI
from distill.contracts.dialects.sglang import SGLANG
from distill.contracts.dialects.transformers import TRANSFORMERS
from distill.contracts.dialects.vllm import VLLM

DIALECTS: dict[str, Dialect] = {
    dialect.software: dialect for dialect in (VLLM, SGLANG, LLAMA_CPP, TRANSFORMERS, OPENAI)
}
