import logging
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from distill.contracts.costs import FREE, UNITS, Cost, cost_of, sum_costs, unmetered
from distill.contracts.energy import (
    JOULES_PER_KWH,
    UNKNOWN,
    WATTS_PER_CPU,
    Energy,
    energy_of,
    sum_energy,
)
from distill.contracts.schemas import cost_fields
from distill.models.head_extraction import head_of
from distill.runtime import meter
from distill.runtime.meter import Counter, Meter, Rapl, gpu_counter, processor_time, readable_zones
from distill.targets.caching import cache_targets
from distill.targets.layers import score_layers
from distill.teacher.answer_loss import answer_losses
from distill.teacher.generation import generate_text
from distill.teacher.scoring import score_text


def steps(*values: float) -> Callable[[], float]:
    """Tells each value once."""
    return iter(values).__next__


def test_energy_adds_up_and_says_where_it_is_from() -> None:
    one, other = Energy(3.0, 0.0), Energy(1.0, 1.0)
    assert one + other == sum_energy([other, one]) == Energy(4.0, 1.0)
    assert (one + other) / 4 == Energy(1.0, 0.25)
    assert sum_energy([]) == Energy(0.0, 0.0)
    assert one + UNKNOWN == UNKNOWN / 2 == UNKNOWN
    assert one.record() == {
        "energy_kwh": 3.0, "energy_kwh_estimated": 0.0, "energy_from": "measured",
        "energy_watts_per_cpu": None,
    }  # fmt: skip
    assert (one + other).record()["energy_from"] == "estimated"
    assert other.record()["energy_watts_per_cpu"] == WATTS_PER_CPU
    assert set(UNKNOWN.record().values()) == {None}
    assert Energy().record()["energy_from"] is None


def test_energy_is_read_as_it_was_written_and_unknown_where_it_was_not() -> None:
    used = Energy(3.0, 0.5)
    assert energy_of(used.columns("teacher_"), "teacher_") == used
    assert energy_of(used.record(), "energy_") == used
    assert energy_of({"seconds": 5.0}) == UNKNOWN
    assert energy_of({"kwh": None, "kwh_estimated": None}) == UNKNOWN


def test_a_cost_adds_up_and_is_read_as_it_was_written() -> None:
    one, other = Cost(8.0, 2.0, Energy(3.0, 0.5)), Cost(4.0, 1.0, Energy(1.0, 0.0))
    assert one + other == sum_costs([other, one]) == Cost(12.0, 3.0, Energy(4.0, 0.5))
    assert one - other == Cost(4.0, 1.0, Energy(2.0, 0.5))
    assert one / 2 == Cost(4.0, 1.0, Energy(1.5, 0.25))
    assert one + unmetered(1.0, 1.0) == unmetered(9.0, 3.0)
    row = one.columns("teacher_")
    assert list(row) == [name for name, _ in cost_fields("teacher_")]
    assert list(row) == [f"teacher_{unit}" for unit in UNITS]
    assert cost_of(row, "teacher_") == one
    earlier = {"flops": 8.0, "seconds": 2.0}  # a version without energy wrote it
    assert cost_of(earlier) == unmetered(8.0, 2.0)
    assert set(FREE.columns().values()) == {0.0}


def test_a_meter_adds_counters_and_tells_what_is_estimated() -> None:
    counted = Counter(steps(100.0, 100.0 + 3.6e6, 100.0 + 2 * 3.6e6), measured=True)
    guessed = Counter(steps(0.0, 1.8e6, 1.8e6), measured=False)
    idle = Counter(steps(0.0, 9e9, 9e9), measured=True, used=lambda: False)
    read = Meter([counted, guessed, idle])
    assert read.lap().energy == Energy(1.5, 0.5)
    assert read.lap().energy == Energy(1.0, 0.0)


def test_laps_add_up_to_the_total() -> None:
    clock = SimpleNamespace(now=7.0)
    read = Meter([processor_time(lambda: clock.now)])
    laps = []
    for spent in (0.5, 0.0, 2.25):
        clock.now += spent
        laps.append(read.lap())
    assert sum_energy(lap.energy for lap in laps) == read.total().energy
    assert sum(lap.seconds for lap in laps) <= read.total().seconds
    assert read.total().energy.kwh == pytest.approx(2.75 * WATTS_PER_CPU / JOULES_PER_KWH)
    assert read.total().energy.kwh == read.total().energy.estimated


