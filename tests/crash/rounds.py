"""Rounds of a random workload with deaths: of the daemon at any call that the outside can see or at any moment, of shims, of containers while no daemon
lives, of the daemon while it takes up what another left. After each the auditor looks; every few rounds all is removed and nothing may remain.

What is done in a round depends on the seed and the round's number. Rounds from one cleaning to the next make a group: `make crash SEED=… FROM=…` repeats
from a group's first round on. What the clients overtake each other with is the machine's choice and differs."""

import contextlib
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
from harness import Daemon
from workload import Client

CLIENTS = 4
GROUP = 8  # rounds from one cleaning to the next


class Failure(AssertionError):
    pass


class Rounds:
    def __init__(self, workdir, seed):
        self.seed = seed
        self.crashing = CrashingDaemon(Daemon(workdir), build_library(workdir))
        self.daemon = self.crashing.daemon
        self.registry = FakeRegistry(self.daemon)
        self.image = self.registry.add(Image([tree(1), tree(2)]))
        self.auditor = Auditor(self.crashing)
        self.clients = [None] * CLIENTS
        self.deaths, self.choice = {}, self.DEATHS
        self.steps = 0

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

    # ---- rounds ----

    def round(self, number):
        chance = random.Random(f"{self.seed}/{number}")
        over = threading.Event()
        self.shims_died = False
        self.trouble = threading.Event()
        self.clients = [Client(self.daemon, i, f"{self.seed}/{number}", former, over, self.image, self.trouble) for i, former in enumerate(self.clients)]
        for client in self.clients:
            client.thread.start()
        death = chance.choice(self.choice)
        try:
            death(self, chance)
        finally:
            self.crashing.disarm()
            self.daemon.kill9()
            over.set()
            for client in self.clients:
                client.thread.join()
        self.deaths[death.__name__] = self.deaths.get(death.__name__, 0) + 1
        self.steps += sum(len(client.done) for client in self.clients)
        for container in (container for client in self.clients for container in client.containers):
            if self.shims_died:
                container.may_have_died(137)
            container.daemon_died()
        self.daemon.start()
        found = [f for client in self.clients for f in client.failures] + self.auditor.audit(self.clients)
        if found:
            raise Failure("\n".join([f"after {death.__name__}:", *found]))

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

    def run(self, rounds, seconds, first=0):
        """Returns how many rounds were done."""
        end = time.monotonic() + seconds
        number = first
        self.clean()
        try:
            while number < first + rounds and time.monotonic() < end:
                self.round(number)
                number += 1
                if number % GROUP == 0:
                    self.clean()
            self.clean()
        except BaseException as error:
            again = number - number % GROUP
            story = "\n".join(f"  client {c.number}: {', '.join(c.done[-40:])}" for c in self.clients if c)
            log = "\n".join(line for line in self.daemon.log().splitlines() if " debug " not in line or "status=5" in line)
            raise Failure(f"round {number} of seed {self.seed} (repeat: make crash SEED={self.seed} FROM={again} ROUNDS={number - again + 1})\n{error or traceback.format_exc()}\n"
                          f"what the clients did:\n{story}\nlog:\n{log[-6000:]}") from error
        return number - first


@contextlib.contextmanager
def arena(seed):
    """Rounds with directories of their own."""
    workdir = tempfile.mkdtemp(prefix="gantry-crash-", dir="/var/tmp")
    rounds = None
    try:
        rounds = Rounds(workdir, seed)
        yield rounds
    finally:
        if rounds:
            rounds.close()
        shutil.rmtree(workdir, ignore_errors=True)
