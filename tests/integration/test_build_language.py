"""The Dockerfile language, by what its reference documents, each against a real build."""

import json
import os

import pytest

from building import archive, build, config, history, sh, write
from harness import IMAGE

# ---- directives, comments, lines ----


def test_directives(builder, tmp_path):
    build(builder, tmp_path, f"""#!/usr/bin/env something
# syntax=docker/dockerfile:1.7-labs
# Escape=`
FROM {IMAGE}
RUN echo one`
# a comment between
 two > /a; echo 'back\\slash' >> /a
ENV P=c:\\dir Q=a`
b
""")
    assert sh(builder, "cat /a; echo $P $Q").splitlines() == ["one two", "back\\slash", "c:\\dir ab"]
    for text, words in (
        (f"# escape=x\nFROM {IMAGE}\n", "invalid escape token"),
        (f"# escape=`\n# escape=`\nFROM {IMAGE}\n", "only one escape parser directive"),
        (f"# syntax=example.com/other\nFROM {IMAGE}\n", "only docker/dockerfile is built here"),
    ):
        refused = build(builder, tmp_path, text, check=False)
        assert refused.code == 1 and words in refused.err, refused
    late = build(builder, tmp_path, f"# any comment ends them\n# escape=x\n\n  FROM {IMAGE}\n  # indented\n\tRUN echo 'a \\\n\n   b' > /b\n")
    assert "Empty continuation lines" in late.out and sh(builder, "cat /b") == "a    b\n"


CHECKED = f"""ARG BASE
FROM {IMAGE} AS Big
from {IMAGE} AS big
FROM --platform=linux/amd64 {IMAGE} as scratch
MAINTAINER me
WORKDIR rel
ENV PASSWORD=x
ENV old form
ARG API_TOKEN=y
LABEL a b
EXPOSE 80/TCP
EXPOSE 127.0.0.1:80:80
CMD echo shell
CMD ["a"]
COPY ignored /x
"""


