// SPDX-License-Identifier: GPL-2.0
/* Depends on lab_prov, by an open and by a GPL-only symbol. */
#include <linux/module.h>

int lab_plain(void);
int lab_gpl(void);

static int __init user_init(void)
{
	return lab_plain() + lab_gpl() == 3 ? 0 : -EINVAL;
}

static void __exit user_exit(void)
{
}

module_init(user_init);
module_exit(user_exit);
MODULE_LICENSE("GPL");
