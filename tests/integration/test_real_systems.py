"""Real systems in containers: a Debian root file system, a compiler, nginx, PostgreSQL with a volume."""

import pytest

from harness import IMAGE, wait_until


@pytest.fixture(scope="module")
def debian(shared_daemon, debian_rootfs):
    shared_daemon.ensure_running()
    shared_daemon.docker("import", debian_rootfs, "debian:bookworm", timeout=300)
    yield shared_daemon
    shared_daemon.remove_everything()
    shared_daemon.docker("rmi", "debian:bookworm")


def test_debian_runs(debian, daemon):
    assert daemon.docker("run", "--rm", "debian:bookworm", "apt-get", "--version").out.startswith("apt ")
    assert daemon.docker("run", "--rm", "debian:bookworm", "bash", "-lc", "echo $BASH_VERSION; cat /etc/debian_version").out.split()[1].startswith("12")
    program = '#include <stdio.h>\nint main(void) { puts("compiled inside"); return 42; }\n'
    result = daemon.docker("run", "-i", "--rm", "debian:bookworm", "sh", "-c", "gcc -O2 -x c -o /tmp/a - && /tmp/a", stdin=program, check=False)
    assert (result.code, result.out) == (42, "compiled inside\n"), result


def test_a_login_shell_on_a_terminal(debian, daemon):
    terminal = daemon.terminal("docker", "run", "-it", "--rm", "debian:bookworm", "bash", "-l")
    terminal.expect("#")
    terminal.send("sleep 30 & jobs; kill %1; echo $((6*7)) >&2; exit 4\n")
    terminal.expect("Running")
    terminal.expect("42")
    assert terminal.wait() == 4


def test_nginx_serves_on_a_published_port(debian, daemon):
    daemon.docker("run", "-d", "--name", "web", "-p", "8080:80", "debian:bookworm", "nginx", "-g", "daemon off;")
    page = wait_until(lambda: daemon.command("curl", "-s", "-m", "5", "http://127.0.0.1:8080/", check=False).out, 20, "nginx's page")
    assert "nginx" in page
    daemon.docker("stop", "web")
    assert daemon.inspect("web")["State"]["ExitCode"] == 0


def test_busybox_httpd_serves_the_embedded_image(daemon):
    daemon.docker("run", "-d", "-p", "8081:80", IMAGE, "httpd", "-f", "-p", "80", "-h", "/etc")
    assert "root" in wait_until(lambda: daemon.command("curl", "-s", "-m", "5", "http://127.0.0.1:8081/passwd", check=False).out, 20, "a file")


POSTGRES = """
set -e
export PATH=$PATH:/usr/lib/postgresql/15/bin
[ -e /data/db ] || { install -d -o postgres /data/db; su postgres -c "$(which initdb) -D /data/db" >/dev/null; }
exec su postgres -c "exec $(which postgres) -D /data/db -k /tmp -c listen_addresses='*'"
"""


def test_postgresql_keeps_its_data_in_a_named_volume(debian, daemon):
    def sql(text):
        return daemon.docker("exec", "-u", "postgres", "db", "psql", "-h", "/tmp", "-tAc", text, check=False)
    def serve():
        daemon.docker("run", "-d", "--name", "db", "-v", "pgdata:/data", "--shm-size", "128m", "debian:bookworm", "sh", "-c", POSTGRES)
        wait_until(lambda: sql("select 1").out == "1\n", 60, "a server that answers")
    serve()
    sql("create table t (n int)")
    assert sql("insert into t select generate_series(1, 10000)").code == 0
    daemon.docker("stop", "-s", "INT", "db", check=False)
    daemon.docker("rm", "-f", "db")
    serve()
    assert sql("select sum(n) from t").out == "50005000\n"
