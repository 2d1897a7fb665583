"""`docker run` and `gantry run`, as a person types them. Every test runs with both command lines."""

import os
import re

import pytest

from harness import BUILD, DOCKER, IMAGE, SLOW, wait_until

GANTRY = os.path.join(BUILD, "bin", "gantry")


@pytest.fixture(params=["docker", "gantry"])
def cli(request, daemon):
    """The command line under test: called like daemon.docker()."""
    call = getattr(daemon, request.param)
    call.__func__.program = DOCKER if request.param == "docker" else GANTRY
    cli = lambda *args, **kw: call(*args, **kw)  # noqa: E731
    cli.program = DOCKER if request.param == "docker" else GANTRY
    return cli


def test_output_and_exit_status_come_back(cli):
    assert cli("run", "--rm", IMAGE, "echo", "hello world").out == "hello world\n"
    result = cli("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (result.code, result.out, result.err) == (3, "out\n", "err\n")


@pytest.mark.parametrize("command, code, words", [
    (["no-such-program"], 127, "executable file not found in $PATH"),
    (["/no/such/program"], 127, "no such file or directory"),
    (["/etc/passwd"], 126, "permission denied"),
    (["/etc"], 126, "permission denied"),
])
def test_a_command_that_cannot_start_has_dockers_exit_code(daemon, cli, command, code, words):
    result = cli("run", "--rm", IMAGE, *command, check=False)
    assert result.code == code, result
    assert words in result.err, result


def test_an_unknown_image_is_an_error_of_the_daemon(cli):
    result = cli("run", "--rm", "no-such-image-anywhere", "true", check=False)
    assert result.code == 125, result
    assert "no-such-image-anywhere" in result.err


def test_a_signal_gives_128_plus_its_number(daemon, cli):
    client = daemon.popen(cli.program, "run", "--name", "killed", IMAGE, "sleep", "100")
    wait_until(lambda: daemon.api("GET", "/containers/killed/json").status == 200 and daemon.state("killed") == "running", what="a running container")
    cli("kill", "-s", "USR1", "killed")  # PID 1 ignores what it has no handler for
    cli("kill", "killed")
    client.communicate(timeout=10 * SLOW)
    assert client.returncode == 137
    assert cli("run", "--rm", "--init", IMAGE, "sh", "-c", "kill -9 $$", check=False).code == 137
    assert cli("run", "--rm", IMAGE, "sh", "-c", "trap 'exit 7' TERM; kill -15 $$; sleep 5", check=False).code == 7


def test_stdin_reaches_the_process(cli):
    data = "".join(f"line {i}\n" for i in range(20000))
    assert cli("run", "-i", "--rm", IMAGE, "cat", stdin=data).out == data
    assert cli("run", "-i", "--rm", IMAGE, "wc", "-l", stdin=data).out.strip() == "20000"


def test_stdin_is_closed_without_i(cli):
    assert cli("run", "--rm", IMAGE, "cat", stdin="ignored").out == ""


def test_much_output_arrives_whole(cli):
    out = cli("run", "--rm", IMAGE, "sh", "-c", "seq 1 200000").out
    assert out == "".join(f"{i}\n" for i in range(1, 200001))


def test_environment_workdir_user_and_hostname(cli):
    out = cli("run", "--rm", "-e", "A=1", "-e", "B=two words", "-w", "/tmp/new/dir", "-u", "1000:1001", "-h", "box", IMAGE,
              "sh", "-c", "echo $A; echo $B; pwd; id -u; id -g; hostname; echo $HOSTNAME").out
    assert out.splitlines() == ["1", "two words", "/tmp/new/dir", "1000", "1001", "box", "box"]


def test_users_and_groups_come_from_the_images_files(cli):
    assert cli("run", "--rm", "-u", "nobody", IMAGE, "id", "-un").out.strip() == "nobody"
    result = cli("run", "--rm", "-u", "stranger", IMAGE, "id", check=False)
    assert result.code != 0
    assert "stranger" in result.err
    groups = cli("run", "--rm", "--group-add", "4242", "-u", "1000", IMAGE, "id", "-G").out.split()
    assert "4242" in groups


def test_names_are_unique_until_removed(cli):
    cli("run", "-d", "--name", "one", IMAGE, "sleep", "100")
    again = cli("run", "--name", "one", IMAGE, "true", check=False)
    assert again.code == 125
    assert "already in use" in again.err and "one" in again.err
    cli("rm", "-f", "one")
    assert cli("run", "--rm", "--name", "one", IMAGE, "echo", "again").out == "again\n"


def test_detached_prints_the_id_and_runs_on(daemon, cli):
    cid = cli("run", "-d", IMAGE, "sleep", "100").out.strip()
    assert re.fullmatch("[0-9a-f]{64}", cid)
    assert daemon.state(cid) == "running"
    assert cid[:12] in cli("ps").out


def test_rm_leaves_nothing(daemon, cli):
    cli("run", "--rm", IMAGE, "true")
    wait_until(lambda: daemon.json("GET", "/containers/json?all=1") == [], what="an empty list")
    cid = cli("run", "-d", "--rm", IMAGE, "true").out.strip()
    wait_until(lambda: daemon.api("GET", f"/containers/{cid}/json").status == 404, what="removal at exit")


def test_a_terminal(daemon, cli):
    terminal = daemon.terminal(cli.program, "run", "-it", "--rm", IMAGE, "sh")
    terminal.expect("#")
    terminal.send("stty size; tty\n")
    terminal.expect("24 80")
    terminal.expect("/dev/pts/")
    terminal.resize(40, 100)
    def resized():
        terminal.send("stty size; echo done-$((1+1))\n")
        return "40 100" in terminal.expect("done-2")
    wait_until(resized, what="the new size inside")
    terminal.send("exit 5\n")
    assert terminal.wait() == 5


def test_detach_keys_leave_it_running(daemon, cli):
    terminal = daemon.terminal(cli.program, "run", "-it", "--name", "shell", IMAGE, "sh")
    terminal.expect("#")
    terminal.send("\x10\x11")
    terminal.wait()
    assert daemon.state("shell") == "running"
    terminal = daemon.terminal(cli.program, "attach", "--detach-keys", "ctrl-x,x", "shell")
    terminal.send("\n")
    terminal.expect("#")
    terminal.send("echo $((40+2))\n")
    terminal.expect("42")
    terminal.send("\x18x")
    terminal.wait()
    assert daemon.state("shell") == "running"


def test_limits_are_in_force(daemon, cli):
    cid = cli("run", "-d", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpu-shares", "512", IMAGE, "sleep", "100").out.strip()
    host = daemon.inspect(cid)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"], host["CpuShares"]) == (64 << 20, 500000000, 50, 512)
    files = {os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(p)))): p for p in daemon.cgroups() if p.endswith(cid)}
    def read(name):
        for path in daemon.cgroups():
            if path.endswith(cid) and os.path.exists(os.path.join(path, name)):
                with open(os.path.join(path, name)) as f:
                    return f.read().strip()
        return None
    assert files
    assert (read("memory.limit_in_bytes") or read("memory.max")) == str(64 << 20)
    assert read("pids.max") == "50"
    assert read("cpu.cfs_quota_us") == "50000" or read("cpu.max") == "50000 100000"


