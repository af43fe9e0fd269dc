// SPDX-License-Identifier: GPL-2.0
/* What the other modules here depend on: an open export, a GPL-only one, and one in a namespace. */
#include <linux/module.h>

int lab_plain(void);
int lab_gpl(void);
int lab_spaced(void);

int lab_plain(void)
{
	return 1;
}
EXPORT_SYMBOL(lab_plain);

int lab_gpl(void)
{
	return 2;
}
EXPORT_SYMBOL_GPL(lab_gpl);

int lab_spaced(void)
{
	return 3;
}
EXPORT_SYMBOL_NS_GPL(lab_spaced, LABSPACE);

MODULE_LICENSE("GPL");
