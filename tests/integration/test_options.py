"""Options of create that the command lines hide or that need a look from inside: each is in force, or refused by its name."""

import json
import os
import re
import socket

import pytest

from harness import CGROUP, IMAGE, SLOW, run, wait_until


def create(daemon, *cmd, name="c1", host=None, networking=None, **config):
    body = {"Image": IMAGE, "Cmd": list(cmd), "HostConfig": host or {}, **config}
    if networking:
        body["NetworkingConfig"] = networking
    return daemon.api("POST", f"/containers/create?name={name}", body)


def output(daemon, script, host=None, **config):
    """What a container's shell says under these options; it must end with 0."""
    made = create(daemon, "sh", "-c", script, host=host, **config)
    assert made.status == 201, made.body
    started = daemon.api("POST", "/containers/c1/start")
    assert started.status == 204, started.body
    code = daemon.json("POST", "/containers/c1/wait")["StatusCode"]
    logs = daemon.docker("logs", "c1")
    daemon.api("DELETE", "/containers/c1?v=1")
    assert code == 0, (code, logs)
    return logs.out


def refusal(daemon, **kw):
    made = create(daemon, "true", **kw)
    assert made.status in (400, 501), (made.status, made.body)
    assert daemon.json("GET", "/containers/json?all=1") == []
    return json.loads(made.body)["message"]


def cgroup_value(cid, name):
    """The file of the container's cgroup in whichever hierarchy has it."""
    for root, dirs, files in os.walk(CGROUP):
        if root.endswith("/" + cid) and name in files:
            with open(os.path.join(root, name)) as f:
                return f.read().strip()
    return None


def first_disk():
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}") and not name.startswith(("loop", "ram", "zram")):
            return f"/dev/{name}"
    return None


V1 = os.path.isdir(os.path.join(CGROUP, "memory"))

# ---- resources ----


@pytest.mark.skipif(V1, reason="file names of cgroup v2")
def test_resources_are_in_the_v2_cgroup(daemon):
    host = {"CpuShares": 300, "CpuPeriod": 50000, "CpuQuota": 25000, "CpusetCpus": "0", "CpusetMems": "0", "Memory": 64 << 20, "MemorySwap": 96 << 20,
            "MemoryReservation": 32 << 20, "PidsLimit": 77, "OomScoreAdj": 123}
    assert create(daemon, "sleep", "100", host=host).status == 201
    assert daemon.api("POST", "/containers/c1/start").status == 204
    inspect = daemon.inspect("c1")
    wanted = {"cpu.weight": "12", "cpu.max": "25000 50000", "cpuset.cpus": "0", "cpuset.mems": "0", "memory.max": str(64 << 20),
              "memory.swap.max": str(32 << 20), "memory.low": str(32 << 20), "pids.max": "77"}
    assert {name: cgroup_value(inspect["Id"], name) for name in wanted} == wanted
    with open(f"/proc/{inspect['State']['Pid']}/oom_score_adj") as f:
        assert f.read().strip() == "123"
    assert {k: inspect["HostConfig"][k] for k in host} == host
    daemon.json("POST", "/containers/c1/update", {"Memory": 128 << 20, "MemorySwap": -1, "NanoCpus": 0, "CpuShares": 1024, "PidsLimit": -1})
    wanted |= {"cpu.weight": "39", "memory.max": str(128 << 20), "memory.swap.max": "max", "pids.max": "max"}
    assert {name: cgroup_value(inspect["Id"], name) for name in wanted} == wanted


