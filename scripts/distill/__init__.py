"""Measure scaling laws of knowledge distillation: the library behind the workflow's rules."""
