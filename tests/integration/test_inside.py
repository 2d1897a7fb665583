"""What a container's process can reach: seen from inside, by tests/data/inside.c, and from the host."""

import ctypes
import hashlib
import os
import re
import subprocess
import time

import pytest

from harness import BUILD, IMAGE, REPO, run, wait_until

DEFAULT_CAPABILITIES = 0xa80425fb


@pytest.fixture(scope="module")
def inside(workdir):
    path = os.path.join(workdir, "inside")
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-o", path, os.path.join(REPO, "tests", "data", "inside.c")], check=True)
    return path


def pid_of(daemon, name="ctr"):
    return daemon.inspect(name)["State"]["Pid"]


def fds(pid):
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def read(text):
    return {line.split(":")[0]: line.split(":", 1)[1].split() for line in text.splitlines()}


@pytest.mark.parametrize("options", [(), ("-t",), ("-i",), ("--init",), ("--privileged",), ("--network", "host"), ("--pid", "host"), ("--log-driver", "none")])
def test_no_descriptor_leaks(daemon, options):
    daemon.docker("run", "-d", *options, "--name", "ctr", IMAGE, "sleep", "1000")
    pid = pid_of(daemon)
    assert set(fds(pid)) == {0, 1, 2}
    for target in fds(pid).values():
        assert re.match(r"/dev/null|pipe:|socket:|/dev/pts/\d+|/\d+$", target), target
    daemon.docker("exec", "-d", "ctr", "sleep", "999")
    def execd():
        rows = daemon.json("GET", "/containers/ctr/top?ps_args=-o+pid,args")["Processes"]
        return [int(row[0]) for row in rows if row[1] == "sleep 999"]
    wait_until(execd, what="the exec")
    for other in execd():
        assert set(fds(other)) == {0, 1, 2}


def test_capabilities(daemon, inside):
    volume = ("-v", f"{inside}:/inside:ro")
    def caps(*options, exec_options=()):
        daemon.docker("run", "-d", "--name", "ctr", *volume, *options, IMAGE, "sleep", "1000")
        try:
            shown = daemon.docker("exec", *exec_options, "ctr", "/inside", "caps").out
            with open(f"/proc/{pid_of(daemon)}/status") as f:
                first = read("".join(line for line in f if line.startswith("Cap")))
            return read(shown), first
        finally:
            daemon.docker("rm", "-f", "ctr")
    for shown in caps():
        assert int(shown["CapBnd"][0], 16) == int(shown["CapEff"][0], 16) == int(shown["CapPrm"][0], 16) == DEFAULT_CAPABILITIES
        assert int(shown["CapInh"][0], 16) == int(shown["CapAmb"][0], 16) == 0
    shown, _ = caps("--user", "1000", exec_options=("-u", "1000"))
    assert int(shown["CapEff"][0], 16) == int(shown["CapPrm"][0], 16) == int(shown["CapInh"][0], 16) == int(shown["CapAmb"][0], 16) == 0
    for shown in caps("--privileged", exec_options=("--privileged",)):
        assert int(shown["CapInh"][0], 16) == int(shown["CapAmb"][0], 16) == 0
    for shown in caps("--cap-drop", "ALL"):
        assert int(shown["CapBnd"][0], 16) == int(shown["CapEff"][0], 16) == 0
    shown, _ = caps("--security-opt", "no-new-privileges")
    assert shown["NoNewPrivs"] == ["1"] and shown["Seccomp"] == ["2"] and shown["Securebits"] == ["0"]


def test_groups_are_those_of_the_image_alone(daemon, inside):
    os.setgroups([4242])        # what the daemon was started with must not come through
    try:
        daemon.restart()
    finally:
        os.setgroups([])
    try:
        def groups(*options):
            return daemon.docker("run", "--rm", "-v", f"{inside}:/inside:ro", *options, IMAGE, "/inside", "caps").out
        assert read(groups("--user", "1000"))["Groups"] == ["0"]     # the primary group, as Docker has it
        assert read(groups("--user", "1000:5"))["Groups"] == ["5"]
        assert set(read(groups("--user", "1000:5", "--group-add", "77"))["Groups"]) == {"5", "77"}
        assert "4242" not in read(groups())["Groups"]
        daemon.docker("run", "-d", "--name", "ctr", "-v", f"{inside}:/inside:ro", IMAGE, "sleep", "1000")
        assert "4242" not in read(daemon.docker("exec", "ctr", "/inside", "caps").out)["Groups"]
        assert read(daemon.docker("exec", "-u", "1000", "ctr", "/inside", "caps").out)["Groups"] == ["0"]
    finally:
        daemon.restart()


