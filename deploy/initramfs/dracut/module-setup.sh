#!/bin/bash
# Puts the guard into the initramfs, but not into the one that saves a kernel dump.

check() {
	case " $dracutmodules $add_dracutmodules $force_add_dracutmodules " in
	*" kdumpbase "*) return 1 ;;
	esac
	[ -x /usr/lib/ringward/ringward-guard ]
}

depends() {
	echo base
}

install() {
	inst_binary /usr/lib/ringward/ringward-guard
	inst_multiple mount
	inst_hook pre-pivot 90 "$moddir/ringward-guard.sh"
}