@pytest.mark.skipif(not V1, reason="file names of cgroup v1")
def test_resources_are_in_the_cgroup(daemon):
    host = {"CpuShares": 300, "CpuPeriod": 50000, "CpuQuota": 25000, "CpusetCpus": "0", "CpusetMems": "0", "Memory": 64 << 20, "MemorySwap": 96 << 20,
            "MemoryReservation": 32 << 20, "MemorySwappiness": 7, "PidsLimit": 77, "OomKillDisable": True, "OomScoreAdj": 123}
    assert create(daemon, "sleep", "100", host=host).status == 201
    assert daemon.api("POST", "/containers/c1/start").status == 204
    inspect = daemon.inspect("c1")
    wanted = {"cpu.shares": "300", "cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "25000", "cpuset.cpus": "0", "cpuset.mems": "0",
              "memory.limit_in_bytes": str(64 << 20), "memory.memsw.limit_in_bytes": str(96 << 20),
              "memory.soft_limit_in_bytes": str(32 << 20), "memory.swappiness": "7", "pids.max": "77"}
    assert {name: cgroup_value(inspect["Id"], name) for name in wanted} == wanted
    assert "oom_kill_disable 1" in cgroup_value(inspect["Id"], "memory.oom_control")
    with open(f"/proc/{inspect['State']['Pid']}/oom_score_adj") as f:
        assert f.read().strip() == "123"
    assert {k: inspect["HostConfig"][k] for k in host} == host


def test_what_nobody_asked_for_is_left_out_where_docker_leaves_it_out(daemon):
    assert create(daemon, "true", host={"Init": False}, StopTimeout=0).status == 201
    inspect = daemon.json("GET", "/containers/c1/json")
    assert inspect["HostConfig"]["Init"] is False and inspect["Config"]["StopTimeout"] == 0
    left_out = {"Annotations", "Tmpfs", "Sysctls", "StorageOpt", "Mounts"} & set(inspect["HostConfig"])
    left_out |= {"Healthcheck", "MacAddress", "Shell", "StopSignal", "ExposedPorts", "NetworkDisabled"} & set(inspect["Config"])
    assert not left_out
    own = inspect["GraphDriver"]["Data"]
    assert own["ID"] == inspect["Id"] and all(os.path.isdir(path) for path in [own["UpperDir"], own["WorkDir"], *own["LowerDir"].split(":")])
    assert inspect["HostConfig"]["PidsLimit"] is None and inspect["HostConfig"]["CapAdd"] is None


@pytest.mark.skipif(not first_disk(), reason="no disk")
def test_block_io_limits(daemon):
    disk = first_disk()
    number = f"{os.major(os.stat(disk).st_rdev)}:{os.minor(os.stat(disk).st_rdev)}"
    host = {f"BlkioDevice{what}": [{"Path": disk, "Rate": rate}] for what, rate in (("ReadBps", 1 << 20), ("WriteBps", 2 << 20), ("ReadIOps", 300),
                                                                                     ("WriteIOps", 400))}
    assert create(daemon, "sleep", "100", host=host).status == 201
    assert daemon.api("POST", "/containers/c1/start").status == 204
    cid = daemon.inspect("c1")["Id"]
    if not V1:
        assert cgroup_value(cid, "io.max") == f"{number} rbps={1 << 20} wbps={2 << 20} riops=300 wiops=400"
        return
    values = [cgroup_value(cid, f"blkio.throttle.{name}_device") for name in ("read_bps", "write_bps", "read_iops", "write_iops")]
    assert values == [f"{number} {1 << 20}", f"{number} {2 << 20}", f"{number} 300", f"{number} 400"]


