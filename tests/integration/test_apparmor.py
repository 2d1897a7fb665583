"""Containers under AppArmor: the default profile, others, none. What the kernel says is asked of the kernel. (make vm has such a kernel.)"""

import json
import os
import subprocess

import pytest

from harness import IMAGE, run

FILES = "/sys/kernel/security/apparmor"
ON = os.path.exists(FILES + "/.replace")
DEFAULT = "gantry-default"

pytestmark = pytest.mark.skipif(not ON, reason="this kernel has no AppArmor switched on")


def profile(daemon, *options, command=("cat", "/proc/self/attr/current")):
    return daemon.docker("run", "--rm", *options, IMAGE, *command).out.strip()


def loaded(name):
    with open(FILES + "/profiles") as f:
        return any(line.startswith(name + " (") for line in f)


def unload(name):
    with open(FILES + "/.remove", "wb", buffering=0) as f:
        f.write(name.encode())


@pytest.fixture
def own_profile(tmp_path):
    """A profile that takes /etc/passwd away, and lets the rest."""
    name = f"gtt-profile-{os.getpid()}"
    text = f"profile {name} flags=(attach_disconnected) {{ capability, network, file, signal, ptrace, mount, umount, deny /etc/passwd rw, }}"
    path = tmp_path / "profile"
    path.write_text(text)
    subprocess.run(["apparmor_parser", "-r", "-K", str(path)], check=True)
    yield name
    unload(name)


def test_the_default_profile_holds_whoever_asks_for_nothing(daemon):
    assert profile(daemon) == DEFAULT + " (enforce)"
    assert profile(daemon, "--security-opt", "apparmor=docker-default") == DEFAULT + " (enforce)"
    assert profile(daemon, "--security-opt", "no-new-privileges", "--user", "1000") == DEFAULT + " (enforce)"
    assert profile(daemon, "--init") == DEFAULT + " (enforce)"
    assert profile(daemon, "--privileged") == "unconfined"
    assert profile(daemon, "--security-opt", "apparmor=unconfined") == "unconfined"
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    assert daemon.docker("exec", "c1", "cat", "/proc/self/attr/current").out.strip() == DEFAULT + " (enforce)"
    assert daemon.docker("exec", "--privileged", "c1", "cat", "/proc/self/attr/current").out.strip() == DEFAULT + " (enforce)"


def test_it_is_told(daemon):
    assert "name=apparmor" in daemon.json("GET", "/info")["SecurityOptions"]
    for options, wanted in (([], DEFAULT), (["--privileged"], "unconfined"), (["--security-opt", "apparmor=unconfined"], "unconfined"),
                            (["--security-opt", "apparmor=docker-default"], DEFAULT)):
        daemon.docker("create", "--name", "c1", *options, IMAGE, "true")
        assert daemon.inspect("c1")["AppArmorProfile"] == wanted
        daemon.docker("rm", "c1")


def test_the_hosts_parts_of_proc_and_sys_are_out_of_reach(daemon):
    """Even with what else holds a container taken away: all capabilities, no seccomp, nothing masked."""
    strong = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
    script = """
    try() { if "$@" 2>/dev/null; then echo "could: $*"; fi; }
    write() { echo "$1" >"$2"; }
    try write 60 /proc/sys/vm/swappiness
    try write core /proc/sys/kernel/core_pattern
    try write h /proc/sysrq-trigger
    try write 1 /proc/sys/kernel/sysrq
    try write 1 /proc/sys/net/ipv4/ip_default_ttl
    try cat /proc/kcore
    try mount -t tmpfs tmpfs /mnt
    try mount -t proc proc /mnt
    try mount -o remount,rw /sys
    try mount --bind /etc /mnt
    try write 1 /sys/kernel/mm/ksm/run
    try ls /sys/kernel/security/apparmor
    try ls /sys/firmware/acpi
    write 5000 /proc/sys/kernel/msgmni && write 5000 /proc/sys/kernel/shmmni && echo works
    """
    assert daemon.docker("run", "--rm", *strong, IMAGE, "sh", "-c", script).out == "works\n"


def test_ordinary_work_goes_on(daemon):
    script = ("umount /dev/mqueue && echo $$ >/dev/null && sleep 100 & p=$!; kill $p; wait $p; echo killed $?; "
              "touch /etc/new /tmp/new && rm /etc/new && ls /proc/1/ns >/dev/null && ping -c 1 127.0.0.1 >/dev/null && chown 1:1 /tmp/new && echo fine")
    assert daemon.docker("run", "--rm", "--cap-add", "SYS_ADMIN", IMAGE, "sh", "-c", script).out == "killed 143\nfine\n"
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    daemon.docker("pause", "c1")
    daemon.docker("unpause", "c1")
    daemon.docker("exec", "c1", "kill", "-0", "1")
    daemon.docker("stop", "-t", "1", "c1")
    assert daemon.inspect("c1")["State"]["ExitCode"] in (137, 143)


def test_a_profile_by_name(daemon, own_profile):
    options = ["--security-opt", f"apparmor={own_profile}"]
    assert profile(daemon, *options) == own_profile + " (enforce)"
    assert profile(daemon, "--privileged", *options) == own_profile + " (enforce)"
    denied = daemon.docker("run", "--rm", *options, IMAGE, "cat", "/etc/passwd", check=False)
    assert denied.code == 1 and "Permission denied" in denied.err
    daemon.docker("run", "-d", "--name", "c1", *options, IMAGE, "sleep", "1000")
    assert daemon.inspect("c1")["AppArmorProfile"] == own_profile
    assert daemon.docker("exec", "c1", "cat", "/etc/passwd", check=False).code == 1


def test_a_profile_that_is_not_there(daemon, own_profile):
    for name in ("no-such-profile", "gantry-defaul", "x" * 256, ""):
        answer = daemon.api("POST", "/containers/create", {"Image": IMAGE, "HostConfig": {"SecurityOpt": ["apparmor=" + name]}})
        assert answer.status == 400 and "apparmor" in json.loads(answer.body)["message"], answer.body
    assert daemon.json("GET", "/containers/json?all=1") == []
    daemon.docker("create", "--name", "c1", "--security-opt", f"apparmor={own_profile}", IMAGE, "true")
    unload(own_profile)
    try:
        answer = daemon.api("POST", "/containers/c1/start")
        assert answer.status == 400 and own_profile in json.loads(answer.body)["message"], answer.body
        assert daemon.state("c1") == "created"
    finally:
        with open(FILES + "/.load", "wb", buffering=0) as f:    # for the fixture to remove
            f.write(subprocess.run(["apparmor_parser", "-K", "-Q", "--stdout"], check=True, capture_output=True,
                                   input=f"profile {own_profile} {{ }}".encode()).stdout)


def test_the_default_profile_comes_back_when_someone_takes_it_away(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    unload(DEFAULT)
    assert not loaded(DEFAULT)
    assert daemon.docker("exec", "c1", "cat", "/proc/self/attr/current").out.strip() == DEFAULT + " (enforce)"
    unload(DEFAULT)
    assert profile(daemon) == DEFAULT + " (enforce)"
    assert loaded(DEFAULT)


def test_a_daemon_that_comes_back_brings_its_profile_and_containers_stay(fresh_daemon):
    fresh_daemon.start()
    fresh_daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    fresh_daemon.restart(crash=True)
    pid = fresh_daemon.inspect("c1")["State"]["Pid"]
    assert run("cat", f"/proc/{pid}/attr/current").out.strip() == DEFAULT + " (enforce)"
    fresh_daemon.docker("exec", "c1", "true")
    fresh_daemon.docker("rm", "-f", "c1")
