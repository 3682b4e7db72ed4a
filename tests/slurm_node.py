"""A real SLURM of one node with fake GPUs, for tests: its daemons, its config, no system service.

Debian's slurmctld, slurmd and slurm-client must be installed; only root can start them. Daemons
listen on loopback alone. All lies in one folder but munge's socket and the config: Snakemake's
executor drops SLURM_CONF, so that stands where SLURM looks for it, and what stood there comes back.
"""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ETC = Path("/etc/slurm")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")

CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory={memory} Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=1-0 State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=1-0 State=UP
"""


def missing() -> list[str]:
    """What is not there to start a node with."""
    found = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return found + ([] if os.geteuid() == 0 else ["root"])


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _start_munge() -> None:
    """Unless one runs."""
    if (
        subprocess.run(["munge", "-n"], capture_output=True, stdin=subprocess.DEVNULL).returncode
        == 0
    ):
        return
    if not Path("/etc/munge/munge.key").exists():
        subprocess.run(["mungekey", "-c"], check=True)
        shutil.chown("/etc/munge/munge.key", "munge", "munge")
    for folder, mode in (
        ("/run/munge", 0o755),
        ("/var/log/munge", 0o700),
        ("/var/lib/munge", 0o700),
    ):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder).chmod(mode)
        shutil.chown(folder, "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", shutil.which("munged") or "munged"], check=True)


def _fake_gpu(path: Path) -> None:
    """A twin of /dev/null: slurmd wants a character device."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


@contextlib.contextmanager
def slurm_node(folder: Path) -> Iterator[None]:
    """Start a node of 4 CPUs and 2 fake GPUs, and stop it at the end."""
    for name in ("ctld", "spool"):
        (folder / name).mkdir(parents=True)
    for number in range(2):
        _fake_gpu(folder / f"fakegpu{number}")
    host, ports = socket.gethostname().split(".")[0], _free_ports()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 9 // 10 >> 20
    gpus = f"AutoDetect=off\nNodeName={host} Name=gpu Type=fake File={folder}/fakegpu[0-1]\n"
    config = CONFIG.format(host=host, ports=ports, folder=folder, memory=memory)
    path, kept = os.environ["PATH"], ETC.with_name("slurm.kept")
    if ETC.exists():
        ETC.rename(kept)
    ETC.mkdir()
    (ETC / "slurm.conf").write_text(config)
    (ETC / "gres.conf").write_text(gpus)
    os.environ["PATH"] = _path()
    try:
        _start_munge()
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], check=True)
        _await_idle()
        yield
    finally:
        subprocess.run(["scancel", "--full", "-u", "root"], check=False)
        for daemon in ("slurmd", "slurmctld"):
            _stop(folder / f"{daemon}.pid")
        os.environ["PATH"] = path
        shutil.rmtree(ETC)
        if kept.exists():
            kept.rename(ETC)


def _await_idle() -> None:
    for _ in range(300):
        shown = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout
        if "idle" in shown:
            return
        time.sleep(0.1)
    raise RuntimeError("the SLURM node did not come up; see slurmctld.log and slurmd.log")


def _stop(file: Path) -> None:
    if not file.exists():
        return
    number = int(file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 15)
        for _ in range(100):
            os.kill(number, 0)
            time.sleep(0.1)
        os.kill(number, 9)