REFUSED = [
    ({"KernelMemory": 1 << 24}, "KernelMemory"), ({"KernelMemoryTCP": 1 << 24}, "KernelMemoryTCP"), ({"CpuCount": 1}, "CpuCount"),
    ({"CpuPercent": 1}, "CpuPercent"), ({"IOMaximumIOps": 5}, "IOMaximumIOps"), ({"IOMaximumBandwidth": 5}, "IOMaximumBandwidth"),
    ({"Isolation": "hyperv"}, "isolation"), ({"Runtime": "other"}, "runtime"), ({"Cgroup": "x"}, "Cgroup"), ({"BlkioWeight": 5}, "blkio weight"),
    ({"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]}, "/dev/null"), ({"CpusetCpus": "4000"}, "4000"), ({"CpuPeriod": 1}, "period"),
    ({"NanoCpus": 10**13}, "CPUs"), ({"MemorySwappiness": 101}, "swappiness"), ({"OomScoreAdj": 1001}, "1001"), ({"ShmSize": -1}, "SHM"),
    ({"Ulimits": [{"Name": "nonsense", "Soft": 1, "Hard": 1}]}, "nonsense"), ({"Sysctls": {"vm.swappiness": "1"}}, "vm.swappiness"),
    ({"Sysctls": {"net.ipv4.ip_forward": "1"}, "NetworkMode": "host"}, "net.ipv4.ip_forward"), ({"CapAdd": ["NONSENSE"]}, "NONSENSE"),
    ({"SecurityOpt": ["label=type:x"]}, "label=type:x"), ({"SecurityOpt": ["nonsense=1"]}, "nonsense"),
    ({"SecurityOpt": ["apparmor=no-such-profile"]}, "no-such-profile"), ({"IpcMode": "nonsense"}, "IPC"),
    ({"PidMode": "nonsense"}, "PID"), ({"UTSMode": "nonsense"}, "UTS"), ({"UsernsMode": "nonsense"}, "userns"),
    ({"CgroupnsMode": "nonsense"}, "cgroup namespace"), ({"Annotations": {"org.gantry.init": "/x"}}, "org.gantry.init"),
    ({"DeviceCgroupRules": ["nonsense"]}, "nonsense"), ({"Devices": [{"PathOnHost": "/etc/passwd"}]}, "/etc/passwd"),
    ({"LogConfig": {"Type": "splunk"}}, "splunk"), ({"LogConfig": {"Type": "json-file", "Config": {"colour": "red"}}}, "colour"),
    ({"Mounts": [{"Type": "cluster", "Source": "x", "Target": "/x"}]}, "cluster"), ({"Mounts": [{"Type": "npipe", "Source": "x", "Target": "/x"}]}, "npipe"),
    ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {}}]}, "another type"),
    ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x", "Consistency": "sometimes"}]}, "consistency"),
    ({"StorageOpt": {"size": "1G"}}, "StorageOpt"),
    ({"Mounts": [{"Type": "image", "Source": "no-such-image", "Target": "/x"}]}, "no-such-image"), ({"Mounts": [{"Type": "image", "Target": "/x"}]}, "Source"),
    ({"Mounts": [{"Type": "image", "Source": IMAGE, "Target": "/x", "ImageOptions": {"Subpath": "../x"}}]}, "subpath"),
]


@pytest.mark.parametrize("host, words", REFUSED, ids=[f"{next(iter(h))}-{i}" for i, (h, _) in enumerate(REFUSED)])
def test_what_is_not_offered_is_refused_by_name(daemon, host, words):
    if "Devices" in host:
        assert create(daemon, "true", host=host).status == 201      # as with Docker, nodes are looked at when it starts
        answer = daemon.api("POST", "/containers/c1/start")
        assert answer.status == 400 and words in json.loads(answer.body)["message"]
        return
    message = refusal(daemon, host=host)
    assert words.lower() in message.lower(), message


@pytest.mark.skipif(os.path.exists(os.path.join(CGROUP, "cpu", "cpu.rt_runtime_us")), reason="this kernel has real-time groups")
def test_real_time_is_refused_where_the_kernel_has_none(daemon):
    assert "real-time" in refusal(daemon, host={"CpuRealtimeRuntime": 1000, "CpuRealtimePeriod": 10000})


# ---- namespaces, devices, users ----

