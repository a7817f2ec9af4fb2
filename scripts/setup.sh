#!/usr/bin/env bash
# Installs what the project needs, and prints what it does. It can be repeated and does only what is missing.
#
#   scripts/setup.sh run       for `make demo`: programs, and the locked packages of the product
#   scripts/setup.sh docs      for `make docs`: Python, and the locked packages of the site
#   scripts/setup.sh [dev]     run and docs, and the programs and packages of tests, checks and benchmarks
#   scripts/setup.sh --check [run|docs|dev]   installs nothing; if anything is missing, prints it and exits 1
#
# Output goes to standard error, so that standard output has only the output of the next command.
# It starts no service of the distribution, and needs no systemd.
set -euo pipefail
cd "$(dirname "$0")/.."
exec >&2

check=false
profile=dev
for argument in "$@"; do
    case $argument in
        --check) check=true ;;
        run | docs | dev) profile=$argument ;;
        *) echo "setup: unknown argument '$argument'; see the top of scripts/setup.sh" && exit 2 ;;
    esac
done

say() { echo "setup: $*"; }
fail() { say "$*"; exit 1; }

# ------------------------------------------------------------------------------ what is missing

has_file() { local file; for file in "$@"; do [ -e "$file" ] && return 0; done; return 1; }

# Prints the Debian packages to install, one on each line. A program that is installed in another way counts too.
missing_packages() {
    find_python >/dev/null || echo python3-venv
    [ "$profile" != docs ] || return 0
    command -v etcd >/dev/null || echo etcd-server
    command -v etcdctl >/dev/null || echo etcd-client
    command -v ip >/dev/null || echo iproute2
    command -v ping >/dev/null || echo iputils-ping
    has_file /usr/lib/cni/macvlan /opt/cni/bin/macvlan || echo containernetworking-plugins
    # The CNI program is written in C.
    command -v "${CC:-gcc}" >/dev/null || echo gcc
    has_file /usr/include/stdlib.h /usr/local/include/stdlib.h || echo libc6-dev
    [ "$profile" = dev ] || return 0
    command -v containerd >/dev/null || echo containerd
    command -v runc >/dev/null || echo runc
    command -v openssl >/dev/null || echo openssl
    command -v promtool >/dev/null || echo prometheus
    # Fault runs (tests/chaos) make clocks jump.
    has_file /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/local/lib/faketime/libfaketimeMT.so.1 || echo libfaketime
    # Tests set up Services as kube-proxy does, and marks on kernels without nftables.
    command -v nft >/dev/null || echo nftables
    command -v iptables >/dev/null || echo iptables
    # Tests build and install images (tests/installation).
    command -v buildah >/dev/null || printf '%s\n' buildah netavark
    command -v mmdebstrap >/dev/null || echo mmdebstrap
    # Packaged for a few architectures only; without these, some tests are skipped.
    if [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
        command -v linux.uml >/dev/null || echo user-mode-linux
        command -v modprobe >/dev/null || echo kmod
        # On a CPU with AMX, user-mode Linux boots only with tests/support/whole_xstate.c, which the test run compiles.
        if grep -qs amx_tile /proc/cpuinfo && ! command -v cc >/dev/null; then printf '%s\n' gcc libc6-dev; fi
    fi
}

# Whether apt knows all these packages.
known() { apt-cache show --no-all-versions "$@" >/dev/null 2>&1; }

# Prints the first interpreter that is new enough and can create an environment with pip.
find_python() {
    local name
    for name in python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.14; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
        then
            "$name" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'
            return 0
        fi
    done
    return 1
}

lock_files() {
    case $profile in
        dev) echo requirements/dev.txt requirements/docs.txt ;;
        docs) echo requirements/docs.txt ;;
        run) echo requirements/build.txt requirements/lock.txt ;;
    esac
}

# The input of the environment: directory and lock files. It is stored in the environment as a stamp.
wanted_stamp() { pwd; local file; for file in $(lock_files); do sha256sum "$file"; done; }
project_stamp() {
    pwd
    command -v "${CC:-musl-gcc}" || true
    sha256sum pyproject.toml README.md core/__init__.py hatch_build.py cni/build.py cni/plugin.c
}
# Building the site imports no module of the product.
project_ready() { [ "$profile" = docs ] || stamped project "$(project_stamp)"; }
# The CNI program is built with the project, but it is not in .venv: a clean work tree lacks it.
program_ready() { [ "$profile" = docs ] || [ -z "$(program_problem)" ]; }
program_problem() {
    if [ ! -x cni/plugin ]; then
        echo "it is missing"
    elif [ cni/plugin.c -nt cni/plugin ] || [ cni/build.py -nt cni/plugin ]; then
        echo "it is older than its source"
    fi
}
stamped() { [ -x .venv/bin/python ] && [ "$(cat ".venv/.stamp-$1" 2>/dev/null)" = "$2" ]; }

