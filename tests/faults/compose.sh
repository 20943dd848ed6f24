#!/usr/bin/env bash
# The images and docker-compose.yml for real: builds them, runs jobs through Celery to their ends, kills what can be
# killed, and prints what it saw. `make test-compose`; needs a Docker engine, docker-compose, curl, and some minutes.
#
#   tests/faults/compose.sh            everything
#   tests/faults/compose.sh single     the named parts alone: secret build up curl jobs kill stop scale s3 single
#
# API_TORCH_INDEX and WORKER_TORCH_INDEX say where torch comes from, as they do for docker-compose build.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
touch "$work/env" # a .env of somebody's own says nothing here
port=$(.venv/bin/python -c 'from tests.helpers.servers import free_port; print(free_port())')
url=http://localhost:$port
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
moto=
export PUBLISH=127.0.0.1:$port IMPASTO_SAVE_EVERY=1

compose() {
    REDIS_PASSWORD=$password docker-compose --env-file "$work/env" -p impasto-test "$@"
}

finish() {
    local status=$?
    if [[ $status != 0 ]]; then
        echo "compose: FAILED; the last that was logged:" >&2
        compose logs --tail 40 >&2 || true
    fi
    [[ -z $moto ]] || kill "$moto"
    docker rm -fv impasto-test-single >/dev/null 2>&1 || true
    docker volume rm impasto-test-single >/dev/null 2>&1 || true
    compose down -v -t 5 >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

say() { printf 'compose: %s\n' "$*"; }
now() { echo "$EPOCHREALTIME"; }
since() { awk "BEGIN { printf \"%.1f s\", $EPOCHREALTIME - $1 }"; }
fail() {
    say "$*" >&2
    exit 1
}

# never REASON COMMAND…: the command must fail.
never() {
    local reason=$1
    shift
    if "$@" >/dev/null 2>&1; then fail "$reason"; fi
}

# until_true SECONDS COMMAND…: repeats it in silence until it succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "waited in vain for: $*"
        sleep 0.1
    done
}

# field JSON-PATH: of the JSON on standard input, such as `progress step`.
field() {
    .venv/bin/python -c 'import json, sys; found = json.load(sys.stdin)
for name in sys.argv[1:]: found = found[name]
print(found)' "$@"
}

job() { curl -sSf --retry 20 --retry-delay 1 --retry-all-errors "$url/jobs/$1"; }
gatys() { # EVALUATIONS -> id
    curl -sSf -F kind=gatys -F image=@docs/cat.jpg -F style=wave -F size=128 -F "num_iterations=$1" "$url/jobs" | field id
}
training() { # NAME STEPS -> id
    curl -sSf -F kind=train -F "name=$1" -F style=wave -F recipe=report -F size=64 -F batch=1 -F "steps=$2" \
        -F content_images=@docs/cat.jpg -F content_images=@docs/painted.webp "$url/jobs" | field id
}
status_is() { [[ $(job "$1" | field status) == "$2" ]]; }
beyond() { (($(job "$1" | field progress step) >= $2)); }
is_healthy() { [[ $(docker inspect -f '{{.State.Health.Status}}' "$1") == healthy ]]; }
is_running() { [[ $(docker inspect -f '{{.State.Running}}' "$1") == true ]]; }
is_over() { [[ $(job "$1" | field status) =~ succeeded|failed|canceled ]]; }

# succeeded ID ATTEMPTS SECONDS: waits for the end, which must be that.
succeeded() {
    until_true "$3" is_over "$1"
    status_is "$1" succeeded || fail "job $1 did not succeed: $(job "$1")"
    [[ $(job "$1" | field attempt) == "$2" ]] || fail "job $1 took $(job "$1" | field attempt) attempts, not $2"
}
container() { compose ps -q "$1" | head -1; }
paint() { # STYLE DATASET
    curl -sSf -F image=@docs/cat.jpg "$url/stylize?arch=aonet&style=$1&dataset=$2" -o "$work/painted.png"
    .venv/bin/python -c 'import sys; from PIL import Image; i = Image.open(sys.argv[1]); i.load(); print(*i.size)' "$work/painted.png"
}

part_secret() {
    local said
    if said=$(password='' compose config 2>&1); then fail "no password, and no error"; fi
    grep -o 'REDIS_PASSWORD has no value.*' <<<"$said" | head -1 | cut -c1-80 | sed 's/^/compose: without it: /'
}

part_build() {
    local begun
    begun=$(now)
    compose build >"$work/build.log" 2>&1 || { tail -40 "$work/build.log"; fail "the images could not be built"; }
    say "built in $(since "$begun")"
    for image in python:3.11-slim-bookworm impasto-api impasto-worker; do
        say "$image: $(($(docker image inspect -f '{{.Size}}' $image) / 1000000)) MB"
    done
    say "of the API's, NVIDIA's part: $(docker run --rm impasto-api sh -c \
        'cd /usr/local/lib/python3.11/*-packages && du -cms nvidia triton torch/lib/*cuda* 2>/dev/null | tail -1 | cut -f1') MB"
}