def test_ipc_modes(daemon):
    for name, mode in (("open", "shareable"), ("closed", "private")):
        assert create(daemon, "sleep", "100", name=name, host={"IpcMode": mode}).status == 201
        daemon.api("POST", f"/containers/{name}/start")
    daemon.docker("exec", "open", "sh", "-c", "echo shared > /dev/shm/x")
    assert output(daemon, "cat /dev/shm/x", {"IpcMode": "container:open"}) == "shared\n"
    create(daemon, "true", name="c2", host={"IpcMode": "container:closed"})
    answer = daemon.api("POST", "/containers/c2/start")
    assert answer.status == 409 and "non-shareable IPC" in json.loads(answer.body)["message"]
    assert output(daemon, "ls /dev/shm 2>/dev/null | wc -l; grep -c ' /dev/shm ' /proc/mounts || true", {"IpcMode": "none"}).split() == ["0", "0"]


def test_pid_uts_and_cgroup_namespaces(daemon):
    create(daemon, "sleep", "777", name="other")
    daemon.api("POST", "/containers/other/start")
    assert "sleep 777" in output(daemon, "cat /proc/1/cmdline | tr '\\0' ' '", {"PidMode": "container:other"})
    assert output(daemon, "hostname", {"UTSMode": "host"}).strip() == socket.gethostname()
    own, hosts = (output(daemon, "cat /proc/self/cgroup", {"CgroupnsMode": mode}) for mode in ("private", "host"))
    assert daemon.cgroup_parent in hosts and daemon.cgroup_parent not in own
    assert output(daemon, "cat /proc/self/uid_map", {"UsernsMode": "host"}).split() == ["0", "0", "4294967295"]


def test_devices_and_their_rules(daemon):
    node = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}
    assert output(daemon, "head -c 1 /dev/nothing; stat -c %t:%T /dev/nothing", {"Devices": [node]}) == "1:3\n"
    script = "mknod /tmp/kmsg c 1 11; head -c 0 /tmp/kmsg 2>/dev/null && echo open || echo shut"
    assert output(daemon, script, {"CapAdd": ["SYSLOG"]}) == "shut\n"
    assert output(daemon, script, {"CapAdd": ["SYSLOG"], "DeviceCgroupRules": ["c 1:* r"]}) == "open\n"


def test_limits_groups_sysctls_and_annotations(daemon):
    host = {"Ulimits": [{"Name": "nofile", "Soft": 111, "Hard": 222}, {"Name": "core", "Soft": -1, "Hard": -1}], "GroupAdd": ["123", "video"],
            "Sysctls": {"net.ipv4.ip_default_ttl": "33", "kernel.shmmax": "44444"}, "Annotations": {"org.example.a": "b"}, "OomScoreAdj": 55,
            "ShmSize": 3 << 20, "Init": True, "ReadonlyRootfs": True}
    script = ("ulimit -Sn; ulimit -Hn; id -G; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmax /proc/self/oom_score_adj; "
              "df -k /dev/shm | tail -1 | awk '{print $2}'; cat /proc/1/comm; touch /x 2>/dev/null && echo writable || echo read-only")
    made = create(daemon, "sh", "-c", script, host=host)
    if made.status == 201 and daemon.api("POST", "/containers/c1/start").status != 204:
        daemon.api("DELETE", "/containers/c1")
        host["GroupAdd"] = ["123"]      # the image has no group of that name
    else:
        daemon.api("DELETE", "/containers/c1?force=1")
    lines = output(daemon, script, host).splitlines()
    assert lines[:2] == ["111", "222"] and "123" in lines[2].split()
    assert lines[3:] == ["33", "44444", "55", "3072", lines[7], "read-only"] and "init" in lines[7]


def test_annotations_reach_the_bundle(daemon):
    create(daemon, "sleep", "100", host={"Annotations": {"org.example.a": "b"}})
    daemon.api("POST", "/containers/c1/start")
    with open(f"{daemon.run_dir}/containers/{daemon.inspect('c1')['Id']}/config.json") as f:
        assert json.load(f)["annotations"]["org.example.a"] == "b"


