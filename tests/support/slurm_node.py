"""A real SLURM of one node with fake GPUs, for tests: its daemons, its config, no system service.

Debian's slurmctld, slurmd and slurm-client must be installed, and for a node with accounting also
slurmdbd and mariadb-server; only root can start them. Daemons listen on loopback alone. All lies in
one folder but munge's socket and the config: Snakemake's executor drops SLURM_CONF, so that stands
where SLURM looks for it. Where a config stands that no test wrote, no node is started.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ETC = Path("/etc/slurm")
MARK = "# A test's node; gone when the test ends.\n"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
ACCOUNTING = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db")

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
MinJobAge=3600
KillWait=5
AccountingStorageType=accounting_storage/{accounting}
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
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
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=1-0 State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=1-0 State=UP
"""

ACCOUNTING_CONFIG = """
AuthType=auth/munge
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[2]}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[3]}
StorageUser=root
StoragePass=none
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
"""

_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def require_slurm(accounting: bool = False) -> None:
    """Skip a test where no node can be started; in CI that is a failure."""
    programs = PROGRAMS + (ACCOUNTING if accounting else ())
    lacking = [name for name in programs if shutil.which(name, path=_PATH) is None]
    lacking += [] if os.geteuid() == 0 else ["root"]
    if lacking:
        reason = f"no SLURM here: {', '.join(lacking)} missing"
    elif _foreign():
        reason = f"this machine has a SLURM of its own: {ETC / 'slurm.conf'}"
    else:
        return
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def _foreign() -> bool:
    config = ETC / "slurm.conf"
    return config.exists() and not config.read_text().startswith(MARK)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start_munge() -> None:
    """Unless one runs."""
    if subprocess.run(["munge", "-n"], capture_output=True, stdin=subprocess.DEVNULL).returncode:
        if not Path("/etc/munge/munge.key").exists():
            subprocess.run(["mungekey", "-c"], check=True)
            shutil.chown("/etc/munge/munge.key", "munge", "munge")
        for name, mode in (("run", 0o755), ("var/log", 0o700), ("var/lib", 0o700)):
            folder = Path("/", name, "munge")
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
            shutil.chown(folder, "munge", "munge")
        munged = shutil.which("munged", path=_PATH)
        subprocess.run(["runuser", "-u", "munge", "--", str(munged)], check=True)


@contextlib.contextmanager
def slurm_node(folder: Path, accounting: bool = False) -> Iterator[None]:
    """Start a node of 4 CPUs, 64 GB and 2 GPUs, all of them claimed, and stop it at the end."""
    _clean_up()  # after a test that was killed
    for name in ("ctld", "spool"):
        (folder / name).mkdir(parents=True)
    for number in range(2):  # twins of /dev/null: slurmd wants character devices
        os.mknod(folder / f"fakegpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    host = socket.gethostname().split(".")[0]
    kind, ports = "slurmdbd" if accounting else "none", _free_ports(4)
    names = {"host": host, "ports": ports, "folder": folder, "accounting": kind}
    gpus = f"AutoDetect=off\nNodeName={host} Name=gpu Type=fake File={folder}/fakegpu[0-1]\n"
    ETC.mkdir(exist_ok=True)
    (ETC / "slurm.conf").write_text(MARK + CONFIG.format(**names))
    (ETC / "gres.conf").write_text(gpus)
    path, os.environ["PATH"] = os.environ["PATH"], _PATH
    try:
        _start_munge()
        if accounting:
            _start_accounting(folder, ACCOUNTING_CONFIG.format(**names), ports[3])
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], check=True)
        _await(lambda: "idle" in node_state(), "the node", folder)
        yield
    finally:
        _clean_up()
        os.environ["PATH"] = path