part_up() {
    local begun=0
    begun=$(now)
    compose up -d 2>"$work/up.log" || { cat "$work/up.log"; fail "not up"; }
    until_true 60 curl -sf "$url/readyz"
    say "up, and ready to paint, in $(since "$begun")"
    for service in redis api worker-gatys worker-train; do
        until_true 180 is_healthy "$(container $service)"
    done
    say "all healthy after $(since "$begun")"
    compose stop -t 45 api 2>/dev/null
    begun=$(now)
    compose start api >/dev/null 2>&1
    until_true 60 curl -sf "$url/readyz"
    say "the API's container, started again, is ready after $(since "$begun")"
    begun=$(now)
    say "its first picture: $(paint wave coco), after $(since "$begun")"
    never "torch is loaded" compose exec -T api sh -c 'cat /proc/[0-9]*/maps 2>/dev/null | grep libtorch'
    say "torch is not loaded; of memory it takes $(docker stats --no-stream --format '{{.MemUsage}}' "$(container api)")"
    never "the root can be written" compose exec -T api touch /opt/impasto/x
    say "it runs as $(compose exec -T api id -un), and its root cannot be written"
    never "Redis is published" docker port "$(container redis)" 6379
}

part_curl() {
    local line
    line=$(grep -m1 'curl -F image' README.md | sed "s|localhost:8000|localhost:$port|; s|-o painted.png|-sSf -o $work/cat.png|")
    sh -c "$line"
    say "the README's curl line painted $(stat -c %s "$work/cat.png") bytes of PNG"
}