def test_keyrings(daemon, inside):
    """By default keys are out of reach; where a container may, its session keyring is its own."""
    out = daemon.docker("run", "--rm", "-v", f"{inside}:/inside:ro", IMAGE, "/inside", "keyring").out
    assert out.count("not permitted") == 2, out
    seen = set()
    for _ in range(2):
        out = daemon.docker("run", "--rm", "--security-opt", "seccomp=unconfined", "-v", f"{inside}:/inside:ro", IMAGE, "/inside", "keyring").out
        session = re.search(r"session (-?\d+) ?(.*)", out)
        if "not implemented" in session.group(2):
            pytest.skip("no keyrings in this kernel")
        assert int(session.group(1)) > 0 and re.search(r"key \d+", out), out
        seen.add(session.group(1))
    daemon.docker("run", "-d", "--name", "ctr", "--security-opt", "seccomp=unconfined", "-v", f"{inside}:/inside:ro", IMAGE, "sh", "-c",
                  "/inside keyring; sleep 1000")
    wait_until(lambda: "key " in daemon.docker("logs", "ctr").out, what="the key")
    first = re.search(r"session (\d+)", daemon.docker("logs", "ctr").out).group(1)
    assert re.search(r"session (\d+)", daemon.docker("exec", "ctr", "/inside", "keyring").out).group(1) == first and first not in seen
    daemons = str(ctypes.CDLL(None).syscall(250, 0, -3, 0))        # keyctl: what the daemon has inherited from us
    assert len(seen) == 2 and daemons not in seen


def test_calls_that_a_container_has_no_business_with(daemon, inside):
    out = daemon.docker("run", "--rm", "-v", f"{inside}:/inside:ro", IMAGE, "/inside", "calls").out
    results = dict(line.split(" ", 1) for line in out.splitlines())
    assert results.pop("personality-ok") == "done"
    assert results and all(result in ("Operation not permitted", "Permission denied", "Function not implemented") for result in results.values()), results


def test_masked_and_read_only_paths(daemon):
    out = daemon.docker("run", "--rm", IMAGE, "sh", "-c",
                        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && head -c 1 $f | wc -c; done;"
                        "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/profiling /sys/fs/cgroup/x; do"
                        " echo x 2>/dev/null >$f && echo WRITTEN $f; done; mkdir /sys/fs/cgroup/new 2>/dev/null && echo MADE; echo end").out
    assert "WRITTEN" not in out and "MADE" not in out and out.endswith("end\n") and "1" not in out.split("end")[0].split()


def test_devices_of_the_host(daemon):
    """A node can be made, as Docker allows; what it stands for cannot be opened."""
    for node in ("b 7 0", "b 8 0", "c 1 1", "c 10 200", "c 1 11"):
        done = daemon.docker("run", "--rm", IMAGE, "sh", "-c", f"mknod /node {node} && exec 3<>/node && echo OPENED", check=False)
        assert "OPENED" not in done.out, node
    out = daemon.docker("run", "--rm", IMAGE, "ls", "/dev").out.split()
    assert not {"mem", "kmem", "port", "kmsg", "sda", "vda", "loop0", "loop-control", "kvm", "net", "fuse"} & set(out)


def test_nothing_of_the_daemon_is_within_reach(daemon):
    script = f"ls -d {daemon.run_dir} {daemon.root} /run/gantry /var/lib/gantry 2>/dev/null; cat /proc/net/unix"
    out = daemon.docker("run", "--rm", "--network", "host", IMAGE, "sh", "-c", script, check=False).out
    assert not any(line.startswith(("/run/g", "/var/")) for line in out.splitlines())
    abstract = [line.split()[-1] for line in out.splitlines() if line.split() and line.split()[-1].startswith("@")]
    assert not [name for name in abstract if "gantry" in name or "shim" in name], abstract
    daemon.docker("run", "-d", "--name", "ctr", IMAGE, "sleep", "1000")
    others = daemon.docker("run", "--rm", IMAGE, "sh", "-c", "ls /proc | grep -c '^[0-9]'").out
    assert int(others) <= 6, "processes of others are seen"


