"""Cgroup v2 alone: what the kernel does with a container's cgroup there. (make vm has such a kernel; v1's and the hybrid world are everywhere else here.)"""

import os

import pytest

from harness import CGROUP, IMAGE, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(CGROUP + "/cgroup.controllers"), reason="this host has v1 controllers")


def where(daemon, name="c1"):
    return CGROUP + daemon.cgroup_parent + "/" + daemon.inspect(name)["Id"]


def value(path):
    with open(path) as f:
        return f.read().strip()


def options_of_cgroup2():
    """Of the hierarchy, as the host sees it."""
    with open("/proc/self/mountinfo") as f:
        return next(line.split()[-1] for line in f if " - cgroup2 " in line)


def test_the_world_is_told(daemon):
    info = daemon.json("GET", "/info")
    assert info["CgroupVersion"] == "2" and info["CgroupDriver"] == "cgroupfs" and "name=cgroupns" in info["SecurityOptions"]
    assert info["MemoryLimit"] and info["SwapLimit"] and info["PidsLimit"] and info["CpuCfsQuota"] and info["CPUSet"] and not info["OomKillDisable"]


def test_a_container_sees_its_own_cgroup_as_the_root(daemon):
    out = daemon.docker("run", "--rm", "-m", "64m", IMAGE, "sh", "-c", "grep ^0: /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; ls /sys/fs/cgroup/session 2>&1; "
                        "mkdir /sys/fs/cgroup/x 2>&1; true").out.splitlines()
    assert out[:2] == ["0::/", str(64 << 20)] and "No such file" in out[2] and "Read-only file system" in out[3]


def test_the_hosts_cgroup_namespace_shows_all_and_changes_no_option(daemon):
    before = options_of_cgroup2()
    script = "grep ^0: /proc/self/cgroup; cat /sys/fs/cgroup$(grep ^0: /proc/self/cgroup | cut -d: -f3)/pids.max; mkdir /sys/fs/cgroup/x 2>&1; true"
    out = daemon.docker("run", "--rm", "--cgroupns", "host", "--pids-limit", "55", IMAGE, "sh", "-c", script).out.splitlines()
    assert out[0].startswith("0::" + daemon.cgroup_parent + "/") and out[1] == "55" and "Read-only" in out[2]
    assert options_of_cgroup2() == before
    assert "0::/\n" in daemon.docker("run", "--rm", IMAGE, "cat", "/proc/self/cgroup").out
    assert options_of_cgroup2() == before


def test_a_privileged_container_runs_cgroups_of_its_own_and_leaves_none(daemon):
    script = ("cd /sys/fs/cgroup && mkdir -p init a/b && echo $$ >init/cgroup.procs && echo '+memory +pids' >cgroup.subtree_control && "
              "echo 33 >a/pids.max && cat a/pids.max && (echo 0 >a/b/cgroup.procs; cat /proc/self/cgroup; sleep 1000 &) && echo made")
    daemon.docker("run", "-d", "--name", "c1", "--privileged", IMAGE, "sh", "-c", script + "; exec sleep 1000")
    wait_until(lambda: "made" in daemon.docker("logs", "c1").out, 15, "cgroups of its own")
    assert daemon.docker("logs", "c1").out.splitlines() == ["33", "0::/a/b", "made"]
    path = where(daemon)
    assert os.path.isdir(path + "/a/b") and value(path + "/a/b/cgroup.procs")
    assert len(daemon.json("GET", "/containers/c1/top")["Processes"]) == 2      # those below count
    assert daemon.docker("exec", "c1", "cat", "/proc/self/cgroup").out.startswith("0::/")   # its root has processes no more: see the exec below
    daemon.docker("pause", "c1")
    assert "frozen 1" in value(path + "/a/b/cgroup.events")
    daemon.docker("unpause", "c1")
    daemon.docker("kill", "c1")
    wait_until(lambda: not os.path.exists(path), what="its cgroups gone")


def test_swap_has_a_limit_of_its_own(daemon):
    for options, wanted in (([], "max"), (["-m", "32m"], str(32 << 20)), (["-m", "32m", "--memory-swap", "32m"], "0"), (["-m", "32m", "--memory-swap", "-1"], "max"),
                            (["-m", "32m", "--memory-swap", "48m"], str(16 << 20))):
        daemon.docker("run", "-d", "--name", "c1", *options, IMAGE, "sleep", "1000")
        assert value(where(daemon) + "/memory.swap.max") == wanted, options
        daemon.docker("rm", "-f", "c1")


def test_out_of_memory_is_told(daemon):
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=60 2>/dev/null; exit 3"
    daemon.docker("run", "--name", "c1", "-m", "16m", "--memory-swap", "16m", "--shm-size", "64m", IMAGE, "sh", "-c", "exec sh -c 'x=$(yes | head -c 60000000)'; " + script,
                  check=False)
    state = daemon.inspect("c1")["State"]
    assert state["OOMKilled"] is True and state["ExitCode"] == 137


def test_devices_are_held_by_a_program(daemon):
    daemon.docker("run", "-d", "--name", "c1", "--cap-add", "MKNOD", "--device-cgroup-rule", "b 7:* r", IMAGE, "sleep", "1000")
    script = ("mknod /null c 1 3 && echo x >/null && echo null; mknod /loop b 7 0 && cat /loop && echo read; (echo x >/loop) 2>&1; "
              "for number in 'c 1 1' 'c 1 11' 'b 254 0' 'c 10 229'; do mknod /other $number && cat /other 2>&1; rm /other; done")
    out = daemon.docker("exec", "c1", "sh", "-c", script).out.splitlines()
    assert out[:2] == ["null", "read"] and len(out) == 7 and all("Operation not permitted" in line for line in out[2:]), out


def test_an_engine_inside_may_have_device_rules_of_its_own(daemon):
    """What such an engine would do, by this one: a container's cgroup below another's."""
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    parent = f"{daemon.cgroup_parent}/{daemon.inspect('c1')['Id']}/inside"
    second = daemon.json("POST", "/containers/create?name=c2", {"Image": IMAGE, "Cmd": ["sh", "-c", "echo x >/dev/null && echo fine"],
                                                               "HostConfig": {"CgroupParent": parent}})
    assert daemon.api("POST", f"/containers/{second['Id']}/start").status == 204
    daemon.docker("wait", "c2")
    assert daemon.docker("logs", "c2").out == "fine\n"


def test_figures(daemon):
    daemon.docker("run", "-d", "--name", "c1", "-m", "64m", "--pids-limit", "40", IMAGE, "sh", "-c", "dd if=/dev/zero of=/x bs=1M count=8 conv=fsync 2>/dev/null; while :; do :; done")

    def stats():
        return daemon.json("GET", "/containers/c1/stats?stream=0&one-shot=1")

    wait_until(lambda: stats()["cpu_stats"]["cpu_usage"]["total_usage"] > 100_000_000, 20, "CPU time")
    seen = stats()
    assert seen["memory_stats"]["limit"] == 64 << 20 and 0 < seen["memory_stats"]["usage"] < 64 << 20 and "anon" in seen["memory_stats"]["stats"]
    assert seen["pids_stats"] == {"current": 1, "limit": 40}
    assert any(entry["op"] == "write" for entry in seen["blkio_stats"]["io_service_bytes_recursive"])
    assert "percpu_usage" not in seen["cpu_stats"]["cpu_usage"]
    daemon.docker("kill", "c1")
