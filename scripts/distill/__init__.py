"""Measure scaling laws of knowledge distillation: the library behind the workflow's rules."""

import gc

# Imports make a million objects that stay: looking for rubbish meanwhile is a tenth of their time.
gc.set_threshold(100_000)
