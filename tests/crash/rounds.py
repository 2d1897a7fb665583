"""Rounds of a random workload with deaths: of the daemon at any call that the outside can see or at any moment, of shims, of containers while no daemon
lives, of the daemon while it takes up what another left, of processes of drivers. After each the auditor looks; every few rounds all is removed and nothing may
remain. Half of all seeds have the drivers of storage, networks and volumes in processes of their own.

What is done in a round depends on the seed and the round's number. Rounds from one cleaning to the next make a group: `make crash SEED=… FROM=…` repeats
from a group's first round on. What the clients overtake each other with is the machine's choice and differs."""

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import traceback

from audit import Auditor
from crash import CrashingDaemon, build_library
from fake_registry import FakeRegistry, Image, tree
from harness import Daemon, wait_until
from workload import GONE, Client

CLIENTS = 4
GROUP = 8  # rounds from one cleaning to the next
ISOLATED = ["storage-overlay", "net-bridge", "vol-local"]


class Failure(AssertionError):
    pass


class Rounds:
    def __init__(self, workdir, seed, isolated):
        self.seed, self.isolated = seed, isolated
        ini = {f"plugin.{name}": {"isolate": "process"} for name in ISOLATED if isolated}
        self.crashing = CrashingDaemon(Daemon(workdir, ini), build_library(workdir))
        self.daemon = self.crashing.daemon
        self.registry = FakeRegistry(self.daemon)
        self.image = self.registry.add(Image([tree(1), tree(2)]))
        self.auditor = Auditor(self.crashing)
        self.clients = [None] * CLIENTS
        self.deaths, self.choice = {}, self.DEATHS + (self.OF_DRIVERS if isolated else [])
        self.killed = dict.fromkeys(ISOLATED, 0)
        self.steps = self.failed = 0

    def close(self):
        self.registry.close()
        self.daemon.destroy()

    # ---- deaths ----

    def pids_of_shims(self):
        witness = self.crashing.witness_id
        found = []
        for pid in sorted(self.daemon.pids()):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/cmdline") as line:
                if comm.read().startswith("gantry-shim") and witness not in line.read():
                    found.append(pid)
        return found

    def kill_a_shim(self, chance):
        pids = self.pids_of_shims()
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)

    def kill_a_host(self, chance):
        """The process of a driver, one that is there. It may stand still before, so that it dies within calls. Returns whether it died by this."""
        hosts = sorted(self.daemon.plugin_hosts().items(), key=lambda host: host[1])
        if not hosts:
            return False
        pid, plugin = chance.choice(hosts)
        still = chance.choice([0, 0.05, 0.2])
        with contextlib.suppress(ProcessLookupError):
            if still:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(still)
            os.kill(pid, signal.SIGKILL)
            self.killed[plugin] += 1
            return True
        return False

    def a_host(self, chance):
        self.trouble.set()
        for _ in range(chance.randrange(1, 4)):
            self.crashing.let_run(chance.random() * 0.8)
            self.kill_a_host(chance)
        self.crashing.let_run(chance.random() * 0.5)

    def at_a_call(self, chance):
        self.crashing.arm(chance.randrange(1, 4000))
        self.crashing.let_run(1)

    def at_a_moment(self, chance):
        self.crashing.let_run(chance.random() * 0.8)

    def a_shim(self, chance):
        self.shims_died = True
        self.trouble.set()
        for _ in range(chance.randrange(1, 3)):
            self.crashing.let_run(chance.random() * 0.4)
            self.kill_a_shim(chance)
        self.crashing.let_run(chance.random() * 0.1)

    def a_shim_without_daemon(self, chance):
        self.at_a_moment(chance)
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.shims_died = True
        self.kill_a_shim(chance)

    def at_start(self, chance):
        self.at_a_moment(chance)
        self.daemon.kill9()
        for _ in range(chance.randrange(1, 3)):
            self.crashing.arm(chance.randrange(1, 200))
            self.daemon.start(wait=False)
            self.crashing.let_run(chance.random() * 0.5)
            self.crashing.disarm()
            self.daemon.kill9()

    def orderly(self, chance):
        self.at_a_moment(chance)
        self.trouble.set()
        self.daemon.process.send_signal(signal.SIGTERM)
        if self.daemon.process.wait(30) != 0:
            raise Failure(f"gantryd ended with {self.daemon.process.returncode} at SIGTERM")

    OF_THE_DAEMON = [at_a_call] * 4 + [at_a_moment] * 3 + [at_start, orderly]
    DEATHS = OF_THE_DAEMON + [a_shim] * 2 + [a_shim_without_daemon]
    OF_DRIVERS = [a_host] * 4

    # ---- rounds ----

    def begin(self, number):
        """The clients' work. Returns what ends it."""
        over = threading.Event()
        self.shims_died = False
        self.trouble = threading.Event()
        self.clients = [Client(self.daemon, i, f"{self.seed}/{number}", former, over, self.image, self.trouble) for i, former in enumerate(self.clients)]
        for client in self.clients:
            client.thread.start()
        return over

    def finish(self, over):
        over.set()
        for client in self.clients:
            client.thread.join()
        self.steps += sum(len(client.done) for client in self.clients)
        self.failed += sum(line.rpartition(": ")[2].startswith("5") for client in self.clients for line in client.done)

    def judge(self, what):
        found = [f for client in self.clients for f in client.failures] + self.auditor.audit(self.clients)
        if found:
            raise Failure("\n".join([f"after {what}:", *found]))

    def round(self, number):
        chance = random.Random(f"{self.seed}/{number}")
        over = self.begin(number)
        death = chance.choice(self.choice)
        try:
            death(self, chance)
        finally:
            self.crashing.disarm()
            self.daemon.kill9()
            self.finish(over)
        self.deaths[death.__name__] = self.deaths.get(death.__name__, 0) + 1
        for container in (container for client in self.clients for container in client.containers):
            if self.shims_died:
                container.may_have_died(137)
            container.daemon_died()
        self.daemon.start()
        self.judge(death.__name__)

    # ---- deaths of drivers' processes, which the daemon outlives ----

    def await_hosts(self):
        """Until each plugin has a process that takes calls."""
        def all_run():
            rows = [row for row in self.daemon.json("GET", "/plugins") if row["Name"] in ISOLATED]
            return len(rows) == len(ISOLATED) and all(row["Process"]["State"] == "running" for row in rows)
        wait_until(all_run, 30, "every driver's process running")
        if sorted(self.daemon.plugin_hosts().values()) != sorted(ISOLATED):
            raise Failure(f"processes of drivers: {self.daemon.plugin_hosts()}")

    def finish_removals(self):
        """A container whose removal a death cut short is dead; the next one must work."""
        for client in self.clients:
            for c in client.containers:
                status = self.daemon.api("GET", f"/containers/{c.name}/json")
                if status.status != 200 or GONE not in c.states or json.loads(status.body)["State"]["Status"] not in ("dead", "removing"):
                    continue
                done = self.daemon.api("DELETE", f"/containers/{c.name}?force=1&v=1")
                if done.status not in (204, 404):
                    raise Failure(f"{c.name} cannot be removed: {done.status} {done.body}")
                c.states = {GONE}
                c.forget()

    def kills(self, number, count):
        """Kills so many processes of drivers at random moments of the clients' work. The daemon and its containers go on."""
        chance = random.Random(f"{self.seed}/{number}")
        daemon, over = self.daemon.process.pid, self.begin(number)
        self.trouble.set()
        try:
            while count and self.crashing.alive():
                # one that ends within a second of its start rests before the next: most live longer, some do not
                self.crashing.let_run(chance.random() * chance.choice([0.3, 2, 2, 2]))
                count -= self.kill_a_host(chance)
            self.crashing.let_run(chance.random() * 0.5)
        finally:
            self.finish(over)
        if not self.crashing.alive() or self.daemon.process.pid != daemon:
            raise Failure("the daemon died")
        self.deaths["a_host"] = sum(self.killed.values())
        self.await_hosts()
        self.finish_removals()
        self.judge("deaths of drivers' processes")

    def clean(self):
        self.daemon.json("POST", "/build/prune?all=1")
        self.crashing.clear()
        if self.crashing.clean is None:
            self.crashing.await_shims(1)
            self.crashing.clean = {name for name in self.crashing.look() if "/trash/" not in name}
        self.crashing.check_clean()
        self.crashing.check_witness_log()
        found = [line for line in self.daemon.log().splitlines() if "could not be loaded" in line or "in use by another" in line]
        if found:
            raise Failure("\n".join(found))
        self.clients = [None] * CLIENTS

    def run(self, rounds, seconds, first=0, kills=0):
        """Returns how many rounds were done. kills: rounds are of kills() alone, with so many deaths each."""
        end = time.monotonic() + seconds
        number = first
        self.clean()
        try:
            while number < first + rounds and time.monotonic() < end:
                if kills:
                    self.kills(number, kills)
                else:
                    self.round(number)
                number += 1
                if kills or number % GROUP == 0:
                    self.clean()
            self.clean()
        except BaseException as error:
            again = number - (0 if kills else number % GROUP)
            how = f"crash-hosts SEED={self.seed} FROM={again}" if kills else f"crash SEED={self.seed} FROM={again} ROUNDS={number - again + 1}"
            story = "\n".join(f"  client {c.number}: {', '.join(c.done[-40:])}" for c in self.clients if c)
            log = "\n".join(line for line in self.daemon.log().splitlines() if " debug " not in line or "status=5" in line)
            raise Failure(f"round {number} of seed {self.seed} (repeat: make {how})\n{error or traceback.format_exc()}\n"
                          f"what the clients did:\n{story}\nlog:\n{log[-6000:]}") from error
        return number - first


@contextlib.contextmanager
def arena(seed, isolated=None):
    """Rounds with directories of their own. isolated: whether drivers have processes; None: as the seed has it."""
    workdir = tempfile.mkdtemp(prefix="gantry-crash-", dir="/var/tmp")
    rounds = None
    try:
        rounds = Rounds(workdir, seed, seed % 2 == 1 if isolated is None else isolated)
        yield rounds
    finally:
        if rounds:
            rounds.close()
        shutil.rmtree(workdir, ignore_errors=True)