# An environment for development is enough for the other profiles.
packages_ready() {
    stamped "$profile" "$(wanted_stamp)" || stamped dev "$(profile=dev wanted_stamp)"
}

if $check; then
    missing=$(missing_packages | tr '\n' ' ')
    packages_ready && project_ready || missing+="(.venv) "
    program_ready || missing+="(cni/plugin) "
    [ -z "$missing" ] && say "nothing is missing for '$profile'" && exit 0
    fail "missing for '$profile': ${missing% }; scripts/setup.sh $profile installs it"
fi

# One set-up at a time in a work tree: `make test` and `make demo` may run at the same time.
exec 9<scripts/setup.sh
flock -n 9 || { say "waiting for another set-up in this work tree"; flock 9; }

# ------------------------------------------------------------------------------ programs

policy=/usr/sbin/policy-rc.d
policy_is_ours=false
drop_policy() { if $policy_is_ours; then rm -f "$policy"; policy_is_ours=false; fi; }
trap drop_policy EXIT

apt_install() {
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Use-Pty=0 "$@" </dev/null
}

install_packages() {
    command -v apt-get >/dev/null ||
        fail "missing: $* (names of Debian packages); this machine has no apt-get: install them by hand"
    [ "$(id -u)" = 0 ] || fail "missing: $*; run as root: apt-get install $*"
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    if [ ! -e "$policy" ]; then  # a package must not start its service: every test starts its own
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        policy_is_ours=true
    fi
    # Package lists are fetched only if a package is unknown, or its version is no longer on the mirror.
    if ! known "$@" || ! apt_install "$@"; then
        say "fetching package lists"
        apt-get update -q </dev/null
        apt_install "$@" || fail "apt-get could not install: $*; its reason is above"
    fi
    drop_policy
    # The service must not start at the next boot either. Only services of packages installed now are disabled.
    local name
    for name in "$@"; do
        case $name in
            etcd-server) disable_service etcd ;;
            containerd) disable_service containerd ;;
            prometheus) disable_service prometheus ;;
        esac
    done
}

disable_service() {  # disables the service that a package enabled, with or without systemd
    if command -v systemctl >/dev/null; then
        systemctl --quiet disable "$1.service" || true
    else
        rm -f "/etc/systemd/system/multi-user.target.wants/$1.service"
    fi
    [ ! -e "/etc/init.d/$1" ] || update-rc.d "$1" disable >/dev/null 2>&1 || true
}

mapfile -t packages < <(missing_packages | sort -u)
[ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"

etcd_version=$(etcd --version 2>/dev/null | sed -n 's/^etcd Version: //p')
case $etcd_version in
    '' | [0-2].* | 3.[0-4].*)
        say "etcd ${etcd_version:-of unknown version}: tests use 3.5 and newer versions only" ;;
esac

# ------------------------------------------------------------------------------ environment

pip_install() { .venv/bin/python -m pip install -q --disable-pip-version-check --no-input "$@"; }

python=$(find_python) || fail "missing: a Python >= 3.11 with the venv module; install one and run again"
# The scripts of an environment contain its absolute path. So an environment is created again after it was moved, and
# if its creation was interrupted before pip was in it.
venv_parent=$(cat .venv/.stamp-* 2>/dev/null | head -n 1 || true)
venv_parent=${venv_parent:-$(pwd)}
if [ "$venv_parent" != "$(pwd)" ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    say "making .venv with $python ($("$python" -c 'import platform; print(platform.python_version())'))"
    "$python" -m venv --clear .venv
fi
if ! packages_ready; then
    requirements=()
    for file in $(lock_files); do requirements+=(-r "$file"); done
    say "installing $(cat $(lock_files) | grep -c '==') locked packages into .venv, hashes checked: $(lock_files)"
    pip_install --require-hashes "${requirements[@]}"
    wanted_stamp >".venv/.stamp-$profile"
fi
# With musl a call of the CNI program costs less (cni/build.py); without it the program uses the machine's C library.
if ! project_ready && [ -z "${CC:-}" ] && ! command -v musl-gcc >/dev/null; then
    (trap drop_policy EXIT; install_packages musl-tools) || say "musl-gcc is not available: continuing without it"
fi
if ! project_ready; then
    say "linking orbweaver into .venv: $(.venv/bin/python - <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["scripts"], sep=", ")
PYTHON
)"
    pip_install --no-deps --no-build-isolation --editable .
    project_stamp >.venv/.stamp-project
fi
if ! program_ready; then
    say "building cni/plugin: $(program_problem)"
    .venv/bin/python -m cni.build || fail "cannot build cni/plugin; the reason is above"
fi
# Tests start hundreds of processes; without bytecode each would compile the product again.
.venv/bin/python -m compileall -q cni core nodeagent ops workflows tests || say "continuing without bytecode"
say "ready"
