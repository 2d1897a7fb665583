"""create, start, stop, kill, restart, wait, rename, remove, inspect, list, top, stats, update, logs, events, exec, attach."""

import json
import os
import select
import threading
import time

import pytest

from harness import IMAGE, SLOW, wait_until


def test_states_follow_each_other(daemon):
    cid = daemon.docker("create", "--name", "c1", IMAGE, "sleep", "100").out.strip()
    assert daemon.state(cid) == "created"
    daemon.docker("start", "c1")
    state = daemon.inspect("c1")["State"]
    assert state["Running"] and state["Pid"] > 0 and os.path.exists(f"/proc/{state['Pid']}")
    daemon.docker("stop", "-t", "1", "c1")
    state = daemon.inspect("c1")["State"]
    assert (state["Status"], state["Pid"], state["ExitCode"]) == ("exited", 0, 137)
    daemon.docker("restart", "-t", "1", "c1")
    assert daemon.state("c1") == "running"
    daemon.docker("kill", "c1")
    wait_until(lambda: daemon.state("c1") == "exited", what="exit")
    daemon.docker("rm", "c1")
    assert daemon.api("GET", "/containers/c1/json").status == 404


def test_repeated_start_and_stop_are_not_modified(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    assert daemon.api("POST", "/containers/c1/start").status == 304
    assert daemon.api("POST", "/containers/c1/stop?t=0").status == 204
    assert daemon.api("POST", "/containers/c1/stop").status == 304
    response = daemon.api("POST", "/containers/c1/kill")
    assert response.status == 409 and b"is not running" in response.body


def test_stop_sends_the_chosen_signal_first(daemon):
    script = "trap 'echo got; exit 4' USR1; echo ready; while true; do sleep 0.05; done"
    daemon.docker("run", "-d", "--name", "c1", "--stop-signal", "USR1", IMAGE, "sh", "-c", script)
    wait_until(lambda: daemon.docker("logs", "c1").out == "ready\n", what="the trap")
    daemon.docker("stop", "-t", "60", "c1")
    assert daemon.inspect("c1")["State"]["ExitCode"] == 4
    assert daemon.docker("logs", "c1").out == "ready\ngot\n"


def test_a_running_container_is_not_removed_without_force(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    refused = daemon.docker("rm", "c1", check=False)
    assert refused.code == 1 and "running" in refused.err
    daemon.docker("rm", "-f", "c1")


def test_wait_conditions(daemon):
    daemon.docker("create", "--name", "c1", IMAGE, "sh", "-c", "sleep 0.3; exit 6")
    results = {}
    def wait(condition):
        results[condition] = daemon.json("POST", f"/containers/c1/wait?condition={condition}")["StatusCode"]
    threads = [threading.Thread(target=wait, args=(c,)) for c in ("next-exit", "removed")]
    for t in threads:
        t.start()
    time.sleep(0.2)
    assert daemon.json("POST", "/containers/c1/wait?condition=not-running")["StatusCode"] == 0
    daemon.docker("start", "c1")
    threads[0].join(10)
    assert results == {"next-exit": 6}
    daemon.docker("rm", "c1")
    threads[1].join(10)
    assert results["removed"] == 6
    assert daemon.api("POST", "/containers/c1/wait?condition=nonsense").status in (400, 404)


def test_rename(daemon):
    daemon.docker("create", "--name", "old", IMAGE)
    daemon.docker("create", "--name", "taken", IMAGE)
    daemon.docker("rename", "old", "new")
    assert daemon.inspect("new")["Name"] == "/new"
    assert daemon.api("GET", "/containers/old/json").status == 404
    assert daemon.api("POST", "/containers/new/rename?name=taken").status == 409
    assert daemon.api("POST", "/containers/new/rename?name=../x").status == 400


def test_references(daemon):
    cid = daemon.docker("create", "--name", "c1", IMAGE).out.strip()
    for ref in (cid, cid[:12], cid[:7], "c1", "/c1"):
        assert daemon.json("GET", f"/containers/{ref.replace('/', '%2F')}/json")["Id"] == cid
    assert daemon.api("GET", "/containers/nothing/json").status == 404
    assert json.loads(daemon.api("GET", "/containers/nothing/json").body)["message"] == "No such container: nothing"


def test_list_filters(daemon):
    daemon.docker("run", "-d", "--name", "web1", "--label", "tier=web", "--label", "env=x", IMAGE, "sleep", "100")
    daemon.docker("run", "-d", "--name", "db1", "--label", "tier=db", IMAGE, "sleep", "100")
    daemon.docker("run", "--name", "done", "--label", "tier=web", IMAGE, "sh", "-c", "exit 3", check=False)

    def names(*filters, all=False):
        args = ["ps", "--format", "{{.Names}}"] + (["-a"] if all else [])
        for f in filters:
            args += ["--filter", f]
        return sorted(daemon.docker(*args).out.split())

    assert names() == ["db1", "web1"]
    assert names(all=True) == ["db1", "done", "web1"]
    assert names("label=tier=web") == ["web1"]
    assert names("label=tier=web", all=True) == ["done", "web1"]
    assert names("label=tier", "label=env") == ["web1"]
    assert names("name=db") == ["db1"]
    assert names("status=exited") == ["done"]
    assert names("exited=3", all=True) == ["done"]
    assert names("ancestor=" + IMAGE) == ["db1", "web1"]
    assert names("before=db1") == ["web1"]
    assert names("since=web1") == ["db1"]
    assert daemon.docker("ps", "--filter", "nonsense=1", check=False).code == 1
    assert len(daemon.json("GET", "/containers/json?limit=1")) == 1
    assert daemon.docker("ps", "-aq", "-n", "1").out.strip() == daemon.inspect("done")["Id"][:12]


def test_restart_policies(daemon):
    daemon.docker("run", "-d", "--name", "f1", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 1")
    wait_until(lambda: daemon.state("f1") == "exited" and daemon.inspect("f1")["RestartCount"] == 2, 20, "two restarts")
    wait_until(lambda: daemon.docker("logs", "f1").out.count("run") == 3, what="the third line")
    daemon.docker("run", "-d", "--name", "a1", "--restart", "always", IMAGE, "sleep", "0.2")
    wait_until(lambda: daemon.inspect("a1")["RestartCount"] >= 2, 20, "restarts")
    daemon.docker("stop", "-t", "0", "a1")
    time.sleep(1)
    assert daemon.state("a1") == "exited"


def test_top_shows_the_containers_processes(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sh", "-c", "sleep 77 & wait")
    wait_until(lambda: "sleep 77" in daemon.docker("top", "c1").out, what="the second process")
    titles, *rows = daemon.docker("top", "c1").out.strip().splitlines()
    assert titles.split()[:3] == ["UID", "PID", "PPID"]
    assert len(rows) == 2 and any("sleep 77" in row for row in rows)
    body = daemon.json("GET", "/containers/c1/top?ps_args=-o%20pid,comm")
    assert body["Titles"] == ["PID", "COMMAND"]


def test_stats_are_measured(daemon):
    daemon.docker("run", "-d", "--name", "c1", "-m", "100m", IMAGE, "sh", "-c", "while true; do :; done")
    wait_until(lambda: daemon.json("GET", "/containers/c1/stats?stream=0")["cpu_stats"]["cpu_usage"]["total_usage"] > 500_000_000, 30, "half a second of work")
    stats = daemon.json("GET", "/containers/c1/stats?stream=0")
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > stats["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert stats["memory_stats"]["limit"] == 100 << 20 and stats["memory_stats"]["usage"] > 0
    assert stats["pids_stats"]["current"] == 1
    assert "eth0" in stats["networks"]
    line = daemon.docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "c1").out
    assert line.startswith("c1 ") and "100MiB" in line


def test_update_changes_limits_of_a_running_container(daemon):
    cid = daemon.docker("run", "-d", "--name", "c1", "-m", "100m", IMAGE, "sleep", "100").out.strip()
    daemon.docker("update", "-m", "200m", "--memory-swap", "300m", "--pids-limit", "33", "c1")
    assert daemon.inspect("c1")["HostConfig"]["Memory"] == 200 << 20
    values = set()
    for path in daemon.cgroups():
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max"):
            if path.endswith(cid) and os.path.exists(f"{path}/{name}"):
                with open(f"{path}/{name}") as f:
                    values.add(f.read().strip())
    assert {str(200 << 20), "33"} <= values


# ---- logs ----

def test_logs(daemon):
    daemon.docker("run", "--name", "c1", IMAGE, "sh", "-c", "for i in 1 2 3; do echo out$i; echo err$i >&2; sleep 0.01; done; printf tail")
    result = daemon.docker("logs", "c1")
    assert result.out == "out1\nout2\nout3\ntail"
    assert result.err == "err1\nerr2\nerr3\n"
    assert daemon.docker("logs", "-n", "1", "c1").out == "tail"
    stamped = daemon.docker("logs", "-t", "c1").out.splitlines()
    assert len(stamped) == 4 and stamped[0].split()[0].endswith("Z") and stamped[0].split()[1] == "out1"
    after = stamped[1].split()[0]
    assert daemon.docker("logs", "--since", after, "c1").out.startswith("out2")
    assert daemon.docker("logs", "--until", stamped[0].split()[0], "c1").out in ("", "out1\n")


def test_logs_with_details(daemon):
    script = "echo one; head -c 20000 /dev/zero | tr '\\0' x; echo"
    daemon.docker("run", "--name", "c1", "--label", "a=1 &<é", "--label", "b=x", "-e", "E=v/w", "--log-opt", "labels=b,a,missing", "--log-opt", "env=E",
                  "--log-opt", "tag=t {{.Name}}", IMAGE, "sh", "-c", script)
    details = "E=v%2Fw,a=1+%26%3C%C3%A9,b=x,tag=t+c1 "
    assert daemon.docker("logs", "--details", "c1").out == f"{details}one\n{details}{'x' * 20000}\n"
    assert daemon.docker("logs", "c1").out == f"one\n{'x' * 20000}\n"
    stamp, rest = daemon.docker("logs", "--details", "-t", "-n", "1", "c1").out.split(" ", 1)
    assert stamp.endswith("Z") and rest.endswith("x\n")
    with open(daemon.inspect("c1")["LogPath"]) as f:
        lines = [json.loads(line) for line in f]
    assert len(lines) == 3 and all(line["attrs"] == {"a": "1 &<é", "b": "x", "E": "v/w", "tag": "t c1"} for line in lines)
    daemon.docker("run", "--name", "c2", IMAGE, "echo", "one")
    assert daemon.docker("logs", "--details", "c2").out == " one\n"         # as Docker's
    refused = daemon.docker("create", "--log-opt", "tag={{.Nothing}}", IMAGE, "true", check=False)
    assert refused.code == 1 and "tag" in refused.err


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_logs_follow_until_the_end(daemon, driver):
    daemon.docker("run", "-d", "--name", "c1", "--log-driver", driver, IMAGE, "sh", "-c",
                  "for i in $(seq 1 30); do echo line$i; sleep 0.02; done")
    assert daemon.docker("logs", "-f", "c1").out.split() == [f"line{i}" for i in range(1, 31)]


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_logs_rotate_without_a_gap_at_the_end(daemon, driver):
    daemon.docker("run", "--name", "c1", "--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=3", IMAGE,
                  "seq", "1", "5000")
    lines = daemon.docker("logs", "c1").out.split()
    assert lines[-1] == "5000" and len(lines) > 100
    assert lines == [str(i) for i in range(int(lines[0]), 5001)]
    path = daemon.inspect("c1")["LogPath"]
    if driver == "json-file":
        files = [name for name in os.listdir(os.path.dirname(path)) if name.startswith(os.path.basename(path))]
        assert len(files) == 3
        assert all(os.path.getsize(os.path.join(os.path.dirname(path), name)) <= 21000 for name in files)


def test_logs_none_cannot_be_read(daemon):
    daemon.docker("run", "--name", "c1", "--log-driver", "none", IMAGE, "echo", "x")
    result = daemon.docker("logs", "c1", check=False)
    assert result.code == 1 and "does not support reading" in result.err


def test_json_file_is_dockers_format(daemon):
    daemon.docker("run", "--name", "c1", IMAGE, "printf", 'a "quoted" \\\\ \\t\\001 \\303\\251 \\377 line\\n')
    with open(daemon.inspect("c1")["LogPath"], "rb") as f:
        record = json.loads(f.readline())
    assert record["stream"] == "stdout" and record["time"].endswith("Z")
    assert record["log"].startswith('a "quoted" ') and record["log"].endswith("line\n")


def test_unknown_log_drivers_and_options_are_refused(daemon):
    bad = daemon.docker("create", "--log-driver", "nonsense", IMAGE, check=False)
    assert bad.code == 1 and "nonsense" in bad.err
    bad = daemon.docker("create", "--log-opt", "colour=red", IMAGE, check=False)
    assert bad.code == 1 and "colour" in bad.err


# ---- exec and attach ----

def test_exec(daemon):
    daemon.docker("run", "-d", "--name", "c1", "-e", "A=1", "-w", "/tmp", IMAGE, "sleep", "100")
    assert daemon.docker("exec", "c1", "sh", "-c", "echo $A; pwd; cat /proc/1/comm").out.split() == ["1", "/tmp", "sleep"]
    result = daemon.docker("exec", "-e", "A=2", "-w", "/", "-u", "nobody", "c1", "sh", "-c", "echo $A; pwd; id -un; exit 11", check=False)
    assert result.code == 11 and result.out.split() == ["2", "/", "nobody"]
    assert daemon.docker("exec", "-i", "c1", "cat", stdin="through").out == "through"
    assert daemon.docker("exec", "c1", "nonsense", check=False).code in (126, 127)
    daemon.docker("exec", "-d", "c1", "touch", "/made")
    wait_until(lambda: daemon.docker("exec", "c1", "ls", "/made", check=False).code == 0, what="the detached exec")
    assert daemon.docker("exec", "nobody-there", "true", check=False).code == 1


def test_an_exec_that_cannot_go_on_holds_up_nothing_else(daemon):
    """In a frozen container an exec stands still. What else is asked of the container is done meanwhile."""
    cid = daemon.docker("run", "-d", "--name", "c1", IMAGE, "sh", "-c", "while true; do echo tick; sleep 0.05; done").out.strip()
    path = next(path for path in daemon.cgroups() if path.endswith(cid) and any(os.path.exists(f"{path}/{name}") for name in ("freezer.state", "cgroup.freeze")))
    v1 = os.path.exists(f"{path}/freezer.state")
    def has(name):
        with open(f"{path}/{name}") as f:
            return f.read()
    def freeze(on):
        with open(f"{path}/" + ("freezer.state" if v1 else "cgroup.freeze"), "w") as f:
            f.write(("THAWED", "FROZEN")[on] if v1 else "01"[on])
        wait_until(lambda: has("freezer.state").strip() == ("THAWED", "FROZEN")[on] if v1 else f"frozen {int(on)}" in has("cgroup.events"), what=f"frozen: {on}")
    def inside():
        return len(has("cgroup.procs").split())
    freeze(True)
    before = inside()
    late = daemon.popen("docker", "exec", "c1", "echo", "late")
    never = daemon.popen("docker", "exec", "c1", "touch", "/never")
    wait_until(lambda: inside() == before + 2, what="both execs, frozen")
    attached = daemon.popen("docker", "attach", "--no-stdin", "c1")
    daemon.api("POST", "/containers/c1/resize?h=1&w=1")
    daemon.docker("kill", "-s", "CONT", "c1")
    wait_until(lambda: "/c1/attach" in daemon.log(), what="the attached client")
    daemon.restart(crash=True)
    assert daemon.state("c1") == "running"
    never.kill()
    never.communicate()
    freeze(False)
    assert late.communicate(timeout=10 * SLOW)[0] == b"late\n"
    assert attached.stdout.readline() == b"tick\n"
    assert daemon.docker("exec", "c1", "echo", "x").out == "x\n"
    freeze(True)
    daemon.docker("rm", "-f", "c1")
    attached.communicate(timeout=10 * SLOW)


def test_exec_in_a_directory(daemon):
    daemon.docker("run", "-d", "--name", "c1", "-w", "/made/for/it", IMAGE, "sleep", "100")
    assert daemon.docker("exec", "c1", "pwd").out == "/made/for/it\n"
    assert daemon.docker("exec", "-w", "/tmp", "c1", "pwd").out == "/tmp\n"
    result = daemon.docker("exec", "-w", "/no/such", "c1", "pwd", check=False)
    assert result.code == 127 and 'chdir to cwd ("/no/such")' in result.out + result.err
    assert daemon.docker("exec", "c1", "ls", "/no", check=False).code == 1      # nothing was made for it


def test_the_engines_own_files_are_no_change(daemon):
    daemon.docker("run", "--name", "c1", IMAGE, "sh", "-c", "echo 1.2.3.4 there >> /etc/hosts; echo x > /own")
    assert daemon.docker("diff", "c1").out == "A /own\n"
    daemon.docker("commit", "-c", "CMD other", "c1", "made:1")
    assert "echo x > /own" in daemon.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "made:1").out.split("\n")[0]
    missing = daemon.api("GET", "/containers/c1/archive?path=/no/such")     # clients before 20.10 have words of their own
    assert missing.status == 404 and b"Could not find the file /no/such in container c1" in missing.body
    daemon.docker("rm", "c1")
    daemon.docker("rmi", "made:1")


def test_exec_on_a_terminal(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    terminal = daemon.terminal("docker", "exec", "-it", "c1", "sh")
    terminal.expect("#")
    terminal.send("stty size\n")
    terminal.expect("24 80")
    terminal.send("exit 3\n")
    assert terminal.wait() == 3


def test_exec_inspect(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    made = daemon.json("POST", "/containers/c1/exec", {"Cmd": ["sh", "-c", "exit 4"], "AttachStdout": True})
    info = daemon.json("GET", f"/exec/{made['Id']}/json")
    assert info["Running"] is False and info["ExitCode"] is None and info["ProcessConfig"]["entrypoint"] == "sh"
    assert daemon.api("POST", f"/exec/{made['Id']}/start", {"Detach": True}).status == 200
    wait_until(lambda: daemon.json("GET", f"/exec/{made['Id']}/json")["ExitCode"] == 4, what="the exit code")
    assert daemon.api("POST", f"/exec/{made['Id']}/start", {"Detach": True}).status == 409
    assert daemon.api("GET", "/exec/unknown/json").status == 404


def test_two_clients_attach_to_one_container(daemon):
    daemon.docker("run", "-di", "--name", "c1", IMAGE, "cat")
    clients = [daemon.popen("docker", "attach", "c1", stdin=-1) for _ in range(2)]
    for i, client in enumerate(clients):        # each is there once it sees a line of its own
        client.stdin.write(b"mine %d\n" % i)
        client.stdin.flush()
        while client.stdout.readline() != b"mine %d\n" % i:
            pass
    clients[0].stdin.write(b"to all\n")
    clients[0].stdin.flush()
    wait_until(lambda: "to all" in daemon.docker("logs", "c1").out, what="the line")
    daemon.docker("kill", "c1")
    for client in clients:
        assert client.communicate(timeout=10 * SLOW)[0].endswith(b"to all\n")


# ---- events ----

def test_events_tell_the_life_of_a_container(daemon):
    begin = time.time()
    daemon.docker("run", "--name", "c1", "--label", "a=b", IMAGE, "sh", "-c", "exit 2", check=False)
    daemon.docker("rm", "c1")
    out = daemon.docker("events", "--since", f"{begin:.6f}", "--until", f"{time.time() + 0.1:.6f}", "--filter", "type=container",
                        "--format", "{{json .}}").out
    events = [json.loads(line) for line in out.splitlines()]
    actions = [e["Action"] for e in events]
    assert [a for a in actions if a in ("create", "attach", "start", "die", "destroy")] == ["create", "attach", "start", "die", "destroy"]
    die = next(e for e in events if e["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "2" and die["Actor"]["Attributes"]["name"] == "c1"
    assert die["Actor"]["Attributes"]["a"] == "b" and die["Actor"]["Attributes"]["image"] == IMAGE


def test_events_stream_live(daemon):
    stream = daemon.popen("docker", "events", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}")
    def ran_and_told():
        daemon.docker("run", "--rm", "--name", "seen", IMAGE, "true")
        return select.select([stream.stdout], [], [], 0.5)[0]
    wait_until(ran_and_told, what="an event")
    assert stream.stdout.readline().strip() == b"seen"
    stream.kill()
    stream.communicate()


# ---- health ----

def test_health_checks(daemon):
    daemon.docker("run", "-d", "--name", "c1", "--health-cmd", "test -e /ok", "--health-interval", "200ms", "--health-retries", "2",
                  IMAGE, "sleep", "100")
    def health():
        return daemon.inspect("c1")["State"]["Health"]
    assert health()["Status"] in ("starting", "unhealthy")
    wait_until(lambda: health()["Status"] == "unhealthy", 15, "unhealthy")
    assert health()["FailingStreak"] >= 2 and health()["Log"][-1]["ExitCode"] == 1
    daemon.docker("exec", "c1", "touch", "/ok")
    wait_until(lambda: health()["Status"] == "healthy", 15, "healthy")
    assert "(healthy)" in daemon.docker("ps").out


# ---- prune, df, info, version ----

def test_prune_df_info_and_version(daemon):
    daemon.docker("run", "--name", "old", IMAGE, "sh", "-c", "head -c 1000000 /dev/zero > /file")
    assert "Containers" in daemon.docker("system", "df").out
    usage = daemon.json("GET", "/system/df")
    assert usage["Containers"][0]["SizeRw"] >= 1000000
    info = daemon.json("GET", "/info")
    assert (info["Containers"], info["ContainersStopped"], info["Images"]) == (1, 1, 1)
    assert info["Driver"] == "overlay" or "overlay" in info["Driver"]
    pruned = daemon.json("POST", "/containers/prune")
    assert len(pruned["ContainersDeleted"]) == 1 and pruned["SpaceReclaimed"] >= 1000000
    assert "1.50" in daemon.docker("version").out
    assert "Server Version" in daemon.docker("info").out
