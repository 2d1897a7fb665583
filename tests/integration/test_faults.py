"""Faults of the machine below the engine: a disk that is full, read-only or failing, no descriptors, no memory, clocks that jump, foreign and torn files of
state, numbers of processes that others have now. What goes wrong is told, what runs runs on, nothing is half made, and all is well once the fault is gone."""

import contextlib
import datetime
import glob
import hashlib
import http.client
import io
import json
import mmap
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import tarfile
import time

import pytest

from crash import build_library
from disks import mounted
from harness import CGROUP, IMAGE, Daemon, sanitized, wait_until

COUNTING = ("sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done")


@contextlib.contextmanager
def daemon_below(directory):
    """Its log is not on the disk that the test spoils."""
    d = Daemon(directory)
    d.log_path = os.path.join(os.path.dirname(directory), "gantryd.log")
    try:
        d.start()
        yield d
    finally:
        d.destroy()


def names(daemon):
    return {name[1:] for c in daemon.json("GET", "/containers/json?all=1") for name in c["Names"]}


def things(daemon):
    """What there is, by name: containers, tags, volumes, networks."""
    images = daemon.json("GET", "/images/json?all=1")
    return (names(daemon), {image["Id"] for image in images}, {volume["Name"] for volume in daemon.json("GET", "/volumes")["Volumes"] or []},
            {network["Name"] for network in daemon.json("GET", "/networks")})


def counted(daemon, name="witness"):
    """The numbers in a log, as far as they could be written: each line is whole, and none comes before a smaller one."""
    numbers = [int(line) for line in daemon.docker("logs", name).out.split()]
    assert numbers == sorted(set(numbers))
    return numbers


def clean(daemon):
    daemon.remove_everything()
    leaks = daemon.audit()
    assert not leaks, "left behind: " + "; ".join(leaks)


