"""Limits on rows that a config can change, apart from the code that reads rows."""

MOST_LEFT_OUT = 0.5
"""Default of a source's max_left_out."""
