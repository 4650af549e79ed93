// SPDX-License-Identifier: Apache-2.0
// A driver with a fault: a tenth of a second after it was loaded it writes to nowhere, in a timer, where
// the kernel has no process to kill instead of itself.
#include <linux/module.h>
#include <linux/timer.h>

static struct timer_list timer;

static noinline void endpoint_shield_tick(struct timer_list *unused)
{
	*(volatile int *)0x28 = 1;
}

static int __init endpoint_shield_init(void)
{
	timer_setup(&timer, endpoint_shield_tick, 0);
	mod_timer(&timer, jiffies + HZ / 10);
	return 0;
}

static void __exit endpoint_shield_exit(void)
{
	del_timer_sync(&timer);
}

module_init(endpoint_shield_init);
module_exit(endpoint_shield_exit);
MODULE_DESCRIPTION("A driver with a fault");
MODULE_LICENSE("Dual MIT/GPL");
