"""Searches on a tiny student: what is asked of Optuna, and what survives a kill."""

import gc
import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import teaching
import tiny
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.training import search
from distill.training.build import build_trainer
from distill.training.run import train_student
from distill.training.search import search_settings
from distill.training.trainer import DistillationTrainer

pytestmark = pytest.mark.slow  # trains many times

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 3e-1, "log": True},
    "method.forward_kl": {"low": 0.0, "high": 2.0},
}
METHOD = {"ce": 1.0, "forward_kl": 0.5}
CACHE = {"scheme": "sampled", "draws": 10}


@pytest.fixture(autouse=True)
def _quick() -> None:
    """The library collects garbage before each training: 0.3 s, but for what is frozen."""
    gc.freeze()
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Student, shard and validation text."""
    folder, words = tmp_path_factory.mktemp("search"), tiny.tokenizer(chat=False)
    study = teaching.plan(METHOD, CACHE, search={"space": SPACE})
    rows = tiny.uneven_rows(words, 11)
    shard = study.shards.spec(study.searches.run("find"))
    files = teaching.teach(folder, shard, teaching.big(), words, rows[:8], rows[8:])
    return teaching.small(folder, words), files


def spec(
    space: dict[str, Any] = SPACE, trials: int = 5, train: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """The search's spec as the plan gives it."""
    asked = {"space": space, "trials": trials, "startup_trials": 2} | more
    settings = {"batch_size": 4, "epochs": 2} | (train or {})
    return teaching.plan(METHOD, CACHE, settings, search=asked).searches.spec("find")


def run(folder: Path, place: Any, asked: dict[str, Any], tag: str = "tag") -> dict[str, Any]:
    initial, files = place
    search_settings(
        initial, files.shard, folder / "best.json", asked, "small", tag, [], files.validation
    )
    record: dict[str, Any] = read_json(folder / "best.json")
    return record


def bare(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what depends on the clock."""
    timed = ("seconds", "energy_kwh", "energy_kwh_estimated")
    trials = [{k: v for k, v in trial.items() if k not in timed} for trial in record["trials"]]
    return record | {"trials": trials}


@pytest.fixture(scope="module")
def undisturbed(place: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a search of six trials."""
    gc.freeze()
    return run(tmp_path_factory.mktemp("whole"), place, spec(trials=6))


def test_the_best_is_the_lowest_validation_loss_of_the_trials_that_ended(
    undisturbed: dict[str, Any],
) -> None:
    record = undisturbed
    trials = record["trials"]
    assert [trial["trial"] for trial in trials] == list(range(6))
    complete = [trial for trial in trials if not trial["pruned"]]
    pruned = [trial for trial in trials if trial["pruned"]]
    assert len(complete) >= 2
    assert pruned
    (best,) = [trial for trial in trials if trial["best"]]
    assert not best["pruned"]
    assert record["settings"] == best["settings"]
    assert record["loss"] == best["loss"] == min(trial["loss"] for trial in complete)
    assert record["loss"] == min(trial["loss"] for trial in trials)
    for trial in trials:
        rate, weight = (trial["settings"][key] for key in SPACE)
        assert trial["settings"].keys() == SPACE.keys()
        assert 1e-4 <= rate <= 3e-1
        assert 0.0 <= weight <= 2.0
        assert trial["updates"] <= 4
        assert trial["seconds"] > 0
        assert trial["energy_kwh"] > 0
    assert all(trial["updates"] == 4 for trial in complete)
    assert len({trial["settings"]["train.learning_rate"] for trial in trials}) == 6
    assert record["spec"] == json.loads(json.dumps(spec(trials=6)))


def test_a_students_training_takes_the_best_settings(tmp_path: Path, place: Any) -> None:
    asked, (initial, files) = spec(trials=2), place
    record = run(tmp_path / "search", place, asked)
    study = teaching.plan(METHOD, CACHE, {"batch_size": 4, "epochs": 2}, search={"space": SPACE})
    own = study.training.spec(teaching.run_of(study))
    out = tmp_path / "student" / "training.json"
    train_student(
        initial, files.shard, out, own, teaching.RUN, "tag", best=tmp_path / "search" / "best.json"
    )
    trained = read_json(out)
    assert trained["settings"] == record["settings"]
    assert trained["spec"] == json.loads(json.dumps(own))
    kl = record["settings"]["method.forward_kl"]
    sums = [ce + kl * soft for ce, soft in zip(*trained["terms"].values(), strict=True)]
    assert trained["losses"] == pytest.approx(sums, rel=1e-5)
    plain = tmp_path / "plain" / "training.json"
    train_student(initial, files.shard, plain, own, teaching.RUN, "tag")
    assert read_json(plain)["losses"] != trained["losses"]
    # The same training as the trial's: its validation loss was that of these settings.
    again = tmp_path / "again" / "training.json"
    stopping = own | {"train": own["train"] | {"early_stopping": {"patience": 9, "every": None}}}
    train_student(
        initial, files.shard, again, stopping, teaching.RUN, "tag",
        validation=files.validation, best=tmp_path / "search" / "best.json",
    )  # fmt: skip
    assert read_json(again)["validation"][-1]["loss"] == pytest.approx(record["loss"], rel=1e-6)


@pytest.mark.parametrize("update", [1, 8])
def test_a_killed_search_goes_on_to_the_same_trials(
    tmp_path: Path,
    place: Any,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    update: int,
) -> None:
    asked, whole = spec(trials=6), undisturbed
    assert any(trial["pruned"] for trial in whole["trials"])
    compute, calls = DistillationTrainer.compute_loss, []

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) in (update + 8, update + 13):  # in the third trial, and soon after it again
            raise KeyboardInterrupt
        return compute(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "compute_loss", failing)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "killed", place, asked)
    assert not (tmp_path / "killed" / "best.json").exists()
    again = run(tmp_path / "killed", place, asked)
    assert bare(again) == bare(whole)
    assert not list(tmp_path.rglob("*.safetensors"))  # trials leave no models
    states = [trial.state for trial in journal(tmp_path / "killed").trials]
    assert states.count(TrialState.FAIL) == 2  # orphans of the kills
    assert len(states) == 8