def _start_accounting(folder: Path, config: str, port: int) -> None:
    """A database of no passwords, on loopback, and the daemon that keeps SLURM's books in it."""
    data, log = folder / "database", (folder / "mariadbd.log").open("w")
    data.mkdir()
    made = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"]
    subprocess.run(made, stdout=log, stderr=log, check=True)
    served = ["--no-defaults", "--user=root", "--skip-grant-tables", f"--datadir={data}"]
    served += ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={data}/socket"]
    served += [f"--pid-file={folder}/mariadbd.pid", "--innodb-lock-wait-timeout=900"]
    subprocess.run(["setsid", "--fork", "mariadbd", *served], stdout=log, stderr=log, check=True)
    _await((data / "socket").exists, "the database", folder)
    (ETC / "slurmdbd.conf").touch(0o600)
    (ETC / "slurmdbd.conf").write_text(config)
    subprocess.run(["slurmdbd"], check=True)
    account = ["sacctmgr", "--immediate", "add"]
    listed = ["sacctmgr", "-n", "list", "cluster"]
    _await(lambda: not subprocess.run(listed, capture_output=True).returncode, "slurmdbd", folder)
    for added in (["cluster", "tests"], ["account", "lab"], ["user", "root", "account=lab"]):
        subprocess.run([*account, *added], check=True, stdout=subprocess.DEVNULL)


def node_state() -> str:
    """The state of the node, as sinfo has it."""
    shown = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=30)
    return shown.stdout.strip()


def restart_slurmd(folder: Path, down: float) -> None:
    """Let the node's daemon die, the controller notice, and the daemon come back."""
    host = socket.gethostname().split(".")[0]
    _stop(folder / "slurmd.pid", signal.SIGKILL)
    told = ["scontrol", "update", f"nodename={host}", "state=down", "reason=test"]
    subprocess.run(told, check=True, timeout=30)
    assert "down" in node_state()
    time.sleep(down)
    subprocess.run(["slurmd"], check=True, timeout=30)
    _await(lambda: "down" not in node_state(), "the node", folder)
    time.sleep(8)  # the node tells of the ends of what ran there before
    waiting = ["squeue", "-h", "-t", "PENDING", "-o", "%i %r"]
    shown = subprocess.run(waiting, capture_output=True, text=True, check=True, timeout=30).stdout
    for job in re.findall(r"(\S+) BeginTime", shown):  # put back by SLURM, for two minutes
        told = ["scontrol", "update", f"jobid={job}", "StartTime=now"]
        subprocess.run(told, check=True, timeout=30)


def _await(ready: Callable[[], bool], what: str, folder: Path) -> None:
    for _ in range(600):
        if ready():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{what} did not come up; see the logs in {folder}")


def _clean_up() -> None:
    """Stop a test's daemons and take its config away."""
    if not (ETC / "slurm.conf").exists() or _foreign():
        return
    files = re.findall(r"PidFile=(.*)", (ETC / "slurm.conf").read_text())
    folder = Path(files[0]).parent
    if _alive(folder / "slurmctld.pid"):
        subprocess.run(["scancel", "--full", "-u", "root"], timeout=30, check=True)
        asked = ["squeue", "-h", "-t", "RUNNING,COMPLETING"]
        for _ in range(100):
            if not subprocess.run(asked, capture_output=True, timeout=30, check=True).stdout:
                break
            time.sleep(0.1)
    for daemon in ("slurmd", "slurmctld", "slurmdbd", "mariadbd"):
        _stop(folder / f"{daemon}.pid")
    for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
        (ETC / name).unlink(missing_ok=True)


def _alive(file: Path) -> int:
    """The process that a pid file names, or 0; one left behind may name another by now."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        number = int(file.read_text())
        status = Path(f"/proc/{number}/status").read_text()
        if f"Name:\t{file.stem}\n" in status and "State:\tZ" not in status:
            return number
    return 0


def _stop(file: Path, number: int = signal.SIGTERM) -> None:
    """End a daemon, in the hard way after ten seconds."""
    for attempt in range(200):
        if not (process := _alive(file)):
            return
        if attempt in (0, 100):
            os.kill(process, number if attempt == 0 else signal.SIGKILL)
        time.sleep(0.1)
    raise RuntimeError(f"the process of {file} does not end")
