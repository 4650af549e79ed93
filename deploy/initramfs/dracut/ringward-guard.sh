#!/bin/sh
# Runs the guard over the mounted root, before anything of it starts.
ringward_guard() {
	guard=/usr/lib/ringward/ringward-guard
	state="${NEWROOT:-/sysroot}/var/lib/ringward-agent"
	# Saving a kernel dump is no boot. A /var of its own is not mounted yet: the unit does it later.
	[ -e /proc/vmcore ] && return 0
	# Proof for this boot that the guard stands this early: the agent reports its tier from it.
	if [ -d "$state" ]; then
		mkdir -p /run/ringward && echo initramfs >/run/ringward/guard-tier
	fi
	[ -e "$state/guard-armed" ] && [ -e "$state/ledger" ] || return 0
	# Not by `test -w`: to root of an initramfs everything looks writable.
	was_ro=
	while read -r _ at _ options _; do
		[ "$at" = "${NEWROOT:-/sysroot}" ] || continue
		case ",$options," in
		*,ro,*) was_ro=1 ;;
		*) was_ro= ;;
		esac
	done </proc/mounts
	if [ -n "$was_ro" ]; then
		mount -o remount,rw "${NEWROOT:-/sysroot}" || return 0
	fi
	"$guard" --root "$state" --boot-id-file /proc/sys/kernel/random/boot_id --initramfs >/dev/kmsg 2>&1
	[ -z "$was_ro" ] || mount -o remount,ro "${NEWROOT:-/sysroot}"
	return 0
}
ringward_guard
