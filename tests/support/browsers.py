"""Shared makers of tests."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str:
    """Return a Chromium's path; without one skip, or fail where CI must have it."""
    browser = next((path for name in NAMES if (path := shutil.which(name))), None)
    if browser is None:
        missing = "no Chromium on PATH; install the package chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return browser
