#!/usr/bin/env bash
# Runs tests as arm64 on a machine of any architecture (`make test-arm64`).
#
#   scripts/arm64.sh test            setup, then the tests below in both emulations
#   scripts/arm64.sh setup           installs the emulators and a compiler, and makes .arm64/root (1.2 GB):
#                                    Debian's arm64 packages, the locked wheels for arm64, a kernel
#   scripts/arm64.sh user ARGS...    pytest ARGS in the user emulation: fast, but with this machine's kernel
#   scripts/arm64.sh system ARGS...  pytest ARGS on Debian's arm64 kernel in a virtual machine: netlink and eBPF
#
# Run it as root. It can be repeated and does only what is missing. On this machine it only installs the packages that it
# names: the user emulation has its own binfmt_misc (Linux 6.7) in its own namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."

ROOT=.arm64/root
SUITE=trixie
PYTHON=3.13  # the version of python3 in that suite
PACKAGES=python3,libstdc++6,etcd-server,etcd-client,containernetworking-plugins,iproute2,iputils-ping,nftables
PACKAGES+=,iptables,procps,bsdutils,openssl,kmod,busybox-static,util-linux,coreutils,dash,bash,sed,grep,mount,binutils,linux-image-arm64
COMPILER=aarch64-linux-gnu-gcc
PRELOADED=/usr/local/lib/namespace_type.so  # implements an ioctl that the user emulation lacks

# PURE: tests that run in the user emulation; tests/support/emulation.py skips some of them.
# KERNEL: tests that need an arm64 kernel, because they use netlink or eBPF. The files of the last two lines have the
# tests that tests/support/emulation.py skips in the user emulation.
PURE=(tests/core tests/nodeagent tests/cni -m 'not netns and not uml and not containerd')
KERNEL=(tests/nodeagent/netlink tests/nodeagent/clusterip/test_bpf_programs.py
    tests/nodeagent/clusterip/test_programs_on_sockets.py tests/nodeagent/coordinator/test_attachment_engine.py
    tests/nodeagent/coordinator/test_rdma_isolation.py
    tests/nodeagent/test_agent_on_etcd.py tests/nodeagent/conflict_detection/test_detector.py
    tests/nodeagent/rdma/test_counter_reader.py tests/nodeagent/test_sriov_master_addresses.py)
# An emulated test takes about twenty times as long.
SLOWLY=(-o timeout=1800 --hypothesis-profile=emulated)

say() { echo "arm64: $*" >&2; }
fail() { say "$*"; exit 1; }

