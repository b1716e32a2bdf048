"""The engine under a scripted world: real roles, virtual time, and a seed that chooses every fault.

Tells thousands of stories (src/sim) in the release profile, and fails where a rule was broken. With --mutations it
shows that it can: in a copy of the sources each of sim_mutations.py breaks one rule on purpose, and some seed has to
find it; in the dev profile, which is built sooner.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools" / "lib")]

import surroundings  # noqa: E402
from sim_mutations import MUTATIONS, SWITCH  # noqa: E402

STORIES = "sim::tests::many_stories"
TOLD = re.compile(r"^(\d+) stories of seeds .*$", re.MULTILINE)
BROKEN = re.compile(r"^seed \d+: .*$", re.MULTILINE)
FOUND = re.compile(r"^seed (\d+): RULE (\d+) BROKEN: ([^;\n]*)", re.MULTILINE)


def verdict(holds):
    return "PASS" if holds else "MISS"


def build(sources, target, options):
    """Builds the tests of `sources`; the program."""
    environment = surroundings.environment() | {"CARGO_TARGET_DIR": str(target)}
    command = ["cargo", "test", "--locked", *options, "--lib", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, cwd=sources, env=environment, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        raise SystemExit("tools/bench: it does not compile")
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return [message["executable"] for message in messages if message.get("executable")][-1]


def tell(program, seeds, hear=lambda line: None, **variables):
    """Has the stories of `seeds` told: whether all rules held, and what was said. `hear` is given each line at once."""
    environment = surroundings.environment() | {"SPICE_SIM_SEEDS": f"{seeds.start}..{seeds.stop}"} | variables
    lines = []
    with subprocess.Popen(
        [program, STORIES, "--nocapture"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as telling:
        for line in telling.stdout:
            lines.append(line)
            hear(line)
    said = "".join(lines)
    if not TOLD.search(said):
        raise SystemExit(f"tools/bench: no story was told\n{said[-4000:]}")
    return telling.returncode == 0, said


def show_broken(line):
    """Says which story broke a rule as soon as it is known: many take an hour."""
    if BROKEN.match(line):
        print(line, end="", flush=True)


def stories(target, seeds):
    holds, said = tell(build(ROOT, target, ["--release"]), seeds, show_broken)
    print(TOLD.search(said).group())
    if not holds:
        if not BROKEN.search(said):
            print(said[-4000:])
        print("one of them again: SPICE_SIM_SEED=n cargo test --lib sim::tests::many -- --nocapture")
    print(f"{verdict(holds)}  no story breaks a rule")
    return holds


def mutations(target, seeds, chosen):
    """What breaks a rule is found by some seed."""
    unknown = set(chosen) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        names = ", ".join(mutation.name for mutation in MUTATIONS)
        raise SystemExit(f"tools/bench: there is no mutation {', '.join(unknown)}; there are {names}")
    # Always at the same place, so that what earlier runs have built there is replaced.
    copy = target / "sim-mutations"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    names = [name for name in files.decode().split("\0") if name and (ROOT / name).is_file()]
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    subprocess.run(["cp", "--preserve=timestamps", "--parents", "-t", copy, *names], cwd=ROOT, check=True)
    for mutation in MUTATIONS:
        mutation.apply(copy)
    with (copy / "src/sim/mod.rs").open("a") as file:
        file.write(SWITCH)
    # Cargo tells packages apart by their place in the workspace: without a profile of its own this would replace the
    # usual program.
    program = build(copy, target, ["--config", "profile.dev.package.spice.codegen-units=200"])
    caught = []
    print(f"{'':4}  {'mutation':26} {'seed':>6} {'rule':>4}  the rule that is broken, and how it was noticed")
    for mutation in MUTATIONS:
        if chosen and mutation.name not in chosen:
            continue
        holds, said = tell(program, seeds, SPICE_SIM_BREAKS=mutation.name, SPICE_SIM_ENOUGH="1")
        found = FOUND.search(said)
        caught.append(found is not None and not holds)
        seed, rule, how = found.groups() if found else ("-", "-", "not found")
        print(
            f"{verdict(caught[-1])}  {mutation.name:26} {seed:>6} {rule:>4}  {mutation.what} -> {how[:100]}", flush=True
        )
    print(f"{sum(caught)} of {len(caught)} found within seeds {seeds.start}..{seeds.stop}")
    shutil.rmtree(copy, ignore_errors=True)
    return all(caught)


def main():
    parser = argparse.ArgumentParser(
        prog="tools/bench sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="how many stories (default: 2000; 200 with --mutations)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (default: %(default)s)")
    parser.add_argument(
        "--mutations", nargs="*", metavar="NAME", help="break rules on purpose; all of them, or those named"
    )
    arguments = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    count = arguments.seeds or (2000 if arguments.mutations is None else 200)
    seeds = range(arguments.first, arguments.first + count)
    holds = stories(target, seeds) if arguments.mutations is None else mutations(target, seeds, arguments.mutations)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
