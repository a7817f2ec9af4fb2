#!/usr/bin/env bash
# Builds the container images, pushes them to a registry, and writes their bills of materials.
#
#   scripts/images.sh build      orbweaver-controller and orbweaver-agent
#   scripts/images.sh push       pushes both, and a copy of etcd's image, and writes build/images/values.yaml with
#                                every digest for `helm install -f`
#   scripts/images.sh reproduce  builds both twice without a cache, and fails if the digests differ
#   scripts/images.sh sbom       build/images/*.cdx.json: Debian and Python packages of each image, with licenses (CycloneDX)
#   scripts/images.sh base       makes the base image of BASE=debian if it does not exist, and prints its name
#
# Environment (make images passes them): ENGINE=docker|podman|buildah  REGISTRY=registry.example.com/  TAG=0.1.0
# PLATFORMS=linux/amd64,linux/arm64  BASE=debian (a base image that mmdebstrap makes from Debian's packages)
# BUILD_FLAGS: more flags for the engine's build command. PUSH_FLAGS: more flags for pushes by podman and buildah. OUT: output directory, default build/images.
# IMAGES=controller or IMAGES=agent: only that one.
# ETCD_SOURCE: another source of etcd's image if quay.io cannot be reached, such as mirror.example.com/etcd:v3.5.26
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

read -ra push_flags <<<"${PUSH_FLAGS:-}"
ENGINE=${ENGINE:-docker} REGISTRY=${REGISTRY:-} TAG=${TAG:-local} PLATFORMS=${PLATFORMS:-} BASE=${BASE:-}
read -ra IMAGES <<<"${IMAGES:-controller agent}"
ETCD_IMAGE=quay.io/coreos/etcd:v3.5.26  # a test compares it with ops/charts/orbweaver/values.yaml
DEBIAN_SUITE=trixie
DEBIAN_PACKAGES=python3,python3-venv,python-is-python3,ca-certificates
DEBIAN_PATHS=('path-exclude=/usr/share/doc/*' 'path-include=/usr/share/doc/*/copyright'
    'path-exclude=/usr/share/man/*' 'path-exclude=/usr/share/locale/*')  # licenses stay, as they must
ETCD_SOURCE=${ETCD_SOURCE:-$ETCD_IMAGE}
OUT=${OUT:-build/images}

say() { echo "images: $*" >&2; }
fail() { say "$*"; exit 1; }
command -v "$ENGINE" >/dev/null || fail "$ENGINE is not installed; set ENGINE=docker, podman or buildah"
[ -z "$REGISTRY" ] || REGISTRY=${REGISTRY%/}/

# The time of the last commit, so that equal sources give equal images.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^__version__.*= "\(.*\)"/\1/p' core/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

name_of() { echo "${REGISTRY}orbweaver-$1:$TAG"; }

# Flags with the limits of this process, because the engine may not be permitted to raise them to its defaults.
limits() { [ "$ENGINE" = docker ] || echo "--ulimit nofile=$(ulimit -n):$(ulimit -n) --ulimit nproc=$(ulimit -u):$(ulimit -u)"; }

