"""The calls that schedulers of clusters make: Kubernetes through cri-dockerd, and Nomad's docker driver (doc/clusters.md tells the set-up)."""

import contextlib
import json
import os
import subprocess

import pytest

from harness import IMAGE, run, wait_until


def stdcopy(data, stream=None):
    """The payload of multiplexed frames, of one stream or of all."""
    out = b""
    while data:
        kind, size = data[0], int.from_bytes(data[4:8], "big")
        out += data[8:8 + size] if stream in (None, kind) else b""
        data = data[8 + size:]
    return out.decode()


def created(daemon, name, body, version="/v1.43"):
    answer = daemon.api("POST", f"/containers/create?name={name}", body, version=version)
    assert answer.status == 201, answer.body
    return json.loads(answer.body)["Id"]


def done(daemon, method, path, body=None, status=204):
    answer = daemon.api(method, path, body, version="/v1.43")
    assert answer.status == status, (method, path, answer.status, answer.body)
    return answer.body


def filtered(daemon, **filters):
    return daemon.json("GET", "/containers/json?all=1&filters=" + json.dumps(filters).replace(" ", ""), version="/v1.43")


@pytest.fixture
def cni(daemon):
    """What a CNI plugin does to the namespace that it is given: one link with one address, from outside."""
    made = []

    def add(path, address):
        link = f"cni{len(made)}"
        run("ip", "-n", daemon.name, "link", "add", link, "type", "veth", "peer", "name", link + "p")
        made.append(link)
        pid = path.split("/")[2]
        run("ip", "-n", daemon.name, "link", "set", link + "p", "netns", pid)
        for command in (["link", "set", link + "p", "name", "eth0"], ["addr", "add", address, "dev", "eth0"], ["link", "set", "eth0", "up"]):
            run("nsenter", "--net=" + path, "ip", *command)
    yield add
    for link in made:
        subprocess.run(["ip", "-n", daemon.name, "link", "del", link], check=False, stderr=subprocess.DEVNULL)   # most go with their container


@pytest.fixture
def pod_cgroup(daemon):
    """The cgroup of a pod, which kubelet makes and removes."""
    levels = ["/kubepods", "/kubepods/burstable", "/kubepods/burstable/pod42"]
    yield daemon.cgroup_parent + levels[-1]
    daemon.remove_everything()
    for hierarchy in ["/sys/fs/cgroup", *(entry.path for entry in os.scandir("/sys/fs/cgroup") if entry.is_dir())]:
        for level in reversed(levels):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(hierarchy + daemon.cgroup_parent + level)


def sandbox_body(labels, cgroup_parent):
    return {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Hostname": "web-7f", "Labels": labels,
            "HostConfig": {"NetworkMode": "none", "CgroupParent": cgroup_parent, "IpcMode": "shareable", "OomScoreAdj": -998, "CpuShares": 2,
                           "SecurityOpt": ["seccomp=unconfined"], "Sysctls": {"net.ipv4.ip_local_port_range": "2000 3000"}}}


