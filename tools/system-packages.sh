#!/bin/sh
# Sees to the system packages that the environment needs: a C++ compiler with Python's headers and OpenBLAS to build
# GPAW, and Vulkan for OVITO's pictures. Installs what is missing where it may (root, or sudo that asks no password,
# with apt); else says the one line to type. Pictures are no reason to stop.
set -eu
python=${PYTHON:-python3}
needed=''
wished=''

command -v g++ >/dev/null 2>&1 || needed="$needed g++"
"$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || needed="$needed python3-venv"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
  || needed="$needed python3-dev"
if command -v g++ >/dev/null 2>&1; then
  scratch=$(mktemp -d)
  echo 'int main() { return 0; }' >"$scratch/probe.cpp"
  g++ "$scratch/probe.cpp" -lopenblas -o "$scratch/probe" >/dev/null 2>&1 || needed="$needed libopenblas-dev"
  rm -rf "$scratch"
else
  needed="$needed libopenblas-dev"
fi
if command -v ldconfig >/dev/null 2>&1; then list=$(ldconfig -p); else list=$(/sbin/ldconfig -p); fi
echo "$list" | grep -q 'libvulkan\.so\.1' || wished="$wished libvulkan1"
ls /usr/share/vulkan/icd.d /etc/vulkan/icd.d 2>/dev/null | grep -q '\.json$' || wished="$wished mesa-vulkan-drivers"

missing=$(echo "$needed$wished" | sed 's/^ *//')
[ -n "$missing" ] || exit 0

line="apt-get install -y --no-install-recommends $missing"
if command -v apt-get >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ]; then
    as=''
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as='sudo'
  else
    as='none'
  fi
  if [ "$as" != none ]; then
    echo "installing system packages: $missing"
    # shellcheck disable=SC2086
    if $as apt-get update -qq && $as env DEBIAN_FRONTEND=noninteractive $line -qq >/dev/null; then
      exit 0
    fi
    echo "apt-get could not install them" >&2
  fi
fi
if [ -n "$needed" ]; then
  echo "system packages are missing:$needed" >&2
  echo "type this, then run make again:" >&2
  echo "  sudo $line" >&2
  exit 1
fi
echo "without$wished there will be no pictures; to have them: sudo $line" >&2
