#!/usr/bin/env bash
# From a bare clone to a trained recogniser: makes digit strings with espeak-ng, trains a BiLSTM on them,
# scores it on voices it has not heard, and transcribes one of the test recordings to SRT.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up ""
out="${1:-runs/quickstart}"

asr run recipes/digits/blstm.yaml output_dir="$out"

audio=$(python -c 'import json; print(json.loads(open("data/digits/test.jsonl").readline())["audio_filepath"])')
asr transcribe "data/digits/$audio" --model "$out/model.asr" --output_dir "$out/transcripts" --output_format srt
cat "$out"/transcripts/*.srt
echo "model: $out/model.asr    score: $out/test/wer.json    subtitles: $out/transcripts/"
