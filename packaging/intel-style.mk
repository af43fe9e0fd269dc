# The outer makefile of a driver archive that is laid out as Intel's are: what stands between `make BUILD_KERNEL=K KSRC=…`
# and kbuild. Written anew from the observed behaviour of Intel's src/Makefile and common.mk; DRIVER is set in the line
# that the packer puts before this text. kbuild itself reads the Kbuild file beside it and never this one.

BUILD_KERNEL ?= $(shell uname -r)

# Where Intel's makefiles look when nobody gives them KSRC. The tail of the list is what makes `make` build for another
# kernel without a word when the headers of BUILD_KERNEL are missing; it is kept, because vfguard is tested against it.
KSP := /lib/modules/$(BUILD_KERNEL)/source /lib/modules/$(BUILD_KERNEL)/build \
       /usr/src/linux-$(BUILD_KERNEL) /usr/src/kernel-headers-$(BUILD_KERNEL) /usr/src/kernel-source-$(BUILD_KERNEL) \
       /usr/src/kernels/$(BUILD_KERNEL) /usr/src/linux $(wildcard /usr/src/kernels/*) /usr/src/kernel-headers
KSRC ?= $(firstword $(foreach dir,$(KSP),$(if $(wildcard $(dir)/include/linux),$(dir))))
ifeq (,$(wildcard $(KSRC)/include/linux))
  $(error Kernel header files not found in any of the expected locations: install the headers of $(BUILD_KERNEL))
endif
# Debian splits its headers: sources in …/source, configuration and results in …/build. Without KSRC from outside the two
# belong together; with it, the caller says.
ifeq (/lib/modules/$(BUILD_KERNEL)/source,$(KSRC))
  KOBJ ?= /lib/modules/$(BUILD_KERNEL)/build
endif

export INSTALL_MOD_DIR ?= updates/drivers/net/ethernet/intel/$(DRIVER)

kbuild = +$(MAKE) -C "$(KSRC)" $(if $(KOBJ),O="$(KOBJ)") BUILD_KERNEL="$(BUILD_KERNEL)" M="$(CURDIR)" $(1)

default:
	$(call kbuild,modules)

modules_install: default
	$(call kbuild,modules_install)

install: modules_install
	depmod $(if $(INSTALL_MOD_PATH),-b "$(INSTALL_MOD_PATH)") -a "$(BUILD_KERNEL)"

clean:
	$(call kbuild,clean)

.PHONY: default modules_install install clean
