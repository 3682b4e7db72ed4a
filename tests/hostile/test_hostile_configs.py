"""Generated bad configs: one sentence with its key, or a plan that can be made; nothing else."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

import tiny
from distill.config.checks.study import parse_study
from distill.config.own_table import TableStudy
from distill.config.reading import _section_at, check_yaml
from distill.config.study import Study
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.table.own_table import parse_table_study
from generated import examples

pytestmark = pytest.mark.slow  # plans hundreds of generated studies

ROOT = Path(__file__).parents[2]
Place = tuple[Any, ...]


def studies() -> dict[str, dict[str, Any]]:
    """Valid configs: the default, published ones, their miniatures, and one with every section."""
    files = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("**/*.yaml"))]
    loaded = {str(file.relative_to(ROOT)): yaml.safe_load(file.read_text()) for file in files}
    found = {name: config for name, config in loaded.items() if "runs" in config}
    # Hundreds of runs and a pool of 768,000 take seconds to plan.
    for name in ("studies/size_scaling.yaml", "studies/bert_wikitext.yaml"):
        del found[name]
    return found | {"everything": everything()}


def everything() -> dict[str, Any]:
    """A valid config with most keys that there are."""
    config = tiny.study()
    config["teachers"]["far"] = {
        "server": {"url": "http://127.0.0.1:8000/v1", "model": "m", "software": "vllm",
                   "tokenizer": "base", "extra": {"stop": ["x"]}, "params": 1e9}
    }  # fmt: skip
    config["caches"] = {
        "top": {"scheme": "top_k", "k": 8, "temperatures": [2.0], "teachers": {"big": 1, "calm": 2},
                "hidden": {"layers": [1, 2], "projection": "pca", "width": 4}},
        "drawn": {"scheme": "sampled", "draws": 50, "systematic": True},
    }  # fmt: skip
    config["methods"] |= {
        "kd": {"ce": 0.5, "forward_kl": 0.5, "temperature": 2.0, "train": {"epochs": 3}},
        "layers": {"ce": 1, "hidden": {"layers": {1: 2, "last": 1}, "loss": "cosine"}},
        "live": {"reverse_kl": 1, "on_policy": {"share": 0.5}},
        "found": {"search": "rates"},
        "text": {"ce": 1, "corpus": "prose", "corpus_tokens": 32},
    }
    config["searches"] = {
        "rates": {"student": "small", "teacher": "big", "method": "sft", "samples": 16,
                  "space": {"train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}}
    }  # fmt: skip
    config["curations"] = {"short": {"length": {"max_tokens": 9}, "corrupt": {"share": 0.1, "kind": "shuffle_words"}}}  # fmt: skip  # noqa: E501
    config["train"] = {"epochs": 1, "learning_rate": "5e-5", "lora": {"rank": 4},
                       "early_stopping": {"patience": 2}, "width_rule": {"at": 8, "power": -1}}  # fmt: skip  # noqa: E501
    config["evaluate"] |= {
        "answers": {"max_tokens": 9}, "cost": {"samples": 1e-4}, "target_loss": 1.5,
        "prices": {"teacher_million_tokens": 1, "hour": 2},
        "combined_weights": {"perplexity": 1, "pass_rate": 0, "tokens_per_second": 0},
        "benchmarks": {"mmlu": {"fewshot": 5, "metric": "acc"}},
    }  # fmt: skip
    config["runs"].append(
        {"students": ["small"], "teachers": ["big"], "methods": ["kd", "layers", "live", "found"],
         "caches": ["top"], "samples": ["25%", 8], "draws": [0, 1], "seeds": [0, 3],
         "benchmarks": ["mmlu"]}
    )  # fmt: skip
    return config


STUDIES = studies()


def places(value: Any, place: Place = ()) -> list[Place]:
    """Every key and list entry of a config."""
    pairs: Any = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    return [
        found for key, entry in pairs for found in [(*place, key), *places(entry, (*place, key))]
    ]


PLACES = {name: places(config) for name, config in STUDIES.items()}
ANYWHERE = st.sampled_from([(name, place) for name, found in PLACES.items() for place in found])


def at(config: Any, place: Place) -> Any:
    """The value at a place."""
    for part in place:
        config = config[part]
    return config


def is_free(place: Place) -> bool:
    """Whether a place holds what the user passes on to a library, whose keys are not ours."""
    free = [(place[:1] == ("students",) and "config" in place[1:]), "extra" in place]
    return any(free)


def whole_plan(study: Study) -> str:
    """All that the workflow takes from a study before the first job, as JSON."""
    plan = Plan(study)
    return json.dumps(
        [
            *plan.outputs.stored_specs(), *plan.benchmarks.stored_specs(),
            plan.outputs.table_spec(), plan.outputs.provenance_spec(), plan.outputs.answer_spec(),
            plan.pool.key, plan.outputs.train_prompts,
            [plan.training.record(run) for run in plan.runs], plan.benchmarks.table_spec(),
            plan.sources.models, plan.sources.data,
        ],
        allow_nan=False,
    )  # fmt: skip


def refusal(config: Any) -> str:
    """The sentences with which a config is refused, each of them one visible line; "" if it is not.

    A config that passes must have a plan.
    """
    try:
        assert whole_plan(parse_study(config)).encode()
    except UserError as error:
        lines = str(error).splitlines()
        assert lines
        for line in lines:
            assert line.startswith("config: "), line
            assert line.isprintable(), line
            assert len(line) < 1500, line
        return str(error)
    return ""


def test_the_configs_to_start_from_are_valid() -> None:
    assert {name: refusal(config) for name, config in STUDIES.items()} == dict.fromkeys(STUDIES, "")


# Keys that are not known, of the wrong kind, or missing: always refused.


@examples(300)
@given(ANYWHERE, st.text(min_size=1, max_size=12), st.sampled_from([None, 1, "x", {}, []]))
@example(("everything", ("evaluate", "cost", "samples")), "smaples", 1e-4)
def test_an_unknown_key_is_refused(at_place: tuple[str, Place], name: str, value: Any) -> None:
    config, place = copy.deepcopy(STUDIES[at_place[0]]), at_place[1]
    section = at(config, place[:-1])
    assume(isinstance(section, dict) and name not in section and not is_free(place))
    known = _section_at([*place[:-1]], Study)
    assume(known is None or name not in known.model_fields)
    section[name] = value
    assume(not (place[-2:-1] == ("fields",) and value == "x" and name in ("context", "text")))
    assert refusal(config)


WRONG: dict[type, list[Any]] = {
    bool: ["maybe", 7, [], {}, None, 0.5],
    int: [True, False, "many", [], {}, [1], {"a": 1}, "1 2"],
    float: [True, False, "much", [], {}, [1.0], {"a": 1}],
    str: [5, 0, True, 1.5, [], {}, ["x"], {"a": "x"}],
    list: ["x", 5, {}, {"a": 1}, True, 0],
    dict: ["x", 5, [], ["x"], True, 0],
}


@examples(400)
@given(ANYWHERE, st.data())
def test_a_value_of_the_wrong_kind_is_refused(
    at_place: tuple[str, Place], data: st.DataObject
) -> None:
    config, place = copy.deepcopy(STUDIES[at_place[0]]), at_place[1]
    value = at(config, place)
    assume(not is_free(place) and value is not None)
    numeric = isinstance(value, str) and re.fullmatch(r"[\d.]+(e-?\d+|%)", value)
    wrong = data.draw(st.sampled_from(WRONG[float if numeric else type(value)]))
    at(config, place[:-1])[place[-1]] = wrong
    assert refusal(config), (place, wrong)


REQUIRED = [
    (name, place)
    for name, found in PLACES.items()
    for place in found
    if (section := _section_at([*place[:-1]], Study)) is not None
    and place[-1] in section.model_fields
    and section.model_fields[place[-1]].is_required()
]


@pytest.mark.parametrize(("name", "place"), REQUIRED[:: max(1, len(REQUIRED) // 150)])
def test_a_required_key_that_is_missing_is_named(name: str, place: Place) -> None:
    config = copy.deepcopy(STUDIES[name])
    del at(config, place[:-1])[place[-1]]
    assert str(place[-1]) in refusal(config)


# Any value anywhere: refused, or a plan can be made.

NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 1.5, -0.0, 1e308, -1e308, 5e-324, 10**8, 2**31, 2**63, 2**64, 10**30, -(10**30)]
)
NOT_FINITE = st.sampled_from([float("nan"), float("inf"), float("-inf")])
TEXTS = st.sampled_from(
    ["", " ", "none", "raw", "live", "magpie", "chat", "nan", "inf", "1e999", "0%", "10%", "1000%",
     "9" * 400 + "%", "..", "a/b", "a b", "é", "{x}", "{prompt}", "$x$", "x" * 300, "x" * 5000,
     "-rf", ".hidden", "con", "a\nb", "5_0", "~", "/", "`id`", "$(id)", "%s", "(", "\u202eabc"]
)  # fmt: skip
ODD = st.sampled_from(
    [b"x", {1, 2}, (1, 2), 1 + 2j, object(), {None: 1}, {True: 1}, {1.5: 1}, {(1,): 1}]
)
SCALARS = st.none() | st.booleans() | NUMBERS | NOT_FINITE | TEXTS | ODD | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(-1, 3) | TEXTS, inner, max_size=3)
    ),
    max_leaves=5,
)


@examples(400)
@given(st.lists(st.tuples(ANYWHERE, VALUES, st.booleans(), TEXTS), min_size=1, max_size=3))
def test_any_value_anywhere_is_refused_or_planned(changes: list[Any]) -> None:
    name = changes[0][0][0]
    config = copy.deepcopy(STUDIES[name])
    for (_, place), value, add, key in changes:
        try:
            section = at(config, place[:-1])
            section[key if add and isinstance(section, dict) else place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # the place is another study's, or gone
    refusal(config)


def test_keys_of_free_entries_are_text() -> None:
    for entries in ({"a": {1: 2, "b": 3}}, {"a": [{1: 2}]}, {1: 2}):
        config = tiny.study()
        config["students"]["fresh"]["config"] = entries
        assert "keys should be strings" in refusal(config) or "valid string" in refusal(config)


@examples(150)
@given(ANYWHERE, NOT_FINITE | ODD)
def test_what_json_cannot_say_is_refused_anywhere(at_place: tuple[str, Place], value: Any) -> None:
    config, place = copy.deepcopy(STUDIES[at_place[0]]), at_place[1]
    at(config, place[:-1])[place[-1]] = value
    if value != (1, 2):  # as a list
        assert refusal(config)


LISTS = ("students", "teachers", "methods", "caches", "curations", "benchmarks")
SINGLE = ("student", "teacher", "method", "cache", "source", "tokenizer", "search")
NAMED = [
    (name, place)
    for name, found in PLACES.items()
    for place in found
    if isinstance(at(STUDIES[name], place), str)
    and (place[-1] in SINGLE or (isinstance(place[-1], int) and place[-2] in LISTS))
]


@examples(100)
@given(st.sampled_from(NAMED), st.sampled_from(["nowhere", "Small", "none2", "magpie2"]))
def test_a_name_that_leads_nowhere_is_refused(at_place: tuple[str, Place], lost: str) -> None:
    config, place = copy.deepcopy(STUDIES[at_place[0]]), at_place[1]
    at(config, place[:-1])[place[-1]] = lost
    assert lost in refusal(config)


def test_deep_and_endless_configs_are_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    endless: dict[str, Any] = {}
    endless["again"] = endless
    wide: Any = "x"
    for _ in range(9):
        wide = [wide] * 9
    for value in (deep, endless, wide):
        for section in ("train", "zzz"):
            assert "alias" in refusal(tiny.study() | {section: value})
        config = tiny.study()
        config["students"]["fresh"]["config"]["a"] = value
        assert "alias" in refusal(config)
        config = {"study": "a", "runs_table": value}
        with pytest.raises(UserError, match="alias"):
            parse_table_study(config)


# Names: of anything, anywhere.

SECTIONS = ("sources", "teachers", "students", "curations", "caches", "methods", "searches")
RESERVED = [("methods", "none"), ("curations", "raw"), ("caches", "none"), ("caches", "live")]
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAMES = (
    st.text(min_size=1, max_size=70)
    | TEXTS
    | st.text("abz059._-/ {}$*\n\x00\x1b\u202e", min_size=1, max_size=6)
)


@examples(200)
@given(st.sampled_from(SECTIONS), NAMES)
@example("students", "x" * 64)
@example("students", "x" * 65)
@example("methods", "none")
@example("caches", "live")
@example("curations", "raw")
@example("methods", "a\n")
def test_a_name_is_safe_in_a_path_or_refused(section: str, name: str) -> None:
    config = copy.deepcopy(STUDIES["everything"])
    given_name = next(iter(config[section]))
    assume(name not in config[section])
    config[section][name] = copy.deepcopy(config[section][given_name])
    for block in config["runs"]:
        if section in block:
            block[section] = [*block[section], name]
    told = refusal(config)
    if not SAFE.fullmatch(name):
        assert "is not a valid name" in told or "contains" in told
    elif (section, name) in RESERVED:
        assert "the name is reserved" in told
    else:
        assert "is not a valid name" not in told


@examples(100)
@given(NAMES)
def test_a_study_has_a_safe_name(name: str) -> None:
    assert bool(refusal(tiny.study() | {"study": name})) != bool(SAFE.fullmatch(name))


PATHS = st.sampled_from(
    ["a b.csv", "ü/東京.csv", "it's \"quoted\".csv", "$(id);`id`.csv", "{x}.csv", "s3://a/b.csv",
     "a//b.csv", "./a.csv", "a\\b.csv",
     "*.csv", "[a].csv", "-rf.csv", "../up.csv", "x" * 251 + ".csv"]
)  # fmt: skip


@examples(100)
@given(PATHS | st.text(max_size=300))
@example("x" * 252 + ".csv")
@example("a\x00b.csv")
@example(" ")
def test_a_path_is_looked_up_as_it_is_or_refused(path: str) -> None:
    config = tiny.study()
    config["sources"]["prose"]["path"] = path
    names = path.split("/")
    odd = not path.strip() or any(len(n.encode(errors="replace")) > 255 for n in names)
    odd |= "//" in path or not {*"{}"}.isdisjoint(path)
    odd |= any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in path)
    told = refusal(config)
    if not told:
        plan = Plan(parse_study(config))
        with pytest.raises(UserError, match=r"does not exist|no file matches"):
            plan.sources.local_files("prose")
        assert re.fullmatch(r"[a-z0-9-]*", plan.sources.key("prose"))
    assert bool(told) == odd


# The file itself.


def readable(path: Path) -> None:
    """Read a config file as the workflow does: it is refused in one line, or has a plan."""
    try:
        check_yaml(path)
    except UserError as error:
        told = str(error)
    else:
        told = refusal(yaml.safe_load(path.read_text(encoding="utf-8-sig"))) or "config: "
    assert str(path) in told or told.startswith("config: ")
    assert told.replace("\n", "").isprintable()


DEFAULT = (ROOT / "config.yaml").read_bytes()
PIECES = st.sampled_from(
    [b"\t", b"\x00", b"\xff", b"\xe4", b"\xef\xbb\xbf", b"\x1b[31m", b"\r", b"\n", b"\n---\n",
     b": ", b"&a ", b"*a", b"<<: ",
     b"!!python/object/apply:os.system [id]", b"!!binary aGk=", b"? [a]\n:",
     b"{", b"}", b"[", b"]", b"'", b'"', b"|", b">", b"%", b"@", b"`", b"#", b"- ", b"~", b".nan",
     b"2024-01-01", b"1:30:00", b"0x1F", b"=", b"\xed\xa0\x80", b"{{ x }}", b"\xc2\x85"]
)  # fmt: skip


@examples(150)
@given(
    st.lists(
        st.tuples(st.integers(0, len(DEFAULT)), st.integers(0, 30), PIECES | st.binary(max_size=4)),
        min_size=1,
        max_size=3,
    )
)
def test_a_damaged_file_is_refused_or_planned(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int, bytes]]
) -> None:
    data = DEFAULT
    for start, length, piece in cuts:
        data = data[:start] + piece + data[start + length :]
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(data)
    readable(path)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (DEFAULT + "# ü\n".encode("cp1252"), r"line \d+: not UTF-8 text"),
        (DEFAULT.decode().encode("utf-16"), "line 1: not UTF-8 text"),
        (DEFAULT + b"# \x00\n", "is not valid YAML"),
        (DEFAULT + b"zz: " + b"[" * 1000 + b"]" * 1000, "is nested too deeply"),
        (DEFAULT + b"zz: " + b"9" * 5000, "is not valid YAML"),
        (DEFAULT + b"zz: &z [*z]\n", "zz has more than 30 levels"),
        (DEFAULT + b"zz: 2024-01-01\n", "zz: .* is read by YAML as a date; put it in quotes"),
        (DEFAULT + b"zz: .nan\n", "zz: nan is not a finite number"),
        (DEFAULT + b"? [a]\n: 1\n", "is not valid YAML: .*unhashable key"),
        (DEFAULT + b"1: a\n1: b\n", "the key 1 is given twice"),
        (DEFAULT + b"__use_yte__: true\n", "lets Snakemake run code"),
        (DEFAULT + b"a: &a [x, x]\nb: !!python/name:os.system ''\n", "could not determine a const"),
        (b"study: [1, 2\n", "is not valid YAML"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(data)
    with pytest.raises(UserError, match=sentence) as caught:
        check_yaml(path)
    assert str(caught.value).isprintable()


def test_a_mark_of_utf8_and_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "marked.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + DEFAULT)
    check_yaml(path)
    with pytest.raises(UserError, match=r"is not valid YAML: .*directory"):
        check_yaml(tmp_path)


# A table of one's own.

TABLE = {
    "study": "mine",
    "runs_table": {"path": "runs.csv", "columns": {"params": "N", "tokens": "D", "loss": "L"}},
}


@examples(200)
@given(st.sampled_from(places(TABLE)), VALUES, st.booleans(), TEXTS)
def test_any_config_of_a_table_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: Any, add: bool, key: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "runs.csv"
    path.write_text("N,D,L\n1e6,1e6,2.5\n")
    config = copy.deepcopy(TABLE)
    at(config, ("runs_table",))["path"] = str(path)
    at(config, place[:-1])[key if add else place[-1]] = value
    try:
        found: TableStudy | UserError = parse_table_study(config)
    except UserError as error:
        found = error
    assert isinstance(found, TableStudy) or str(found).replace("\n", "").isprintable()