def test_a_part_that_cannot_be_told_makes_all_unknown() -> None:
    silent = Counter(lambda: None, measured=True)
    read = Meter([Counter(lambda: 1.0, measured=True), silent])
    assert read.total().energy == read.lap().energy == UNKNOWN


@pytest.mark.slow
def test_on_this_machine_time_that_is_waited_costs_nothing() -> None:
    began, read = time.process_time(), Meter([processor_time()])
    time.sleep(0.2)
    waited, before = read.lap().energy, time.process_time()
    while time.process_time() < before + 0.1:
        pass
    worked, spent = read.lap().energy, time.process_time() - began
    assert waited.kwh is not None
    assert worked.kwh is not None
    assert waited.kwh < worked.kwh / 2
    assert 0.1 <= worked.kwh * JOULES_PER_KWH / WATTS_PER_CPU <= spent


def zone(folder: Path, number: str, name: str, joules: float, span: float = 1e6) -> Path:
    made = folder / f"intel-rapl:{number}"
    made.mkdir()
    (made / "name").write_text(f"{name}\n")
    (made / "max_energy_range_uj").write_text(f"{span * 1e6:.0f}\n")
    (made / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    return made


def test_processes_side_by_side_share_what_rapl_counts(tmp_path: Path) -> None:
    """Of 100 J, 3 s of 4 busy seconds are the first's and 1 s the second's: 75 J and 25 J."""
    package = zone(tmp_path, "0", "package-0", 50)
    first = Rapl([package], steps_of([(0.0, 10.0), (3.0, 14.0)]))
    second = Rapl([package], steps_of([(5.0, 10.0), (6.0, 14.0)]))
    (package / "energy_uj").write_text("150000000\n")
    assert first.joules() == pytest.approx(75)
    assert second.joules() == pytest.approx(25)


def steps_of(values: list[tuple[float, float]]) -> Callable[[], tuple[float, float]]:
    return iter(values).__next__


def test_a_counter_that_wrapped_around_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "0", "package-0", 990, span=1000)
    own = Rapl([package], steps_of([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]))
    (package / "energy_uj").write_text("20000000\n")
    assert own.joules() == pytest.approx(30)
    (package / "energy_uj").write_text("25000000\n")
    assert own.joules() == pytest.approx(35)


def test_joules_between_two_ticks_of_the_machines_clock_are_not_lost(tmp_path: Path) -> None:
    package = zone(tmp_path, "0", "package-0", 0)
    own = Rapl([package], steps_of([(0.0, 5.0), (0.004, 5.0), (0.01, 5.01)]))
    (package / "energy_uj").write_text("1000000\n")
    assert own.joules() == 0
    (package / "energy_uj").write_text("2000000\n")
    assert own.joules() == pytest.approx(2)


def test_zones_are_packages_and_memory_and_all_must_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, memory = zone(tmp_path, "0", "package-0", 1), zone(tmp_path, "0:2", "dram", 1)
    zone(tmp_path, "0:0", "core", 1)  # a part of the package
    zone(tmp_path, "1", "psys", 1)
    assert readable_zones(tmp_path) == [package, memory]
    assert readable_zones(tmp_path / "none") == []
    readable = monkeypatch.setattr
    readable("os.access", lambda path, _: Path(path).parent != memory)
    assert readable_zones(tmp_path) == []


class NotSupported(Exception):
    pass


def fake_gpu(joules: list[float] | None, held: int = 1) -> tuple[Any, Any]:
    """NVML and torch.cuda of one GPU, with or without a counter, of which `held` bytes are used."""

    def told(handle: str) -> float:
        assert handle == "handle of GPU-0123"
        if joules is None:
            raise NotSupported
        return 1000 * joules.pop(0)

    nvml = SimpleNamespace(
        NVMLError_NotSupported=NotSupported,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=told,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 250_000,
    )
    cuda = SimpleNamespace(
        get_device_properties=lambda _: SimpleNamespace(uuid="0123"),
        max_memory_reserved=lambda _: held,
    )
    return nvml, cuda