def test_a_pod_as_cri_dockerd_makes_it(daemon, cni, pod_cgroup, tmp_path):
    info = daemon.json("GET", "/info", version="/v1.43")
    assert info["CgroupDriver"] == "cgroupfs" and os.path.isdir(info["DockerRootDir"])
    labels = {"io.kubernetes.docker.type": "podsandbox", "io.kubernetes.pod.uid": "42"}

    # The sandbox: started without a network, then wired by CNI through its process's namespace; its resolv.conf is written anew in place.
    pod = created(daemon, "k8s_POD_web_default_42_0", sandbox_body(labels, pod_cgroup))
    done(daemon, "POST", f"/containers/{pod}/start")
    inspect = daemon.inspect(pod)
    assert inspect["State"]["Running"] and inspect["HostConfig"]["CgroupParent"] == pod_cgroup
    namespace = f"/proc/{inspect['State']['Pid']}/ns/net"
    cni(namespace, "10.244.0.7/24")
    with open(inspect["ResolvConfPath"], "r+") as f:
        f.truncate()
        f.write("nameserver 10.96.0.10\nsearch default.svc.cluster.local\noptions ndots:5\n")

    # A container of the pod: it joins the sandbox's network and IPC, has kubelet's mounts and files, and its log where kubelet links to it.
    (tmp_path / "hosts").write_text("10.244.0.7 web-7f\n")
    (tmp_path / "termination-log").write_text("")
    body = {"Image": IMAGE, "Entrypoint": ["sh", "-c"], "Cmd": ["echo serving; exec sleep 1000"], "Env": ["KUBERNETES_SERVICE_HOST=10.96.0.1"],
            "Labels": {"io.kubernetes.docker.type": "container", "io.kubernetes.sandbox.id": pod, "annotation.io.kubernetes.container.hash": "1"},
            "OpenStdin": False, "Tty": False, "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {"NetworkMode": "container:" + pod, "IpcMode": "container:" + pod, "CgroupParent": pod_cgroup, "OomScoreAdj": 999,
                           "Binds": [f"{tmp_path}/hosts:/etc/hosts", f"{tmp_path}/termination-log:/dev/termination-log"],
                           "Memory": 64 << 20, "MemorySwap": 64 << 20, "CpuShares": 102, "CpuQuota": 50000, "CpuPeriod": 100000,
                           "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"], "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
                           "CapDrop": ["NET_RAW"], "LogConfig": {"Type": "json-file", "Config": {}}}}
    main = created(daemon, "k8s_web_web_default_42_0", body)
    done(daemon, "POST", f"/containers/{main}/start")
    inspect = daemon.inspect(main)

    def inside(*command):
        exec_id = json.loads(done(daemon, "POST", f"/containers/{main}/exec", {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}, 201))["Id"]
        out = stdcopy(done(daemon, "POST", f"/exec/{exec_id}/start", {"Detach": False}, 200))
        assert daemon.json("GET", f"/exec/{exec_id}/json")["ExitCode"] == 0
        return out
    assert "10.244.0.7/24" in inside("ip", "addr", "show", "eth0") and inside("hostname") == "web-7f\n"
    assert "nameserver 10.96.0.10" in inside("cat", "/etc/resolv.conf") and inside("cat", "/etc/hosts") == "10.244.0.7 web-7f\n"
    assert inside("cat", "/proc/sys/net/ipv4/ip_local_port_range").split() == ["2000", "3000"]
    with open(inspect["LogPath"]) as f:
        assert wait_until(lambda: json.loads(f.readline() or "{}"), what="a line of the log")["log"] == "serving\n"
    assert [c["Id"] for c in filtered(daemon, label=["io.kubernetes.docker.type=container", "io.kubernetes.sandbox.id=" + pod], status=["running"])] == [main]
    stats = daemon.json("GET", f"/containers/{main}/stats?stream=0&one-shot=1", version="/v1.43")
    assert stats["memory_stats"]["usage"] > 0 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    done(daemon, "POST", f"/containers/{main}/update", {"CpuShares": 204, "Memory": 96 << 20, "MemorySwap": 96 << 20}, 200)

    # The daemon goes and comes back: kubelet sees the same pod.
    daemon.kill9()
    daemon.start()
    assert {c["Id"]: c["State"] for c in filtered(daemon, label=["io.kubernetes.docker.type"])} == {pod: "running", main: "running"}
    assert "10.244.0.7/24" in inside("ip", "addr", "show", "eth0")

    done(daemon, "POST", f"/containers/{main}/stop?t=0")
    assert daemon.inspect(main)["State"]["FinishedAt"] > inspect["State"]["StartedAt"]
    done(daemon, "DELETE", f"/containers/{main}?v=1&force=1")
    done(daemon, "POST", f"/containers/{pod}/stop?t=0")
    done(daemon, "DELETE", f"/containers/{pod}?v=1&force=1")
    assert filtered(daemon, label=["io.kubernetes.pod.uid=42"]) == []