def test_networking_options(daemon):
    daemon.docker("network", "create", "--subnet", "10.86.0.0/24", "n1")
    host = {"NetworkMode": "n1", "ExtraHosts": ["there:10.9.8.7", "gate:host-gateway"], "Dns": ["10.1.1.1"], "DnsSearch": ["example.org"],
            "DnsOptions": ["ndots:3"]}
    networking = {"EndpointsConfig": {"n1": {"IPAMConfig": {"IPv4Address": "10.86.0.77"}, "MacAddress": "02:42:0a:56:00:4d", "Aliases": ["nick"]}}}
    out = output(daemon, "ip addr show eth0; cat /etc/hosts /etc/resolv.conf; hostname; hostname -d 2>/dev/null || true", host, networking=networking,
                 Hostname="me", Domainname="example.net")
    assert "10.86.0.77/24" in out and "02:42:0a:56:00:4d" in out and re.search(r"10\.9\.8\.7\s+there", out)
    assert re.search(r"\d+\.\d+\.\d+\.\d+\s+gate", out) and "search example.org" in out and "ndots:3" in out and "me.example.net" in out
    assert output(daemon, "ip -o link | wc -l", NetworkDisabled=True).strip() == "1"


# ---- mounts ----

@pytest.fixture
def nested(tmp_path):
    """A directory with a mount of its own below it."""
    (tmp_path / "inner").mkdir()
    run("mount", "-t", "tmpfs", "none", str(tmp_path / "inner"))
    yield str(tmp_path)
    run("umount", str(tmp_path / "inner"))


@pytest.mark.parametrize("options, outer, inner", [
    ({}, "ro", "ro"), ({"ReadOnlyForceRecursive": True, "Propagation": "rprivate"}, "ro", "ro"), ({"ReadOnlyNonRecursive": True}, "ro", "rw"),
    ({"NonRecursive": True}, "ro", "none"),
], ids=["recursive", "forced", "non-recursive", "not-bound"])
def test_read_only_binds(daemon, nested, options, outer, inner):
    mount = {"Type": "bind", "Source": nested, "Target": "/m", "ReadOnly": True, "BindOptions": options}
    script = ("touch /m/x 2>/dev/null && echo rw || echo ro; grep -q ' /m/inner ' /proc/mounts || echo none; "
              "touch /m/inner/x 2>/dev/null && echo rw || echo ro")
    lines = output(daemon, script, {"Mounts": [mount]}).split()
    assert lines[:2] == [outer, inner]


def test_a_bind_may_make_its_source(daemon, tmp_path):
    source = str(tmp_path / "made")
    mount = {"Type": "bind", "Source": source, "Target": "/m"}
    assert "does not exist" in refusal(daemon, host={"Mounts": [mount]})
    output(daemon, "touch /m/x", {"Mounts": [{**mount, "BindOptions": {"CreateMountpoint": True}, "Consistency": "cached"}]})
    assert os.path.exists(source + "/x")


def test_tmpfs_options(daemon):
    mount = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 2 << 20, "Mode": 0o1700, "Options": [["exec"], ["nr_inodes", "50"]]}}
    out = output(daemon, "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'; grep ' /t ' /proc/mounts", {"Mounts": [mount]})
    assert out.split()[:2] == ["1700", "2048"] and "noexec" not in out and "nr_inodes=50" in out


