"""Many containers on one host: what each costs as it starts, at rest and as it goes, and what a start of the daemon costs beside them."""

import contextlib
import json
import os
import socket
import statistics
import time

from harness import UnixConnection

IDLE = 10       # s


def private_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Clean", "Private_Dirty")))


def parent(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("PPid:"))


def cpu_ms(pids):
    """Time on a CPU of all threads of these processes."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
    return total / 1e6


def start_ms(daemon, times=5):
    """From the program's start to its first answer, after a death; the median of some."""
    def once():
        daemon.kill9()
        begin = time.perf_counter()
        daemon.start(wait=False)
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(daemon.socket)
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if client.recv(64).startswith(b"HTTP/1.1 200"):
                    return (time.perf_counter() - begin) * 1000
            if daemon.process.poll() is not None:
                raise RuntimeError("gantryd ended: " + daemon.log()[-500:])
            time.sleep(0.001)
    return statistics.median(once() for _ in range(times))


class Hosted:
    """Figures by (title, value), in the order in which they come up."""

    def __init__(self, daemon, gantry, image):
        self.daemon, self.gantry, self.image = daemon, gantry, image

    def stopped(self, count):
        yield "daemon start, no containers, ms", start_ms(self.daemon)
        connection = UnixConnection(self.daemon.socket)
        names = [f"bench-stopped-{i}" for i in range(count)]
        for name in names:
            connection.request("POST", "/v1.50/containers/create?name=" + name, json.dumps({"Image": self.image, "Cmd": ["true"]}),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 201:
                raise RuntimeError(answer.read())
            answer.read()
        connection.close()
        yield f"daemon start with {count} stopped, ms", start_ms(self.daemon)
        self.gantry("rm", "-f", *names)

    def running(self, count, group=20):
        names, spent = [f"bench-{i}" for i in range(count)], []
        for name in names:
            begin = time.perf_counter()
            self.gantry("run", "-d", "--name", name, self.image, "sleep", "10000")
            spent.append((time.perf_counter() - begin) * 1000)
        group = min(group, count)
        yield f"`run -d`, bridge, median of the first {group}, ms", statistics.median(spent[:group])
        yield f"`run -d`, bridge, median of the last {group} of {count}, ms", statistics.median(spent[-group:])
        shims = [parent(self.daemon.inspect(name)["State"]["Pid"]) for name in names]
        yield f"daemon beside {count} running, private kB", private_kb(self.daemon.process.pid)
        yield f"shim, private kB, median of {count}", statistics.median(private_kb(pid) for pid in shims)
        time.sleep(IDLE + 2)    # threads that have nothing to do stay for a while
        before = cpu_ms([self.daemon.process.pid]), cpu_ms(shims)
        time.sleep(IDLE)
        after = cpu_ms([self.daemon.process.pid]), cpu_ms(shims)
        yield f"daemon's CPU in {IDLE} idle s beside {count}, ms", after[0] - before[0]
        yield f"CPU of {count} shims in these, ms", after[1] - before[1]
        yield f"daemon start with {count} running, ms", start_ms(self.daemon)
        yield f"daemon after that, private kB", private_kb(self.daemon.process.pid)
        begin = time.perf_counter()
        self.gantry("rm", "-f", *names)
        yield f"`rm -f` of {count} running, ms for each", (time.perf_counter() - begin) * 1000 / count