def image_tar(path, size):
    """An image of one layer with one file of random bytes, as docker save writes it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        info = tarfile.TarInfo("big")
        info.size = size
        tar.addfile(info, io.BytesIO(os.urandom(size)))
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["big:1"], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in (("layer.tar", layer.getvalue()), ("config.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def fill(directory):
    """Takes every byte of a file system; returns what to call to give them back."""
    path = os.path.join(directory, "filler")
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    f.write(b"x" * size)
    return lambda: os.unlink(path)


# ---- disks ----

def test_a_full_disk(workdir, tmp_path):
    image_tar(tmp_path / "big.tar", 8 << 20)
    (tmp_path / "file").write_bytes(b"y" * 300000)
    with mounted(workdir, "ext4", 96 << 20, "-m", "0") as top, daemon_below(top) as d:
        d.docker("run", "-d", "--name", "witness", IMAGE, *COUNTING)
        d.docker("create", "--name", "made", IMAGE, "sleep", "1000")
        d.docker("volume", "create", "before")
        witness, before = d.inspect("witness")["State"], things(d)
        give_back = fill(top)
        d.env["DOCKER_BUILDKIT"] = "0"
        for args in (("run", "-d", IMAGE, "sleep", "1000"), ("create", IMAGE), ("volume", "create", "after"), ("network", "create", "after"),
                     ("load", "-i", str(tmp_path / "big.tar")), ("import", str(tmp_path / "big.tar"), "imported:1"), ("commit", "witness", "committed:1"),
                     ("cp", str(tmp_path / "file"), "witness:/file"), ("build", "-t", "built:1", str(tmp_path)), ("tag", IMAGE, "tagged:1")):
            if args[0] == "build":
                (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY file /file\n")
            failed = d.docker(*args, check=False)
            assert failed.code != 0 and "No space left on device" in failed.err + failed.out, failed
            assert things(d) == before, args
        assert d.inspect("witness")["State"] == witness
        # What exists can be stopped and removed: that is how a full disk becomes an emptier one.
        d.docker("exec", "witness", "true")
        d.docker("stop", "-t", "0", "witness")
        assert d.state("witness") == "exited" and d.inspect("witness")["State"]["ExitCode"] == 137
        d.docker("rm", "made")
        d.docker("volume", "rm", "before")
        d.kill9()
        d.start()
        assert d.state("witness") == "exited" and names(d) == {"witness"}
        give_back()
        last = counted(d)[-1]
        d.docker("start", "witness")
        wait_until(lambda: len(d.docker("logs", "witness").out.split()) > last + 3, what="new lines")
        d.docker("load", "-i", str(tmp_path / "big.tar"))
        d.docker("rmi", "big:1")
        clean(d)


def test_a_disk_that_turns_read_only(workdir, tmp_path):
    """As ext4 does it when its journal cannot be written."""
    with mounted(workdir, "ext4", 96 << 20) as top, daemon_below(top) as d:
        d.docker("run", "-d", "--name", "witness", IMAGE, *COUNTING)
        d.docker("create", "--name", "made", IMAGE, "sleep", "1000")
        before = things(d)
        subprocess.run(["mount", "-o", "remount,abort", top], check=False, capture_output=True)
        def read_only():
            try:
                os.mkdir(os.path.join(top, "probe"))
            except OSError:
                return True
            os.rmdir(os.path.join(top, "probe"))
            return False
        wait_until(read_only, what="the end of writing")
        for args in (("run", "-d", IMAGE, "sleep", "1000"), ("volume", "create", "after"), ("network", "create", "after"), ("commit", "witness", "committed:1"),
                     ("rm", "made"), ("rename", "made", "other")):
            failed = d.docker(*args, check=False)
            assert failed.code != 0 and re.search("Read-only file system|Input/output error|Structure needs cleaning", failed.err + failed.out), failed
            assert things(d) == before, args
        assert d.docker("exec", "witness", "echo", "alive").out == "alive\n"
        d.docker("stop", "-t", "0", "witness")
        assert d.state("witness") == "exited"
        d.kill9()
        subprocess.run(["umount", top], check=True)
        subprocess.run(["e2fsck", "-fy", os.path.join(os.path.dirname(top), "disk")], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop", os.path.join(os.path.dirname(top), "disk"), top], check=True)
        d.start()
        assert names(d) == {"witness", "made"} and d.state("witness") == "exited"
        d.docker("start", "witness", "made")
        clean(d)


def test_a_disk_that_fails_to_write(workdir, tmp_path):
    """An image file with holes, on a file system that has no room to fill them: what is written back comes to EIO."""
    image_tar(tmp_path / "big.tar", 24 << 20)
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "gantry-test", str(below)], check=True)
    try:
        with mounted(workdir, "ext4", 256 << 20, image_dir=str(below)) as top, daemon_below(top) as d:
            d.docker("run", "-d", "--name", "witness", IMAGE, *COUNTING)
            give_back = fill(str(below))
            before = things(d)
            failed = d.docker("load", "-i", str(tmp_path / "big.tar"), check=False)
            assert failed.code != 0 and re.search("Input/output error|Read-only file system|No space left", failed.err + failed.out), failed
            assert things(d) == before
            assert d.docker("exec", "witness", "echo", "alive").out == "alive\n"
            assert d.state("witness") == "running"
            give_back()
            d.docker("kill", "witness")
            wait_until(lambda: d.state("witness") == "exited", what="the end of the witness")
            d.kill9()
            wait_until(lambda: not d.pids(), what="the end of all that works on the disk")
            subprocess.run(["umount", top], check=True)
            subprocess.run(["e2fsck", "-fy", str(below / "disk")], check=False, capture_output=True)
            subprocess.run(["mount", "-o", "loop", str(below / "disk"), top], check=True)
            d.start()
            assert names(d) == {"witness"}
            d.docker("load", "-i", str(tmp_path / "big.tar"))
            clean(d)
    finally:
        subprocess.run(["umount", "-l", str(below)], check=True)


# ---- the daemon's own means ----

def open_fds(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def test_no_descriptors_left(fresh_daemon, tmp_path):
    d = fresh_daemon
    d.start()
    d.docker("run", "-d", "--name", "witness", IMAGE, *COUNTING)
    image_tar(tmp_path / "big.tar", 1 << 20)
    d.docker("run", "--rm", IMAGE, "true")
    wait_until(lambda: d.docker("ps", "-q").out.count("\n") == 1, what="one container")
    before, pid = things(d), d.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    base = open_fds(d)
    refused = 0
    for spare in range(2, 40, 3):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (base + spare, limits[1]))
        try:
            for args in (("run", "-d", "--name", "tried", IMAGE, "sleep", "1000"), ("load", "-i", str(tmp_path / "big.tar")), ("exec", "witness", "true"),
                         ("cp", "witness:/etc/passwd", str(tmp_path / "passwd")), ("volume", "create", "tried")):
                done = d.docker(*args, check=False, timeout=60)
                refused += done.code != 0
                assert "Segmentation" not in done.err and d.process.poll() is None, d.log()[-2000:]
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        d.docker("rm", "-f", "tried", check=False)
        d.docker("volume", "rm", "tried", check=False)
        d.docker("rmi", "big:1", check=False)
        assert things(d) == before
    assert refused > 0
    wait_until(lambda: open_fds(d) <= base + 1, what="as many descriptors as before")
    numbers = counted(d)
    assert numbers == list(range(len(numbers)))
    clean(d)


def limit_memory(name, pid, spare):
    """A memory cgroup of the test's own around one process, with room for so much from now on. Returns its directory."""
    v1 = os.path.isdir(os.path.join(CGROUP, "memory"))
    where = os.path.join(CGROUP, "memory" if v1 else "", name + "-daemon")
    if not v1 and "memory" not in open(os.path.join(CGROUP, "cgroup.controllers")).read():
        pytest.skip("no memory controller here")
    os.mkdir(where)
    with open(os.path.join(where, "cgroup.procs"), "w") as f:
        f.write(str(pid))
    with open(os.path.join(where, "memory.limit_in_bytes" if v1 else "memory.max"), "w") as f:
        f.write(str(spare))
    return where