def test_a_gpu_is_measured_by_its_counter_if_the_process_uses_it() -> None:
    nvml, cuda = fake_gpu([5, 5, 5 + 7200])
    assert Meter([gpu_counter(nvml, 0, cuda)]).total().energy == Energy(7200 / JOULES_PER_KWH, 0.0)
    nvml, cuda = fake_gpu([5, 5, 5 + 7200], held=0)
    assert Meter([gpu_counter(nvml, 0, cuda)]).total().energy == Energy()


def test_a_gpu_without_a_counter_is_estimated_at_its_power_limit() -> None:
    nvml, cuda = fake_gpu(None)
    read = Meter([gpu_counter(nvml, 0, cuda, steps(10.0, 13.0))])
    assert read.total().energy == Energy(750 / JOULES_PER_KWH, 750 / JOULES_PER_KWH)


@pytest.mark.skipif(torch.cuda.is_available(), reason="NVML answers here")
def test_a_gpu_that_nvml_does_not_know_leaves_energy_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with caplog.at_level(logging.WARNING):
        assert Meter().total().energy == UNKNOWN
    assert "energy is not recorded" in caplog.text


def test_without_a_gpu_only_processors_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(meter, "POWERCAP", Path("/nowhere"))
    (only,) = meter.find_counters()
    assert not only.measured


# Jobs of teachers.


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that uses one kWh between any two readings, a quarter of it estimated."""
    counted, guessed = count(step=0.75 * JOULES_PER_KWH), count(step=0.25 * JOULES_PER_KWH)
    counters = [Counter(counted.__next__, measured=True), Counter(guessed.__next__, measured=False)]
    monkeypatch.setattr(meter, "find_counters", lambda: counters)


def spent(rows: list[dict[str, Any]], prefix: str = "") -> Energy:
    found = sum_energy(energy_of(row, prefix) for row in rows)
    assert found.kwh is not None
    assert found.estimated is not None
    return Energy(round(found.kwh, 9), round(found.estimated, 9))


@pytest.mark.usefixtures("ticking")
def test_a_teachers_text_costs_its_batches_and_its_prompts(chat: Any) -> None:
    source = {"context": None, "reference": None, "prompt_flops": 0.0, "prompt_seconds": 0.0}
    prompts = [
        source | {"id": f"train-{row}", "row": row, "prompt": tiny.SENTENCES[row][:12]}
        | {"prompt_kwh": 2.0, "prompt_kwh_estimated": 0.0}
        for row in range(5)
    ]  # fmt: skip
    decoding = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 3, "seed": 0}
    spec = {
        "formatting": {"template": "chat", "system": None},
        "decoding": decoding | {"batch_size": 2},
    }
    rows, states = generate_text(tiny.model("llama"), chat, prompts, spec)
    assert spent(rows, "teacher_") == Energy(5 * 2.0 + 3, 3 / 4)  # of three batches
    assert spent(states) == Energy()  # they fall out of generation


@pytest.mark.usefixtures("ticking")
def test_soft_targets_cost_scoring_and_the_head_and_a_loss_likewise(plain: Any) -> None:
    model, rows = tiny.model("llama"), tiny.uneven_rows(plain, 9)
    states = score_text(model, rows, batch_size=4)
    assert spent(states) == Energy(3.0, 0.75)
    cache = {"scheme": "top_k_tail", "k": 4, "log_p": True, "bits": 16, "temperatures": []}
    scorer = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "weight": 1.0}
    cache |= {"draws": 1, "systematic": False, "seed": 0}
    targets = cache_targets([states], [head_of(model)], cache | {"scorers": [scorer]})
    assert spent(targets) == Energy(3.0 + 1, 1.0)  # few tokens are one block
    losses = answer_losses(rows, states, head_of(model), 1.0)
    assert spent(losses) == Energy(3.0 + 9, 3.0)
    unscored = [{key: value for key, value in row.items() if key != "kwh"} for row in states]
    made = cache_targets([unscored], [head_of(model)], cache | {"scorers": [scorer]})
    assert {row["kwh"] for row in made} == {None}


@pytest.mark.usefixtures("ticking")
def test_states_of_layers_cost_their_pass(plain: Any) -> None:
    spec = {"layers": [1], "tokens": "answer", "projection": "none", "bits": 16, "seed": 0}
    made = score_layers(tiny.model("llama"), tiny.uneven_rows(plain, 4), spec, None)
    assert spent(made, "layer_") == Energy(1.0, 0.25)
