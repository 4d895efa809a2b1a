#!/usr/bin/env bash
# The house rules that no compiler checks. Each prints what breaks it.
set -euo pipefail
cd "$(dirname "$0")/.."

broken=0
breaks() { printf '%s: %s\n' "$1" "$2" >&2; broken=1; }

while IFS= read -r file; do
    [ "$(head -c 3 "$file")" = '//!' ] || breaks "$file" "opens without //!, so nobody knows what it is for"
    # A table of cases may be long, and cargo takes each file right in tests/ as a test of its own.
    case $file in */tests.rs | */tests/*) continue ;; esac
    [ "${file##*/}" != mod.rs ] || breaks "$file" "is a mod.rs: name it foo.rs, beside foo/"
    lines=$(wc -l <"$file")
    [ "$lines" -le 500 ] || breaks "$file" "has $lines lines: look for the two things it is doing"
done < <(find . -name target -prune -o -path ./.venv -prune -o -name '*.rs' -print | sort)

if [ "$broken" = 0 ]; then echo "tidy: all files keep the house rules"; else exit 1; fi