def test_checks(builder, tmp_path):
    write(tmp_path, {".dockerignore": "ignored\n", "ignored": ""})
    text = CHECKED.replace("EXPOSE 127.0.0.1:80:80\n", "").replace("COPY ignored /x\n", "").replace("as scratch", "as third")
    out = build(builder, tmp_path, text).out
    for line in ("2: StageNameCasing", "3: DuplicateStageName", "3: ConsistentInstructionCasing", "4: FromAsCasing", "4: FromPlatformFlagConstDisallowed",
                 "5: MaintainerDeprecated", "6: WorkdirRelativePath", '7: SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "PASSWORD")',
                 "8: LegacyKeyValueFormat", '(ARG "API_TOKEN")', "10: LegacyKeyValueFormat", "11: ExposeProtoCasing", "12: JSONArgsRecommended",
                 "12: MultipleInstructionsDisallowed"):
        assert f"[Warning] Dockerfile:{line}" in out or (line[0] == "(" and line in out), (line, out)
    failed = build(builder, tmp_path, "# check=error=true\n" + CHECKED, check=False)
    assert failed.code == 1 and "lint violation found for rules" in failed.err
    for rule in ("ReservedStageName", "CopyIgnoredFile", "ExposeInvalidFormat"):
        assert rule in failed.err, failed
    quiet = build(builder, tmp_path, "# check=skip=all\n" + text)
    assert "[Warning]" not in quiet.out
    skipped = build(builder, tmp_path, f"# check=skip=JSONArgsRecommended,UndefinedVar;error=true\nFROM {IMAGE}\nCMD true\n")
    assert "[Warning]" not in skipped.out
    for choice, words in (("skip=NoSuchRule", "no rule"), ("nonsense", "is not skip=RULE"), ("error=perhaps", "neither true nor false")):
        assert words in build(builder, tmp_path, f"# check={choice}\nFROM {IMAGE}\n", check=False).err
    by_arg = build(builder, tmp_path, f"FROM {IMAGE}\nCMD true\n", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", check=False)
    assert by_arg.code == 1 and "JSONArgsRecommended" in by_arg.err
    undeclared = build(builder, tmp_path, f"ARG EMPTY\nFROM {IMAGE}$EMPTY$NEVER\n")
    assert "UndefinedArgInFrom: FROM argument 'NEVER'" in undeclared.out and "InvalidDefaultArgInFrom" in undeclared.out


# ---- variables ----


def test_variables_and_their_modifiers(builder, tmp_path):
    build(builder, tmp_path, f"""FROM {IMAGE}
ENV str=foobarbaz empty="" path=/a/b/c.tar.gz
ENV a=$str b=${{str}}x c=\\$str d=\\${{str}} e='$str' f="$str" g=${{none:-w}} h=${{empty:-w}} i=${{empty-w}} j=${{str:+w}} k=${{none:+w}} l=${{empty+w}}
ENV m=${{str#f*b}} n=${{str##f*b}} o=${{str%b*}} p=${{str%%b*}} q=${{str/ba/BA}} r=${{str//ba/BA}} s=${{path##*/}} t=${{path%.*}} u=${{str/b?r/-}}
ENV v=${{none:-${{none2:-$str}}}} w=${{str:?must be}} x="a b" y=a\\ b z="q\\"q"
ENV abc=hello
ENV abc=bye def=$abc
ENV ghi=$abc
""")
    got = dict(entry.split("=", 1) for entry in config(builder)["Env"])
    want = dict(a="foobarbaz", b="foobarbazx", c="$str", d="${str}", e="$str", f="foobarbaz", g="w", h="w", i="", j="w", k="", l="w",
                m="arbaz", n="az", o="foobar", p="foo", q="fooBArbaz", r="fooBArBAz", s="c.tar.gz", t="/a/b/c.tar", u="foo-baz",
                v="foobarbaz", w="foobarbaz", x="a b", y="a b", z='q"q', abc="bye", **{"def": "hello"}, ghi="bye")
    assert {name: got.get(name) for name in want} == want
    missing = build(builder, tmp_path, f"FROM {IMAGE}\nENV a=${{none:?is needed}}\n", check=False)
    assert missing.code == 1 and "none: is needed" in missing.err


def test_instructions_that_expand_variables(builder, tmp_path):
    write(tmp_path, {"f-1": "x"})
    build(builder, tmp_path, f"""FROM {IMAGE}
ARG N=1
ENV PORT=90 DIR=/w SIG=SIGUSR2 WHO=55 L=lab
ADD f-$N $DIR/add
COPY --chown=$WHO:${{WHO}} --chmod=${{N}}00 f-$N ${{DIR}}/copy
EXPOSE $PORT ${{PORT}}1/udp
LABEL $L=${{L}}el
STOPSIGNAL $SIG
USER $WHO
VOLUME $DIR/vol ["$DIR"]
VOLUME ["$DIR/json"]
WORKDIR $DIR/deeper
ONBUILD RUN echo $N
""".replace(' ["$DIR"]', ""))
    made = config(builder)
    assert set(made["ExposedPorts"]) == {"90/tcp", "901/udp"} and made["Labels"] == {"lab": "label"} and made["StopSignal"] == "SIGUSR2"
    assert made["User"] == "55" and set(made["Volumes"]) == {"/w/vol", "/w/json"} and made["WorkingDir"] == "/w/deeper"
    assert made["OnBuild"] == ["RUN echo $N"]
    assert sh(builder, "stat -c %n:%u:%g:%a /w/add /w/copy; stat -c %u /w/deeper").split() == ["/w/add:0:0:644", "/w/copy:55:55:100", "55"]


# ---- ARG and FROM ----


def test_scopes_of_arguments(builder, tmp_path):
    text = f"""ARG NAME={IMAGE} TAG=latest
ARG BOTH=$NAME:$TAG
FROM $BOTH AS first
ARG TAG BOTH
ARG A=1 B="two words" C
RUN echo "$NAME|$TAG|$A|$B|$C|$TARGETARCH" > /a
ENV A=env
ARG A=later
RUN echo $A > /b
FROM --platform=$BUILDPLATFORM ${{NAME}}
ARG TARGETPLATFORM TARGETOS TARGETARCH BUILDPLATFORM BUILDARCH TARGETSTAGE
RUN echo "$A|$TARGETPLATFORM|$TARGETOS|$TARGETARCH|$BUILDPLATFORM|$BUILDARCH|$TARGETSTAGE" > /c
COPY --from=first /a /b /
"""
    result = build(builder, tmp_path, text, "--build-arg", "C=given", "--build-arg", "TAG=latest", "--build-arg", "A=over")
    arch = "arm64" if os.uname().machine == "aarch64" else "amd64"
    assert sh(builder, "cat /a /b /c").splitlines() == \
        ["|latest|over|two words|given|", "env", f"|linux/{arch}|linux|{arch}|linux/{arch}|{arch}|default"]
    assert "not consumed" not in result.out
    other = build(builder, tmp_path, f"FROM {IMAGE}\nARG X=1\nRUN echo $X > /x\n", "--build-arg", "X=2")
    assert other.out.count("Using cache") == 0
    assert build(builder, tmp_path, f"FROM {IMAGE}\nARG X=1\nRUN echo $X > /x\n", "--build-arg", "X=2").out.count("Using cache") == 2
    for name in ("HTTP_PROXY", "https_proxy", "FTP_PROXY", "no_proxy", "ALL_PROXY"):
        result = build(builder, tmp_path, f"FROM {IMAGE}\nRUN echo ${name} > /p\n", "--build-arg", f"{name}=http://p", "--no-cache")
        assert sh(builder, "cat /p") == "http://p\n" and not any("http://p" in h["CreatedBy"] for h in history(builder))


def test_stages(builder, tmp_path):
    text = f"""FROM {IMAGE} AS one
RUN echo 1 > /n
FROM one AS Two
RUN echo 2 >> /n
FROM scratch AS files
COPY --from=0 /n /by-index
COPY --from=TWO /n /by-name
COPY --from={IMAGE} /bin/busybox /by-image
FROM {IMAGE}
COPY --from=files / /f/
"""
    build(builder, tmp_path, text)
    assert sh(builder, "cat /f/by-index /f/by-name; test -s /f/by-image && echo binary").split() == ["1", "1", "2", "binary"]
    assert "files" not in build(builder, tmp_path, text, "--target", "two").out
    assert "Step 2/2" in build(builder, tmp_path, text, "--target", "0").out
    for bad, words in ((f"FROM {IMAGE} AS 1x\n", "invalid name for build stage"), (f"FROM {IMAGE} AS\n", "either one or three arguments"),
                       (f"FROM {IMAGE} AS t\nCOPY --from=later /a /b\nFROM {IMAGE} AS later\nFROM t\n", "later"), ("FROM\n", "at least one argument")):
        refused = build(builder, tmp_path, bad, check=False)
        assert refused.code == 1 and words in refused.err, refused
    foreign = build(builder, tmp_path, f"FROM --platform=linux/s390x {IMAGE}\n", check=False)
    assert foreign.code == 1


# ---- forms of commands ----


def test_forms_of_commands(builder, tmp_path):
    build(builder, tmp_path, f"""FROM {IMAGE}
RUN ["sh", "-c", "echo exec > /a"]
RUN [ -d / ] && echo bracket >> /a
SHELL ["/bin/sh", "-uc"]
RUN echo $0-$- | grep -c u >> /a
RUN echo one; \\
    echo two >> /a \\
    && echo three >> /a
ENTRYPOINT exec echo
CMD a b
""")
    made = config(builder)
    assert sh(builder, "cat /a").split() == ["exec", "bracket", "1", "two", "three"]
    assert made["Entrypoint"] == ["/bin/sh", "-uc", "exec echo"] and made["Cmd"] == ["/bin/sh", "-uc", "a b"]
    build(builder, tmp_path, "FROM test/build:1\nENTRYPOINT [\"cat\"]\n", tag="test/reset:1")
    assert config(builder, "test/reset:1")["Cmd"] is None
    build(builder, tmp_path, "FROM test/build:1\nCMD []\nENTRYPOINT []\n", tag="test/reset:1")
    assert not config(builder, "test/reset:1")["Cmd"] and not config(builder, "test/reset:1")["Entrypoint"]
    assert build(builder, tmp_path, f"FROM {IMAGE}\nSHELL /bin/sh -c\n", check=False).code == 1


@pytest.mark.parametrize("line, want", [
    ("HEALTHCHECK NONE", {"Test": ["NONE"]}),
    ("HEALTHCHECK CMD curl -f http://x || exit 1", {"Test": ["CMD-SHELL", "curl -f http://x || exit 1"]}),
    ('HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=500ms --retries=7 CMD ["true", "a b"]',
     {"Test": ["CMD", "true", "a b"], "Interval": 300 * 10**9, "Timeout": 3 * 10**9, "StartPeriod": 10**9, "StartInterval": 5 * 10**8, "Retries": 7}),
])
def test_health_checks(builder, tmp_path, line, want):
    build(builder, tmp_path, f"FROM {IMAGE}\n{line}\n")
    assert {k: v for k, v in config(builder)["Healthcheck"].items() if v} == want


def test_labels_users_and_signals(builder, tmp_path):
    build(builder, tmp_path, f"""FROM {IMAGE}
LABEL a=1 "b c"="d e" f='g h' \\
      multi="line \\
one"
LABEL old the rest of it
RUN echo 'joe:x:77:78::/:/bin/sh' >> /etc/passwd && echo 'grp:x:99:' >> /etc/group
USER joe:grp
RUN id -u > /tmp/id; id -g >> /tmp/id
WORKDIR /home/joe
STOPSIGNAL 9
""")
    made = config(builder)
    assert made["Labels"] == {"a": "1", "b c": "d e", "f": "g h", "multi": "line one", "old": "the rest of it"}
    assert made["User"] == "joe:grp" and made["StopSignal"] == "9" and sh(builder, "cat /tmp/id; stat -c %U /home/joe").split() == ["77", "99", "joe"]
    for line, words in (("STOPSIGNAL SIGNOPE", "Invalid signal: SIGNOPE"), ("EXPOSE 70000", "is not PORT"), ("HEALTHCHECK --x=1 CMD a", "unknown flag --x"),
                        ("ENV a", "KEY=VALUE"), ("ONBUILD ONBUILD RUN x", "isn't allowed"), ("ONBUILD FROM x", "isn't allowed as an ONBUILD trigger"),
                        ("VOLUME [\"\"]", "an empty path"), ("WORKDIR", "at least one argument"), ("RUN --mount=type=bind true", "a target is missing"),
                        ("RUN --mount=type=nope,target=/a true", "unsupported mount type"), ("RUN --network=some true", "one of default, none, host"),
                        ("COPY a", "at least two arguments"), ("ADD --checksum=md5:1 http://127.0.0.1:1/x /y", "is not sha256:"),
                        ("COPY --chmod=99 . /x", "neither an octal mode"), ("COPY --link --link . /x", "duplicate flag")):
        refused = build(builder, tmp_path, f"FROM {IMAGE}\n{line}\n", check=False)
        assert refused.code == 1 and words in refused.err and "Dockerfile:2:" in refused.err, refused


# ---- COPY and ADD ----


def test_patterns_parents_and_exclusions(builder, tmp_path):
    write(tmp_path, {"a/x1.txt": "1", "a/x2.txt": "2", "a/b/x3.txt": "3", "a/b/c/x4.txt": "4", "a/b/c/no.md": "5", "[odd].txt": "6", "hom/a": "7", "hot/a": "8"})
    build(builder, tmp_path, f"""FROM {IMAGE}
COPY a/x?.txt /q/
COPY a/x[13].txt /c/
COPY --parents a/**/*.txt /deep/
COPY --parents ./a/b/./c/* /pivot/
COPY --exclude=**/*.txt --exclude=**/b/c a /ex/
COPY ho*/a* /many/
COPY ["[[]odd].txt", "/odd/"]
COPY a/x1.txt a/b /mixed/
COPY --link --chown=7 --chmod=a+rwX,o-w a/b /linked
WORKDIR /rel
COPY a/x1.txt .
COPY a/x2.txt named
ADD --link a/x1.txt /added/
""")
    assert sh(builder, "ls /q /c /mixed /many").split() == ["/c:", "x1.txt", "/many:", "a", "/mixed:", "c", "x1.txt", "x3.txt", "/q:", "x1.txt", "x2.txt"]
    assert sh(builder, "cd /deep; find . -type f | sort; cd /pivot; find . -type f | sort").split() == \
        ["./a/b/c/x4.txt", "./a/b/x3.txt", "./a/x1.txt", "./a/x2.txt", "./c/no.md", "./c/x4.txt"]
    assert sh(builder, "find /ex -type f; cat /odd/* && echo; cat /rel/x1.txt /rel/named && echo; stat -c %u:%g:%a /linked /linked/x3.txt").split() == \
        ["6", "12", "7:7:775", "7:7:664"]


def test_adding_archives(builder, tmp_path):
    for mode, name in (("w", "a.tar"), ("w:gz", "b.tgz"), ("w:bz2", "c.tar.bz2"), ("w:xz", "d.tar.xz")):
        write(tmp_path, {name: archive({name + "-inside": b"x"}, mode)})
    build(builder, tmp_path, f"""FROM {IMAGE}
ADD a.tar b.tgz c.tar.bz2 d.tar.xz /all/
ADD --chown=3:4 a.tar /own/
ADD --unpack=false a.tar /not/
ADD a.tar /as-dir
""")
    assert sh(builder, "ls /all; stat -c %u:%g /own/*; ls /not /as-dir").split() == \
        ["a.tar-inside", "b.tgz-inside", "c.tar.bz2-inside", "d.tar.xz-inside", "3:4", "/as-dir:", "a.tar-inside", "/not:", "a.tar"]


IGNORE = """# a comment
*/temp*
*/*/temp*
temp?
**/*.log
!keep.log
docs/**
!docs/README.md
  spaced  
/rooted
dir/
[a-c]at
"""


def test_what_is_ignored(builder, tmp_path):
    names = ["sub/temporary.txt", "sub/sub/temporary.txt", "tempa", "x/y/z.log", "keep.log", "docs/a/b", "docs/README.md", "spaced", "rooted", "sub/rooted",
             "dir/in", "bat", "dat", "plain"]
    write(tmp_path, {name: "x" for name in names} | {".dockerignore": IGNORE})
    text = f"FROM {IMAGE}\nCOPY . /c\n"
    want = ["./.dockerignore", "./Dockerfile", "./dat", "./docs/README.md", "./keep.log", "./plain", "./sub/rooted"]
    listing = "cd /c; find . -type f | LC_ALL=C sort"
    build(builder, tmp_path, text)
    assert sh(builder, listing).split() == want
    builder.gantry("build", "-t", "test/g:1", str(tmp_path))
    assert sh(builder, listing, "test/g:1").split() == want
    refused = build(builder, tmp_path, f"FROM {IMAGE}\nCOPY plain tempa /c/\n", check=False)
    assert refused.code == 1 and "excluded by .dockerignore" in refused.err


def test_each_dockerfile_may_ignore_for_itself(builder, tmp_path):
    write(tmp_path, {"ctx/a": "", "ctx/b": "", "ctx/.dockerignore": "a\n", "ctx/own.Dockerfile": f"FROM {IMAGE}\nCOPY . /c\n",
                     "ctx/own.Dockerfile.dockerignore": "b\n", "far.Dockerfile": f"FROM {IMAGE}\nCOPY . /c\n", "far.Dockerfile.dockerignore": "*\n!a\n"})
    builder.gantry("build", "-t", "test/g:1", "-f", str(tmp_path / "ctx/own.Dockerfile"), str(tmp_path / "ctx"))
    assert [n for n in sh(builder, "ls /c", "test/g:1").split() if len(n) == 1] == ["a"]
    builder.gantry("build", "-t", "test/g:1", "-f", str(tmp_path / "far.Dockerfile"), str(tmp_path / "ctx"))
    assert [n for n in sh(builder, "ls /c", "test/g:1").split() if len(n) == 1] == ["a"]


# ---- ONBUILD ----


def test_triggers_see_the_child_build(builder, tmp_path):
    write(tmp_path, {"src/a": "child"})
    build(builder, tmp_path, f"""FROM {IMAGE}
ONBUILD ARG FROM_CHILD=default
ONBUILD COPY --chown=9 src /src
ONBUILD ENV T=$FROM_CHILD
ONBUILD RUN ["sh", "-c", "echo $T > /t"]
ONBUILD WORKDIR /src
""", tag="test/parent:1")
    build(builder, tmp_path, "FROM test/parent:1\n", "--build-arg", "FROM_CHILD=given")
    assert sh(builder, "cat /t; pwd; stat -c %u a").split() == ["given", "/src", "9"]
    assert json.dumps(config(builder)["OnBuild"]) in ("null", "[]")
