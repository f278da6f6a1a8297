#!/bin/sh
# Runs programs of other packages (BERTopic, KeyBERT, mteb, SetFit, txtai, LlamaIndex, Haystack,
# LangChain, Chroma, LanceDB) with an embound model and with sentence-transformers', and compares;
# ends with "N passed, N failed, N skipped". The environment is build/venv-peers, made once (0.5 GB
# of downloads); torch and sentence-transformers are those of build/venv-oracle. A package that
# cannot be installed is named, and its programs are skipped. Arguments: words of programs' names.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
venv=build/venv-peers
list=tools/requirements-peers.txt

tools/oracle_env.sh
[ -x $venv/bin/python ] || python3 -m venv $venv || {
    echo "test_peers: python3 -m venv failed (Debian: apt-get install python3-venv)" >&2
    exit 1
}
python="$PWD/$venv/bin/python"
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$PWD"/build/venv-oracle/lib/python3.*/site-packages >"$site/oracle.pth"

install() {
    "$python" -m pip install --quiet --retries 2 --disable-pip-version-check --no-deps "$@"
}
wanted=$(sha256sum <$list)
if [ "$(cat $venv/.made-from 2>/dev/null)" != "$wanted" ]; then
    install scikit-build-core pathspec ninja
    # all at once is fastest; what fails then is found one by one
    if ! install -r $list; then
        grep -v '^#' $list | while read -r package; do
            install "$package" </dev/null || echo "test_peers: $package could not be installed"
        done
    fi
    printf '%s' "$wanted" >$venv/.made-from
fi
EMB_CUDA=OFF install --no-build-isolation .
exec "$python" tests/peers/run.py "$@"
