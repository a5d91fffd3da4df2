#!/usr/bin/env bash
# Makes the bundled pocket-bert, from the folder of the project: TRASLUZ_DATA=... recipes/pocket-bert/build.sh
# The model card is written by hand: README.md beside the weights.
set -euo pipefail

pocket=src/trasluz/pocket/pocket-bert
if [ ! -e runs/pocket-bert/model.safetensors ]; then
  trasluz train recipes/pocket-bert.yaml
fi
for language in en es; do
  python benchmarks/article_splits.py "${TRASLUZ_DATA}/xquad-en-es/xquad.${language}.json" "runs/sets/xquad-${language}"
done
python - "$pocket" <<'PYTHON'
import sys
import trasluz
trasluz.load("runs/pocket-bert").save(sys.argv[1], dtype="fp16")
PYTHON
for task in classify tag answer; do
  trasluz train "recipes/pocket-bert/${task}.yaml"
  python - "$pocket" "$task" <<'PYTHON'
import sys
from trasluz.checkpoints.task_folders import add_task
folder, task = sys.argv[1:]
print(add_task(folder, f"runs/pocket-bert-{task}", task))
PYTHON
done
trasluz evaluate runs/pocket-bert-classify --data recipes/pocket-bert/topics-test.tsv
trasluz evaluate runs/pocket-bert-tag --data recipes/pocket-bert/names-test.conll
for language in en es; do
  trasluz evaluate runs/pocket-bert-answer --data "runs/sets/xquad-${language}/test.json"
done
