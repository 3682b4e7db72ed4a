"""The process of a job: what its imports leave out, and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each process spends seconds on imports

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)


def test_quick_imports_leave_out_what_can_be_imported_later() -> None:
    ended = _python("""
import gc, sys
from distill.runtime.imports import quick_imports
with quick_imports():
    assert not gc.isenabled()
    from transformers import Trainer
    from distill.models.opening import load_model
    loaded = [name for name in ("datasets", "pandas", "scipy", "sklearn") if sys.modules.get(name)]
assert loaded == [], loaded
assert gc.isenabled() and gc.get_freeze_count()
import datasets, scipy.stats
print(scipy.stats.norm.cdf(0.0), datasets.Dataset.from_dict({"a": [1]}).num_rows)
""")
    assert (ended.returncode, ended.stdout.strip()) == (0, "0.5 1"), ended.stderr


def test_quick_imports_keep_what_is_there_and_end_with_an_error() -> None:
    ended = _python("""
import gc, sys
import scipy
from distill.runtime.imports import quick_imports
try:
    with quick_imports():
        import scipy.special
        raise KeyError("one")
except KeyError:
    pass
assert sys.modules["scipy"] is scipy and gc.isenabled() and "pandas" not in sys.modules
print("kept")
""")
    assert (ended.returncode, ended.stdout.strip()) == (0, "kept"), ended.stderr


JOB = """
import atexit, threading, time
from types import SimpleNamespace
from distill.runtime.job import job

class Taken:
    def __del__(self, write=print):
        write("taken apart")

kept = Taken()
with job(SimpleNamespace(log=[{log!r}], output=["out"])):
    atexit.register(print, "told at the end")
    threading.Thread(target=lambda: (time.sleep(0.3), print("waited for"))).start()
    {work}
"""


@pytest.mark.parametrize(
    ("work", "code", "printed"),
    [
        ("pass", 0, ["waited for", "told at the end"]),
        ("raise ValueError('no')", 1, []),
    ],
)
def test_a_job_that_ends_waits_for_threads_but_takes_nothing_apart(
    work: str, code: int, printed: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    ended = _python(JOB.format(log=str(log), work=work))
    assert (ended.returncode, ended.stdout.split("\n")[:-1]) == (code, printed), ended.stderr
    assert log.read_text().rstrip().endswith("done" if code == 0 else f"(traceback in {log})")