part_jobs() {
    local begun one two
    begun=$(now)
    one=$(gatys 10) two=$(training sunset 4)
    succeeded "$one" 1 900
    curl -sSf "$url/jobs/$one/result" -o "$work/pixels.png"
    say "a Gatys job of 10 evaluations at 128 px: $(since "$begun")"
    succeeded "$two" 1 900
    say "a training of 4 steps at 64 px beside it: $(since "$begun")"
    begun=$(now)
    say "painted with the style just trained: $(paint sunset custom), after $(since "$begun"), conversion included"
    begun=$(now)
    say "and once more: $(paint sunset custom), after $(since "$begun")"
    [[ -z ${KEEP_PICTURES-} ]] || cp "$work"/*.png "$KEEP_PICTURES"
}

# A worker: by docker kill (then nobody starts it again but compose) and by a crash (the restart policy does).
part_kill() {
    local id begun step
    id=$(gatys 40)
    until_true 300 beyond "$id" 5
    begun=$(now)
    docker kill "$(container worker-gatys)" >/dev/null
    compose up -d 2>/dev/null
    succeeded "$id" 2 900
    say "worker killed in mid-job (docker kill, up -d): done by the second attempt, $(since "$begun") after"

    id=$(gatys 40)
    until_true 300 beyond "$id" 5
    begun=$(now)
    compose exec -T worker-gatys sh -c 'kill -9 -1' || true
    succeeded "$id" 2 900
    say "all of a worker's processes killed from inside, nobody helps: the second attempt, $(since "$begun") after"

    id=$(gatys 60)
    until_true 300 beyond "$id" 5
    begun=$(now)
    docker kill "$(container redis)" >/dev/null
    [[ $(paint wave coco) == "451 300" ]]
    [[ $(curl -s -o /dev/null -w '%{http_code}' "$url/jobs/$id") == 503 ]] || fail "no Redis, and no 503"
    sleep 5
    compose up -d 2>/dev/null
    succeeded "$id" 1 900
    say "Redis killed for 5 s in mid-job: /stylize painted, /jobs said 503; the same attempt went on, $(since "$begun")"

    begun=$(now)
    id=$(gatys 3)
    succeeded "$id" 1 900
    say "and the worker takes the next job from the broker after $(since "$begun")"

    id=$(gatys 40)
    until_true 300 beyond "$id" 5
    begun=$(now)
    docker kill "$(container api)" >/dev/null
    compose up -d 2>/dev/null
    until_true 60 curl -sf "$url/readyz"
    say "API killed in mid-job: ready again after $(since "$begun")"
    succeeded "$id" 1 900
    curl -sSf "$url/jobs/$id/result" -o "$work/kept.png"
    say "the job went on meanwhile: the first attempt"
}

part_stop() {
    local one two begun step
    one=$(gatys 60) two=$(training stopped 60)
    until_true 300 beyond "$one" 5
    until_true 300 beyond "$two" 2
    begun=$(now)
    compose stop 2>/dev/null
    say "docker-compose stop in the middle of two jobs: $(since "$begun"); exit codes: $(compose ps -q |
        xargs docker inspect -f '{{.Name}} {{.State.ExitCode}}' | tr '\n' ' ')"
    begun=$(now)
    compose start 2>/dev/null
    succeeded "$one" 2 900
    curl -sSf "$url/jobs/$one/losses" >"$work/losses"
    step=$(compose logs worker-gatys 2>/dev/null | grep -c "job $one is lost" || true)
    [[ $step == 0 ]] || fail "the job was lost, not given back"
    succeeded "$two" 2 900
    say "both went on after the start, each in its second attempt, to their ends: $(since "$begun")"
}

part_scale() {
    local ids=() begun id took
    compose up -d --scale worker-gatys=3 2>/dev/null
    for id in $(compose ps -q worker-gatys); do until_true 180 is_healthy "$id"; done
    begun=$(now)
    for _ in 1 2 3 4 5 6 7 8 9; do ids+=("$(gatys 5)"); done
    for id in "${ids[@]}"; do succeeded "$id" 1 400; done
    compose logs --no-color worker-gatys >"$work/log" 2>/dev/null
    for id in "${ids[@]}"; do
        took=$(grep -c "job $id succeeded" "$work/log" || true)
        [[ $took == 1 ]] || fail "job $id was finished $took times"
        grep "job $id succeeded" "$work/log" | cut -d' ' -f1 >>"$work/who"
    done
    [[ $(sort -u "$work/who" | wc -l) == 3 ]] || fail "not all three worked: $(sort "$work/who" | uniq -c)"
    say "three workers, nine jobs, each finished once, in $(since "$begun"): $(sort "$work/who" | uniq -c | tr -s ' \n' ' ')"
    compose up -d --scale worker-gatys=1 2>/dev/null
}

part_s3() {
    local gateway id keys moto_port
    gateway=$(docker network inspect bridge -f '{{(index .IPAM.Config 0).Gateway}}')
    moto_port=$(.venv/bin/python -c 'from tests.helpers.servers import free_port; print(free_port())')
    .venv/bin/moto_server -H "$gateway" -p "$moto_port" >"$work/moto.log" 2>&1 &
    moto=$!
    until_true 60 curl -sf "http://$gateway:$moto_port/"
    curl -sf -X PUT "http://$gateway:$moto_port/bucket" >/dev/null
    export IMPASTO_STORAGE=s3://bucket/impasto AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x \
        AWS_ENDPOINT=http://$gateway:$moto_port
    compose -f docker-compose.yml -f docker-compose.s3.yml up -d 2>/dev/null
    until_true 60 curl -sf "$url/readyz"
    id=$(gatys 10)
    succeeded "$id" 1 900
    curl -sSf "$url/jobs/$id/result" -o "$work/s3.png"
    keys=$(curl -s "http://$gateway:$moto_port/bucket?list-type=2" | grep -o "<Key>impasto/jobs/${id}[^<]*" | wc -l)
    ((keys >= 3)) || fail "the bucket has $keys objects of the job"
    never "the volume has the job, too" compose exec -T api ls "/data/jobs/jobs/$id"
    say "with S3: a Gatys job done, $keys objects of it in the bucket, none in the volume"
    unset IMPASTO_STORAGE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT
}

# The same image alone: no store, no broker.
part_single() {
    local begun id
    compose down -v -t 45 >/dev/null 2>&1
    begun=$(now)
    docker run -d --name impasto-test-single --read-only --tmpfs /tmp --stop-timeout 45 -v impasto-test-single:/data \
        -e PORT=9000 -e IMPASTO_SAVE_EVERY -p "$PUBLISH:9000" impasto-api >/dev/null
    until_true 60 curl -sf "$url/readyz"
    say "a single container, its port from PORT, is ready after $(since "$begun")"
    [[ $(paint wave coco) == "451 300" ]]
    id=$(gatys 10)
    succeeded "$id" 1 900
    succeeded "$(training alone 4)" 1 300
    [[ $(paint alone custom) == "451 300" ]]
    say "alone it painted, did a Gatys job and a training, and painted with that"
    id=$(gatys 60)
    until_true 300 beyond "$id" 5
    begun=$(now)
    docker stop impasto-test-single >/dev/null
    say "stopped in mid-job: $(since "$begun"), exit code $(docker inspect -f '{{.State.ExitCode}}' impasto-test-single)"
    docker start impasto-test-single >/dev/null
    succeeded "$id" 2 900
    say "and the job went on after the start"
    docker rm -fv impasto-test-single >/dev/null
}

parts=("$@")
if [[ ${#parts[@]} == 0 ]]; then parts=(secret build up curl jobs kill stop scale s3 single); fi
for part in "${parts[@]}"; do "part_$part"; done
say "done"