def test_image_mounts(daemon):
    daemon.docker("run", "--name", "maker", IMAGE, "sh", "-c", "mkdir -p /data/deep; echo content > /data/deep/f; ln -s /etc /data/out; ln -s deep /data/in")
    daemon.docker("commit", "maker", "content:1")
    daemon.docker("rm", "maker")
    mounts = [{"Type": "image", "Source": "content:1", "Target": "/all"}, {"Type": "image", "Source": IMAGE, "Target": "/same"},
              {"Type": "image", "Source": "content:1", "Target": "/part", "ImageOptions": {"Subpath": "data/in"}},
              {"Type": "image", "Source": "content:1", "Target": "/file", "ImageOptions": {"Subpath": "data/deep/f"}}]
    made = create(daemon, "sh", "-c", "cat /all/data/deep/f /part/f /file; ls -d /same/bin; touch /all/x 2>/dev/null && echo rw || echo ro; exec sleep 100",
                  host={"Mounts": mounts})
    assert made.status == 201, made.body
    shown = {m["Destination"]: m for m in daemon.inspect("c1")["Mounts"]}["/part"]
    assert (shown["Type"], shown["Name"], shown["RW"]) == ("image", "content:1", False) and shown["Source"].startswith("sha256:")
    assert "content" in daemon.docker("cp", "c1:/part/f", "-").out      # of a container that does not run
    daemon.restart(crash=True)
    assert daemon.api("DELETE", "/images/content:1").status == 409      # held, also by a daemon that was not there at create
    assert daemon.api("POST", "/containers/c1/start").status == 204
    wait_until(lambda: len(daemon.docker("logs", "c1").out.split()) == 5, what="the output")
    assert daemon.docker("logs", "c1").out.split() == ["content", "content", "content", "/same/bin", "ro"]
    daemon.api("DELETE", "/containers/c1?force=1")
    assert daemon.api("DELETE", "/images/content:1").status == 200


def test_a_subpath_leads_nowhere_else(daemon):
    daemon.docker("run", "--name", "maker", "-v", "data:/v", IMAGE, "sh", "-c", "ln -s /etc /out; ln -s ../../etc /up; ln -s /etc /v/out; mkdir /v/in; echo x > /v/in/f")
    daemon.docker("commit", "maker", "content:2")
    for subpath in ("out", "up", "missing"):
        mount = {"Type": "image", "Source": "content:2", "Target": "/m", "ImageOptions": {"Subpath": subpath}}
        assert create(daemon, "true", host={"Mounts": [mount]}).status == 201
        assert daemon.api("POST", "/containers/c1/start").status in (400, 404, 500)
        assert daemon.docker("cp", "c1:/m", "-", check=False).code == 1
        daemon.api("DELETE", "/containers/c1")
    mount = {"Type": "volume", "Source": "data", "Target": "/m", "VolumeOptions": {"Subpath": "in"}}
    create(daemon, "true", host={"Mounts": [mount]})
    assert "x\n" in daemon.docker("cp", "c1:/m/f", "-").out
    daemon.docker("rm", "maker", "c1")
    daemon.docker("rmi", "content:2")


# ---- logs ----

@pytest.fixture
def journal():
    """A journal of our own where the host has none; with one of the host's there is nothing to look into."""
    path = "/run/systemd/journal/socket"
    if os.path.exists(path):
        pytest.skip("this host has a journal of its own")
    made = [d for d in ("/run/systemd", "/run/systemd/journal") if not os.path.isdir(d)]
    for d in made:
        os.mkdir(d)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(10 * SLOW)
        yield server
    os.unlink(path)
    for d in reversed(made):
        os.rmdir(d)


def journal_fields(packet):
    fields = {}
    while packet:
        line, _, packet = packet.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(packet[:8], "little")
            value, packet = packet[8:8 + size], packet[9 + size:]
        fields[name.decode()] = value
    return fields


