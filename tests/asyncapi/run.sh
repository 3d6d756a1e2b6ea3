#!/bin/sh
# run.sh FOLDER: installs AsyncAPI's parser there, once, in the versions of package-lock.json, and validates
# schemas/asyncapi.yaml with it. Speaks TAP.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
folder=${1:?run.sh FOLDER}
mkdir -p "$folder"
cd "$folder"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$here/validate.mjs" .
lock=$(cksum <package-lock.json)
if [ "$(cat installed 2>/dev/null)" != "$lock" ]; then
	rm -f installed
	npm ci --no-progress >npm.log 2>&1 || {
		cat npm.log >&2
		echo "Bail out! npm ci failed"
		exit 1
	}
	echo "$lock" >installed
fi
exec node validate.mjs "$here/../.."
