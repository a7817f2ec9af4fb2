#!/usr/bin/env bash
# Installs what `make test-vm` needs: qemu, busybox, ibv_rc_pingpong, and Debian's kernel, which is only unpacked into .vm.
# It can be repeated and does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
exec >&2

say() { echo "vm-kernel: $*"; }

packages=()
command -v qemu-system-x86_64 >/dev/null || packages+=(qemu-system-x86)
[ -x /bin/busybox ] || packages+=(busybox-static)
# ibv_rc_pingpong, and the library of the soft RDMA device: the virtual machine uses this machine's root file system.
command -v ibv_rc_pingpong >/dev/null || packages+=(ibverbs-utils ibverbs-providers)
if [ ${#packages[@]} -gt 0 ]; then
    say "installing Debian packages: ${packages[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
fi

if ! ls .vm/boot/vmlinuz-* >/dev/null 2>&1; then
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    say "fetching $kernel (100 MB) into .vm"
    rm -rf .vm && mkdir -p .vm/package
    # apt would download as user _apt, who cannot write to this directory.
    (cd .vm/package && apt-get download -qq -o APT::Sandbox::User=root "$kernel")
    dpkg-deb -x .vm/package/*.deb .vm/unpacked
    rm -rf .vm/package
    mv .vm/unpacked/usr .vm/usr
    ln -s usr/lib .vm/lib  # for depmod
    /sbin/depmod -b .vm "$(ls .vm/usr/lib/modules)"
    mv .vm/unpacked/boot .vm/boot
    rm -rf .vm/unpacked
fi
say "ready"
