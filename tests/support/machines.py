"""Shared makers of tests."""

from distill.costs.work import Machine, Speed

MACHINE = Machine(
    speed=lambda probe: Speed(1e9, 5e8),
    encoding=lambda spec, vocabulary, threads: 1e-4,
    precision=lambda named: "fp32",
    optimiser=1e-9,
    update=0.01,
    start=5.0,
    analysis_start=1.0,
    runtime=5e8,
)