def journal(folder: Path) -> optuna.Study:
    """The study behind a search."""
    path = str(folder / "resume" / "journal.log")
    storage = search.JournalStorage(search.JournalFileBackend(path))
    return optuna.load_study(study_name="search", storage=storage)


def test_a_search_killed_while_it_wrote_goes_on(
    tmp_path: Path, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves a lock, which points nowhere where the path is relative, and half a line."""
    asked = spec(trials=2)
    whole = run(tmp_path / "whole", place, asked)
    monkeypatch.chdir(tmp_path)
    run(Path("killed"), place, spec(trials=1))
    journal_file = Path("killed/resume/journal.log")
    journal_file.with_name("journal.log.lock").symlink_to(journal_file)
    with journal_file.open("a") as stream:
        stream.write('{"op_code":4,"worker')
    assert bare(run(Path("killed"), place, asked)) == bare(whole)
    assert not journal_file.with_name("journal.log.lock").is_symlink()


def test_a_finished_search_is_not_done_again_unless_its_tag_changes(
    tmp_path: Path, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(trials=2)
    first = run(tmp_path, place, asked)
    built: list[int] = []
    build = build_trainer

    def counted(*args: Any, **named: Any) -> Any:
        built.append(1)
        return build(*args, **named)

    monkeypatch.setattr(search, "build_trainer", counted)
    assert run(tmp_path, place, asked) == first
    assert not built
    anew = run(tmp_path, place, asked, tag="other")
    assert len(built) == 2
    assert bare(anew) == bare(first)
    other = run(tmp_path, place, spec(trials=2, seed=1), tag="third")
    assert other["settings"] != first["settings"]


def test_trials_that_diverge_are_marked_and_never_best(tmp_path: Path, place: Any) -> None:
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e30, "log": True}}
    record = run(tmp_path, place, spec(space, trials=4))
    lost = [trial for trial in record["trials"] if trial["settings"]["train.learning_rate"] > 1e20]
    assert lost
    assert all(trial["pruned"] for trial in lost)
    assert math.isfinite(record["loss"])
    assert record["settings"]["train.learning_rate"] < 1e10


def test_a_search_without_a_finite_loss_is_a_user_error(tmp_path: Path, place: Any) -> None:
    space = {"train.learning_rate": {"low": 1e29, "high": 1e30}}
    with pytest.raises(UserError, match=r"over train\.learning_rate ended with a finite.* narrow"):
        run(tmp_path, place, spec(space, trials=2))
    assert [trial.state for trial in journal(tmp_path).trials] == [TrialState.PRUNED] * 2
    # Lost before the first evaluation.
    later = spec(space, trials=1, train={"early_stopping": {"patience": 1, "every": 3}})
    with pytest.raises(UserError, match="narrow"):
        run(tmp_path / "later", place, later)
    (trial,) = journal(tmp_path / "later").trials
    assert trial.state == TrialState.PRUNED
    assert not trial.intermediate_values


def test_without_early_stopping_the_last_loss_counts(tmp_path: Path, place: Any) -> None:
    space = {"train.learning_rate": {"low": 1.0, "high": 3.0}}
    run(tmp_path, place, spec(space, trials=2, train={"epochs": 5, "schedule": "constant"}))
    found = [list(trial.intermediate_values.values()) for trial in journal(tmp_path).trials]
    assert any(losses[-1] > min(losses) for losses in found)
    for trial, losses in zip(journal(tmp_path).trials, found, strict=True):
        assert len(losses) == 5
        assert trial.value == losses[-1]


def test_whole_numbers_stay_whole_and_early_stopping_counts_the_best(
    tmp_path: Path, place: Any
) -> None:
    space = {"train.epochs": {"low": 1, "high": 4}}
    stopping = {
        "early_stopping": {"patience": 1, "every": 1}, "learning_rate": 0.3,
        "schedule": "constant",
    }  # fmt: skip
    record = run(tmp_path, place, spec(space, trials=3, train=stopping))
    trials = journal(tmp_path).trials
    for shown, trial in zip(record["trials"], trials, strict=True):
        assert isinstance(shown["settings"]["train.epochs"], int)
        if not shown["pruned"]:
            assert trial.value == min(trial.intermediate_values.values()) == shown["loss"]
    assert any(
        list(trial.intermediate_values.values())[-1] > min(trial.intermediate_values.values())
        for trial in trials
    )


def test_a_damaged_journal_is_named(
    tmp_path: Path, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    step = DistillationTrainer.training_step

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "training_step", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", place, spec(trials=1))
    file = tmp_path / "killed" / "resume" / "journal.log"
    file.write_text("{" + file.read_text())
    with pytest.raises(UserError, match=rf"{file} is damaged .*; delete {file.parent} and run the"):
        run(tmp_path / "killed", place, spec(trials=1))
