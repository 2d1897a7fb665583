# What AppArmor holds a container to that asks for nothing else. Compiled by apparmor_parser when Gantry is built (see the Makefile); the daemon hands the
# result to the kernel. Namespaces, capabilities, seccomp and read-only mounts are the walls of a container; this is a second one around the parts of /proc
# and /sys that belong to the host, for containers with more capabilities than the usual ones too.
profile gantry-default flags=(attach_disconnected,mediate_deleted) {
	capability,
	network,
	unix,
	dbus,
	file,

	# Nothing new is mounted, not even with CAP_SYS_ADMIN; what is mounted may go.
	deny mount,
	umount,

	# Signals and tracing stay among containers; the host's side may send whatever the kernel lets it.
	signal (receive),
	signal (send) peer=gantry-default,
	ptrace peer=gantry-default,

	# /proc: nothing directly in it, none of the kernel's parts; of /proc/sys only what belongs to an IPC namespace.
	deny /proc/* w,
	deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,scsi,tty}/** wklx,
	deny /proc/{kcore,kmem,mem,sysrq-trigger,timer_list} rwklx,
	deny /proc/sys/[^k]** w,
	deny /proc/sys/kernel/[^ms]** w,
	deny /proc/sys/kernel/m[^s]** w,
	deny /proc/sys/kernel/s[^eh]** w,
	deny /proc/sys/kernel/se[^m]** w,

	# /sys: control groups alone.
	deny /sys/[^f]*/** wklx,
	deny /sys/f[^s]*/** wklx,
	deny /sys/fs/[^c]*/** wklx,
	deny /sys/fs/c[^g]*/** wklx,
	deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
