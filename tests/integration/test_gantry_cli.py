"""What the gantry command offers beyond `run`: help, tables, formats, exit codes, completion, man pages."""

import json
import os
import re

import pytest

from harness import BUILD, IMAGE

FAMILIES = ["run", "create", "start", "stop", "restart", "kill", "pause", "unpause", "rm", "ps", "inspect", "logs", "attach", "exec", "top",
            "stats", "wait", "rename", "update", "diff", "cp", "port", "export", "commit", "images", "rmi", "tag", "history", "save", "load",
            "import", "volume", "network", "system", "info", "version", "events"]


@pytest.mark.parametrize("command", FAMILIES)
def test_every_command_has_help(daemon, command):
    out = daemon.gantry(command, "--help").out
    assert re.search(r"^Usage:\s+gantry " + command, out, re.M), out
    assert f"gantry {command}" in out and len(out.splitlines()) > 3


def test_unknown_commands_and_flags(daemon):
    result = daemon.gantry("rnu", check=False)
    assert result.code != 0 and "rnu" in result.err and "run" in result.err
    result = daemon.gantry("run", "--no-such-flag", IMAGE, check=False)
    assert result.code == 125 and "--no-such-flag" in result.err
    result = daemon.gantry("ps", "--no-such-flag", check=False)
    assert result.code in (1, 125) and "--no-such-flag" in result.err


def test_no_daemon_is_told_with_a_remedy(daemon):
    result = daemon.gantry("-H", "unix:///no/such/socket", "ps", check=False)
    assert result.code == 1 and "/no/such/socket" in result.err and "gantryd" in result.err


def test_tables_and_formats(daemon):
    daemon.gantry("run", "-d", "--name", "web", "--label", "a=b", "-p", "8080:80", IMAGE, "sleep", "100")
    head, row = daemon.gantry("ps").out.rstrip("\n").split("\n")
    assert head.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert row.index("web") == head.index("NAMES")
    assert "0.0.0.0:8080->80/tcp" in row and '"sleep 100"' in row
    assert daemon.gantry("ps", "--format", "{{.Names}}|{{.Image}}|{{.Label \"a\"}}").out.strip() == f"web|{IMAGE}|b"
    assert json.loads(daemon.gantry("ps", "--format", "json").out)["Names"] == "web"
    assert daemon.gantry("inspect", "-f", "{{.State.Status}} {{.HostConfig.NetworkMode}} {{json .Config.Cmd}}", "web").out.strip() in (
        'running bridge ["sleep","100"]', 'running default ["sleep","100"]')
    assert daemon.gantry("inspect", "web").out == json.dumps(json.loads(daemon.gantry("inspect", "web").out), indent=4, ensure_ascii=False) + "\n" or \
        json.loads(daemon.gantry("inspect", "web").out)[0]["Name"] == "/web"
    bad = daemon.gantry("ps", "--format", "{{.Nope", check=False)
    assert bad.code != 0 and "template" in bad.err.lower()
    assert "\x1b" not in daemon.gantry("ps").out


def test_the_same_lines_as_dockers_cli(daemon):
    daemon.gantry("run", "-d", "--name", "a1", "-v", "vol:/v", IMAGE, "sleep", "100")
    daemon.gantry("run", "--name", "b1", IMAGE, "true")
    for args in (["ps", "-aq"], ["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Command}} {{.State}}"], ["images", "-q"],
                 ["volume", "ls", "-q"], ["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"], ["port", "a1"], ["diff", "b1"],
                 ["inspect", "--format", "{{.Id}} {{.State.Pid}} {{range .Mounts}}{{.Name}}:{{.Destination}}{{end}}", "a1"],
                 ["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}"],
                 ["ps", "--filter", "name=a", "--format", "{{.Names}}: {{.Status}}"[:12]]):
        assert daemon.gantry(*args).out == daemon.docker(*args).out, args


def test_several_objects_and_one_unknown(daemon):
    daemon.gantry("create", "--name", "one", IMAGE)
    result = daemon.gantry("rm", "one", "unknown", check=False)
    assert result.code == 1 and result.out.strip() == "one" and "unknown" in result.err


def test_cidfile_envfile_and_labels(daemon, tmp_path):
    (tmp_path / "env").write_text("# comment\nA=1\nB=x y\n")
    daemon.gantry("run", "-d", "--cidfile", str(tmp_path / "cid"), "--env-file", str(tmp_path / "env"), "--name", "c1", IMAGE, "sleep", "100")
    assert (tmp_path / "cid").read_text() == daemon.inspect("c1")["Id"]
    assert {"A=1", "B=x y"} <= set(daemon.inspect("c1")["Config"]["Env"])
    again = daemon.gantry("run", "--cidfile", str(tmp_path / "cid"), IMAGE, check=False)
    assert again.code == 125 and "cid" in again.err


def test_save_refuses_a_terminal_and_load_reads_a_pipe(daemon, tmp_path):
    terminal = daemon.terminal(os.path.join(BUILD, "bin", "gantry"), "save", IMAGE)
    assert terminal.wait() == 1
    daemon.gantry("save", "-o", str(tmp_path / "x.tar"), IMAGE)
    assert "gantry/busybox:latest" in daemon.gantry("load", "-i", str(tmp_path / "x.tar")).out


def test_cp_and_logs(daemon, tmp_path):
    (tmp_path / "f").write_text("content")
    daemon.gantry("run", "-d", "--name", "c1", IMAGE, "sh", "-c", "echo one; echo two >&2; sleep 100")
    daemon.gantry("cp", str(tmp_path / "f"), "c1:/f")
    daemon.gantry("cp", "c1:/f", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    result = daemon.gantry("logs", "c1")
    assert (result.out, result.err) == ("one\n", "two\n")
    assert daemon.gantry("exec", "c1", "cat", "/f").out == "content"
    assert daemon.gantry("exec", "c1", "sh", "-c", "exit 9", check=False).code == 9
    assert daemon.gantry("wait", "c1", check=False, timeout=20).out if daemon.gantry("kill", "c1") is None else True


def test_completion_and_manual_pages(daemon, tmp_path):
    for shell in ("bash", "zsh", "fish"):
        out = daemon.gantry("completion", shell).out
        assert "gantry" in out and "inspect" in out
    script = tmp_path / "completion"
    script.write_text(daemon.gantry("completion", "bash").out)
    assert daemon.command("bash", "-n", str(script)).code == 0
    daemon.gantry("__man", str(tmp_path))
    assert (tmp_path / "gantry.1").exists() and (tmp_path / "gantry-run.1").exists()
    assert ".TH" in (tmp_path / "gantry-run.1").read_text()