def test_the_shim_cannot_be_overwritten(daemon, inside):
    """What enters a container is a program of the host until it becomes the container's: /proc/PID/exe leads to it."""
    program = os.path.join(BUILD, "libexec", "gantry-shim")
    before = hashlib.sha256(open(program, "rb").read()).digest()
    daemon.docker("run", "-d", "--name", "ctr", "-v", f"{inside}:/inside:ro", IMAGE, "/inside", "overwrite", "6")
    end = time.monotonic() + 5
    with_self = without = 0
    while time.monotonic() < end:
        daemon.docker("exec", "ctr", "/proc/self/exe", check=False)
        without += daemon.docker("exec", "ctr", "true", check=False).code == 0
        with_self += 1
    wait_until(lambda: daemon.state("ctr") == "exited", 30, what="the end of the attempts")
    out = daemon.docker("logs", "ctr").out
    assert int(re.search(r"tried (\d+)", out).group(1)) > 0 and without > 0
    assert re.search(r"written 0$", out.strip()), out
    assert hashlib.sha256(open(program, "rb").read()).digest() == before
    # An image whose program is the one that starts it.
    done = daemon.docker("run", "--rm", IMAGE, "/proc/self/exe", "x", check=False, timeout=60)
    assert "gantry-shim" not in done.out


def test_cp_while_a_directory_becomes_a_link(daemon, inside, tmp_path):
    """Nothing is written to, or read from, where the link leads on the host."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("secret of the host")
    (tmp_path / "payload").write_text("payload")
    daemon.docker("run", "-d", "--name", "ctr", "-v", f"{inside}:/inside:ro", IMAGE, "/inside", "swap", "8", "/place", str(victim))
    wait_until(lambda: daemon.docker("exec", "ctr", "ls", "-d", "/place.link", "/place", check=False).out, what="the swapping")
    copied = tried = 0
    while daemon.state("ctr") == "running":
        copied += daemon.docker("cp", str(tmp_path / "payload"), "ctr:/place/payload", check=False).code == 0
        out = daemon.docker("cp", "ctr:/place/secret", str(tmp_path / "out"), check=False)
        assert out.code != 0 or (tmp_path / "out").read_text() != "secret of the host"
        tried += 1
    assert tried > 3 and copied > 0
    assert sorted(os.listdir(victim)) == ["secret"] and (victim / "secret").read_text() == "secret of the host"


def test_a_subpath_that_becomes_a_link(daemon, inside, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("secret of the host")
    daemon.docker("volume", "create", "vol")
    daemon.docker("run", "-d", "--name", "ctr", "-v", f"{inside}:/inside:ro", "-v", "vol:/vol", IMAGE, "/inside", "swap", "8", "/vol/place", str(victim))
    wait_until(lambda: daemon.docker("exec", "ctr", "ls", "/vol/place", check=False).code == 0, what="the swapping")
    outcomes = set()
    while daemon.state("ctr") == "running":
        done = daemon.docker("run", "--rm", "--mount", "type=volume,src=vol,dst=/mnt,volume-subpath=place", IMAGE, "cat", "/mnt/secret", check=False)
        assert "secret of the host" not in done.out
        outcomes.add(done.code)
    assert outcomes
    daemon.docker("rm", "-f", "ctr")
    daemon.docker("volume", "rm", "vol")


def test_published_where_asked_and_only_there(daemon):
    daemon.docker("run", "-d", "--name", "ctr", "-p", "127.0.0.1:18081:80", "-p", "127.0.0.2:18082:80/udp", IMAGE, "httpd", "-f", "-p", "80")
    listening = run(*daemon.in_netns("ss", "-Hlntu")).out
    addresses = {line.split()[4] for line in listening.splitlines() if ":1808" in line}
    assert addresses <= {"127.0.0.1:18081", "127.0.0.2:18082"}, listening
    gateway = daemon.inspect("ctr")["NetworkSettings"]["Gateway"] or next(iter(daemon.inspect("ctr")["NetworkSettings"]["Networks"].values()))["Gateway"]
    def code(address):
        return subprocess.run(daemon.in_netns("curl", "-s", "-o", "/dev/null", "--max-time", "3", f"http://{address}:18081/"), capture_output=True).returncode
    wait_until(lambda: code("127.0.0.1") == 0, what="the published port")
    assert code(gateway) != 0 and code("127.0.0.2") != 0