def test_journald(daemon, journal):
    log = {"Type": "journald", "Config": {"tag": "{{.Name}}/{{ .ID }}", "labels": "my-label", "env": "KEY,none"}}
    made = create(daemon, "sh", "-c", "echo one; sleep 0.2; printf 'two\\001' >&2", host={"LogConfig": log}, Labels={"my-label": "x"}, Env=["KEY=value"])
    assert made.status == 201, made.body
    cid = json.loads(made.body)["Id"]
    assert daemon.api("POST", "/containers/c1/start").status == 204
    one, two = (journal_fields(journal.recv(65536)) for _ in range(2))
    assert one.pop("SYSLOG_TIMESTAMP").endswith(b"Z")
    assert one == {"PRIORITY": b"6", "CONTAINER_ID": cid[:12].encode(), "CONTAINER_ID_FULL": cid.encode(), "CONTAINER_NAME": b"c1",
                   "CONTAINER_TAG": f"c1/{cid[:12]}".encode(), "SYSLOG_IDENTIFIER": f"c1/{cid[:12]}".encode(), "IMAGE_NAME": IMAGE.encode(),
                   "MY_LABEL": b"x", "KEY": b"value", "MESSAGE": b"one"}
    assert two["PRIORITY"] == b"3" and two["MESSAGE"] == b"two\x01" and two["CONTAINER_PARTIAL_MESSAGE"] == b"true" and two["CONTAINER_PARTIAL_LAST"] == b"false"
    daemon.json("POST", "/containers/c1/wait")
    assert daemon.docker("logs", "c1").out == "one\n"        # kept beside


@pytest.mark.parametrize("scheme", ["unixgram", "unix"])
@pytest.mark.parametrize("form, pattern", [
    ("", rb"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d TAG\[\d+\]: (.*)"),
    ("rfc3164", rb"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ TAG\[\d+\]: (.*)"),
    ("rfc5424", rb"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S+ TAG \d+ TAG - (.*)"),
    ("rfc5424micro", rb"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ TAG \d+ TAG - (.*)"),
])
def test_syslog(daemon, tmp_path, scheme, form, pattern):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if scheme == "unix" else socket.SOCK_DGRAM) as server:
        server.settimeout(10 * SLOW)
        server.bind(path)
        options = {"syslog-address": f"{scheme}://{path}", "syslog-facility": "local3", "tag": "TAG", "cache-disabled": "true"}
        if form:
            options["syslog-format"] = form
        if scheme == "unix":
            server.listen()
        made = create(daemon, "sh", "-c", "echo one; sleep 0.1; echo two >&2", host={"LogConfig": {"Type": "syslog", "Config": options}})
        assert made.status == 201, made.body
        assert daemon.api("POST", "/containers/c1/start").status == 204
        if scheme == "unix":
            with server.accept()[0] as client:
                client.settimeout(10 * SLOW)
                data = b""
                while piece := client.recv(65536):
                    data += piece
                records = data.splitlines()
        else:
            records = [server.recv(65536) for _ in range(2)]
    found = [re.fullmatch(pattern, r) for r in records]
    assert all(found), records
    assert [m.groups() for m in found] == [(b"158", b"one"), (b"155", b"two")]
    assert "does not support reading" in daemon.docker("logs", "c1", check=False).err


def test_a_log_daemon_that_is_not_there_stops_no_container(daemon, tmp_path):
    options = {"syslog-address": f"unixgram://{tmp_path}/none"}
    out = output(daemon, "for i in 1 2 3; do echo line$i; done", {"LogConfig": {"Type": "syslog", "Config": options}})
    assert out.split() == ["line1", "line2", "line3"]


@pytest.mark.parametrize("driver, options, words", [
    ("syslog", {"syslog-address": "tcp://1.2.3.4:514"}, "syslog-address"), ("syslog", {"syslog-facility": "weather"}, "weather"),
    ("syslog", {"syslog-format": "rfc1"}, "rfc1"), ("syslog", {"env": "A"}, "env"), ("journald", {"tag": "{{json .}}"}, "tag"),
    ("journald", {"mode": "sometimes"}, "sometimes"), ("none", {"max-size": "1m"}, "max-size"),
])
def test_log_options_are_checked(daemon, driver, options, words):
    assert words in refusal(daemon, host={"LogConfig": {"Type": driver, "Config": options}})


# ---- devices by CDI ----

