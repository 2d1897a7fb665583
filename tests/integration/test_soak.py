"""Networks and endpoints that come and go leave nothing: no link, rule, descriptor, file, address, memory. `make soak CYCLES=10000` goes on for longer."""

import os
import re
import time

from harness import IMAGE, sanitized, wait_until

CYCLES = int(os.environ.get("CYCLES") or 100)
EVERY = 10  # with a container of its own and published ports; the others connect one that runs on
GROWTH_KB = 2048  # of the daemon's own memory, from a tenth of the cycles to their end


def memory_kb(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))


def look(daemon):
    """All that a cycle makes, wherever it is."""
    files = set()
    for top in (daemon.root, daemon.run_dir):
        for path, _, names in os.walk(top):
            if "/storage/" not in path:
                files.update(os.path.join(path, name) for name in names)
    return {"links": sorted(daemon.links()), "nft": daemon.nft(), "fds": len(os.listdir(f"/proc/{daemon.process.pid}/fd")),
            "threads": len(os.listdir(f"/proc/{daemon.process.pid}/task")), "files": sorted(files),
            "netns": len({os.readlink(f"/proc/{pid}/ns/net") for pid in daemon.pids()})}


def must(daemon, method, path, body=None, expect=(200, 201, 204)):
    answer = daemon.api(method, path, body)
    assert answer.status in expect, f"{method} {path}: {answer.status} {answer.body[:500]}"


def cycle(daemon, number):
    """A network, an endpoint in it, and both gone. The subnet has five addresses, and the pools where it is not named some dozens of subnets."""
    body = {"Name": "soak"}
    if number % 2:
        body["IPAM"] = {"Config": [{"Subnet": "10.211.0.0/29"}, {"Subnet": "fd00:211::/64"}]}
        body["EnableIPv6"] = True
    must(daemon, "POST", "/networks/create", body)
    if number % EVERY:
        must(daemon, "POST", "/networks/soak/connect", {"Container": "stays", "EndpointConfig": {"Aliases": [f"alias{number}"]}})
        must(daemon, "POST", "/networks/soak/disconnect", {"Container": "stays"})
    else:
        must(daemon, "POST", "/containers/create?name=goes", {
            "Image": IMAGE, "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "HostConfig": {"NetworkMode": "soak", "PortBindings": {"80/tcp": [{"HostPort": "8080"}], "53/udp": [{}]}}})
        must(daemon, "POST", "/containers/goes/start")
        must(daemon, "DELETE", "/containers/goes?force=1")
    must(daemon, "DELETE", "/networks/soak")


def endpoint_cycle(daemon):
    must(daemon, "POST", "/networks/small/connect", {"Container": "stays"})
    must(daemon, "POST", "/networks/small/disconnect", {"Container": "stays"})


def test_networks_and_endpoints_come_and_go(daemon):
    daemon.docker("run", "-d", "--name", "stays", "-p", "9090:90", IMAGE, "sleep", "100000")
    daemon.docker("network", "create", "--subnet", "10.212.0.0/29", "small")
    for number in range(2 * EVERY):
        cycle(daemon, number)
        endpoint_cycle(daemon)
    before = look(daemon)
    times, memory = [], []
    for number in range(CYCLES):
        began = time.monotonic()
        cycle(daemon, number)
        endpoint_cycle(daemon)
        times.append(time.monotonic() - began)
        if number % max(1, CYCLES // 10) == 0:
            memory.append(memory_kb(daemon))
    memory.append(memory_kb(daemon))
    part = max(1, CYCLES // 10)
    print(f"\n{CYCLES} cycles; ms for one: {1000 * sum(times[:part]) / part:.1f} in the first tenth, {1000 * sum(times[-part:]) / part:.1f} in the last; "
          f"the daemon's memory in kB at each tenth: {memory}")
    # What the kernel removes in its own time is awaited; then all is as it was.
    wait_until(lambda: look(daemon) == before, 30, f"all as it was before: {[key for key, value in look(daemon).items() if value != before[key]]}")
    if not sanitized():
        assert memory[-1] - memory[min(1, len(memory) - 1)] <= GROWTH_KB, memory