def test_the_daemon_runs_out_of_memory(fresh_daemon):
    """The kernel kills it in the middle of things."""
    d = fresh_daemon
    d.start()
    d.docker("run", "-d", "--name", "witness", IMAGE, *COUNTING)
    d.docker("volume", "create", "kept")
    witness = d.inspect("witness")["State"]
    where = limit_memory(d.name, d.process.pid, (400 if sanitized() else 2) << 20)
    try:
        labels = {f"label-{i}": "x" * 1000 for i in range(500)}
        made = set()
        for i in range(200):
            try:
                answer = d.api("POST", f"/containers/create?name=c{i}", {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": labels})
            except (OSError, http.client.HTTPException):
                break
            if answer.status == 201:
                made.add(f"c{i}")
        wait_until(lambda: d.process.poll() is not None, 20, what="the end of the daemon")
        assert d.process.returncode == -signal.SIGKILL
        d.process = None
        d.start()
        assert made <= names(d) <= made | {"witness", f"c{i}"} and "witness" in names(d)
        assert d.inspect("witness")["State"] == witness
        numbers = counted(d)
        assert numbers == list(range(len(numbers)))
        clean(d)
    finally:
        d.kill9()
        for pid in open(os.path.join(where, "cgroup.procs")).read().split():
            os.kill(int(pid), signal.SIGKILL)
        def gone():
            with contextlib.suppress(OSError):
                os.rmdir(where)
            return not os.path.isdir(where)
        wait_until(gone, what="the end of the test's cgroup")


# ---- clocks ----

def test_the_clock_jumps(fresh_daemon):
    """Forward by a day and back by two, under the daemon: what has to last some time lasts as long as it should."""
    d = fresh_daemon
    path = os.path.join(d.dir, "clock")
    with open(path, "wb") as f:
        f.truncate(8)
    with open(path, "r+b") as f:
        clock = mmap.mmap(f.fileno(), 8)
    d.env.update(LD_PRELOAD=build_library(d.dir, "clock"), GT_CLOCK_FILE=path)
    d.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
    d.start()
    d.env.pop("LD_PRELOAD")
    d.docker("run", "-d", "--name", "healthy", "--health-cmd", "true", "--health-interval", "200ms", IMAGE, "sleep", "1000")
    d.docker("run", "-d", "--name", "again", "--restart", "always", IMAGE, "sh", "-c", "sleep 0.3")
    def rounds():
        return len({entry["Start"] for entry in d.inspect("healthy")["State"]["Health"]["Log"]}), d.inspect("healthy")["State"]["Health"]["Log"][-1:]
    wait_until(lambda: d.inspect("healthy")["State"]["Health"]["Status"] == "healthy", what="health")
    for offset in (86400, -86400):
        struct.pack_into("q", clock, 0, offset)
        last, restarts = rounds(), d.inspect("again")["RestartCount"]
        wait_until(lambda: rounds() != last, what="another probe")
        wait_until(lambda: d.inspect("again")["RestartCount"] > restarts, 30, what="another restart")
        assert d.inspect("healthy")["State"]["Health"]["Status"] == "healthy"
        d.docker("run", "-d", "--name", "stubborn", IMAGE, "sh", "-c", "trap '' TERM; while true; do sleep 0.1; done")
        d.docker("stop", "-t", "1", "stubborn", timeout=60)
        assert d.inspect("stubborn")["State"]["ExitCode"] == 137
        d.docker("rm", "stubborn")
        assert d.docker("run", "--rm", IMAGE, "echo", "x").out == "x\n"
        assert d.docker("exec", "healthy", "echo", "y").out == "y\n"
        d.docker("create", "--name", "dated", IMAGE)
        created = datetime.datetime.fromisoformat(d.inspect("dated")["Created"][:19] + "+00:00").timestamp()
        assert abs(created - time.time() - offset) < 3600
        d.docker("rm", "dated")
    clean(d)


# ---- files of state ----

def spoil(path, how):
    if how == "empty":
        open(path, "wb").close()
    elif how == "half":
        with open(path, "r+b") as f:
            f.truncate(os.path.getsize(path) // 2)
    elif how == "garbage":
        with open(path, "wb") as f:
            f.write(os.urandom(3000))
    elif how == "foreign":
        with open(path, "w") as f:
            json.dump({"Version": 1, "Id": 7, "Name": ["x"], "Config": [], "Status": {}, "Endpoints": 3, "rootfs": None}, f)
    elif how == "deep":
        with open(path, "w") as f:
            f.write("[" * 100000)
    elif how == "huge":
        with open(path, "w") as f:
            f.truncate(1 << 30)
    else:
        os.unlink(path)
        {"directory": os.mkdir, "fifo": os.mkfifo, "link": lambda p: os.symlink("/etc/shadow", p), "gone": lambda p: None}[how](path)


@pytest.mark.parametrize("how", ["empty", "half", "garbage", "foreign", "deep", "huge", "directory", "fifo", "link", "gone"])
def test_documents_that_are_not_ours(fresh_daemon, how):
    """Each in turn; the daemon starts, and everything that does not hang by this one document is there."""
    d = fresh_daemon
    d.start()
    ids = {name: d.docker("run", "-d", "--name", name, "-v", f"{name}-data:/data", IMAGE, "sleep", "1000").out.strip() for name in ("one", "two")}
    d.docker("network", "create", "net")
    d.docker("tag", IMAGE, "other:1")
    network = d.json("GET", "/networks/net")["Id"]
    victims = {"state": f"states/{ids['one']}.json", "volume": "volumes/one-data.json", "network": f"networks/{network}.json", "tags": "images/refs.json",
               "embedded": "images/embedded.json", "engine": "engine-id", "container": f"containers/{ids['one']}.json"}
    everything, pid = things(d), d.inspect("one")["State"]["Pid"]
    for kind, name in victims.items():
        path = os.path.join(d.root, name)
        kept = open(path, "rb").read()
        d.kill9()
        spoil(path, how)
        d.start()
        containers, images, volumes, networks = things(d)
        assert "two" in containers and d.state("two") == "running", kind
        assert everything[1] <= images and {"bridge", "host", "none"} <= networks and "two-data" in volumes, kind
        assert d.docker("exec", "two", "echo", "x").out == "x\n"
        d.docker("run", "--rm", d.json("GET", "/images/json")[0]["Id"], "true")
        d.kill9()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        with open(path, "wb") as f:
            f.write(kept)
        d.start()
        if kind == "container" and how == "gone":
            assert names(d) == {"one", "two"}    # the file is back, but nobody was there to see that it was not removed for good
        else:
            assert things(d) == everything, kind
            assert d.inspect("one")["State"]["Pid"] == pid and d.docker("exec", "one", "echo", "x").out == "x\n", kind
    clean(d)


def test_parts_of_an_image_that_are_cut(fresh_daemon, tmp_path):
    """Whatever of an image's files is cut: nothing wrong is handed out, and once the image is removed and loaded again all is well."""
    d = fresh_daemon
    d.start()
    d.env["DOCKER_BUILDKIT"] = "0"
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN seq 1 5000 >/numbers\n")
    d.docker("build", "-t", "cut:1", str(tmp_path))
    good = str(tmp_path / "good.tar")
    d.docker("save", "-o", good, "cut:1")
    image = d.json("GET", "/images/cut:1/json")
    def files():
        return sorted(path for kind in ("recipes", "configs", "meta", "manifests") for path in glob.glob(os.path.join(d.root, "images", kind, "*"))
                      if os.path.getsize(path) > 0)
    spoiled = 0
    seen = set()
    while todo := [path for path in files() if os.path.basename(path) not in seen]:
        path = todo[0]
        seen.add(os.path.basename(path))
        d.kill9()
        with open(path, "r+b") as f:
            f.truncate(os.path.getsize(path) // 2)
        d.start()
        saved = d.docker("save", "-o", str(tmp_path / "saved.tar"), "cut:1", check=False)
        if saved.code == 0:
            with tarfile.open(good) as a, tarfile.open(tmp_path / "saved.tar") as b:
                wanted = {m.name: a.extractfile(m).read() for m in a if m.isreg() and ("layer" in m.name or len(m.name) > 60)}
                assert {name: data for name, data in ((m.name, b.extractfile(m).read()) for m in b if m.isreg()) if name in wanted} == wanted, path
        else:
            spoiled += 1
            assert saved.err.strip(), path
        d.docker("rmi", "-f", image["Id"], check=False)
        d.docker("load", "-i", good)
        assert d.docker("run", "--rm", "cut:1", "tail", "-n", "1", "/numbers").out == "5000\n", path
    assert spoiled > 0
    clean(d)


# ---- numbers of processes ----

@pytest.mark.parametrize("gone", ["container", "machine"])
def test_a_number_that_another_process_has_now(fresh_daemon, gone):
    """While the daemon is away its container ends, and the number that stands in its state is a stranger's."""
    d = fresh_daemon
    d.start()
    ctr = d.docker("run", "-d", "--name", "subject", IMAGE, "sleep", "1000").out.strip()
    d.docker("run", "-d", "--name", "witness", IMAGE, *COUNTING)
    state_path = os.path.join(d.root, "states", ctr + ".json")
    pid = d.inspect("subject")["State"]["Pid"]
    with open(f"/proc/{pid}/status") as f:
        shim = next(int(line.split()[1]) for line in f if line.startswith("PPid:"))
    d.kill9()
    os.kill(shim, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of the container")
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        state = json.load(open(state_path))
        state["Pid"] = stranger.pid
        with open(state_path, "w") as f:
            json.dump(state, f)
        if gone == "machine":
            shutil.rmtree(os.path.join(d.run_dir, "containers", ctr))
        d.start()
        wait_until(lambda: d.state("subject") == "exited", what="the end of the container to be seen")
        assert d.inspect("subject")["State"]["Pid"] == 0
        for args in (("stop", "-t", "0", "subject"), ("kill", "subject"), ("exec", "subject", "true"), ("top", "subject"), ("rm", "-f", "subject")):
            d.docker(*args, check=False)
        assert stranger.poll() is None
        assert d.state("witness") == "running"
        clean(d)
    finally:
        stranger.kill()
        stranger.wait()
