import json
import re
from pathlib import Path

import numpy as np
import pytest

from distill.ask.study import make_study
from distill.ask.subject import find_subject
from distill.report.grid import CURVES, law_grid, refined
from distill.report.page import make_environment
from distill.report.panel import _digest, embedded, make_panel
from size_study import own_runs, size_laws, size_runs

pytestmark = pytest.mark.slow  # fits many laws

REPORT = Path(__file__).parents[2] / "report"


def _log_interp(x: float, nodes: list[float], values: list[float]) -> float:
    return float(np.exp(np.interp(np.log(x), np.log(nodes), np.log(values))))


def test_interpolation_misses_the_law_by_less_than_two_in_a_thousand() -> None:
    study = make_study(size_runs(), size_laws())
    grid = law_grid(study)
    assert [group["label"] for group in grid["groups"]] == ["sft", "kd · top64"]
    rng, worst = np.random.default_rng(1), 0.0
    for group, shown in zip(study.groups, grid["groups"], strict=True):
        for student in shown["students"]:
            subject = find_subject(study, group, student["label"])
            low, high = np.log(student["tokens"][0]), np.log(student["tokens"][-1])
            for x in np.exp(rng.uniform(low, high, 40)):
                exact = subject.predict(x)
                for name in CURVES:
                    found = _log_interp(x, student["tokens"], student[name])
                    worst = max(worst, abs(found / getattr(exact, name)[0] - 1))
        surface = shown["any_size"]
        sizes, tokens = surface["sizes"], surface["tokens"]
        for _ in range(100):
            size = np.exp(rng.uniform(np.log(sizes[0]), np.log(sizes[-1])))
            x = np.exp(rng.uniform(np.log(tokens[0]), np.log(tokens[-1])))
            exact = find_subject(study, group, size=size, measure=surface["size"]).predict(x)
            for name in CURVES:
                rows = [_log_interp(x, tokens, row) for row in surface[name]]
                worst = max(
                    worst, abs(_log_interp(size, sizes, rows) / getattr(exact, name)[0] - 1)
                )
    assert 0 < worst < 0.002


def test_an_exponent_that_is_not_identifiable_is_shown_where_runs_are_only() -> None:
    document = json.loads(json.dumps(size_laws()))
    for law in document["laws"]:
        law["coefficients"].get("beta", {})["identifiable"] = False
    student = law_grid(make_study(size_runs(), document))["groups"][0]["students"][0]
    assert [student["tokens"][0], student["tokens"][-1]] == student["range"]["tokens"]
    assert "not identifiable" in student["notes"][0]


def test_a_curve_that_is_not_smooth_is_refused() -> None:
    with pytest.raises(ValueError, match="do not follow"):
        refined(1.0, 100.0, lambda at: 2.5 + np.sign(np.sin(1e4 * at))[None, :])


def test_a_table_without_samples_has_grids_too() -> None:
    runs, laws = own_runs()
    (group,) = law_grid(make_study(runs, laws))["groups"]
    assert group["tokens_per_sample"] is None
    assert group["any_size"]["rates"]["train_seconds"] is None
    params = runs["params"]
    assert len(group["students"]) == params.nunique()
    assert group["any_size"]["range"]["params"] == [params.min(), params.max()]


def test_no_text_can_end_the_data_or_disguise_itself() -> None:
    evil = "</script><script>alert(1)</script><!-- & \u2028 \u202e"
    text = str(embedded({"a": evil}))
    assert not set("<>&\u2028\u202e") & set(text)
    assert json.loads(text) == {"a": evil}


def test_the_policy_names_the_one_script_and_the_names_are_made_visible() -> None:
    evil = "</script>\u202ekd"
    runs = size_runs().replace({"method": {"kd": evil}})
    document = json.loads(
        json.dumps(size_laws()).replace('"method": "kd"', json.dumps({"method": evil})[1:-1])
    )
    panel = make_panel(runs, document, None, make_environment(REPORT))
    html = str(panel.html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    assert html.count("<script") == 2
    assert _digest(script) in panel.policy
    assert "\u202e" not in html
    data = json.loads(re.findall(r'id="ask-grid">(.*?)</script>', html, flags=re.S)[0])
    assert data["groups"][1]["label"] == "</script>⟨U+202E⟩kd · top64"


def test_without_a_usable_law_the_section_says_why_and_has_no_script() -> None:
    runs = size_runs()
    runs = runs[runs["tokens_unique"] == runs["tokens_unique"].max()]
    selected = size_laws()["laws"][0]["selected"]
    refused = [
        {"name": "data_power", "target": "loss", "selected": selected, "reason": "one size <b>only"}
    ]
    panel = make_panel(runs, {"laws": [], "refused": refused}, None, make_environment(REPORT))
    assert "<script" not in panel.html
    assert panel.policy == ""
    assert "Cannot tell for d6, sft: no law over data" in panel.html
    assert "one size &lt;b&gt;only" in panel.html
    assert make_panel(runs, None, None, make_environment(REPORT)).html == ""


def test_a_table_without_teachers_has_models() -> None:
    study = make_study(size_runs(), {"laws": [], "refused": []})
    assert law_grid(study)["learner"] == "student"
    assert law_grid(study, "model")["learner"] == "model"
