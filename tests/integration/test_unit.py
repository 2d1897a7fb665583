"""The systemd unit: sound, as strict as a parent of containers may be, and no stricter."""

import json
import os
import re
import subprocess

import pytest

from harness import REPO

# What children cannot take back, as systemd-analyze names its checks; a directive may set several.
INHERITED = re.compile("CapabilityBoundingSet|SystemCall|Restrict|Protect|Private|MemoryDeny|NoNewPrivileges|LockPersonality|Device|RootDirectory|"
                       "ProcSubset|IPAddressDeny|AmbientCapabilities|User|DynamicUser|SupplementaryGroups")
HARMLESS = {"NotifyAccess=", "KeyringMode=", "Delegate=", "UMask=", "RemoveIPC="}


@pytest.fixture
def unit(tmp_path):
    """As make install writes it, with a program at the path that it names."""
    program = tmp_path / "bin" / "gantryd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / "gantryd.service"
    with open(os.path.join(REPO, "scripts", "gantryd.service.in"), encoding="ascii") as f:
        path.write_text(f.read().replace("@BINDIR@", str(program.parent)))
    return str(path)


def settings(path):
    with open(path, encoding="ascii") as f:
        return [tuple(line.strip().split("=", 1)) for line in f if re.match("[A-Z]", line)]


def checks(path):
    """{name of the check: whether the unit passes it}. systemd-analyze exits with 1 above a threshold that is not ours."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=100", "--json=short", path], capture_output=True, text=True, check=True)
    return {row["name"]: row["set"] for row in json.loads(done.stdout)}


def test_systemd_takes_every_line(unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    names = [name for name, _ in settings(unit)]
    assert len(set(names)) == len(names)


def test_what_can_be_strict_is(unit):
    values = dict(settings(unit))
    assert values["KillMode"] == "process" and values["Delegate"] == "yes" and values["OOMPolicy"] == "continue"
    passed = checks(unit)
    assert passed["NotifyAccess="] is True and passed["KeyringMode="] is True


def test_nothing_that_a_container_would_inherit_is_set(unit, tmp_path):
    """Against a unit that sets nothing at all, for what systemd takes for granted."""
    assert not [name for name, _ in settings(unit) if INHERITED.match(name)]
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    ours, none = checks(unit), checks(str(bare))
    assert {name for name in ours if ours[name] != none.get(name)} <= HARMLESS
    # The comparison sees what it is for.
    bare.write_text("[Service]\nExecStart=/bin/true\nProtectHostname=yes\nProtectClock=yes\nLockPersonality=yes\nNoNewPrivileges=yes\nPrivateTmp=yes\n")
    strict = checks(str(bare))
    assert {"ProtectHostname=", "ProtectClock=", "LockPersonality=", "NoNewPrivileges=", "PrivateTmp="} <= {name for name in ours if ours[name] != strict[name]}


def test_each_directive_that_is_left_out_has_its_reason(unit):
    with open(unit, encoding="ascii") as f:
        reasons = " ".join(line[2:] for line in f.read().split("# Not here,")[1].splitlines() if line.startswith("# "))
    names = {re.match("[A-Za-z]+", name)[0] for name in checks(unit)}
    assert len(names) > 30
    # A service that is not root's, or has a root of its own, is another service.
    for name in names - {"User", "DynamicUser", "SupplementaryGroups", "AmbientCapabilities", "RootDirectory"}:
        assert name + "=" in HARMLESS or re.search(rf"\b{name}\b", reasons), name
