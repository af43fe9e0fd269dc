// SPDX-License-Identifier: GPL-2.0
/* Depends on lab_prov by a symbol of a namespace. */
#include <linux/module.h>

int lab_spaced(void);

static int __init ns_init(void)
{
	return lab_spaced() == 3 ? 0 : -EINVAL;
}

static void __exit ns_exit(void)
{
}

module_init(ns_init);
module_exit(ns_exit);
MODULE_IMPORT_NS(LABSPACE);
MODULE_LICENSE("GPL");