def test_out_of_memory_is_told(daemon, cli):
    cli("run", "--name", "hog", "-m", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c",
        "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done", check=False)
    state = daemon.inspect("hog")["State"]
    assert state["OOMKilled"] is True and state["ExitCode"] == 137, state


def test_a_read_only_root_with_a_tmpfs(cli):
    out = cli("run", "--rm", "--read-only", "--tmpfs", "/scratch:size=1m,mode=1777", IMAGE, "sh", "-c",
              "touch /x 2>&1; touch /scratch/x && echo fine; dd if=/dev/zero of=/scratch/big bs=1k count=2000 2>&1 | grep -c 'No space'").out
    assert "Read-only file system" in out
    assert "fine" in out and out.strip().endswith("1")


def test_capabilities(cli):
    show = ["sh", "-c", "grep CapEff /proc/self/status"]
    default = cli("run", "--rm", IMAGE, *show).out.split()[1]
    assert default == "00000000a80425fb"
    assert cli("run", "--rm", "--cap-drop", "ALL", IMAGE, *show).out.split()[1] == "0" * 16
    assert int(cli("run", "--rm", "--cap-add", "SYS_PTRACE", IMAGE, *show).out.split()[1], 16) & (1 << 19)
    assert "CAP_NO_SUCH" in cli("run", "--rm", "--cap-add", "NO_SUCH", IMAGE, "true", check=False).err.upper()