def test_an_allocation_as_nomads_docker_driver_makes_it(daemon, cni, tmp_path):
    assert daemon.json("GET", "/version", version="/v1.43")["Os"] == "linux"
    assert daemon.json("GET", f"/images/{IMAGE}/json", version="/v1.43")["Id"].startswith("sha256:")

    # A group with network { mode = "bridge" }: a pause container, whose sandbox key CNI is given.
    pause = created(daemon, "nomad_init_8d1c", {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": {"com.hashicorp.nomad.alloc_id": "8d1c"},
                                                "HostConfig": {"NetworkMode": "none", "RestartPolicy": {"Name": "unless-stopped"}}})
    done(daemon, "POST", f"/containers/{pause}/start")
    key = daemon.inspect(pause)["NetworkSettings"]["SandboxKey"]
    cni(key, "172.26.64.5/20")

    # A task: directories of the allocation, limits, labels, a log that the driver follows itself.
    for name in ("alloc", "local", "secrets"):
        (tmp_path / name).mkdir()
    body = {"Image": IMAGE, "Cmd": ["sh", "-c", "echo out; echo err >&2; echo done > /local/file; exec sleep 1000"], "User": "65534",
            "Env": ["NOMAD_TASK_NAME=web", "NOMAD_ALLOC_DIR=/alloc"], "Labels": {"com.hashicorp.nomad.alloc_id": "8d1c"},
            "HostConfig": {"Binds": [f"{tmp_path}/{name}:/{name}" for name in ("alloc", "local", "secrets")], "NetworkMode": "container:" + pause,
                           "Memory": 64 << 20, "MemorySwap": 64 << 20, "MemoryReservation": 0, "CPUShares": 500, "PidsLimit": 100,
                           "LogConfig": {"Type": "json-file", "Config": {"max-file": "2", "max-size": "2m"}}, "CapDrop": ["NET_RAW"],
                           "Mounts": [{"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1 << 20}}]}}
    os.chmod(tmp_path / "local", 0o777)
    task = created(daemon, "web-8d1c", body)
    done(daemon, "POST", f"/containers/{task}/start")
    assert daemon.json("POST", "/containers/create?name=web-8d1c", body, expect=(409,), version="/v1.43")["message"].startswith("Conflict.")
    wait_until(lambda: (tmp_path / "local" / "file").exists(), what="the task's file")
    log = daemon.api("GET", f"/containers/{task}/logs?stdout=1&stderr=1&since=0", version="/v1.43").body
    assert stdcopy(log, 1) == "out\n" and stdcopy(log, 2) == "err\n"
    assert "172.26.64.5" in daemon.docker("exec", task, "ip", "addr", "show", "eth0").out
    exec_id = json.loads(done(daemon, "POST", f"/containers/{task}/exec", {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}, 201))["Id"]
    done(daemon, "POST", f"/exec/{exec_id}/start", {}, 200)
    done(daemon, "POST", f"/containers/{task}/kill?signal=SIGKILL")
    assert daemon.json("POST", f"/containers/{task}/wait", version="/v1.43")["StatusCode"] == 137
    done(daemon, "DELETE", f"/containers/{task}?force=1&v=1")
    done(daemon, "DELETE", f"/containers/{pause}?force=1&v=1")

    # A group on host ports: published where the scheduler says.
    ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "25001"}], "80/udp": [{"HostIp": "127.0.0.1", "HostPort": "25001"}]}
    task = created(daemon, "port-8d1c", {"Image": IMAGE, "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}, "80/udp": {}},
                                         "HostConfig": {"PortBindings": ports, "NetworkMode": "default", "ExtraHosts": ["db:10.0.0.9"]}})
    done(daemon, "POST", f"/containers/{task}/start")
    assert daemon.inspect(task)["NetworkSettings"]["Ports"] == ports
    done(daemon, "POST", f"/containers/{task}/stop?t=0")
    done(daemon, "DELETE", f"/containers/{task}?force=1")
