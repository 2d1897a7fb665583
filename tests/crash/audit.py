"""After a restart: what the daemon says against what its clients know, and both against what the kernel and the disk show."""

import contextlib
import json
import os
import re
import time

from harness import run
from workload import GONE, demultiplexed, untar

GRACE = 5  # seconds for what still goes in its own time


def settled(look):
    """The complaints that look() still has after a while."""
    end = time.monotonic() + GRACE
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


class Auditor:
    def __init__(self, crashing):
        self.crashing, self.daemon = crashing, crashing.daemon

    def audit(self, clients):
        """Complaints, none if all is well. What was uncertain to the clients is known afterwards."""
        containers = [c for client in clients for c in client.containers]
        seen = {c["Names"][0][1:]: c for c in self.daemon.json("GET", "/containers/json?all=1")}
        known = {c.name for c in containers} | {"witness"}
        found = [f"a container from nowhere: {name} {c['State']} {c['Image']}" for name, c in seen.items() if name not in known]
        for c in containers:
            found += self.check_container(c)
        for client in clients:
            found += self.check_others(client)
        return found + settled(self.check_reality)

    # ---- against the clients' memory ----

    def check_container(self, c):
        response = self.daemon.api("GET", f"/containers/{c.name}/json")
        if response.status == 404:
            wrong = [] if GONE in c.states else [f"{c.name} is lost: it was {c.states}"]
            c.states = {GONE}
            c.forget()
            return wrong
        state = json.loads(response.body)["State"]
        status = "exited" if c.auto and state["Status"] == "removing" else state["Status"]
        wrong = [] if status in c.states else [f"{c.name} is {state['Status']}, not {c.states}"]
        if c.vague:
            c.states = {status, GONE, "created", "running", "exited"}
            return wrong
        if status == "exited" and state["ExitCode"] not in c.codes:
            wrong.append(f"{c.name} exited with {state['ExitCode']}, not {c.codes}")
        if status == "exited" and state["FinishedAt"].startswith("0001"):
            wrong.append(f"{c.name} exited at no time")
        wrong += self.check_log(c, status, state) + self.check_files(c)
        if GONE in c.states and c.states & {"running", "exited"} and c.auto:
            c.states = {status, GONE}  # still on its way
        else:
            c.states = {status}
        if status in ("running", "paused") and c.lines is not None:
            c.states |= {"exited"} if status == "running" else set()
            c.states |= {GONE} if c.auto and status == "running" else set()
        return wrong

    def check_log(self, c, status, state):
        """Each run counts up from 0 without a gap, and one that ended by itself has said all it had to."""
        response = self.daemon.api("GET", f"/containers/{c.name}/logs?stdout=1&stderr=1")
        if response.status == 404:
            return []  # a removal ended meanwhile
        lines = demultiplexed(response.body).split("\n")[:-1]
        expected, last = 0, -1
        for line in lines:
            if line not in (str(expected), "0"):
                return [f"{c.name}'s log has {line!r} where {expected} should be"]
            last = int(line)
            expected = last + 1
        if status == "exited" and c.lines is not None and state["ExitCode"] == c.code and c.code != 137 and last != c.lines - 1:
            return [f"{c.name} logged {last + 1} of {c.lines} lines"]
        return []

    def check_files(self, c):
        wrong = []
        for name, data in c.files.items():
            response = self.daemon.api("GET", f"/containers/{c.name}/archive?path=/{name}")
            if response.status != 200 or untar(response.body) != {name: data}:
                if self.daemon.api("GET", f"/containers/{c.name}/json").status == 200:
                    wrong.append(f"{c.name} lost the file {name}: {response.status} {response.body[:100] if response.status != 200 else ''}")
        return wrong

    def check_others(self, client):
        wrong = []
        for (kind, name), there in client.others.items():
            is_there = self.daemon.api("GET", f"/{kind}s/{name}" + ("/json" if kind == "image" else "")).status == 200
            if is_there not in there:
                wrong.append(f"{kind} {name} is {'there' if is_there else 'lost'}")
            client.others[kind, name] = {is_there}
        return wrong

    # ---- against the kernel and the disk ----

    def check_reality(self):
        d = self.daemon
        listed = d.json("GET", "/containers/json?all=1")
        ids = {c["Id"] for c in listed}
        up = {c["Id"] for c in listed if c["State"] in ("running", "paused")}
        found = self.compare("shims", self.shims(), up)
        found += self.compare("cgroups", {os.path.basename(path) for path in d.cgroups() if re.fullmatch("[0-9a-f]{64}", os.path.basename(path))}, up)
        for base in (d.run_dir, d.root):
            with contextlib.suppress(FileNotFoundError):
                names = {name.removesuffix(".json") for name in os.listdir(os.path.join(base, "containers"))}
                found += [f"{base}/containers/{name} belongs to nobody" for name in names if re.fullmatch("[0-9a-f]{64}", name) and name not in ids]
        with open("/proc/self/mountinfo") as f:
            found += [f"mount {line.split()[4]}" for line in f if d.dir in line or d.run_dir in line]
        return found + self.check_networks(up)

    @staticmethod
    def compare(what, real, said):
        return [f"{what}: {name[:12]} of no running container" for name in real - said] + [f"{what}: running {name[:12]} has none" for name in said - real]

    def shims(self):
        found = set()
        for pid in self.daemon.pids():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/cmdline") as line:
                if comm.read().startswith("gantry-shim"):
                    found.update(re.findall(r"/([0-9a-f]{64})\b", line.read()))
        return found

    def check_networks(self, up):
        """Ends of cables, addresses, published ports and namespaces are those of what runs."""
        found, ends, addresses, ports, namespaces = [], 0, [], set(), set()
        for cid in up:
            response = self.daemon.api("GET", f"/containers/{cid}/json")
            if response.status != 200:
                continue
            container = json.loads(response.body)
            pid, networks = container["State"]["Pid"], container["NetworkSettings"]["Networks"]
            mine = {n["IPAddress"] for n in networks.values() if n["IPAddress"]}
            ends, addresses = ends + len(mine), addresses + sorted(mine)
            ports.update(int(p["HostPort"]) for binds in container["NetworkSettings"]["Ports"].values() for p in binds or [])
            inside = set(re.findall(r"inet ([\d.]+)/", run("nsenter", "-t", str(pid), "-n", "ip", "-4", "addr").out)) - {"127.0.0.1"}
            if inside != mine:
                found.append(f"{container['Name']} has the addresses {inside}, not {mine}")
            with contextlib.suppress(OSError):
                namespaces.add(os.readlink(f"/proc/{pid}/ns/net"))
        cables = [name for name in self.daemon.links() if name.startswith("gtv")]
        if len(cables) != ends:
            found.append(f"{len(cables)} cables for {ends} endpoints")
        if len(set(addresses)) != len(addresses):
            found.append(f"an address is given twice: {addresses}")
        ruled = {int(port) for port in re.findall(r"(?:tcp|udp) \. (\d+) :", self.daemon.nft())}
        if ruled - {53} != ports:
            found.append(f"rules for the ports {ruled}, not {ports}")
        return found + self.check_daemon(namespaces)

    def check_daemon(self, namespaces):
        """The daemon holds no namespace of the dead."""
        held = set()
        for fd in os.listdir(f"/proc/{self.daemon.process.pid}/fd"):
            with contextlib.suppress(OSError):
                name = os.readlink(f"/proc/{self.daemon.process.pid}/fd/{fd}")
                if name.startswith("net:["):
                    held.add(name)
        held.discard(os.readlink(f"/proc/{self.daemon.process.pid}/ns/net"))
        return [f"the daemon holds {name} of no container" for name in held - namespaces]