debian_base() {  # debian_base [linux/ARCHITECTURE]: makes localhost/orbweaver-base if it does not exist; prints its name
    local architecture=${1:-} name recipe
    architecture=${architecture#linux/}
    architecture=${architecture:-$(dpkg --print-architecture)}
    recipe=$(echo "$DEBIAN_PACKAGES ${DEBIAN_PATHS[*]}" | sha256sum | cut -c1-8)
    name=localhost/orbweaver-base:$DEBIAN_SUITE-$recipe-$architecture
    if ! "$ENGINE" inspect --type image "$name" >/dev/null 2>&1; then
        command -v mmdebstrap >/dev/null || fail "mmdebstrap is not installed (Debian's package of that name)"
        say "making $name of Debian packages"
        mkdir -p "$OUT"
        local archive=$OUT/base-$architecture.tar.zst
        mmdebstrap --quiet --variant=apt --architectures="$architecture" --include="$DEBIAN_PACKAGES" \
            "${DEBIAN_PATHS[@]/#/--dpkgopt=}" "$DEBIAN_SUITE" "${archive%.zst}" >&2
        case $ENGINE in
            buildah) local container
                container=$(buildah from scratch)
                buildah add --quiet "$container" "${archive%.zst}" / >/dev/null
                buildah config --arch "$architecture" "$container"  # without it: the architecture of this machine
                buildah commit --quiet --timestamp "$SOURCE_DATE_EPOCH" --rm "$container" "$name" >/dev/null ;;
            podman) podman import --quiet --arch "$architecture" "${archive%.zst}" "$name" >/dev/null ;;
            *) docker import --platform "linux/$architecture" "${archive%.zst}" "$name" >/dev/null ;;
        esac
        rm -f "${archive%.zst}"
    fi
    echo "$name"
}

build_arguments() {
    printf '%s\n' --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" --build-arg "VERSION=$version" \
        --build-arg "REVISION=$revision" --build-arg "CREATED=$created" -f Containerfile
}

build_image() {  # build_image TARGET
    local target=$1 name flags=() platform
    name=$(name_of "$target")
    mapfile -t flags < <(build_arguments)
    read -ra more <<<"$(limits) ${BUILD_FLAGS:-}"
    flags+=("${more[@]}" --target "$target")
    say "building $name"
    if [ "$ENGINE" = docker ]; then
        if [ -z "$PLATFORMS" ]; then docker build "${flags[@]}" -t "$name" .
        else docker buildx build "${flags[@]}" --platform "$PLATFORMS" \
            --output "type=image,name=$name,rewrite-timestamp=true" .
        fi
        return
    fi
    flags+=(--timestamp "$SOURCE_DATE_EPOCH" --layers)
    if [ -z "$PLATFORMS" ]; then
        [ -z "$BASE" ] || flags+=(--build-arg "PYTHON_IMAGE=$(debian_base)")
        "$ENGINE" build "${flags[@]}" -t "$name" .
        return
    fi
    "$ENGINE" manifest rm "$name" >/dev/null 2>&1 || true
    for platform in ${PLATFORMS//,/ }; do
        local of_platform=("${flags[@]}" --platform "$platform")
        [ -z "$BASE" ] || of_platform+=(--build-arg "PYTHON_IMAGE=$(debian_base "$platform")")
        "$ENGINE" build "${of_platform[@]}" --manifest "$name" .
    done
}

save_image() {  # save_image NAME FILE: saves the image as a docker-archive
    case $ENGINE in
        buildah) rm -f "$2"; buildah push --quiet "$1" "docker-archive:$2:$1" ;;
        *) "$ENGINE" save --output "$2" "$1" ;;
    esac
}

push_image() {  # push_image NAME FILE: pushes the image and prints its digest; engines except docker write it to FILE
    case $ENGINE in
        docker) docker push --quiet "$1" >/dev/null
                docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1" ;;
        *) if "$ENGINE" manifest exists "$1" 2>/dev/null; then
               push_list "$1" "$2"
           else
               "$ENGINE" push --quiet "${push_flags[@]}" --digestfile "$2" "$1" "docker://$1" >&2
               cat "$2"
           fi ;;
    esac
}

push_list() {  # push_list NAME FILE: pushes a manifest list with its images, and prints the digest
    rm -f "$2"
    "$ENGINE" manifest push --all --quiet "${push_flags[@]}" --digestfile "$2" "$1" "docker://$1" >&2
    # buildah 1.39 exits with 0 if a registry refuses the list, and writes no digest.
    [ -s "$2" ] || fail "$1 was not pushed; try: $ENGINE --log-level debug manifest push --all $1 docker://$1"
    cat "$2"
}

