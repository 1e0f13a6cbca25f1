#!/bin/sh
# Look the pinned versions up in the advisories of PyPI; run it now and then, and before a release. Needs the network.
set -e
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pip-audit
"$folder/venv/bin/pip-audit" --strict --no-deps --disable-pip -r tools/constraints.txt
