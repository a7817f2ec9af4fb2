#!/usr/bin/env bash
# Gets what `make test-vm` boots: qemu, busybox, ibv_rc_pingpong, and Debian's kernel, which is unpacked into .vm
# and not installed. Run it as often as you like: it does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
exec >&2

say() { echo "vm-kernel: $*"; }

packages=()
command -v qemu-system-x86_64 >/dev/null || packages+=(qemu-system-x86)
[ -x /bin/busybox ] || packages+=(busybox-static)
# ibv_rc_pingpong, and the library of the soft RDMA device: the machine has this one's root file system.
command -v ibv_rc_pingpong >/dev/null || packages+=(ibverbs-utils ibverbs-providers)
if [ ${#packages[@]} -gt 0 ]; then
    say "installing Debian packages: ${packages[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
fi

if ! ls .vm/boot/vmlinuz-* >/dev/null 2>&1; then
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    say "fetching $kernel (100 MB) into .vm"
    rm -rf .vm && mkdir -p .vm/package
    # As root apt fetches as nobody, who may not write here.
    (cd .vm/package && apt-get download -qq -o APT::Sandbox::User=root "$kernel")
    dpkg-deb -x .vm/package/*.deb .vm/unpacked
    rm -rf .vm/package
    mv .vm/unpacked/usr .vm/usr
    ln -s usr/lib .vm/lib  # where depmod looks
    /sbin/depmod -b .vm "$(ls .vm/usr/lib/modules)"
    mv .vm/unpacked/boot .vm/boot
    rm -rf .vm/unpacked
fi
say "ready"
