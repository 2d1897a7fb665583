#!/bin/sh
# What the driver is for, on a running daemon that has it. As root: `make test`, or GANTRY=/path/to/gantry ./test.sh
set -eu
gantry=${GANTRY:-gantry}
image=${IMAGE:-gantry/busybox}
volume=vol-loop-test-$$
done_so_far=0

fail() {
	echo "not ok $((done_so_far + 1)) - $1"
	exit 1
}
ok() {
	done_so_far=$((done_so_far + 1))
	echo "ok $done_so_far - $1"
}
# Loop devices that show the volume's image.
devices() {
	grep -ls "/$volume\$" /sys/block/loop*/loop/backing_file || true
}
# The kernel gives a device back once the last namespace that has it mounted is gone, which takes a moment.
none_left() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ "$(devices)" = "" ] && return
		sleep 1
	done
	return 1
}
in_container() { # OPTIONS COMMAND
	$gantry run --rm -v "$volume:/data$1" "$image" sh -c "$2" 2>&1
}
clean_up() {
	$gantry rm -f "$volume" >/dev/null 2>&1 || true
	$gantry volume rm "$volume" >/dev/null 2>&1 || true
}
trap clean_up EXIT

$gantry volume create -d loop -o size=32m "$volume" >/dev/null || fail "a volume of 32 MiB is made"
ok "a volume of 32 MiB is made"

[ "$(in_container "" 'ls -A /data')" = "" ] || fail "it is empty"
ok "it is empty"

in_container "" 'dd if=/dev/zero of=/data/half bs=1M count=16 && sync' >/dev/null || fail "half of it can be written"
ok "half of it can be written"

! said=$(in_container "" 'dd if=/dev/zero of=/data/rest bs=1M count=32') || fail "no more than its size can be written"
case $said in *"No space left on device"*) ;; *) fail "no more than its size can be written: $said" ;; esac
ok "no more than its size can be written"

! said=$(in_container :ro 'rm /data/half') || fail "read-only is read-only"
case $said in *"Read-only file system"*) ;; *) fail "read-only is read-only: $said" ;; esac
ok "read-only is read-only"

! said=$($gantry volume create -d loop -o size=64m "$volume" 2>&1) || fail "another size is refused"
ok "another size is refused"

$gantry run -d --name "$volume" -v "$volume:/data" "$image" sleep 600 >/dev/null
in_container "" 'rm /data/rest; echo shared >/data/note' >/dev/null
[ "$($gantry exec "$volume" cat /data/note)" = shared ] && [ "$(devices | wc -l)" = 1 ] || fail "containers share one loop device"
ok "containers share one loop device"

$gantry rm -f "$volume" >/dev/null
none_left || fail "after the last container there is none"
ok "after the last container there is none"

$gantry volume rm "$volume" >/dev/null && [ "$($gantry volume ls -q | grep -c "^$volume\$")" = 0 ] || fail "the volume is removed"
ok "the volume is removed"
echo "1..$done_so_far"
