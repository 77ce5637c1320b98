#!/bin/sh
# Install one part as its image holds it, for deploy/Dockerfile: install_part.sh PART [--without-models] [DIR], at the
# repository's root. The flag goes to slim.py.
set -eux
part=$1
shift
models=
if [ "${1:-}" = --without-models ]; then
    models=$1
    shift
fi
directory=${1:-/opt/halfdrop}
python -m pip install --disable-pip-version-check --no-cache-dir --no-build-isolation --no-compile \
    --target "$directory" -c requirements.lock ".[$part]"
# shellcheck disable=SC2086  # nothing at all where it is empty
python deploy/halfdrop/deploy/slim.py $models "$directory"
python -m compileall -q -j 0 "$directory"