CDI_JSON = {"cdiVersion": "0.6.0", "kind": "example.com/gpu", "containerEdits": {"env": ["DRIVER=on"]}, "devices": [
    {"name": "0", "containerEdits": {"env": ["GPU0=yes"], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}]}},
    {"name": "1", "containerEdits": {"env": ["GPU1=yes"], "deviceNodes": [{"path": "/dev/gpu1", "type": "c", "major": 1, "minor": 5, "permissions": "r"}]}}]}
CDI_YAML = """---
cdiVersion: 0.6.0
kind: example.com/disk
devices:
  - name: fast
    containerEdits:
      mounts:
        - hostPath: DIR
          containerPath: /fast
          options: [ro, rbind]
      additionalGIDs: [4321]
  - {name: hooked, containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}}
  - name: "broken"
    containerEdits: {deviceNodes: [{path: /dev/none-such}]}
"""


@pytest.fixture
def cdi(fresh_daemon, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "file").write_text("hello\n")
    (tmp_path / "etc" / "gpu.json").write_text(json.dumps(CDI_JSON))
    (tmp_path / "etc" / "disk.yaml").write_text(CDI_YAML.replace("DIR", str(tmp_path)))
    (tmp_path / "etc" / "bomb.yaml").write_text("a: &a [x, x]\nb: [*a, *a]\n")
    fresh_daemon.write_ini({"runtime": {"cgroup_parent": fresh_daemon.cgroup_parent, "cdi_spec_dirs": f"{tmp_path}/etc, {tmp_path}/run"}})
    return fresh_daemon.start()


def test_devices_by_cdi(cdi, tmp_path):
    show = ("run", "--rm")
    script = (IMAGE, "sh", "-c", "env | grep -E 'GPU|DRIVER' | sort | tr '\\n' ' '; ls /dev | grep gpu | tr '\\n' ' '; cat /fast/file 2>/dev/null; id -G")
    out = cdi.gantry(*show, "--device", "example.com/gpu=0", "--device", "example.com/disk=fast", *script).out
    assert out.startswith("DRIVER=on GPU0=yes gpu0 hello\n") and "4321" in out.split()
    assert cdi.docker(*show, "--gpus", "all", *script).out.startswith("DRIVER=on GPU0=yes GPU1=yes gpu0 gpu1 ")
    assert cdi.docker(*show, "--gpus", "1", *script).out.startswith("DRIVER=on GPU0=yes gpu0 ")
    assert cdi.docker(*show, "--gpus", "device=1", *script).out.startswith("DRIVER=on GPU1=yes gpu1 ")
    assert cdi.json("GET", "/info")["CDISpecDirs"] == [f"{tmp_path}/etc", f"{tmp_path}/run"]
    for args, words in ((("--gpus", "3"), "there are 2"), (("--device", "example.com/gpu=9"), "unresolvable CDI devices example.com/gpu=9"),
                        (("--device", "example.com/disk=hooked"), "hooks"), (("--device", "example.com/disk=broken"), "/dev/none-such"),
                        (("--gpus", "driver=other,count=1"), "could not select device driver")):
        client = cdi.docker if "--gpus" in args else cdi.gantry     # docker clients before 25 know no CDI names
        result = client(*show, *args, IMAGE, "true", check=False)
        assert result.code in (125, 126, 127) and words in result.err, result
    # A later directory outweighs, without a restart.
    (tmp_path / "run" / "gpu.json").write_text(json.dumps({**CDI_JSON, "containerEdits": {"env": ["DRIVER=newer"]}}))
    assert cdi.gantry(*show, "--device", "example.com/gpu=0", *script).out.startswith("DRIVER=newer GPU0=yes gpu0 ")
    assert "bomb.yaml" in cdi.log() and cdi.json("GET", "/containers/json?all=1") == []


def test_without_cdi_files_gpus_are_refused_by_name(daemon):
    message = refusal(daemon, host={"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]})
    assert message.startswith('could not select device driver "" with capabilities: [["gpu"]]')