copy_etcd() {  # copies etcd's image to the repository that the chart names in the registry; prints the digest
    local target=$REGISTRY${ETCD_IMAGE#*/}
    local remedy="$ETCD_SOURCE was not copied (see above). Set ETCD_SOURCE to an image in a registry, such as mirror.example.com/etcd:v3.5.26"
    if [ "$ENGINE" = docker ]; then
        docker buildx imagetools create --tag "$target" "$ETCD_SOURCE" >/dev/null || fail "$remedy"
        docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$target"
        return
    fi
    # Remove the manifest list of an earlier push.
    "$ENGINE" manifest rm "$target" >/dev/null 2>&1 || true
    "$ENGINE" manifest create --all "${push_flags[@]}" "$target" "docker://$ETCD_SOURCE" >/dev/null || {
        "$ENGINE" manifest rm "$target" >/dev/null 2>&1 || true
        fail "$remedy"
    }
    push_list "$target" "$OUT/etcd.digest"
}

push() {
    [ -n "$REGISTRY" ] || fail "push needs REGISTRY=registry.example.com/"
    mkdir -p "$OUT"
    local image
    declare -A digests
    for image in "${IMAGES[@]}"; do
        say "pushing $(name_of "$image")"
        digests[$image]=$(push_image "$(name_of "$image")" "$OUT/$image.digest")
    done
    say "copying $ETCD_SOURCE to $REGISTRY${ETCD_IMAGE#*/}"
    digests[etcd]=$(copy_etcd)
    cat >"$OUT/values.yaml" <<YAML
# Every image by digest: helm install -f build/images/values.yaml
global: {imageRegistryOverride: ${REGISTRY%/}}
spiderpoolController: {image: {tag: "$TAG", digest: "${digests[controller]}"}}
spiderpoolAgent: {image: {tag: "$TAG", digest: "${digests[agent]}"}}
etcd: {embedded: {image: {digest: "${digests[etcd]}"}}}
YAML
    say "wrote $OUT/values.yaml"
}

digest_of() {  # digest_of NAME: prints the digest that a push of the image would have; with docker, the image's id
    if [ "$ENGINE" = docker ]; then docker inspect --type image --format '{{.Id}}' "$1"; return; fi
    local directory
    directory=$(mktemp -d)
    "$ENGINE" push --quiet --digestfile "$directory/digest" "$1" "dir:$directory/image" >&2
    cat "$directory/digest"
    rm -rf "$directory"
}

reproduce() {
    [ -z "$PLATFORMS" ] || fail "reproduce compares images of one platform: leave PLATFORMS out"
    local image number digests
    BUILD_FLAGS="${BUILD_FLAGS:-} --no-cache"
    for image in "${IMAGES[@]}"; do
        digests=()
        for number in 1 2; do
            TAG=reproduced-$number build_image "$image" >&2
            digests+=("$(TAG=reproduced-$number digest_of "$(TAG=reproduced-$number name_of "$image")")")
        done
        [ "${digests[0]}" = "${digests[1]}" ] || fail "two builds of $image differ: ${digests[*]}"
        for number in 1 2; do "$ENGINE" rmi "$(TAG=reproduced-$number name_of "$image")" >&2; done
        echo "$image ${digests[0]}"
    done
}

sbom() {
    mkdir -p "$OUT"
    local image
    for image in "${IMAGES[@]}"; do
        save_image "$(name_of "$image")" "$OUT/$image.tar"
        .venv/bin/python -m scripts.sbom "$OUT/$image.tar" "$OUT/orbweaver-$image.cdx.json"
        rm -f "$OUT/$image.tar"
        say "wrote $OUT/orbweaver-$image.cdx.json"
    done
}

case ${1:-build} in
    build) for image in "${IMAGES[@]}"; do build_image "$image"; done ;;
    push) push ;;
    reproduce) reproduce ;;
    sbom) sbom ;;
    base) debian_base ;;
    *) fail "unknown command '$1'; see the top of scripts/images.sh" ;;
esac