def test_no_new_privileges_and_seccomp(cli):
    status = ["sh", "-c", "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status"]
    assert cli("run", "--rm", IMAGE, *status).out.split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]
    out = cli("run", "--rm", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", IMAGE, *status).out
    assert out.split() == ["NoNewPrivs:", "1", "Seccomp:", "0"]
    assert cli("run", "--rm", IMAGE, "unshare", "-m", "true", check=False).code != 0


def test_the_kernels_dangerous_files_are_masked(cli):
    out = cli("run", "--rm", IMAGE, "sh", "-c", "cat /proc/kcore | wc -c; find /sys/firmware /proc/acpi -mindepth 1 2>/dev/null | wc -l; "
              "for d in /sys /sys/firmware /proc/acpi; do touch $d/x 2>&1; done; echo 1 2>&1 >/proc/sys/kernel/panic; mount | grep -c ' /proc/sys .*ro'").out
    lines = out.splitlines()
    assert lines[0] == "0" and lines[1] == "0"
    assert out.count("Read-only") == (4 if os.path.isdir("/proc/acpi") else 3)


def test_privileged_lifts_it_all(cli):
    out = cli("run", "--rm", "--privileged", IMAGE, "sh", "-c", "grep -E 'Seccomp:' /proc/self/status; mkdir /m; mount -t tmpfs x /m && echo mounted; ls /dev | wc -l").out
    assert "Seccomp:\t0" in out and "mounted" in out
    assert int(out.split()[-1]) > 20


def test_devices(cli):
    plain = cli("run", "--rm", IMAGE, "sh", "-c", "ls -l /dev/kmsg 2>&1; ls /dev").out
    assert "No such file" in plain
    for name in ("null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "stdin", "fd"):
        assert name in plain.split()
    out = cli("run", "--rm", "--device", "/dev/zero:/dev/nought:r", IMAGE, "sh", "-c", "head -c 3 /dev/nought | wc -c; mknod /x c 1 5; echo > /x").out
    assert out.split()[0] == "3"


def test_namespaces_are_the_containers_own_unless_told(cli):
    host = {ns: os.readlink(f"/proc/self/ns/{ns}") for ns in ("pid", "ipc", "uts", "mnt", "cgroup")}
    show = ["sh", "-c", "for n in pid ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done"]
    own = cli("run", "--rm", IMAGE, *show).out.split()
    assert not set(own) & {host[ns] for ns in ("pid", "ipc", "uts", "mnt")}
    shared = cli("run", "--rm", "--pid", "host", "--ipc", "host", "--uts", "host", IMAGE, *show).out.split()
    assert {host["pid"], host["ipc"], host["uts"]} <= set(shared)


def test_joining_another_containers_namespaces(cli):
    cli("run", "-d", "--name", "first", "--ipc", "shareable", IMAGE, "sh", "-c", "echo shared > /dev/shm/file; exec sleep 100")
    out = cli("run", "--rm", "--pid", "container:first", "--network", "container:first", "--ipc", "container:first", IMAGE, "ps").out
    assert "sleep 100" in out
    assert cli("run", "--rm", "--network", "container:first", IMAGE, "hostname").out == cli("exec", "first", "hostname").out
    refused = cli("run", "--rm", "--network", "container:first", "-h", "x", IMAGE, "true", check=False)
    assert refused.code == 125 and "hostname and the network mode" in refused.err
    joined = ["--ipc", "container:first"]
    assert cli("run", "--rm", *joined, IMAGE, "sh", "-c", "cat /dev/shm/file; echo back > /dev/shm/other").out == "shared\n"
    assert cli("exec", "first", "cat", "/dev/shm/other").out == "back\n"
    own = cli("exec", "first", "readlink", "/proc/self/ns/ipc").out
    assert cli("run", "--rm", *joined, IMAGE, "readlink", "/proc/self/ns/ipc").out == own
    cli("run", "-d", "--name", "private", IMAGE, "sleep", "100")
    refused = cli("run", "--rm", "--ipc", "container:private", IMAGE, "true", check=False)
    assert refused.code == 125 and "non-shareable IPC" in refused.err
    cli("stop", "-t", "0", "first")
    refused = cli("run", "--rm", *joined, IMAGE, "true", check=False)
    assert refused.code == 125 and "non running container" in refused.err


def test_init_reaps_and_forwards(cli):
    out = cli("run", "--rm", "--init", IMAGE, "sh", "-c", "cat /proc/1/comm; echo $$").out.split()
    assert "init" in out[0] and out[1] != "1"
    assert cli("run", "--rm", "--init", IMAGE, "sh", "-c", "exit 9", check=False).code == 9


def test_rlimits_and_sysctls(cli):
    assert cli("run", "--rm", "--ulimit", "nofile=100:200", IMAGE, "sh", "-c", "ulimit -Sn; ulimit -Hn").out.split() == ["100", "200"]
    assert cli("run", "--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", IMAGE, "cat",
               "/proc/sys/net/ipv4/ip_unprivileged_port_start").out.strip() == "77"
    refused = cli("run", "--rm", "--sysctl", "kernel.panic=1", IMAGE, "true", check=False)
    assert refused.code == 125 and "kernel.panic" in refused.err


def test_oom_score_shm_and_entrypoint(cli):
    out = cli("run", "--rm", "--oom-score-adj", "500", "--shm-size", "3m", "--entrypoint", "sh", IMAGE, "-c",
              "cat /proc/self/oom_score_adj; df -k /dev/shm | tail -1").out.split()
    assert out[0] == "500" and out[2] == "3072"


def test_pause_and_unpause(daemon, cli):
    cli("run", "-d", "--name", "p1", IMAGE, "sleep", "100")
    cli("pause", "p1")
    assert daemon.state("p1") == "paused"
    assert "(Paused)" in cli("ps").out
    assert cli("exec", "p1", "true", check=False).code != 0
    cli("unpause", "p1")
    assert daemon.state("p1") == "running"


def test_user_namespace_host_is_understood(cli):
    assert cli("run", "--rm", "--userns", "host", IMAGE, "cat", "/proc/self/uid_map").out.split() == ["0", "0", "4294967295"]
