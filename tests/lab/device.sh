#!/usr/bin/env bash
# A PCI network function in a scratch root's sysfs, as the kernel shows one: the device below /sys/devices, links to it
# from /sys/bus and /sys/class, relative as the kernel's are.
#
#   device.sh [--address 0000:00:03.0] [--id 8086:10ed] [--interface eth0] [--driver ixgbevf] [--module NAME] [--taint O] ROOT
#
# Defaults: the 82599 VF of an EC2 instance, bound to ixgbevf, link up. --driver '' leaves it unbound and without an
# interface. --module: the driver's module where it has another name; --taint: what /sys/module/NAME/taint says (O: the
# module is not the kernel's own).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/common.sh
. "$here/../lib/common.sh"

address=0000:00:03.0 id=8086:10ed interface=eth0 driver=ixgbevf module='' taint=''
while [ $# -gt 0 ]; do
    case $1 in
    --address | --id | --interface | --driver | --module | --taint) declare "${1#--}=$2" && shift 2 ;;
    -*) die "unknown option $1" ;;
    *) break ;;
    esac
done
[ $# -eq 1 ] || die "usage: device.sh [options] ROOT"
module=${module:-$driver}
vendor=${id%:*} device=${id#*:}
sys="$1/sys"
dir="$sys/devices/pci${address%:*}/$address"

mkdir -p "$dir" "$sys/bus/pci/devices"
ln -sfn "../../../devices/pci${address%:*}/$address" "$sys/bus/pci/devices/$address"
put() { printf '%s\n' "$2" >"$dir/$1"; }
put vendor "0x$vendor"
put device "0x$device"
put subsystem_vendor "0x$vendor"
put subsystem_device 0x0000
put class 0x020000
put driver_override '(null)'
put modalias "$(printf 'pci:v0000%sd0000%ssv0000%ssd00000000bc02sc00i00' "${vendor^^}" "${device^^}" "${vendor^^}")"
[ -n "$driver" ] || exit 0

mkdir -p "$sys/bus/pci/drivers/$driver" "$sys/module/$module/drivers" "$dir/net/$interface" "$sys/class/net"
ln -sfn "../../../bus/pci/drivers/$driver" "$dir/driver"
ln -sfn "../../../../devices/pci${address%:*}/$address" "$sys/bus/pci/drivers/$driver/$address"
ln -sfn "../../../../module/$module" "$sys/bus/pci/drivers/$driver/module"
ln -sfn "../../../bus/pci/drivers/$driver" "$sys/module/$module/drivers/pci:$driver"
printf '%s\n' "$taint" >"$sys/module/$module/taint"
printf 'live\n' >"$sys/module/$module/initstate"
put "net/$interface/operstate" up
put "net/$interface/carrier" 1
put "net/$interface/address" 06:11:22:33:44:55
ln -sfn "../../../$address" "$dir/net/$interface/device"
ln -sfn "../../devices/pci${address%:*}/$address/net/$interface" "$sys/class/net/$interface"
