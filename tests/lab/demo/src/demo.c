// SPDX-License-Identifier: MIT
/* The smallest PCI driver that modpost gives version records, an alias and a version: it builds in two seconds, where
 * ixgbevf takes ten. It claims a device that nobody makes (1234 is no vendor's id). */
#include <linux/module.h>
#include <linux/pci.h>

static int demo_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pci_enable_device(pdev);
}

static void demo_remove(struct pci_dev *pdev)
{
	pci_disable_device(pdev);
}

static const struct pci_device_id demo_ids[] = {
	{ PCI_DEVICE(0x1234, 0xd0f0) },
	{ }
};
MODULE_DEVICE_TABLE(pci, demo_ids);

static struct pci_driver demo_driver = {
	.name = "demo",
	.id_table = demo_ids,
	.probe = demo_probe,
	.remove = demo_remove,
};
module_pci_driver(demo_driver);

MODULE_DESCRIPTION("vfguard test driver");
MODULE_LICENSE("Dual MIT/GPL");