install_tools() {
    local packages=()
    command -v mmdebstrap >/dev/null || packages+=(mmdebstrap)
    command -v qemu-aarch64 >/dev/null || packages+=(qemu-user)
    command -v qemu-system-aarch64 >/dev/null || packages+=(qemu-system-arm)
    command -v $COMPILER >/dev/null || packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    [ ${#packages[@]} -gt 0 ] || return 0
    say "installing Debian packages: ${packages[*]}"
    apt_install "${packages[@]}" || { apt-get update -q </dev/null >&2; apt_install "${packages[@]}"; }
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2; }

unpack_root() {
    [ ! -e $ROOT/.packages ] || [ "$(cat $ROOT/.packages)" != "$PACKAGES" ] || return 0
    say "unpacking Debian's arm64 packages into $ROOT: $PACKAGES"
    rm -rf $ROOT
    mkdir -p "$(dirname $ROOT)"
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include="$PACKAGES" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' $SUITE $ROOT
    # Packages are unpacked but not configured; this does the needed part of their scripts.
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >$ROOT/etc/passwd
    printf 'root:x:0:\nnogroup:x:65534:\n' >$ROOT/etc/group
    printf '127.0.0.1 localhost\n::1 localhost\n' >$ROOT/etc/hosts
    ln -sf iptables-nft $ROOT/usr/sbin/iptables
    ln -sf ip6tables-nft $ROOT/usr/sbin/ip6tables
    /sbin/depmod -b $ROOT "$(ls $ROOT/usr/lib/modules)"
    compile_bytecode $ROOT/usr/lib/python$PYTHON $ROOT/usr/lib/python3
    echo "$PACKAGES" >$ROOT/.packages
}

install_wheels() {
    local stamp site=$ROOT/usr/local/lib/python$PYTHON/dist-packages platforms=() tag
    stamp=$(sha256sum requirements/dev.txt)
    [ "$(cat $ROOT/.wheels 2>/dev/null)" != "$stamp" ] || return 0
    for tag in manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_31 manylinux_2_34
    do platforms+=(--platform "${tag}_aarch64"); done
    say "installing $(grep -c == requirements/dev.txt) locked wheels for arm64, hashes checked: requirements/dev.txt"
    rm -rf "$site"
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-input --target "$site" "${platforms[@]}" \
        --python-version $PYTHON --implementation cp --only-binary=:all: --require-hashes --no-deps \
        -r requirements/dev.txt
    compile_bytecode "$site"
    echo "$stamp" >$ROOT/.wheels
}

copy_sources() {  # copies the work tree, and compiles the CNI program for arm64
    mkdir -p $ROOT/src
    find $ROOT/src -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    git ls-files -z -co --exclude-standard | while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done | tar --null -T - -c | tar -x -C $ROOT/src
    CC=$COMPILER .venv/bin/python -m cni.build $ROOT/src/cni/plugin
    mkdir -p "$(dirname $ROOT$PRELOADED)"
    $COMPILER -shared -fPIC -O2 -o $ROOT$PRELOADED tests/support/namespace_type.c
    echo $PRELOADED >$ROOT$PRELOADED.list
    : >$ROOT/etc/ld.so.preload
    write_programs
    compile_bytecode $ROOT/src
}

write_programs() {  # writes orbctl and the other console scripts into the directory of python3
    .venv/bin/python - $ROOT/usr/bin <<'PYTHON'
import pathlib, sys, tomllib
for name, target in tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]["scripts"].items():
    module, _, function = target.partition(":")
    program = pathlib.Path(sys.argv[1], name)
    program.write_text(
        f"#!/usr/bin/python3\nimport sys\nsys.path.insert(0, '/src')\nfrom {module} import {function}\n"
        f"sys.exit({function}())\n"
    )
    program.chmod(0o755)
PYTHON
}

compile_bytecode() {  # compile_bytecode DIRECTORY...: on this machine, because it takes minutes in the emulation
    local python
    python=$(command -v "python$PYTHON") || { say "python$PYTHON is not installed: the emulated Python compiles modules when it imports them"; return; }
    "$python" -m compileall -q --invalidation-mode unchecked-hash "$@" >/dev/null || true  # some files are for other versions of Python
}

setup() {
    [ "$(id -u)" = 0 ] || fail "run as root: it installs packages and mounts file systems"
    exec 9<scripts/arm64.sh
    flock 9
    install_tools
    unpack_root
    install_wheels
    copy_sources
}

# Tests compile the CNI program with the cross compiler, which runs natively with this machine's libraries.
bind_compiler() {
    local path program
    for path in /lib64 "/usr/lib/$(uname -m)-linux-gnu" /usr/aarch64-linux-gnu /usr/lib/gcc-cross /usr/libexec/gcc-cross
    do
        mkdir -p "$ROOT$path"
        mount --bind "$path" "$ROOT$path"
    done
    for program in as ld gcc; do
        path=/usr/bin/aarch64-linux-gnu-$program
        touch "$ROOT$path"
        mount --bind "$(readlink -f $path)" "$ROOT$path"
    done
    ln -sf $COMPILER $ROOT/usr/bin/gcc
}

# Runs inside the namespaces: registers the emulator for ELF files of arm64, then runs pytest in the root.
in_namespaces() {
    local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    echo ":arm64:M::$magic:$mask:$(command -v qemu-aarch64):F" >/proc/sys/fs/binfmt_misc/register
    mount --bind $ROOT $ROOT  # makes it a mount point, which `ip -n` needs to remount /sys
    mount --rbind /dev $ROOT/dev
    mount -t proc proc $ROOT/proc
    mount -t sysfs sysfs $ROOT/sys
    mount -t tmpfs run $ROOT/run
    mount -t tmpfs tmp $ROOT/tmp
    mkdir -p $ROOT/run/netns
    bind_compiler
    mount --bind $ROOT$PRELOADED.list $ROOT/etc/ld.so.preload  # a bind mount, because the virtual machine uses the same root without it
    ip link set lo up
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root ORBWEAVER_EMULATED=user chroot $ROOT \
        /bin/sh -c 'cd /src && exec python3 -m pytest -p no:cacheprovider "$@"' sh "$@"
}

user() {
    unshare --user --map-users=all --map-groups=all --mount --net --pid --fork --mount-proc \
        "$PWD/scripts/arm64.sh" in-namespaces "$@"
}

system() { .venv/bin/python -m tests.support.arm64 "$@"; }

case ${1:-test} in
    test)
        setup
        failed=0  # the second emulation runs even if the first fails: each takes hours
        user -q "${SLOWLY[@]}" -n 2 "${PURE[@]}" || { say "failed in the user emulation"; failed=1; }
        system -q "${SLOWLY[@]}" "${KERNEL[@]}" || { say "failed in the virtual machine"; failed=1; }
        exit $failed ;;
    setup) setup ;;
    user) user "${@:2}" ;;
    in-namespaces) in_namespaces "${@:2}" ;;
    system) system "${@:2}" ;;
    *) fail "unknown command '$1'; see the top of scripts/arm64.sh" ;;
esac
