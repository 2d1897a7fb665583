"""The driver SDK from outside: a driver is begun with `gantry plugin new`, built against the installed SDK, checked by the conformance kit, and used."""

import hashlib
import os
import re
import shutil
import subprocess

import pytest

from harness import BUILD, IMAGE, REPO

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GANTRY = os.path.join(BUILD, "bin", "gantry")
SANITIZED = "asan" in BUILD or "tsan" in BUILD


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    """The SDK as `make install` lays it out."""
    root = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "-s", "-C", TOP, "install", f"BUILD={BUILD}", f"PREFIX={root}/usr", f"SYSCONFDIR={root}/etc"],
                   check=True, stdout=subprocess.DEVNULL)
    return {**os.environ, "PKG_CONFIG_PATH": f"{root}/usr/lib/pkgconfig"}


def make(directory, sdk, *targets):
    return subprocess.run(["make", "-s", "-C", str(directory), f"GANTRY={GANTRY}", *targets], env=sdk, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def new(tmp_path, kind, name="mine"):
    subprocess.run([GANTRY, "plugin", "new", kind, name], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    return tmp_path / name


def kept(report):
    """Rule -> whether it is kept. A rule that is named twice is kept where both are."""
    rules = {}
    for ok, rule in re.findall(r"^(ok|not ok) \d+ - (?:[^:]+): (.*)$", report, re.M):
        rules[rule] = rules.get(rule, True) and ok == "ok"
    return rules


def check_plugin(path, *settings, workdir="/var/tmp"):
    done = subprocess.run([GANTRY, "plugin", "check", str(path), *settings], env={**os.environ, "TMPDIR": str(workdir)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout


# ---- a driver of one's own ----

@pytest.mark.parametrize("kind", ["volume", "network", "storage"])
def test_what_plugin_new_writes_builds_and_keeps_every_rule(tmp_path, sdk, kind):
    directory = new(tmp_path, kind)
    built = make(directory, sdk)
    assert built.returncode == 0 and not built.stdout, built.stdout
    checked = make(directory, sdk, "check")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.startswith("TAP version 13\n") and f"1..{len(re.findall('^ok', checked.stdout, re.M))}\n" in checked.stdout


def test_a_volume_driver_of_ones_own_is_used(tmp_path, sdk, fresh_daemon):
    directory = new(tmp_path, "volume")
    assert make(directory, sdk).returncode == 0
    fresh_daemon.write_ini({"plugin.mine": {"path": directory / "mine.so"}})
    fresh_daemon.start()
    fresh_daemon.docker("volume", "create", "-d", "mine", "data")
    fresh_daemon.docker("run", "--rm", "-v", "data:/data", IMAGE, "sh", "-c", "mkdir -p /data/a/b; echo kept > /data/a/b/file; ln -s / /data/root")
    fresh_daemon.kill9()
    fresh_daemon.start()
    assert fresh_daemon.docker("run", "--rm", "-v", "data:/data:ro", IMAGE, "cat", "/data/a/b/file").out == "kept\n"
    fresh_daemon.docker("volume", "rm", "data")
    assert fresh_daemon.docker("volume", "ls", "-q").out == ""


def test_a_network_driver_of_ones_own_is_used(tmp_path, sdk, fresh_daemon):
    directory = new(tmp_path, "network")
    assert make(directory, sdk).returncode == 0
    fresh_daemon.write_ini({"plugin.mine": {"path": directory / "mine.so"}})
    fresh_daemon.start()
    fresh_daemon.docker("network", "create", "-d", "mine", "--subnet", "10.20.0.0/24", "lan")
    fresh_daemon.docker("run", "-d", "--name", "c1", "--network", "lan", IMAGE, "sleep", "1000")
    assert fresh_daemon.docker("run", "--rm", "--network", "lan", IMAGE, "ping", "-c1", "-W2", "c1").code == 0
    fresh_daemon.kill9()
    fresh_daemon.start()
    assert fresh_daemon.docker("run", "--rm", "--network", "lan", IMAGE, "ping", "-c1", "-W2", "c1").code == 0
    fresh_daemon.docker("rm", "-f", "c1")
    fresh_daemon.docker("network", "rm", "lan")
    assert not [link for link in fresh_daemon.links() if link.startswith("x")]


def test_a_storage_driver_of_ones_own_is_used(tmp_path, sdk, fresh_daemon):
    directory = new(tmp_path, "storage")
    assert make(directory, sdk).returncode == 0
    fresh_daemon.write_ini({"plugin.mine": {"path": directory / "mine.so"}, "storage": {"driver": "mine"}})
    fresh_daemon.start()
    fresh_daemon.docker("run", "--name", "c1", IMAGE, "sh", "-c", "mkdir -p /new/dir; echo own > /new/dir/file; rm /etc/group; rm -r /home; mkdir /home; echo >> /etc/passwd")
    lines = fresh_daemon.docker("diff", "c1").out.splitlines()
    assert {"A /new", "A /new/dir", "A /new/dir/file", "C /etc", "D /etc/group", "C /etc/passwd"} <= set(lines), lines
    fresh_daemon.docker("commit", "c1", "made")
    fresh_daemon.docker("rm", "c1")
    fresh_daemon.kill9()
    fresh_daemon.start()
    assert fresh_daemon.docker("run", "--rm", "made", "sh", "-c", "cat /new/dir/file; test ! -e /etc/group && ls -A /home").out == "own\n"
    fresh_daemon.docker("rmi", "made")


def test_bad_words_are_refused(tmp_path):
    for words, text in ((["disk", "mine"], "no kind of driver"), (["volume", "../x"], "cannot be called")):
        done = subprocess.run([GANTRY, "plugin", "new", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and text in done.stderr
    new(tmp_path, "volume")
    assert subprocess.run([GANTRY, "plugin", "new", "volume", "mine"], cwd=tmp_path, stderr=subprocess.DEVNULL).returncode == 1


# ---- drivers that break one rule each ----

# The change to the template's source, and the rules that the kit must find broken by it: these and no others.
BROKEN = {
    "create is not idempotent": (" < 0 && errno != EEXIST)", " < 0)",
                                 {"create of what is there with the same options is success", "create of it is success still"}),
    "unknown options are taken": ("for (uint32_t i = 0; options && i < options->count; i++)", "for (uint32_t i = 0; options && i > options->count; i++)",
                                  {"create refuses an unknown option by name", "what was refused is not there"}),
    "the option is not named": ('unknown option \\"%s\\" (there are none)", name, options->items[i].key', 'no", name',
                                {"create refuses an unknown option by name"}),
    "names are listed twice": ("entry->d_name[0] != '.' && visit", "entry->d_name[0] != '.' && !visit(arg, entry->d_name) && visit",
                               {"list has it once", "after a restart the volume is there", "after a reload the volume is there",
                                "8 threads with a volume each do not disturb one another"}),
    "inspect knows everything": ("struct gantry_volume_info *info, struct gantry_error *err)\n{\n\tstruct driver *driver = context;\n\t(void)call;\n"
                                 "\tif (find(driver, name, err) < 0)\n\t\treturn -1;",
                                 "struct gantry_volume_info *info, struct gantry_error *err)\n{\n\tstruct driver *driver = context;\n\t(void)call, (void)err;",
                                 {"inspect of an unknown volume: not found", "inspect of it: not found"}),
    "mount describes nothing": ('snprintf(mount->type, sizeof mount->type, "bind");', "mount->type[0] = 0;",
                                {"mount describes a mount", "it can be mounted", "mount before a reload", "it can be mounted for another container",
                                 "8 threads with a volume each do not disturb one another"}),
    "mount leads nowhere": ('"%s/%s", driver->host->state_dir, name) >= (int)sizeof mount->source', '"%s/none/%s", driver->host->state_dir, name) >= '
                            "(int)sizeof mount->source", {"what mount describes can be mounted"}),
    "release wants a mount": ("\treturn 0; /* a bind mount needs nothing undone */",
                              '\tif (strcmp(container_id, "kit-container-3") == 0)\n\t\treturn gantry_fail(err, GANTRY_E_NOT_FOUND, "not mounted");\n\treturn 0;',
                              {"release without mount is success"}),
    "reconcile is refused": ("static const struct gantry_volume_ops OPS = {\n",
                             "static int refuse(void *context, const struct gantry_call *call, const struct gantry_volume_use *uses, size_t count, size_t use_size,\n"
                             "\t\t  struct gantry_error *err)\n{\n\t(void)context, (void)call, (void)uses, (void)use_size;\n"
                             '\treturn count ? gantry_fail(err, GANTRY_E_NOT_FOUND, "not mounted") : 0;\n}\n'
                             "static const struct gantry_volume_ops OPS = {\n\t.reconcile = refuse,\n", {"reconcile with a container that lives"}),
    "remove wants a volume": ("\tif (remove_tree(driver->volumes, name) < 0)", "\tif (find(driver, name, err) < 0)\n\t\treturn -1;\n"
                              "\tif (remove_tree(driver->volumes, name) < 0)", {"remove of what is gone is success", "remove of what never was is success"}),
    "volumes are forgotten": ("\tclose(driver->volumes);\n\tfree(driver);", '\tunlinkat(driver->volumes, "kit-a", AT_REMOVEDIR);\n\tclose(driver->volumes);\n\tfree(driver);',
                              {"after a restart the volume is there", "after a reload the volume is there", "it can be mounted for another container"}),
    "a descriptor leaks": ("\tclose(driver->volumes);\n\tfree(driver);", "\tfree(driver);", {"no file descriptor is left behind"}),
    "the umask is changed": ("\tclose(driver->volumes);\n\tfree(driver);", "\tumask(0);\n\tclose(driver->volumes);\n\tfree(driver);",
                             {"umask and working directory are as before"}),
    "the directory is changed": ("\tclose(driver->volumes);\n\tfree(driver);", "\tif (fchdir(driver->volumes))\n\t\treturn;\n\tclose(driver->volumes);\n\tfree(driver);",
                                 {"umask and working directory are as before"}),
    "a signal is handled": ("\tclose(driver->volumes);\n\tfree(driver);", "\tsignal(SIGUSR2, SIG_IGN);\n\tclose(driver->volumes);\n\tfree(driver);",
                            {"signal handlers and masks are as before"}),
    "it mounts by itself": ("\treturn 0; /* a bind mount needs nothing undone */", '\treturn mount("none", "/mnt", "tmpfs", 0, NULL);', {"no mount is left behind"}),
    "a thread goes on": ("\t*context = driver;\n\treturn 0;", "\tpthread_t id;\n\t*context = driver;\n\treturn pthread_create(&id, NULL, forever, NULL) || usleep(50000);",
                         {"no thread is left behind"}),
    "threads share a buffer": ("\tif (mkdirat(driver->volumes, name, 0755)", '\tstatic char shared[256];\n\tsnprintf(shared, sizeof shared, "%s", name);\n\tusleep(2000);\n'
                               "\tif (mkdirat(driver->volumes, shared, 0755)", {"8 threads with a volume each do not disturb one another"}),
}
EXTRA = """#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
__attribute__((unused)) static void *forever(void *arg) { for (;;) pause(); return arg; }
"""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_driver_fails_just_its_rule(tmp_path, sdk, fault):
    old, changed, rules = BROKEN[fault]
    directory = new(tmp_path, "volume")
    source = (directory / "driver.c").read_text()
    assert source.count(old) == 1, fault
    (directory / "driver.c").write_text(source.replace(old, changed).replace("#include <unistd.h>\n", "#include <unistd.h>\n" + EXTRA))
    built = make(directory, sdk)
    assert built.returncode == 0, built.stdout
    code, report = check_plugin(directory / "mine.so")
    assert code == 1 and {rule for rule, ok in kept(report).items() if not ok} == rules, report


def test_a_driver_that_crashes_is_told(tmp_path, sdk):
    directory = new(tmp_path, "volume")
    source = (directory / "driver.c").read_text()
    (directory / "driver.c").write_text(source.replace("\treturn 0; /* a bind mount", "\tabort(); /* a bind mount"))
    assert make(directory, sdk).returncode == 0
    (tmp_path / "work").mkdir()
    code, report = check_plugin(directory / "mine.so", workdir=tmp_path / "work")
    assert code == 1 and "not ok - the driver does not crash" in report and "Aborted" in report
    assert os.listdir(tmp_path / "work") == []


# ---- the first header ----

def test_the_first_header_stays_what_it_is():
    """tests/unit/test_driver_abi.c loads drivers built against it; a change of it would prove nothing."""
    with open(os.path.join(REPO, "tests", "data", "plugins", "v1.0", "gantry", "plugin.h"), "rb") as f:
        assert hashlib.sha256(f.read()).hexdigest() == "dc4131d14d4397808c25acdd49e2631160753836e51ae1875bda239bdb3e99da"


# ---- our own ----

@pytest.mark.parametrize("plugin", ["vol-local", "vol-docker", "storage-overlay", "net-bridge", "net-host", "net-macvlan"])
def test_our_own_drivers_keep_every_rule(plugin):
    code, report = check_plugin(os.path.join(BUILD, "plugins", plugin + ".so"))
    assert code == 0 and "not ok" not in report, report


def test_what_cannot_be_loaded_is_told(tmp_path):
    path = tmp_path / "text.so"
    path.write_text("no shared object\n")
    code, report = check_plugin(path)
    assert code == 2 and "Bail out!" in report and "text.so" in report
    code, report = check_plugin(tmp_path / "none.so")
    assert code == 2 and "No such file" in report
    shutil.copy(os.path.join(BUILD, "plugins", "vol-local.so"), tmp_path / "vol-local.so")
    code, report = check_plugin(tmp_path / "vol-local.so", "no-such-key = 1")
    assert code == 2 and "no-such-key" in report


def test_each_kind_has_its_page():
    with open(os.path.join(TOP, "sdk", "gantry", "plugin.h")) as f:
        header = f.read()
    for kind in ("network", "volume", "storage"):
        page = os.path.join(BUILD, "man", f"gantry-driver-{kind}.7")
        shown = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"}, check=True)
        assert not shown.stderr, shown.stderr
        table = re.search(rf"^struct gantry_{kind}_ops {{(.*?)^}};", header, re.S | re.M).group(1)
        ops = re.findall(r"\(\*(\w+)\)", table)
        assert len(ops) > 8 and all(re.search(rf"^ +{op}$", shown.stdout, re.M) for op in ops), ops
        assert "Idempotence" in shown.stdout and "state_put" in shown.stdout and "GANTRY_E_CONFLICT" in shown.stdout and "Reload" in shown.stdout
