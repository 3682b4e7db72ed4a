"""What is checked of local models before the first job, without the libraries that open them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tiny
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.core.model_files import context_of, depth_of, embedding_rows, weight_shapes
from distill.plan.study import Plan
from distill.workflow.local_models import check_models

SCRIPTS = Path(__file__).parents[2] / "scripts"
CONFIG = {"model_type": "llama", "num_hidden_layers": 30, "max_position_embeddings": 512}
LAYER = "model.layers.0.self_attn"
WEIGHTS = {
    "model.embed_tokens.weight": (8, 4),
    f"{LAYER}.q_proj.weight": (4, 4),
    f"{LAYER}.q_proj.bias": (4,),
    f"{LAYER}.v_proj.weight": (4, 4),
}


def write_model(folder: Path, chat: bool = True, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    tokenizer = {"chat_template": "{{ messages }}"} if chat else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    arrays = {name: np.zeros(shape, np.float32) for name, shape in WEIGHTS.items()}
    save_file(arrays, folder / "model.safetensors")
    return folder


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local model of `tiny.study`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_model(tmp_path / "models/base")


def check(change: dict[str, Any]) -> None:
    """Check a study with the values at some dotted paths replaced."""
    config = tiny.study()
    for path, value in change.items():
        place: Any = config
        *parents, last = path.split(".")
        for part in parents:
            place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
        place[last] = value
    check_models(Plan(parse_study(config)))


HIDDEN: dict[str, Any] = {"caches.deep": {"scheme": "final_hidden", "hidden": {"layers": [31]}}}
HIDDEN |= {
    "methods.layers": {"hidden": {"layers": {"last": 31}}},
    "runs.0.methods": ["layers"],
    "runs.0.students": ["small"],
    "runs.0.caches": ["deep"],
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"students.small.layers": 30},
        {"train.lora": {"targets": ["q_proj", "self_attn.v_proj", "lm_head"]}},
        {"train.lora": {"targets": "all-linear"}},
        {"prompts.max_tokens": 128, "teachers.big.max_tokens": 384},
        {"evaluate.latency_tokens": 480},
        # Neither student nor teacher is used.
        {"students.deep": {"init": "cut", "source": "base", "layers": 31}},
        {"teachers.long": {"source": "base", "max_tokens": 9999}},
    ],
)
def test_settings_that_the_model_meets_pass(base: Path, change: dict[str, Any]) -> None:
    check(change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"students.small.layers": 40},
            r"config: students\.small\.layers: 40 layers cannot be cut from base, which has 30",
        ),
        (
            {"train.lora": {"targets": ["q_proj", "W_pack", "proj"]}},
            r"train\.lora\.targets: no module of students\.small is named 'W_pack' or 'proj'; "
            "there are embed_tokens, q_proj, v_proj, lm_head",
        ),
        (
            {"methods.sft": {"ce": 1.0, "train": {"lora": {"targets": ["c_attn"]}}}},
            r"methods\.sft\.train\.lora\.targets: no module of .* is named 'c_attn'",
        ),
        (
            {"prompts.max_tokens": 129},
            r"prompts\.max_tokens: teachers\.big reads at most 512 tokens, but generated prompts "
            "may take 516; lower it",
        ),
        (
            {"prompts.max_tokens": 100, "teachers.big.max_tokens": 413},
            r"teachers\.big\.max_tokens: .* at most 512 tokens, but a prompt and its answer may t",
        ),
        ({"evaluate.instruction_tokens": 512}, r"evaluate\.instruction_tokens: teachers\.big"),
        ({"evaluate.reference.max_tokens": 512}, r"evaluate\.reference\.max_tokens: teachers\.big"),
        ({"evaluate.latency_tokens": 481}, r"a prompt of 32 tokens, takes 513; lower it"),
        (
            {"students.fresh.config": {"max_position_embeddings": 64, "num_hidden_layers": 2}},
            r"students\.fresh reads at most 64 tokens, but an answer and one token before it may",
        ),
        (HIDDEN, r"caches\.deep\.hidden\.layers: layer 31 is stored, but teachers\.big has 30"),
        (
            HIDDEN | {"caches.deep": {"scheme": "final_hidden", "hidden": {"layers": [30]}}}
            | {"methods.layers": {"hidden": {"layers": {3: 30}}}},
            r"methods\.layers\.hidden\.layers: the student's layer 3 is matched, but stu",
        ),
    ],
)  # fmt: skip
def test_settings_that_the_model_does_not_meet_are_told(
    base: Path, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        check(change)


def test_a_model_without_a_chat_template_needs_another_template(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "plain", chat=False)
    source = {"sources.base": {"path": str(folder)}}
    with pytest.raises(UserError, match=r"template: chat needs a chat template, but .* has none"):
        check(source)
    data = {"source": "faq", "pool": 64, "test": 20, "validation": 8, "part_size": 16}
    check(source | {"prompts": data | {"template": "alpaca"}})
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    check(source)


def test_a_model_without_a_tokenizer_is_told(base: Path) -> None:
    (base / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"sources\.base\.path: models/base has no tokenizer"):
        check({})


def test_weights_that_an_index_names_must_exist(base: Path) -> None:
    files = {"a": "model.safetensors", "b": "model-2.safetensors", "c": "model-3.safetensors"}
    index = base / "model.safetensors.index.json"
    (base / "model.safetensors").rename(base / "model-9.safetensors")
    index.write_text(json.dumps({"weight_map": files}))
    with pytest.raises(UserError, match=r"names model-2.* model-3.*, which are missing; copy"):
        check({})
    index.write_text("{")
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json is not readable JSON"):
        check({})


def test_a_chunk_must_fit_into_what_roberta_reads(tmp_path: Path) -> None:
    kind = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    write_model(tmp_path / "models/roberta", chat=False, **kind)
    config = tiny.study() | {
        "task": "masked-lm",
        "corpus": {"source": "prose", "tokenizer": "base", "length": 510, "pool": 64},
        "students": {"small": {"init": "pretrained", "source": "base"}},
    }
    config["sources"]["base"]["path"] = str(tmp_path / "models/roberta")
    config["train"] = {"max_length": 600}
    config["evaluate"] = {}
    del config["prompts"]
    config["runs"][0] |= {"students": ["small"], "draws": [0]}
    check_models(Plan(parse_study(config)))
    config["corpus"]["length"] = 511
    with pytest.raises(
        UserError, match=r"corpus\.length: teachers\.big reads at most 512 tokens, "
    ):
        check_models(Plan(parse_study(config)))


@pytest.mark.parametrize(
    ("config", "depth", "context"),
    [
        ({"n_layer": 12, "n_positions": 1024}, 12, 1024),
        ({"model_type": "bloom", "n_layer": 3}, 3, None),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, None, 512),
        ({"text_config": {"num_hidden_layers": 2, "max_position_embeddings": 64}}, 2, 64),
        ({"num_hidden_layers": "two"}, None, None),
    ],
)
def test_depth_and_context_by_a_config(
    config: dict[str, Any], depth: int | None, context: int | None
) -> None:
    assert (depth_of(config), context_of(config)) == (depth, context)


def test_the_text_part_says_how_many_ids_there_are() -> None:
    assert embedding_rows({"vocab_size": 7}) == 7
    assert embedding_rows({"vocab_size": 7, "text_config": {"vocab_size": 9}}) == 9
    assert embedding_rows({"vocab_size": 7, "text_config": {}}) == 7
    assert embedding_rows({}) is None


def test_headers_give_the_shapes_of_weights(base: Path) -> None:
    assert weight_shapes(base) == {name: list(shape) for name, shape in WEIGHTS.items()}
    (base / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match=r"model\.safetensors is not a safetensors file"):
        weight_shapes(base)


@pytest.mark.slow
def test_the_checks_open_no_library(base: Path) -> None:
    program = (
        "import sys, distill.workflow.startup; "
        "print(sorted({'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True
    )
    assert out.stdout.decode().strip() == "[]"


def write_template(base: Path, template: Any) -> None:
    (base / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))


REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{{ messages[0]['content'] }}"
)


def test_a_template_that_takes_no_system_text_is_told(base: Path) -> None:
    write_template(base, REFUSES)
    check({})
    with pytest.raises(UserError, match=r"takes no system text \(System role not supported\); rem"):
        check({"prompts.system": "Be brief."})
    write_template(base, "{{ messages[-1].content }}")
    with pytest.raises(UserError, match=r"takes no system text \(it leaves that text out\); rem"):
        check({"prompts.system": "Be brief."})
    write_template(base, "{% generation %}{{ unknown.thing() }}{% endgeneration %}")
    check({"prompts.system": "Be brief."})  # the library may know more


def test_of_several_templates_the_default_counts(base: Path) -> None:
    tools = {"name": "tool_use", "template": REFUSES}
    write_template(base, [tools, {"name": "default", "template": "{{ messages }}"}])
    check({"prompts.system": "Be brief."})
    write_template(base, [tools])
    with pytest.raises(UserError, match=r"needs a chat template, but the tokenizer of .* has none"):
        check({})


def test_weights_that_nothing_unpacks_are_told(base: Path) -> None:
    file = base / "config.json"
    quantised = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantised))
    with pytest.raises(UserError, match=r"quantised by gptq, which are not read.*gptqmodel"):
        check({})


def test_an_adapter_without_a_base_on_disk_is_told(base: Path) -> None:
    adapter = {"base_model_name_or_path": "owner/base"}
    (base / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(UserError, match=r"is an adapter.*name that source as sources\..*\.base"):
        check({})
    (base / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    check({})


def test_an_index_beside_the_whole_weights_is_left_over(base: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    check({})
    (base / "model.safetensors").rename(base / "model-00002-of-00002.safetensors")
    with pytest.raises(UserError, match=r"names model-00001-of-00002\.safetensors, which is mis"):
        check({})


def test_the_path_of_a_gguf_file_is_left_to_the_job_that_converts_it(base: Path) -> None:
    (base / "m.gguf").write_bytes(b"GGUF")
    check({"sources.base.path": str(base / "m.gguf")})


def test_an_encoder_decoder_is_told(base: Path) -> None:
    file = base / "config.json"
    kind = {"model_type": "t5", "is_encoder_decoder": True}
    file.write_text(json.dumps(CONFIG | kind))
    with pytest.raises(
        UserError, match=r"models/base is an encoder-decoder \(t5\), .*; name a dec"
    ):
        check({})


def test_a_masked_model_cannot_answer(base: Path) -> None:
    file = base / "config.json"
    kind = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    file.write_text(json.dumps(CONFIG | kind))
    with pytest.raises(UserError, match=r"is a masked language model \(bert\), but task is instru"):
        check({})
    file.write_text(json.dumps(CONFIG | {"architectures": ["LlamaForCausalLM"]}))
    check({})


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            {"hidden_size": 50, "num_attention_heads": 4},
            r"fresh\.config: hidden_size \(50\) is not",
        ),
        (
            {"num_attention_heads": 6, "hidden_size": 96},
            r"fresh\.config: .*\(6\) is not .*\(4, the source's\); set num_",
        ),
        ({"model_type": "bert"}, r"fresh\.config: this is a bert model that attends to later"),
        ({"num_attention_heads": 8, "hidden_size": 64}, None),
        ({"model_type": "gpt2", "n_embd": 48, "n_head": 4}, None),
    ],
)
def test_heads_of_a_random_student_are_checked(
    base: Path, entries: dict[str, Any], sentence: str | None
) -> None:
    file = base / "config.json"
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 64}
    file.write_text(json.dumps(CONFIG | heads))
    if sentence is None:
        return check({"students.fresh.config": entries})
    with pytest.raises(UserError, match=sentence):
        check({"students.fresh.config": entries})


def write_tokens(base: Path, tokens: dict[str, int], **settings: Any) -> None:
    """Write the files of a fast tokenizer with added tokens, as the library saves them."""
    added = [
        {"id": number, "content": token, "special": token.startswith("<"), "single_word": False}
        for token, number in tokens.items()
    ]
    text = json.dumps({"version": "1.0", "added_tokens": added, "model": {"vocab": {}}}, indent=2)
    (base / "tokenizer.json").write_text(text)
    stated = {"tokenizer_class": "TokenizersBackend", "chat_template": tiny.CHATML} | settings
    (base / "tokenizer_config.json").write_text(json.dumps(stated))


def test_control_tokens_beyond_the_embeddings_are_told(base: Path) -> None:
    file = base / "config.json"
    file.write_text(json.dumps(CONFIG | {"vocab_size": 300}))
    tokens = {"<|im_start|>": 300, "<|im_end|>": 301, "<tool>": 302}
    write_tokens(base, tokens, eos_token="<|im_end|>")
    sentence = r"holds 300 ids, too few for <\|im_start\|>, <\|im_end\|>, which every prompt has; r"
    with pytest.raises(UserError, match=sentence):
        check({})
    check({"prompts.template": "alpaca", "prompts.source": "faq"})
    with pytest.raises(UserError, match=r"too few for <tool>, which every"):
        check({"prompts.template": "<tool>{prompt}", "prompts.source": "faq"})
    file.write_text(json.dumps(CONFIG | {"vocab_size": 302}))
    check({})


def test_a_model_that_never_ends_an_answer_is_told(base: Path) -> None:
    template = "{{ messages[-1]['content'] }}\n"
    tokens = {"<|im_start|>": 1, "<|im_end|>": 2}
    write_tokens(base, tokens, chat_template=template)
    with pytest.raises(
        UserError, match=r"models/base has no token that ends an answer; set eos_to"
    ):
        check({})
    write_tokens(base, tokens)  # its template ends turns
    check({})
    write_tokens(base, tokens, chat_template=template, tokenizer_class="GPT2Tokenizer")
    check({})  # a class with an EOS token of its own
    write_tokens(base, tokens, chat_template=template, eos_token={"content": "<|im_end|>"})
    check({})
    write_tokens(base, tokens, chat_template=template)
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    check({})


def test_weights_that_the_library_does_not_look_for_are_told(base: Path) -> None:
    (base / "model.safetensors").rename(base / "model.fp16.safetensors")
    with pytest.raises(UserError, match=r"has neither model.* but model\.fp16\.safetensors, which"):
        check({})
    (base / "model.fp16.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"models/base has no \.safetensors weights; other formats"):
        check({})


def test_a_config_without_an_architecture_is_told(base: Path) -> None:
    (base / "config.json").write_text('{"num_hidden_layers": 30}')
    with pytest.raises(
        UserError, match=r"sources\.base\.path: .* has a config\.json without model_"
    ):
        check({})


@pytest.mark.parametrize(("spelled", "told"), [(40, True), (2, False)])
def test_tokens_of_most_prompts_beyond_the_embeddings_are_told(
    base: Path, spelled: int, told: bool
) -> None:
    file = base / "config.json"
    file.write_text(json.dumps(CONFIG | {"vocab_size": 300}))
    write_tokens(base, {"<|im_end|>": 2, "bridge": 300}, eos_token="<|im_end|>")
    texts = [f"Draw a {'bridge' if row < spelled else 'mill'} of {row}." for row in range(100)]
    rows = [{"q": text, "a": "No."} for text in texts]
    (base.parent / "faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"path": "models/faq.jsonl", "fields": {"prompt": "q", "response": "a"}}
    change = {"sources.faq": data, "prompts.source": "faq", "prompts.teacher": None}
    if not told:
        return check(change)
    with pytest.raises(UserError, match=r"300 ids, too few for bridge, which 40 of 100 prompts of"):
        check(change)
